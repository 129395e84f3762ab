//! What an operator says: which server, for which names, proven how.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::error::Error;
use crate::names;

/// More names than any authority takes in one certificate.
const MOST_DOMAINS: usize = 100;

/// How it is proven that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// By a handshake at port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By an answer at port 80 (RFC 8555, section 8.3).
    #[serde(rename = "http-01")]
    Http01,
}

/// How certificates are issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The URL of the server's directory.
    pub directory: String,
    /// Mail addresses that the authority may write to, with or without `mailto:`.
    pub contact: Vec<String>,
    /// The names of the certificate; at least one, no wildcards and no addresses.
    pub domains: Vec<String>,
    /// At least one, the most wanted first. After a failure the next one is tried.
    pub challenges: Vec<Challenge>,
    /// How long before its end a certificate is renewed, but not before half of its life is over. Absent: when a third of its
    /// life is left. What the server suggests (RFC 9773) comes first.
    pub renew_before: Option<Duration>,
}

impl Settings {
    /// For `domains`, from Let's Encrypt, by TLS-ALPN-01 or else HTTP-01.
    #[must_use]
    pub fn new(domains: Vec<String>) -> Self {
        Self {
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            contact: Vec::new(),
            domains,
            challenges: vec![Challenge::TlsAlpn01, Challenge::Http01],
            renew_before: None,
        }
    }

    /// Can they be used?
    pub fn check(&self) -> Result<(), Error> {
        self.checked().map(|_| ())
    }

    /// The same in the one way in which it is used: names in lower case, sorted, each once; contacts as URLs.
    pub(crate) fn checked(&self) -> Result<Self, Error> {
        check_directory(&self.directory)?;
        if self.challenges.is_empty() {
            return Err(Error::NoChallenge);
        }
        let mut domains: Vec<String> = self.domains.iter().map(|name| domain(name)).collect::<Result<_, _>>()?;
        domains.sort();
        domains.dedup();
        if domains.is_empty() || domains.len() > MOST_DOMAINS {
            return Err(Error::Domains { most: MOST_DOMAINS });
        }
        let mut challenges = self.challenges.clone();
        challenges.dedup();
        let contact = self.contact.iter().map(|address| contact(address)).collect::<Result<_, _>>()?;
        Ok(Self { directory: self.directory.clone(), contact, domains, challenges, renew_before: self.renew_before })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TlsAlpn01 => "TLS-ALPN-01",
            Self::Http01 => "HTTP-01",
        })
    }
}

/// RFC 8555, section 6.1: "ACME clients MUST send requests over HTTPS". What never leaves the machine may go without.
fn check_directory(directory: &str) -> Result<(), Error> {
    let wrong = |reason: &'static str| Error::Directory { url: directory.to_owned(), reason };
    let url = Url::parse(directory).map_err(|_| wrong("it is no URL"))?;
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Nor shown: it may be a password.
        return Err(Error::Directory { url: "the URL".to_owned(), reason: "it holds a user or a password, which ACME has not" });
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_local => Ok(()),
        _ => Err(wrong("it has to begin with https://")),
    }
}

fn domain(name: &str) -> Result<String, Error> {
    let wrong = |reason: &'static str| Error::Domain { name: name.to_owned(), reason };
    if name.starts_with("*.") {
        return Err(wrong("wildcards are issued for DNS-01 alone, which is not supported; name each host"));
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err(wrong("addresses are not supported; give a DNS name"));
    }
    names::dns(name).ok_or_else(|| wrong("it is no DNS name; give it without https:// and without a port"))
}

fn contact(address: &str) -> Result<String, Error> {
    let bare = address.strip_prefix("mailto:").unwrap_or(address);
    let is_good = bare.split_once('@').is_some_and(|(user, host)| !user.is_empty() && names::dns(host).is_some());
    // RFC 8555, section 7.3: one address, no headers.
    let plain = |letter: char| letter.is_ascii_graphic() && !"?,%".contains(letter);
    if !is_good || !bare.chars().all(plain) {
        return Err(Error::Contact { address: address.to_owned() });
    }
    Ok(format!("mailto:{bare}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(domains: &[&str]) -> Settings {
        Settings::new(domains.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn names_are_the_same_however_they_are_written() {
        let checked = of(&["B.example.org", "a.example.org.", "b.example.org"]).checked().unwrap();
        assert_eq!(checked.domains, ["a.example.org", "b.example.org"]);
    }

    #[test]
    fn what_no_certificate_can_be_issued_for_is_told_with_its_reason() {
        for (name, reason) in [("*.example.org", "wildcard"), ("192.0.2.1", "address"), ("::1", "address"), ("a:443", "port")] {
            let text = of(&[name]).checked().unwrap_err().to_string();
            assert!(text.contains(name) && text.contains(reason), "{text}");
        }
        assert!(matches!(of(&[]).checked(), Err(Error::Domains { .. })));
    }

    #[test]
    fn a_directory_is_asked_over_https_or_on_this_machine() {
        let with = |url: &str| Settings { directory: url.to_owned(), ..of(&["a.example"]) }.checked();
        assert!(with("https://acme.example/dir").is_ok() && with("http://127.0.0.1:1/dir").is_ok());
        for url in ["http://acme.example/dir", "acme.example", "ftp://127.0.0.1/"] {
            assert!(with(url).unwrap_err().to_string().contains(url), "{url}");
        }
        let text = with("https://me:hidden@acme.example/dir").unwrap_err().to_string();
        assert!(!text.contains("hidden"), "{text}");
    }

    #[test]
    fn a_contact_is_a_mail_address() {
        let with = |address: &str| Settings { contact: vec![address.to_owned()], ..of(&["a.example"]) }.checked();
        for address in ["ops@example.org", "mailto:ops@example.org"] {
            assert_eq!(with(address).unwrap().contact, ["mailto:ops@example.org"]);
        }
        for address in ["ops", "https://example.org", "ops@example.org?subject=x", "a@b.example,c@d.example"] {
            assert!(with(address).unwrap_err().to_string().contains(address), "{address}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_given_as_a_name_never_panics_and_what_is_taken_is_one(text in ".{0,40}") {
            if let Ok(name) = domain(&text) {
                prop_assert!(names::dns(&name).is_some() && name == name.to_ascii_lowercase());
            }
            let _ = (contact(&text), check_directory(&text));
        }
    }
}
