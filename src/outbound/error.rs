//! What can go wrong on the way out, in words that hold no secret.

use std::error::Error as StdError;
use std::{fmt, io};

use url::Url;

use crate::resolver::ResolveError;

/// A request that failed. The text names the host and the cause; queries, user names and passwords never stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    host: String,
    detail: String,
}

/// In which way a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing listens there, or the network is in the way.
    Connect,
    /// The name has no address.
    Name,
    /// The TLS handshake failed.
    Tls,
    /// No connection within the limit.
    ConnectTimeout,
    /// Silence beyond the limit.
    Idle,
    /// The address may not be reached. See [`crate::Reach`].
    Forbidden,
    /// The connection broke, or the peer broke the protocol.
    Interrupted,
    /// A body larger than the caller takes.
    TooLarge,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, url: &Url, detail: impl Into<String>) -> Self {
        Self { kind, host: authority(url), detail: detail.into() }
    }

    pub(crate) fn from_reqwest(cause: reqwest::Error, url: Option<&Url>) -> Self {
        let cause = cause.without_url();
        let host = url.map(authority).unwrap_or_default();
        let (kind, detail) = classify(&cause);
        Self { kind, host, detail }
    }

    /// In which way it failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, detail) = (&self.host, &self.detail);
        match self.kind {
            ErrorKind::Connect => write!(formatter, "cannot connect to {host}: {detail}"),
            ErrorKind::Name => write!(formatter, "the name {host} cannot be resolved: {detail}"),
            ErrorKind::Tls => write!(formatter, "the TLS handshake with {host} failed: {detail}"),
            ErrorKind::ConnectTimeout => write!(formatter, "no connection to {host} within the time limit"),
            ErrorKind::Idle => write!(formatter, "{host} was silent for too long (idle timeout)"),
            ErrorKind::Forbidden => write!(formatter, "{host} may not be reached: {detail}"),
            ErrorKind::Interrupted => write!(formatter, "the exchange with {host} broke off: {detail}"),
            ErrorKind::TooLarge => write!(formatter, "the answer of {host} is too large: {detail}"),
        }
    }
}

impl StdError for Error {}

/// A URL fit for logs and errors: scheme, host, port and path. A query may be a signature, which is as good as a password.
#[must_use]
pub fn redacted(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

/// `host`, or `host:port` where the port is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Looks through the causes for the one that tells the most.
fn classify(cause: &reqwest::Error) -> (ErrorKind, String) {
    if cause.is_timeout() {
        let kind = if cause.is_connect() { ErrorKind::ConnectTimeout } else { ErrorKind::Idle };
        return (kind, String::new());
    }
    let mut link: Option<&(dyn StdError + 'static)> = Some(cause);
    let mut last = String::new();
    while let Some(error) = link {
        if let Some(found) = telling(error) {
            return found;
        }
        last = error.to_string();
        link = error.source();
    }
    let kind = if cause.is_connect() { ErrorKind::Connect } else { ErrorKind::Interrupted };
    (kind, last)
}

fn telling(error: &(dyn StdError + 'static)) -> Option<(ErrorKind, String)> {
    if let Some(resolve) = error.downcast_ref::<ResolveError>() {
        let kind = if matches!(resolve, ResolveError::Forbidden(_)) { ErrorKind::Forbidden } else { ErrorKind::Name };
        return Some((kind, resolve.to_string()));
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some((ErrorKind::Tls, tls.to_string()));
    }
    // An `io::Error` hides the error that it wraps from `source`.
    let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
    telling(wrapped)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_shown() {
        let url = Url::parse("https://user:secret@cdn.example:8443/blob?X-Amz-Signature=secret#secret").unwrap();
        assert_eq!(redacted(&url), "https://cdn.example:8443/blob");
        let text = Error::new(ErrorKind::Connect, &url, "connection refused").to_string();
        assert_eq!(text, "cannot connect to cdn.example:8443: connection refused");
    }
}
