//! What an upstream's refusal means to those who asked.

use std::time::SystemTime;

use http::StatusCode;
use http::header::RETRY_AFTER;
use oci::{Digest, Error, Reference, RepositoryName};
use outbound::{Response, redacted};
use serde::Deserialize;
use serde_json::Value;

use crate::ask::Remote;
use crate::wire::Reply;

/// The most of an error's body that is looked at.
const ERROR_LIMIT: usize = 64 * 1024;

/// Why there is no answer to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The token realm says that we may not.
    Denied,
    /// The registry or its token realm says that we ask too often, or has said so a moment ago.
    TooMany { retry_after: Option<u64> },
    /// What is left of the quota is not for background work.
    Reserved { retry_after: u64 },
    /// Nothing useful came back. Without secrets.
    Failed(String),
}

/// What was asked for, so that its absence gets the right name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a RepositoryName,
    pub(crate) what: What<'a>,
    /// Is content to be pushed there? Then a refusal is no absence.
    pub(crate) pushing: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What<'a> {
    Repository,
    Manifest(&'a Reference),
    Blob(&'a Digest),
}

impl<'a> Wanted<'a> {
    /// That something of `name` can be had.
    pub(crate) fn pull(name: &'a RepositoryName, what: What<'a>) -> Self {
        Self { name, what, pushing: false }
    }

    /// That it takes something, or tells whether it has it.
    pub(crate) fn push(name: &'a RepositoryName, what: What<'a>) -> Self {
        Self { name, what, pushing: true }
    }

    fn unknown(&self) -> Error {
        match self.what {
            What::Repository => Error::NameUnknown { name: self.name.to_string() },
            What::Manifest(reference) => Error::ManifestUnknown { reference: reference.to_string() },
            What::Blob(digest) => Error::BlobUnknown { digest: digest.clone() },
        }
    }
}

impl Remote {
    /// The upstream failed, for this reason.
    pub(crate) fn failed(&self, reason: impl Into<String>) -> Error {
        Error::Upstream { upstream: self.host().to_owned(), reason: reason.into() }
    }

    /// No answer came.
    pub(crate) fn refused(&self, refusal: Refusal, wanted: &Wanted<'_>) -> Error {
        match refusal {
            Refusal::Denied => self.denied(wanted, "the token realm"),
            Refusal::TooMany { retry_after } => self.too_many(retry_after),
            Refusal::Reserved { retry_after } => {
                let reason = format!("what is left of the quota at {} is kept for people's pulls", self.host());
                Error::TooManyRequests { reason, retry_after: Some(retry_after) }
            }
            Refusal::Failed(reason) => self.failed(reason),
        }
    }

    /// An answer came, and it is not the one that was hoped for.
    pub(crate) async fn unexpected(&self, reply: Reply, wanted: &Wanted<'_>) -> Error {
        let Reply { response, crossed, .. } = reply;
        match response.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !crossed => self.denied(wanted, "the registry"),
            StatusCode::TOO_MANY_REQUESTS => self.too_many(retry_after(&response, self.now())),
            status => {
                let from = redacted(&response.url);
                let entry = entry(response).await;
                match entry.as_ref().map(|entry| entry.code.as_str()) {
                    Some("NAME_UNKNOWN") if status == StatusCode::NOT_FOUND => {
                        Error::NameUnknown { name: wanted.name.to_string() }
                    }
                    _ if wanted.pushing => self.rejected(status, &from, entry.as_ref(), wanted),
                    _ if status == StatusCode::NOT_FOUND => wanted.unknown(),
                    code => self.unsaid(status, code, &from),
                }
            }
        }
    }

    /// Content was not taken, for a reason that has a name.
    fn rejected(&self, status: StatusCode, from: &str, entry: Option<&Entry>, wanted: &Wanted<'_>) -> Error {
        let reason = |text: &str| format!("{} at {}: {text}", wanted.name, self.host());
        match entry.map(|entry| (entry.code.as_str(), entry.digest())) {
            Some(("DIGEST_INVALID", _)) => Error::DigestInvalid { reason: reason("the registry finds another digest") },
            Some(("MANIFEST_INVALID", _)) => Error::ManifestInvalid { reason: reason("the registry does not take it") },
            Some(("MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN", Some(digest))) => Error::ManifestBlobUnknown { digest },
            Some(("NAME_INVALID", _)) => Error::NameInvalid { reason: reason("the registry takes no such name") },
            Some(("UNSUPPORTED", _)) => Error::Unsupported { reason: reason("the registry takes no such push") },
            Some(("DENIED" | "UNAUTHORIZED", _)) => self.denied(wanted, "the registry"),
            _ if status == StatusCode::NOT_FOUND => wanted.unknown(),
            entry => self.unsaid(status, entry.map(|(code, _)| code), from),
        }
    }

    fn unsaid(&self, status: StatusCode, code: Option<&str>, from: &str) -> Error {
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        self.failed(format!("{status}{code} from {from}"))
    }

    /// Docker Hub and others answer so for repositories that do not exist, so it is an absence; the log says what else it
    /// may be.
    fn denied(&self, wanted: &Wanted<'_>, by: &str) -> Error {
        if wanted.pushing {
            let (host, name) = (self.host(), wanted.name);
            let reason =
                format!("{by} of {host} does not let us push to {name}; check the username and password_file of this registry");
            return Error::Denied { reason };
        }
        tracing::warn!(
            upstream = self.host(),
            repository = wanted.name.as_str(),
            "{by} refuses access: the repository does not exist there, or it is private; in that case check the username and \
             password_file of this upstream"
        );
        wanted.unknown()
    }

    fn too_many(&self, retry_after: Option<u64>) -> Error {
        let reason = format!("the upstream {} limits how often it is asked", self.host());
        Error::TooManyRequests { reason, retry_after }
    }
}

