//! An issuer whose tokens are taken, and what is read from them.

use std::fmt;
use std::time::Duration;

use url::{Host, Url};

/// Clocks of issuers differ by no more from ours.
const LEEWAY: Duration = Duration::from_mins(1);
/// No more than that can be a clock that is merely wrong.
const LONGEST_LEEWAY: Duration = Duration::from_mins(10);

/// How a token may be signed. Signatures by a shared secret, and none at all, are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the names of RFC 7518, 3.1, and RFC 8037, 3.1")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// An issuer whose tokens are taken.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What rules call it: `oidc:NAME:SUBJECT`.
    pub name: String,
    /// What stands in `iss`, to the letter. Over https, or over http on this machine.
    pub issuer: String,
    /// Whom its tokens have to be made for: one of these must stand in `aud`.
    pub audiences: Vec<String>,
    /// The claim that is the name of who asks; one inside another with dots between.
    pub subject: String,
    /// The claim with the groups, a text or a list of texts.
    pub groups: String,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may be from ours.
    pub leeway: Duration,
    /// Where its keys are, if it is not asked for that.
    pub jwks_uri: Option<Url>,
}

/// Why a provider cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The name would not be told from a subject.
    #[error("{0:?} is no name of a provider: write 1 to 64 of a-z, 0-9, - and _")]
    Name(String),
    /// The issuer is no URL that can be asked.
    #[error("the issuer {issuer:?} {reason}")]
    Issuer {
        /// As it is written.
        issuer: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The address of the keys is none that can be asked.
    #[error("the address of the keys of {name:?} {reason}")]
    Keys {
        /// The provider.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Every token of the issuer would do, whomever it was made for.
    #[error("{0:?} has no audience: write what its tokens have in `aud` when they are for this server")]
    Audience(String),
    /// A claim without a name.
    #[error("{0:?} does not say which claim is the subject")]
    Subject(String),
    /// No signature would do.
    #[error("{0:?} allows no algorithm: leave the list out for all that are safe")]
    Algorithms(String),
    /// Old tokens would be good for too long.
    #[error("the leeway of {0:?} is more than {max} s", max = LONGEST_LEEWAY.as_secs())]
    Leeway(String),
    /// Nobody could tell whose tokens they are.
    #[error("{0:?} and {1:?} have the same name or the same issuer: write one provider for each issuer, with all its audiences")]
    Twice(String, String),
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Es256, Self::Es384, Self::EdDsa];

    /// As it is called in tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text)
    }

    pub(crate) fn from_header(algorithm: jsonwebtoken::Algorithm) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.in_header() == algorithm)
    }

    pub(crate) const fn in_header(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Provider {
    /// The issuer under this name, with the defaults: the claims `sub` and `groups`, every safe algorithm, a minute between the clocks.
    #[must_use]
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, audiences: Vec<String>) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audiences,
            subject: "sub".to_owned(),
            groups: "groups".to_owned(),
            algorithms: Algorithm::ALL.to_vec(),
            leeway: LEEWAY,
            jwks_uri: None,
        }
    }

    /// Can it be used?
    pub fn check(&self) -> Result<(), ProviderError> {
        let is_of_names = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_".contains(letter);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_of_names) {
            return Err(ProviderError::Name(self.name.clone()));
        }
        self.url()?;
        if let Some(reason) = self.jwks_uri.as_ref().and_then(|url| unsafe_because(url, true)) {
            return Err(ProviderError::Keys { name: self.name.clone(), reason });
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(ProviderError::Audience(self.name.clone()));
        }
        if self.subject.is_empty() {
            return Err(ProviderError::Subject(self.name.clone()));
        }
        if self.algorithms.is_empty() {
            return Err(ProviderError::Algorithms(self.name.clone()));
        }
        if self.leeway > LONGEST_LEEWAY { Err(ProviderError::Leeway(self.name.clone())) } else { Ok(()) }
    }

    /// The issuer as an address.
    pub(crate) fn url(&self) -> Result<Url, ProviderError> {
        let wrong = |reason| ProviderError::Issuer { issuer: self.issuer.clone(), reason };
        let url = Url::parse(&self.issuer).map_err(|_| wrong("is no URL"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a query or a fragment, which no issuer has"));
        }
        unsafe_because(&url, true).map_or(Ok(url), |reason| Err(wrong(reason)))
    }

    /// Where it says what it is. [`OpenID` Connect Discovery 1.0, 4.1]
    pub(crate) fn discovery(&self) -> Result<Url, ProviderError> {
        let text = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        Url::parse(&text).map_err(|_| ProviderError::Issuer { issuer: self.issuer.clone(), reason: "is no URL" })
    }
}

/// What is wrong with an address that keys are read from: whoever is between could put his own there.
pub(crate) fn unsafe_because(url: &Url, may_be_plain: bool) -> Option<&'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Some("has a user name or a password in it");
    }
    match url.scheme() {
        "https" => None,
        "http" if may_be_plain && is_loopback(url) => None,
        "http" => Some("is plain http, which anybody on the way can change: write https"),
        _ => Some("is not an address of the web: write https"),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, issuer: &str) -> Provider {
        Provider::new(name, issuer, vec!["registry".to_owned()])
    }

    #[test]
    fn what_can_be_used_is_told_from_what_cannot() {
        for issuer in ["https://git.example.org", "https://git.example.org/a/", "http://127.0.0.1:9000", "http://[::1]:1"] {
            assert_eq!(provider("git", issuer).check(), Ok(()), "{issuer}");
        }
        for issuer in ["", "git", "http://git.example.org", "ftp://x", "https://u:p@x", "https://x?a", "https://x#a", "file:///x"]
        {
            assert!(matches!(provider("git", issuer).check(), Err(ProviderError::Issuer { .. })), "{issuer}");
        }
        for name in ["", "a:b", "A", "a b", "a/b", &"a".repeat(65)] {
            assert!(matches!(provider(name, "https://x").check(), Err(ProviderError::Name(_))), "{name}");
        }
        let broken = |change: fn(&mut Provider)| {
            let mut provider = provider("git", "https://x");
            change(&mut provider);
            provider.check()
        };
        assert!(matches!(broken(|provider| provider.audiences.clear()), Err(ProviderError::Audience(_))));
        assert!(matches!(broken(|provider| provider.audiences.push(String::new())), Err(ProviderError::Audience(_))));
        assert!(matches!(broken(|provider| provider.subject.clear()), Err(ProviderError::Subject(_))));
        assert!(matches!(broken(|provider| provider.algorithms.clear()), Err(ProviderError::Algorithms(_))));
        assert!(matches!(broken(|provider| provider.leeway = Duration::from_hours(1)), Err(ProviderError::Leeway(_))));
        let plain = broken(|provider| provider.jwks_uri = Url::parse("http://keys.example.org").ok());
        assert!(matches!(plain, Err(ProviderError::Keys { .. })));
    }

    #[test]
    fn no_shared_secret_and_no_missing_signature_can_be_asked_for() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "rs256", ""] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
            assert_eq!(Algorithm::from_header(algorithm.in_header()), Some(algorithm));
        }
    }

    #[test]
    fn discovery_is_asked_below_the_issuer() {
        for issuer in ["https://x/realms/a", "https://x/realms/a/"] {
            let url = provider("git", issuer).discovery();
            assert_eq!(url.map(String::from).as_deref(), Ok("https://x/realms/a/.well-known/openid-configuration"));
        }
    }
}
