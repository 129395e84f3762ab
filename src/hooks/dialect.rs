//! Events in the words of other registries, for receivers that know those already.

mod cloudevents;
mod distribution;
mod dockerhub;
mod flux;
mod harbor;

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use crate::event::Event;

/// In whose words an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The envelope of CNCF Distribution, one event in each.
    Distribution,
    /// Harbor's default payload.
    Harbor,
    /// Harbor's payload as a `CloudEvent`.
    HarborCloudEvents,
    /// Docker Hub's: pushes of tags alone, without a digest.
    DockerHub,
    /// A `CloudEvent` of our own type, with the members that the Argo CD Image Updater looks for.
    CloudEvents,
    /// Plain JSON with an `X-Signature`, as the `generic-hmac` receivers of Flux verify it.
    FluxHmac,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Distribution, Self::Harbor, Self::HarborCloudEvents, Self::DockerHub, Self::CloudEvents, Self::FluxHmac];

    /// As it is called in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distribution => "distribution",
            Self::Harbor => "harbor",
            Self::HarborCloudEvents => "harbor-cloudevents",
            Self::DockerHub => "dockerhub",
            Self::CloudEvents => "cloudevents",
            Self::FluxHmac => "flux-hmac",
        }
    }

    /// The dialect of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == text)
    }

    /// What is sent for an event to the endpoint of this name; `None` if the dialect has no words for it, and then nothing is sent.
    #[must_use]
    pub fn payload(self, event: &Event, registry: &Registry, endpoint: &str) -> Option<Payload> {
        match self {
            Self::Distribution => Some(distribution::payload(event, registry)),
            Self::Harbor => harbor::payload(event, registry),
            Self::HarborCloudEvents => harbor::cloudevent(event, registry, endpoint),
            Self::DockerHub => dockerhub::payload(event, registry),
            Self::CloudEvents => Some(cloudevents::payload(event, registry)),
            Self::FluxHmac => Some(flux::payload(event, registry)),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is sent, before anything is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Bytes,
}

impl Payload {
    /// What has no value is left out, as the programs do that we speak like.
    fn json(content_type: &'static str, mut value: Value) -> Self {
        prune(&mut value);
        Self { content_type, body: Bytes::from(value.to_string()) }
    }
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// This registry, as receivers and clusters know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    scheme: String,
    host: String,
}

/// The URL is none of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the external URL of the registry must be http:// or https:// and have a host")]
pub struct RegistryError;

impl Registry {
    /// The registry at its external URL: `https://registry.example.org`. Only scheme, host and port count.
    pub fn new(url: &Url) -> Result<Self, RegistryError> {
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or(RegistryError)?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { scheme: url.scheme().to_owned(), host })
    }

    /// `registry.example.org`, or `registry.example.org:5000`: what the names of images begin with.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }
}

/// The image of an event as clusters write it: by its tag, else by its digest, else the repository alone.
fn image(event: &Event, registry: &Registry) -> String {
    let repository = format!("{}/{}", registry.host, event.repository);
    match (&event.tag, &event.digest) {
        (Some(tag), _) => format!("{repository}:{tag}"),
        (None, Some(digest)) => format!("{repository}@{digest}"),
        (None, None) => repository,
    }
}

/// Whole seconds since 1970.
fn seconds(event: &Event) -> u64 {
    event.at / 1000
}

/// The time of an event as RFC 3339 has it.
fn timestamp(event: &Event) -> String {
    let millis = i64::try_from(event.at).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