/// No wait is longer than this, whatever is asked for, in seconds.
const LONGEST_WAIT: u64 = 60 * 60;

/// When a response asks us to come back, in seconds from `now`.
pub(crate) fn retry_after(response: &Response, now: SystemTime) -> Option<u64> {
    parse_retry_after(response.header(RETRY_AFTER)?, now)
}

fn parse_retry_after(text: &str, now: SystemTime) -> Option<u64> {
    let text = text.trim();
    let seconds = match text.parse() {
        Ok(seconds) => seconds,
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).map_or(0, |wait| wait.as_secs()),
    };
    Some(seconds.min(LONGEST_WAIT))
}

#[derive(Deserialize)]
struct Body {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    code: String,
    message: Option<String>,
    detail: Option<Value>,
}

impl Entry {
    /// The content that an error is about. Registries say it as the detail, as a field of it, or somewhere in the message.
    fn digest(&self) -> Option<Digest> {
        let detail = self.detail.as_ref();
        let fields = detail.into_iter().flat_map(|detail| [Some(detail), detail.get("digest"), detail.get("Digest")]).flatten();
        let words =
            self.message.iter().flat_map(|text| text.split(|letter: char| letter.is_whitespace() || "\"',;()".contains(letter)));
        fields.filter_map(Value::as_str).chain(words).find_map(|text| Digest::parse(text).ok())
    }
}

/// The first entry of an error's body, if its code is one of the specification's form. Never free text, which could be anything.
async fn entry(response: Response) -> Option<Entry> {
    let bytes = response.bytes(ERROR_LIMIT).await.ok()?;
    let body: Body = serde_json::from_slice(&bytes).ok()?;
    let entry = body.errors.into_iter().next()?;
    let code = &entry.code;
    let plain = (1..=40).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    plain.then_some(entry)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_content_that_an_error_is_about_is_found_wherever_it_is_said() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (message, detail) in [
            (None, json!(digest)),
            (Some("blob unknown"), json!({ "digest": digest })),
            (Some("blob unknown"), json!({ "Digest": digest, "other": 1 })),
            (Some(format!("unknown to registry: {digest}").as_str()), Value::Null),
            (Some(format!("blob \"{digest}\" is unknown").as_str()), json!([])),
        ] {
            let entry: Entry = serde_json::from_value(json!({ "code": "X", "message": message, "detail": detail })).unwrap();
            assert_eq!(entry.digest().unwrap().to_string(), digest, "{message:?} {detail}");
        }
        let entry: Entry = serde_json::from_value(json!({ "code": "X", "message": "sha256:abc", "detail": 7 })).unwrap();
        assert_eq!(entry.digest(), None);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Tue, 15 Nov 1994 08:12:00 GMT").unwrap();
        assert_eq!(parse_retry_after(" 120 ", now), Some(120));
        assert_eq!(parse_retry_after("Tue, 15 Nov 1994 08:12:31 GMT", now), Some(31));
        assert_eq!(parse_retry_after("Tue, 15 Nov 1994 08:11:31 GMT", now), Some(0));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
    }
}
