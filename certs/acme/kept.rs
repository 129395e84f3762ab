//! The certificates that were issued, with their keys, as replicas find them.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Error;
use super::records::{Record, Shelf};
use super::settings::Settings;
use crate::chain::Chain;
use crate::facts::Origin;
use crate::pem::Source;
use crate::provider;

/// Where they are kept.
const KEY: &str = "certificates";
/// Replicas can have different settings for a while; older ones are forgotten.
const MOST: usize = 8;

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    directory: String,
    domains: Vec<String>,
    /// PEM, the server's own first.
    chain: String,
    /// PEM.
    key: String,
    /// When it was issued by our clock, in seconds since 1970.
    pub(crate) issued: u64,
}

/// All of them, the newest last.
#[derive(Default, Serialize, Deserialize)]
struct All {
    certificates: Vec<Kept>,
}

impl Record for All {
    const WITHOUT: &'static str = "a new certificate is ordered";
}

impl Kept {
    pub(crate) fn new(settings: &Settings, chain: String, key: String, issued: u64) -> Self {
        Self { directory: settings.directory.clone(), domains: settings.domains.clone(), chain, key, issued }
    }

    /// Whether it is what these settings ask for.
    pub(crate) fn is_for(&self, settings: &Settings) -> bool {
        self.directory == settings.directory && self.domains == settings.domains
    }

    /// As it is served.
    pub(crate) fn chain(&self) -> Result<Chain, Error> {
        let name = PathBuf::from(format!("of {} by ACME", self.domains.join(", ")));
        let (certificate, key) = (Source::of(&name, self.chain.as_bytes()), Source::of(&name, self.key.as_bytes()));
        let chain = Chain::new(&certificate, &key, &provider());
        let mut chain = chain.map_err(|cause| Error::Issued { reason: cause.to_string() })?;
        let missing = self.domains.iter().find(|domain| !chain.facts.names.contains(domain));
        if let Some(missing) = missing {
            return Err(Error::Issued { reason: format!("it is not for {missing}") });
        }
        chain.facts.origin = Origin::Acme;
        Ok(chain)
    }

    /// Not before this time is another one ordered for what the clock says of this one. A clock that is wrong would else find each
    /// new certificate old, until the authority refuses all of them. `None` where the clock was wrong then, and is right now.
    pub(crate) fn rests_until(&self, lifetime: Duration, now: SystemTime) -> Option<SystemTime> {
        let issued = UNIX_EPOCH.checked_add(Duration::from_secs(self.issued)).filter(|issued| *issued <= now)?;
        issued.checked_add((lifetime / 3).min(Duration::from_hours(6)))
    }
}

impl fmt::Debug for Kept {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("domains", &self.domains).field("issued", &self.issued).finish_non_exhaustive()
    }
}

/// The newest certificate for these settings; else the newest of the same server for some of the names, which is better than none.
pub(crate) async fn newest(shelf: &Shelf, settings: &Settings) -> Result<Option<Kept>, Error> {
    let all = shelf.read::<All>(KEY).await?.map(|(all, _)| all.certificates).unwrap_or_default();
    let some = |kept: &&Kept| {
        kept.directory == settings.directory && kept.domains.iter().any(|domain| settings.domains.contains(domain))
    };
    let exact = all.iter().rfind(|kept| kept.is_for(settings));
    Ok(exact.or_else(|| all.iter().rfind(some)).cloned())
}

/// Keeps it in place of what was for the same names.
pub(crate) async fn keep(shelf: &Shelf, kept: &Kept) -> Result<(), Error> {
    let add = |all: &mut All| {
        all.certificates.retain(|old| old.directory != kept.directory || old.domains != kept.domains);
        all.certificates.push(kept.clone());
        let surplus = all.certificates.len().saturating_sub(MOST);
        all.certificates.drain(..surplus);
    };
    shelf.change(KEY, add).await.map(|_| ())
}

/// A part of a record's name that is the same for the same parts.
pub(crate) fn mark(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}
