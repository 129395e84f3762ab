//! Who listens: where, in which words, and to what.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use outbound::{Client, Config, Reach, SetupError, redacted};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::dialect::{Dialect, Payload, Registry};
use crate::event::{Action, Event};
use crate::signature;

/// The longest name, so that the key of a job has room for the repository.
const LONGEST_NAME: usize = 40;

/// Patterns of names: `micro/*` is one level, `micro/**` all. None at all match everything.
#[derive(Clone, Default)]
pub struct Globs {
    set: GlobSet,
    texts: Vec<String>,
}

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a glob: {reason}")]
pub struct GlobsError {
    text: String,
    reason: String,
}

impl Globs {
    /// Whatever matches any of these.
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, GlobsError> {
        let mut set = GlobSetBuilder::new();
        let mut kept = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let failed = |error: globset::Error| GlobsError { text: text.to_owned(), reason: error.kind().to_string() };
            set.add(GlobBuilder::new(text).literal_separator(true).build().map_err(failed)?);
            kept.push(text.to_owned());
        }
        let failed = |error: globset::Error| GlobsError { text: kept.join(", "), reason: error.kind().to_string() };
        Ok(Self { set: set.build().map_err(failed)?, texts: kept })
    }

    /// Is this name one of them? None are all.
    #[must_use]
    pub fn matches(&self, name: Option<&str>) -> bool {
        self.texts.is_empty() || name.is_some_and(|name| self.set.is_match(name))
    }
}

impl fmt::Debug for Globs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(&self.texts).finish()
    }
}

/// Where events are sent.
#[derive(Clone)]
pub struct Endpoint {
    /// What it is called: lower case letters, digits, `-`, `_` and `.`, at most 40 of them. Its queue lies under this name.
    pub name: String,
    /// Where it listens. Receivers without other means have a secret in the query, which is never shown.
    pub url: Url,
    /// In whose words it is told.
    pub dialect: Dialect,
    /// Signs the body: `X-Signature` for [`Dialect::FluxHmac`], which needs it, `X-Roadstead-Signature-256` for others.
    pub secret: Option<SecretString>,
    /// The `Authorization` header, to the letter.
    pub authorization: Option<SecretString>,
    /// Only these repositories.
    pub repositories: Globs,
    /// Only these tags. Where there are any, what has no tag is not told.
    pub tags: Globs,
    /// Only these actions; none are all.
    pub actions: Vec<Action>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// It may be on this machine or in a private network. Link-local addresses and metadata services are refused nevertheless.
    pub allow_local: bool,
    /// The longest that a delivery may take.
    pub timeout: Duration,
}

impl Endpoint {
    /// An endpoint that is told everything, with 10 s for each delivery.
    #[must_use]
    pub fn new(name: &str, url: Url, dialect: Dialect) -> Self {
        Self {
            name: name.to_owned(),
            url,
            dialect,
            secret: None,
            authorization: None,
            repositories: Globs::default(),
            tags: Globs::default(),
            actions: Vec::new(),
            ca: None,
            allow_local: false,
            timeout: Duration::from_secs(10),
        }
    }

    /// Is it told of this event, as far as its filters say?
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        (self.actions.is_empty() || self.actions.contains(&event.action))
            && self.repositories.matches(Some(event.repository.as_str()))
            && self.tags.matches(event.tag.as_ref().map(oci::Tag::as_str))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = redacted(&self.url);
        let (name, dialect) = (&self.name, &self.dialect);
        formatter
            .debug_struct("Endpoint")
            .field("name", name)
            .field("url", &url)
            .field("dialect", dialect)
            .finish_non_exhaustive()
    }
}

/// Why an endpoint cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Its name.
    #[error("{name:?} cannot be the name of an endpoint: take 1 to 40 lower case letters, digits, '-', '_' or '.'")]
    Name {
        /// The name.
        name: String,
    },
    /// Two have one name.
    #[error("two endpoints are called {name}")]
    Twice {
        /// The name.
        name: String,
    },
    /// Its URL.
    #[error("the url of the endpoint {name} must be http:// or https://, have a host, and neither user name nor password")]
    Url {
        /// The endpoint.
        name: String,
    },
    /// It has no time.
    #[error("the timeout of the endpoint {name} is zero")]
    Timeout {
        /// The endpoint.
        name: String,
    },
    /// A signature is wanted, but there is nothing to sign with.
    #[error("the endpoint {name} needs a secret that is not empty: its receiver verifies a signature")]
    Secret {
        /// The endpoint.
        name: String,
    },
    /// The header cannot be sent.
    #[error("the authorization of the endpoint {name} has characters that no header can have")]
    Authorization {
        /// The endpoint.
        name: String,
    },
    /// Its address is not one of the open network.
    #[error(
        "the endpoint {name} has an address that may not be reached: {reason}; with allow_local it may be on this machine or in a private network"
    )]
    Address {
        /// The endpoint.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Its client cannot be made.
    #[error("the endpoint {name} cannot be set up")]
    Setup {
        /// The endpoint.
        name: String,
        /// Why not.
        source: SetupError,
    },
}

