//! What is told to those who do not pass. [RFC 9110 section 11.6.1; distribution, spec/auth/token]

use std::fmt::Write as _;

use http::header::{HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Response};
use oci::Error;
use server::{Body, Peer};

use crate::caller::Caller;
use crate::error;
use crate::guard::Denial;
use crate::respond;
use crate::route::Route;
use crate::service::Api;

const BASIC: &str = "Basic realm=\"roadstead\", charset=\"UTF-8\"";

impl Api {
    /// The answer to a request that does not pass.
    pub(crate) fn deny(
        &self,
        denial: &Denial,
        route: &Route,
        caller: Option<&Caller>,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        request_id: &str,
    ) -> Response<Body> {
        self.note_denial(denial, route, caller, peer, request_id);
        match denial {
            Denial::Error(failure) => error::response(failure, request_id),
            Denial::Wait(wait) => {
                let reason = "too many wrong passwords".to_owned();
                let mut response = error::response(&Error::TooManyRequests { reason, retry_after: None }, request_id);
                respond::set(&mut response, RETRY_AFTER, wait.as_secs().saturating_add(1).to_string());
                response
            }
            Denial::Limit(reason, seconds) => {
                let (reason, retry_after) = ((*reason).to_owned(), Some(*seconds));
                error::response(&Error::TooManyRequests { reason, retry_after }, request_id)
            }
            Denial::Challenge { scope, error } => {
                // One of them: dockerd answers all that it is told of, and fails at the password when it has a token.
                // A token is no help where tokens are made, nor for what belongs to no repository.
                let is_by_token = !matches!(route, Route::Token { .. } | Route::Metrics);
                let bearer = is_by_token.then(|| self.bearer(scope.as_deref(), *error, headers, peer)).flatten();
                let mut response = error::response(&Error::Unauthorized, request_id);
                respond::set(&mut response, WWW_AUTHENTICATE, bearer.as_deref().unwrap_or(BASIC));
                response
            }
        }
    }

    /// The challenge that sends clients for a token, where there are any.
    fn bearer(&self, scope: Option<&str>, error: Option<&str>, headers: &HeaderMap, peer: Option<&Peer>) -> Option<String> {
        let rules = self.parts().guard.rules().filter(|rules| rules.has_tokens)?;
        let realm = self.realm(headers, peer)?;
        let mut text = format!("Bearer realm=\"{realm}\",service=\"{}\"", rules.auth.service());
        for (name, value) in [("scope", scope), ("error", error)] {
            if let Some(value) = value {
                // Writing to a string cannot fail.
                let _ = write!(text, ",{name}=\"{value}\"");
            }
        }
        Some(text)
    }

    /// Where tokens are had: at the URL that clients use, else where this one has asked.
    fn realm(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Option<String> {
        let parts = self.parts();
        if !parts.external_url.is_empty() {
            return Some(format!("{}/token", parts.external_url));
        }
        let host = headers.get(HOST)?.to_str().ok()?;
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || b".-_:[]".contains(&letter);
        let is_fine = !host.is_empty() && host.len() <= 255 && host.bytes().all(is_plain);
        let scheme = if peer.is_some_and(Peer::is_tls) { "https" } else { "http" };
        is_fine.then(|| format!("{scheme}://{host}/token"))
    }
}
