//! Who a client is, by its certificate.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;

use crate::{chain, facts, names};

/// What a client's own certificate says of it.
///
/// Whoever reads this must have it from a connection whose certificates were verified, and must look at the clock: a resumed
/// session brings the certificate of the first one, which may have expired since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Its URIs, as `spiffe://example.org/ns/prod/sa/web`; sorted, each once.
    pub uris: Vec<String>,
    /// Its DNS names, as `web.prod.serviceaccount.identity.linkerd.cluster.local`; in lower case, sorted, each once.
    pub dns: Vec<String>,
    /// Its common name, if it has one and no second.
    pub common_name: Option<String>,
    /// The serial number that its issuer gave it, in hexadecimal, without leading zeros.
    pub serial: String,
    /// The SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl ClientIdentity {
    /// Whether the certificate is valid at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Who the client of a chain is: what the first of its certificates says. `None` without one, and if that cannot be understood.
///
/// Nothing here can be used to look like another: text with control characters or invisible ones is left out, as is what is no
/// DNS name or no URI.
#[must_use]
pub fn identity(chain: &[CertificateDer<'_>]) -> Option<ClientIdentity> {
    let der = chain.first()?;
    let certificate = chain::parse(der)?;
    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    for name in names::alternative(&certificate)? {
        match name {
            GeneralName::URI(uri) if is_uri(uri) => uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => dns.extend(names::dns(name)),
            _ => {}
        }
    }
    for names in [&mut uris, &mut dns] {
        names.sort();
        names.dedup();
    }
    Some(ClientIdentity {
        uris,
        dns,
        common_name: names::common(certificate.subject()),
        serial: serial(certificate.raw_serial()),
        fingerprint: hex::encode(Sha256::digest(der)),
        not_before: facts::time(certificate.validity().not_before),
        not_after: facts::time(certificate.validity().not_after),
    })
}

/// A scheme (RFC 3986, section 3.1), a colon, and only what can stand in a URI.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_is_good = scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let stands = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    scheme_is_good && !rest.is_empty() && rest.bytes().all(stands) && names::legible(text)
}

fn serial(raw: &[u8]) -> String {
    let leading = raw.iter().take_while(|byte| **byte == 0).count().min(raw.len().saturating_sub(1));
    hex::encode(&raw[leading..])
}