/// An endpoint that was found to be sound, with its way out.
pub(crate) struct Bound {
    pub(crate) settings: Endpoint,
    pub(crate) client: Client,
    authorization: Option<HeaderValue>,
    /// Lanes that are delivered at the same time: one that hangs must leave room for others.
    pub(crate) turns: Semaphore,
}

/// Lanes of one endpoint that are delivered at the same time.
const TURNS: usize = 4;

impl Bound {
    pub(crate) fn new(settings: Endpoint) -> Result<Self, EndpointError> {
        let name = settings.name.clone();
        if !is_name(&name) {
            return Err(EndpointError::Name { name });
        }
        let url = &settings.url;
        let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
        if !is_web || !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Url { name });
        }
        if settings.timeout.is_zero() {
            return Err(EndpointError::Timeout { name });
        }
        let is_empty = settings.secret.as_ref().is_some_and(|secret| secret.expose_secret().is_empty());
        if is_empty || (settings.dialect == Dialect::FluxHmac && settings.secret.is_none()) {
            return Err(EndpointError::Secret { name });
        }
        let authorization = settings.authorization.as_ref().map(header).transpose();
        let authorization = authorization.map_err(|()| EndpointError::Authorization { name: name.clone() })?;
        let reach = reach(&settings)?;
        let ca = settings.ca.iter().cloned().collect();
        // Reading the system's certificates takes time, and plain HTTP needs none.
        let system_roots = url.scheme() == "https";
        let config = Config { ca, system_roots, reach, connect_timeout: settings.timeout, idle_timeout: settings.timeout };
        let client = Client::new(&config).map_err(|source| EndpointError::Setup { name, source })?;
        Ok(Self { settings, client, authorization, turns: Semaphore::new(TURNS) })
    }

    /// What is sent for this event; `None` if it is not for this endpoint.
    pub(crate) fn payload(&self, event: &Event, registry: &Registry) -> Option<Payload> {
        self.settings.dialect.payload(event, registry, &self.settings.name)
    }

    /// The headers of a delivery.
    pub(crate) fn headers(&self, event: &Event, payload: &Payload) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(payload.content_type));
        headers.insert(HeaderName::from_static("x-roadstead-event"), HeaderValue::from_static(event.action.as_str()));
        if let Ok(id) = HeaderValue::from_str(&event.id) {
            headers.insert(HeaderName::from_static("x-roadstead-delivery"), id);
        }
        if let Some(secret) = &self.settings.secret {
            let name = match self.settings.dialect {
                Dialect::FluxHmac => "x-signature",
                _ => "x-roadstead-signature-256",
            };
            let text = signature::header(secret.expose_secret().as_bytes(), &payload.body);
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }

    /// Does this text hold anything that only the endpoint may know? It may have sent back what it was sent.
    pub(crate) fn betrays(&self, text: &str) -> bool {
        let settings = &self.settings;
        let secret = settings.secret.iter().map(|secret| secret.expose_secret().to_owned());
        let authorization = settings.authorization.iter().flat_map(|text| words(text.expose_secret()));
        let query = settings.url.query_pairs().map(|(_, value)| value.into_owned());
        secret.chain(authorization).chain(query).any(|hidden| !hidden.is_empty() && text.contains(&hidden))
    }
}

/// The last word is the credential, whatever stands before it.
fn words(authorization: &str) -> impl Iterator<Item = String> + use<> {
    authorization.split_whitespace().last().map(str::to_owned).into_iter()
}

fn header(text: &SecretString) -> Result<HeaderValue, ()> {
    let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(letter)
}

/// What this endpoint's client may reach, if what stands in its URL is within that.
fn reach(settings: &Endpoint) -> Result<Reach, EndpointError> {
    let (name, url) = (&settings.name, &settings.url);
    let refused = |reason: String| EndpointError::Address { name: name.clone(), reason };
    let reach = if settings.allow_local {
        Reach::from_origin(url)
    } else {
        // An origin that is nowhere, so that no name may lead to this machine.
        let nowhere = Url::parse("https://endpoint.invalid/").map_err(|error| refused(error.to_string()))?;
        Reach::from_origin(&nowhere).without_private()
    };
    reach.check(url, url).map_err(|error| refused(error.to_string()))?;
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    };
    if !settings.allow_local && literal.is_some_and(is_local) {
        return Err(refused("it is in a private network: say allow_local if it is meant".to_owned()));
    }
    Ok(reach)
}

/// Is it an address of this machine or of a network that is not the open one?
pub(crate) fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // 100.64.0.0/10 is shared by a provider and its customers, and by many clusters.
            let is_shared = first == 100 && (64..128).contains(&second);
            address.is_private() || address.is_loopback() || address.is_link_local() || first == 0 || is_shared
        }
        IpAddr::V6(address) => {
            address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_loopback()
                || embedded(address).is_some_and(|inner| is_local(IpAddr::V4(inner)))
        }
    }
}

/// The IPv4 address that a mapped, compatible, NAT64 or 6to4 address spells in another way.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            join(high, low)
        }
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
