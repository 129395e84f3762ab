//! One order from its beginning to the certificate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier, NewOrder, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::account;
use super::error::{Error, legible};
use super::kept::Kept;
use super::pending::{Answer, Pending, SPREAD};
use super::records::Shelf;
use super::settings::{Challenge, Settings};
use super::wire::{Wire, told};

/// Between two looks at what the server has done.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LATER_LOOKS: Duration = Duration::from_secs(5);

/// An order, and what it needs.
pub(crate) struct Order<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) shelf: &'a Shelf,
    pub(crate) pending: &'a Pending,
    pub(crate) wire: &'a Wire,
    /// So many attempts have failed before.
    pub(crate) failures: u32,
    /// Whether the server has been asked for an order.
    pub(crate) placed: AtomicBool,
}

impl Order<'_> {
    /// Waits as long as the server lets us. `replaces` is the certificate that this one comes after, where the server wants to
    /// know it (RFC 9773, section 5).
    pub(crate) async fn issue(&self, replaces: Option<&CertificateIdentifier<'static>>) -> Result<Kept, Error> {
        let account = account::wanted(self.shelf, self.settings, self.wire).await?;
        let mut order = match self.place(&account, replaces).await {
            Err(Error::Refused { kind, .. }) if kind == "accountDoesNotExist" => {
                account::forget(self.shelf, self.settings).await?;
                let account = account::wanted(self.shelf, self.settings, self.wire).await?;
                self.place(&account, None).await?
            }
            placed => placed?,
        };
        let answers = self.answers(&mut order).await?;
        if !answers.is_empty() {
            let tokens: Vec<String> = answers.iter().map(|answer| answer.token.clone()).collect();
            self.pending.publish(answers.clone()).await?;
            self.shelf.clock().sleep(SPREAD).await;
            let proven = self.prove(&mut order, &answers).await;
            if let Err(error) = self.pending.withdraw(&tokens).await {
                tracing::debug!(%error, "answers to challenges stay until their time is over");
            }
            proven?;
        }
        self.fetch(&mut order).await
    }

    async fn place(
        &self,
        account: &Account,
        replaces: Option<&CertificateIdentifier<'static>>,
    ) -> Result<instant_acme::Order, Error> {
        let names: Vec<Identifier> = self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        self.placed.store(true, Ordering::Relaxed);
        let explain = |cause| self.wire.explain(cause, "an order");
        if let Some(replaces) = replaces {
            match account.new_order(&NewOrder::new(&names).replaces(replaces.clone())).await.map_err(explain) {
                Ok(order) => return Ok(order),
                // What it replaces is a courtesy, and no reason to have no certificate.
                Err(Error::Refused { kind, detail, .. }) if kind == "alreadyReplaced" || kind == "malformed" => {
                    tracing::debug!(%detail, "the order is placed again without what it replaces");
                }
                Err(Error::NotAcme { reason, .. }) => {
                    tracing::debug!(%reason, "the order is placed again without what it replaces");
                }
                Err(other) => return Err(other),
            }
        }
        account.new_order(&NewOrder::new(&names)).await.map_err(explain)
    }

    /// One for each name that is not proven yet.
    async fn answers(&self, order: &mut instant_acme::Order) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|cause| self.wire.explain(cause, "an authorization"))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let domain = authorization.identifier().to_string();
            let offered = |challenge: &Challenge| authorization.challenges.iter().any(|one| one.r#type == kind(*challenge));
            let Some(challenge) = self.wanted().find(offered) else {
                let all: Vec<String> = authorization.challenges.iter().map(|one| format!("{:?}", one.r#type)).collect();
                return Err(Error::NotOffered { domain, offered: legible(&all.join(", ")) });
            };
            if let Some(handle) = authorization.challenge(kind(challenge)) {
                let key = handle.key_authorization();
                answers.push(Answer::new(challenge, domain, handle.token.clone(), key.as_str().to_owned()));
            }
        }
        Ok(answers)
    }

    /// The ways to prove a name, the best first; one further after each failure.
    fn wanted(&self) -> impl Iterator<Item = Challenge> {
        let all = &self.settings.challenges;
        let first = self.failures as usize % all.len();
        all.iter().cycle().skip(first).take(all.len()).copied()
    }

    async fn prove(&self, order: &mut instant_acme::Order, answers: &[Answer]) -> Result<(), Error> {
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|cause| self.wire.explain(cause, "an authorization"))?;
            let domain = authorization.identifier().to_string();
            let Some(answer) = answers.iter().find(|answer| answer.domain == domain) else { continue };
            if let Some(mut handle) = authorization.challenge(kind(answer.challenge)) {
                handle.set_ready().await.map_err(|cause| self.wire.explain(cause, "a challenge"))?;
            }
        }
        let mut look = FIRST_LOOK;
        loop {
            self.shelf.clock().sleep(look).await;
            look = (look * 2).min(LATER_LOOKS);
            let state = order.refresh().await.map_err(|cause| self.wire.explain(cause, "the order"))?;
            match state.status {
                OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing => return Ok(()),
                OrderStatus::Invalid => return Err(self.blame(order).await),
                OrderStatus::Pending => {}
            }
        }
    }

    /// Which name could not be proven, and why.
    async fn blame(&self, order: &mut instant_acme::Order) -> Error {
        let whole = order.state().error.clone();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            for challenge in state.challenges.iter().filter(|one| one.status == ChallengeStatus::Invalid) {
                let ours = self.wanted().find(|ours| kind(*ours) == challenge.r#type);
                if let (Some(challenge), Some(problem)) = (ours, &challenge.error) {
                    let (kind, detail) = told(problem);
                    return Error::Unverified { domain: state.identifier().to_string(), challenge, kind, detail };
                }
            }
        }
        match whole {
            Some(problem) => self.wire.explain(problem.into(), "the order"),
            None => Error::Issued { reason: "the order became invalid, and the server does not say why".to_owned() },
        }
    }

    /// Everything is proven.
    async fn fetch(&self, order: &mut instant_acme::Order) -> Result<Kept, Error> {
        let making = |cause: rcgen::Error| Error::Making(cause.to_string());
        let explain = |cause| self.wire.explain(cause, "the certificate");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)?;
        let mut params = CertificateParams::new(self.settings.domains.clone()).map_err(making)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(making)?;
        let mut look = FIRST_LOOK;
        let mut asked = false;
        loop {
            match order.state().status {
                OrderStatus::Ready if !asked => {
                    order.finalize_csr(request.der()).await.map_err(explain)?;
                    asked = true;
                    continue;
                }
                OrderStatus::Valid => break,
                OrderStatus::Invalid => return Err(self.blame(order).await),
                OrderStatus::Ready | OrderStatus::Pending | OrderStatus::Processing => {}
            }
            self.shelf.clock().sleep(look).await;
            look = (look * 2).min(LATER_LOOKS);
            order.refresh().await.map_err(explain)?;
        }
        let chain = order.certificate().await.map_err(explain)?;
        let chain = chain.ok_or_else(|| Error::Issued { reason: "the order is valid and has no certificate".to_owned() })?;
        Ok(Kept::new(self.settings, chain, key.serialize_pem(), self.shelf.now()))
    }
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    }
}
