//! The account at the ACME server, which the replicas share.

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::kept;
use super::records::{Record, Shelf};
use super::settings::Settings;
use super::wire::Wire;

/// The account as it is kept: with its private key.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    contact: Vec<String>,
    /// `None` after the server has forgotten it.
    credentials: Option<AccountCredentials>,
}

impl Record for Kept {
    const WITHOUT: &'static str = "a new account is made";
}

fn key(settings: &Settings) -> String {
    format!("account-{}", kept::mark(&[&settings.directory]))
}

/// The account that is there, if one is.
pub(crate) async fn known(shelf: &Shelf, settings: &Settings, wire: &Wire) -> Result<Option<Account>, Error> {
    let Some((Kept { credentials: Some(credentials), .. }, _)) = shelf.read::<Kept>(&key(settings)).await? else {
        return Ok(None);
    };
    open(wire, credentials).await.map(Some)
}

/// The account, with the contacts of the settings; made if there is none.
pub(crate) async fn wanted(shelf: &Shelf, settings: &Settings, wire: &Wire) -> Result<Account, Error> {
    let key = key(settings);
    let found = shelf.read::<Kept>(&key).await?;
    let version = found.as_ref().map(|(_, version)| version.clone());
    if let Some((Kept { contact, credentials: Some(credentials) }, _)) = found {
        let account = open(wire, credentials).await?;
        if contact != settings.contact {
            update(&account, shelf, settings, wire).await?;
        }
        return Ok(account);
    }
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    // RFC 8555, section 7.3: whoever sets this up has agreed.
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let made = Account::builder_with_http(Box::new(wire.clone())).create(&new, settings.directory.clone(), None).await;
    let (account, credentials) = made.map_err(|cause| wire.explain(cause, "an account"))?;
    let kept = Kept { contact: settings.contact.clone(), credentials: Some(credentials) };
    if shelf.swap(&key, &kept, version).await? {
        return Ok(account);
    }
    // Another replica, with other names, has made one at the same time: one is enough.
    known(shelf, settings, wire).await?.ok_or(Error::Busy { record: key })
}

/// The server does not know it any more, so that a new one is made the next time.
pub(crate) async fn forget(shelf: &Shelf, settings: &Settings) -> Result<(), Error> {
    shelf.change(&key(settings), |kept: &mut Kept| *kept = Kept::default()).await.map(|_| ())
}

async fn open(wire: &Wire, credentials: AccountCredentials) -> Result<Account, Error> {
    let opened = Account::builder_with_http(Box::new(wire.clone())).from_credentials(credentials).await;
    opened.map_err(|cause| wire.explain(cause, "the account"))
}

async fn update(account: &Account, shelf: &Shelf, settings: &Settings, wire: &Wire) -> Result<(), Error> {
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    account.update_contacts(&contact).await.map_err(|cause| wire.explain(cause, "other contacts"))?;
    shelf.change(&key(settings), |kept: &mut Kept| kept.contact.clone_from(&settings.contact)).await.map(|_| ())
}
