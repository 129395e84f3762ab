//! Why there is no certificate, and what to do about it.

use std::time::Duration;

use super::records::RecordsError;
use super::settings::Challenge;
use super::wire::HttpError;

/// Why no certificate was issued. Each text says what to do; none shows a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No names, or too many.
    #[error("acme.domains has to name between one and {most} hosts that the certificate is for")]
    Domains {
        /// How many it may be.
        most: usize,
    },
    /// Not something that a certificate is issued for.
    #[error("{name:?} in acme.domains cannot have a certificate: {reason}")]
    Domain {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No URL of an ACME server.
    #[error("acme.directory {url:?} cannot be used: {reason}; give the URL of the server's directory")]
    Directory {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing to prove names by.
    #[error("acme.challenges is empty: give \"tls-alpn-01\", \"http-01\" or both")]
    NoChallenge,
    /// No mail address.
    #[error("{address:?} in acme.contact is no mail address: give it as ops@example.org")]
    Contact {
        /// What was given.
        address: String,
    },
    /// What replicas share cannot be reached.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What is kept is not what was written.
    #[error("what is kept as `acme/{record}` cannot be read; remove it from the store, and {then}")]
    Damaged {
        /// Which record.
        record: String,
        /// What happens then.
        then: &'static str,
    },
    /// Other replicas were faster, again and again.
    #[error("`acme/{record}` changes all the time; it is tried again")]
    Busy {
        /// Which record.
        record: String,
    },
    /// No answer.
    #[error(
        "the ACME server {url} cannot be reached: {source}; check the address, the way to it (HTTPS_PROXY), and acme.ca if its \
         certificate is of a private authority"
    )]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: HttpError,
    },
    /// An answer that is not of ACME.
    #[error("{url} does not answer as an ACME server: {reason}; check acme.directory")]
    NotAcme {
        /// What was asked.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The server's problem document (RFC 7807).
    #[error("the ACME server refuses {what}: {detail} ({kind}); {advice}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its type, without `urn:ietf:params:acme:error:`.
        kind: String,
        /// What the server says of it.
        detail: String,
        /// What to do.
        advice: &'static str,
    },
    /// Too many requests, orders or certificates.
    #[error("the ACME server refuses {what} for now, because of its rate limits: {detail}; it is tried again when it allows")]
    RateLimited {
        /// What was asked for.
        what: &'static str,
        /// What the server says of it.
        detail: String,
        /// After which time the server allows it.
        retry: Option<Duration>,
    },
    /// The server has looked, and has not found the answer.
    #[error("the ACME server could not verify {domain} by {challenge}: {detail} ({kind}); {}", advice_on(*.challenge))]
    Unverified {
        /// Which name.
        domain: String,
        /// By what.
        challenge: Challenge,
        /// Its type, without `urn:ietf:params:acme:error:`.
        kind: String,
        /// What the server says of it.
        detail: String,
    },
    /// None of the ways is offered.
    #[error("the ACME server offers none of acme.challenges for {domain}, but {offered}; add one of them if it is supported")]
    NotOffered {
        /// Which name.
        domain: String,
        /// What it offers.
        offered: String,
    },
    /// The server has not come to an end.
    #[error("the ACME server has not issued a certificate within {} s; it is tried again", .limit.as_secs())]
    Slow {
        /// How long was waited.
        limit: Duration,
    },
    /// What was issued cannot be served.
    #[error("what the ACME server has issued cannot be used: {reason}")]
    Issued {
        /// What is wrong with it.
        reason: String,
    },
    /// No key, request or answer can be made: a defect of the build.
    #[error("a certificate cannot be asked for: {0}")]
    Making(String),
}

fn advice_on(challenge: Challenge) -> &'static str {
    match challenge {
        Challenge::TlsAlpn01 => {
            "the name has to lead here, and port 443 there to the port of this server, without TLS being ended in between"
        }
        Challenge::Http01 => "the name has to lead here, and port 80 there to where this server answers plain HTTP",
    }
}

/// What to do about a problem of this type (RFC 8555, section 6.7).
pub(crate) fn advice(kind: &str) -> &'static str {
    match kind {
        "accountDoesNotExist" => "a new account is made at the next attempt",
        "unauthorized" => "has the account been deactivated? then remove `acme/account-…` from the store for a new one",
        "externalAccountRequired" => "it wants accounts that it knows from elsewhere, which is not supported; use another server",
        "userActionRequired" => "visit the address that it names",
        "invalidContact" | "unsupportedContact" => "correct acme.contact",
        "rejectedIdentifier" | "unsupportedIdentifier" => "it issues none for such a name; correct acme.domains",
        "caa" => "a CAA record of the domain forbids it; add the authority there",
        "dns" => "the name cannot be looked up from there; check its DNS",
        "serverInternal" => "it is tried again",
        _ => "it is tried again; correct what it names before",
    }
}

/// Text of a server as it can stand in a log: one line, not long, nothing that is invisible.
pub(crate) fn legible(text: &str) -> String {
    const LONGEST: usize = 600;
    let shown = |letter: char| if crate::names::legible(letter.encode_utf8(&mut [0; 4])) { letter } else { ' ' };
    let whole: String = text.chars().take(LONGEST).map(shown).collect();
    whole.trim().to_owned()
}
