//! The guard: the one place through which every route passes. Who asks, and may they?

use std::time::Duration;

use auth::{Auth, Failure, Identity, Principal, Verb, Verdict};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use oci::{Error, RepositoryName};
use server::Peer;

use crate::caller::{Caller, address_of};
use crate::route::Route;

/// What a route wants of whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted<'route> {
    /// Nothing.
    Nothing,
    /// That he says who he is. Clients find out here how to log in.
    Credentials,
    /// That he may read what tells about the whole server.
    Measures,
    /// That there is something that he may pull; he sees no more than that.
    Listing,
    /// A verb on a repository, under the name by which it is stored.
    On(Verb, &'route RepositoryName),
}

/// Why a request does not pass.
#[derive(Debug)]
pub(crate) enum Denial {
    /// 401: log in, for this scope.
    Challenge {
        /// `repository:a/b:pull`.
        scope: Option<String>,
        /// `invalid_token`, `insufficient_scope`. [RFC 6750 section 3.1]
        error: Option<&'static str>,
    },
    /// 429: not before that, after wrong passwords.
    Wait(Duration),
    /// 429: not before so many seconds, after too much of it.
    Limit(&'static str, u64),
    /// Anything else.
    Error(Error),
}

/// Decides about requests.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    rules: Option<Rules>,
}

/// What a guard with rules has.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Makes out who asks.
    pub auth: Auth,
    /// Clients are told to fetch tokens; without it they send passwords with each request.
    pub has_tokens: bool,
    /// Everybody may read `/metrics`.
    pub public_metrics: bool,
}

impl Guard {
    /// A guard that lets everyone do everything. Only for a server that nobody else reaches.
    #[must_use]
    pub fn open() -> Self {
        Self { rules: None }
    }

    /// A guard that goes by rules: what none of them allows is denied.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules: Some(rules) }
    }

    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    /// Makes out who sends a request.
    pub(crate) async fn identify(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller, Denial> {
        let Some(rules) = &self.rules else { return Ok(Caller::anybody(peer)) };
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let shown = lines.next();
        if lines.next().is_some() {
            // Another program before us may go by the other one.
            return Err(wrong("there are several headers Authorization", peer));
        }
        let Some(shown) = shown else {
            return Ok(match peer.and_then(Peer::certificate) {
                Some(name) => Caller::known(rules.auth.identity_of(Principal::known("cert", name)), true, peer),
                None => Caller::known(rules.auth.anonymous(), false, peer),
            });
        };
        match rules.auth.identify(Some(shown.as_bytes()), address_of(peer)).await {
            // Some clients send an empty name and password where they have none.
            Ok(identity) => {
                let has_credentials = identity.has_token() || !identity.principal().is_anonymous();
                Ok(Caller::known(identity, has_credentials, peer))
            }
            Err(Failure::Wrong(reason)) => Err(wrong(reason, peer)),
            Err(Failure::Wait(wait)) => Err(Denial::Wait(wait)),
        }
    }

    /// Lets a route pass, or says why not. [docs/access.md, "What clients are answered"]
    pub(crate) fn check(&self, route: &Route, caller: &Caller) -> Result<(), Denial> {
        let (Some(rules), Some(identity)) = (&self.rules, caller.identity()) else { return Ok(()) };
        match wanted(route) {
            Wanted::Nothing => Ok(()),
            Wanted::Credentials if caller.has_credentials => Ok(()),
            Wanted::Credentials => Err(challenge(None)),
            // A token that was fetched for an image is for that alone.
            Wanted::Measures if rules.public_metrics || (identity.may(Verb::Admin, None) && !identity.has_token()) => Ok(()),
            Wanted::Measures if identity.principal().is_anonymous() => Err(challenge(None)),
            Wanted::Measures => Err(denied("reading the metrics wants the verb admin, or auth.public_metrics")),
            Wanted::Listing => listing(identity),
            Wanted::On(verb, name) => on(identity, verb, name),
        }
    }
}

fn wrong(reason: &'static str, peer: Option<&Peer>) -> Denial {
    tracing::warn!(peer = peer.map(Peer::as_str), reason, "credentials were refused");
    Denial::Challenge { scope: None, error: Some("invalid_token") }
}

fn challenge(scope: Option<String>) -> Denial {
    Denial::Challenge { scope, error: None }
}

fn denied(reason: &str) -> Denial {
    Denial::Error(Error::Denied { reason: reason.to_owned() })
}

fn listing(identity: &Identity) -> Result<(), Denial> {
    let scope = || Some("registry:catalog:*".to_owned());
    match identity.lists() {
        Verdict::Allowed | Verdict::Hidden => Ok(()),
        Verdict::Insufficient => Err(Denial::Challenge { scope: scope(), error: Some("insufficient_scope") }),
        Verdict::Unknown | Verdict::Denied => Err(challenge(scope())),
    }
}

fn on(identity: &Identity, verb: Verb, name: &RepositoryName) -> Result<(), Denial> {
    // What clients need for it: a push looks first whether something is there.
    let actions = match verb {
        Verb::Push => "pull,push",
        Verb::Delete => "pull,delete",
        other => other.as_str(),
    };
    let scope = || Some(format!("repository:{name}:{actions}"));
    match identity.verdict(verb, name) {
        Verdict::Allowed => Ok(()),
        Verdict::Unknown => Err(challenge(scope())),
        Verdict::Insufficient => Err(Denial::Challenge { scope: scope(), error: Some("insufficient_scope") }),
        Verdict::Denied => Err(denied(&format!("{} may not {verb} in {name}", identity.principal()))),
        Verdict::Hidden => Err(Denial::Error(Error::NameUnknown { name: name.to_string() })),
    }
}

/// What a route wants. Exhaustive, so that no route can be without.
pub(crate) fn wanted(route: &Route) -> Wanted<'_> {
    match route {
        Route::Live | Route::Ready | Route::Token { .. } => Wanted::Nothing,
        Route::Metrics => Wanted::Measures,
        Route::Version => Wanted::Credentials,
        Route::Catalog { .. } => Wanted::Listing,
        Route::Tags { source, .. }
        | Route::Referrers { source, .. }
        | Route::PullManifest { source, .. }
        | Route::PullBlob { source, .. } => Wanted::On(Verb::Pull, &source.name),
        // A mount also gives content of one repository to another; whether that may be pulled is asked where it is done, since a
        // client that may not mount is to push instead, unless another token is all that he needs.
        Route::MountBlob { name, .. }
        | Route::PushManifest { name, .. }
        | Route::StartUpload { name, .. }
        | Route::PushBlob { name, .. }
        | Route::UploadStatus { name, .. }
        | Route::AppendUpload { name, .. }
        | Route::FinishUpload { name, .. }
        | Route::CancelUpload { name, .. } => Wanted::On(Verb::Push, name),
        Route::DeleteManifest { name, .. } | Route::DeleteBlob { name, .. } => Wanted::On(Verb::Delete, name),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
