//! What is counted and written down of requests: what was changed, by whom, and who was not let in.

use http::{HeaderMap, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body::Body as _;
use oci::{Error, Reference};
use server::{Body, Peer, RequestBody, RequestId};
use telemetry::AuditEntry;

use crate::caller::Caller;
use crate::guard::{Denial, Wanted, wanted};
use crate::limits::Pass;
use crate::route::Route;
use crate::service::Api;

impl Api {
    /// Counts a request against what its sender may ask.
    pub(crate) fn enter(&self, route: &Route, caller: &Caller) -> Result<Pass, Denial> {
        if matches!(route, Route::Live | Route::Ready) {
            return Ok(Pass::free());
        }
        let is_upload = matches!(route, Route::PushBlob { .. } | Route::AppendUpload { .. } | Route::FinishUpload { .. });
        let pass = self.parts().limits.enter(caller, is_upload);
        pass.map_err(|refused| Denial::Limit(refused.reason, refused.retry_after()))
    }

    /// Answers a request that changes something, and writes down what it changed.
    pub(crate) async fn change(
        &self,
        route: Route,
        headers: &HeaderMap,
        body: RequestBody,
        request_id: RequestId,
        caller: &Caller,
        pass: Pass,
    ) -> Result<Response<Body>, Error> {
        let entry = self.parts().audit.is_on().then(|| changed(&route, caller, request_id)).flatten();
        let counter = Arc::new(AtomicU64::new(0));
        let body = body.counted(Arc::clone(&counter));
        let answered = self.dispatch(route, headers, body, request_id.as_str(), caller).await;
        pass.took(counter.load(Ordering::Relaxed));
        drop(pass);
        if let Some(mut entry) = entry {
            match &answered {
                Ok(response) if response.status().is_success() => {
                    let digest = response.headers().get(crate::respond::CONTENT_DIGEST);
                    entry.digest = digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned).or(entry.digest);
                }
                Ok(response) => {
                    entry.outcome = "refused";
                    entry.reason = Some(response.status().to_string());
                }
                Err(error) => {
                    entry.outcome = if matches!(error, Error::Internal { .. }) { "failed" } else { "refused" };
                    entry.reason = Some(error.to_string());
                }
            }
            self.record(&entry);
        }
        answered
    }

    fn record(&self, entry: &AuditEntry) {
        self.parts().audit.record(self.parts().clock.now(), entry);
    }

    /// Counts somebody who is not let in, and writes it down where it is more than the first step of logging in.
    pub(crate) fn note_denial(
        &self,
        denial: &Denial,
        route: &Route,
        caller: Option<&Caller>,
        peer: Option<&Peer>,
        request_id: &str,
    ) {
        let (counted, event) = match denial {
            Denial::Wait(_) | Denial::Challenge { error: Some("invalid_token"), .. } => ("login", Some("login")),
            Denial::Challenge { error: Some(_), .. } => ("scope", None),
            // At the token service nobody is sent for a token.
            Denial::Challenge { .. } if matches!(route, Route::Token { .. }) => ("login", Some("login")),
            Denial::Challenge { .. } => ("credentials", None),
            Denial::Limit(..) => ("limit", Some("access")),
            Denial::Error(Error::Denied { .. }) => ("denied", Some("access")),
            Denial::Error(Error::NameUnknown { .. }) => ("hidden", Some("access")),
            Denial::Error(_) => ("malformed", None),
        };
        self.parts().metrics.request_denied(counted);
        let Some(event) = event.filter(|_| self.parts().audit.is_on()) else { return };
        let (repository, verb) = match wanted(route) {
            Wanted::On(verb, name) => (Some(name.to_string()), Some(verb)),
            _ => (None, None),
        };
        self.record(&AuditEntry {
            event,
            outcome: "refused",
            principal: caller.and_then(Caller::name),
            from: peer.map(|peer| peer.addr().ip().to_string()),
            repository,
            what: Some(verb.map_or_else(|| route.label().to_owned(), |verb| format!("{verb} ({})", route.label()))),
            reason: Some(counted.to_owned()),
            request_id: Some(request_id.to_owned()),
            ..AuditEntry::default()
        });
    }
}

/// What a route changes that is worth a line: manifests and tags, and what is removed.
fn changed(route: &Route, caller: &Caller, request_id: RequestId) -> Option<AuditEntry> {
    let (event, name, reference, digest) = match route {
        Route::PushManifest { name, reference, .. } => ("push", name, Some(reference), None),
        Route::DeleteManifest { name, reference } => ("delete", name, Some(reference), None),
        Route::DeleteBlob { name, digest } => ("delete", name, None, Some(digest.to_string())),
        _ => return None,
    };
    let digest = digest.or_else(|| match reference {
        Some(Reference::Digest(digest)) => Some(digest.to_string()),
        _ => None,
    });
    Some(AuditEntry {
        event,
        outcome: "done",
        principal: caller.name(),
        from: Some(caller.address().to_string()),
        repository: Some(name.to_string()),
        reference: reference.map(ToString::to_string),
        digest,
        what: Some(route.label().to_owned()),
        request_id: Some(request_id.as_str().to_owned()),
        ..AuditEntry::default()
    })
}

/// Bytes of an answer, as far as they are known. An answer to HEAD has none.
pub(crate) fn length(response: &Response<Body>) -> u64 {
    response.body().size_hint().exact().unwrap_or(0)
}
