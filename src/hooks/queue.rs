//! What waits for delivery and what was given up, at rest. Every key of theirs is made here.
//!
//! ```text
//! <endpoint>/queue/<time>-<id>=<repository>       an event that is still to be delivered
//! <endpoint>/dead/<time>-<id>=<repository>        one that was given up
//! <endpoint>/recent                               the last attempts
//! ```
//!
//! The time is that of the event, so that names sort as the events happened, and one event has one name whoever writes it. All events
//! of an endpoint lie in one listing: it tells how many there are, of which repositories, and which is the oldest.

use std::sync::Arc;

use bytes::Bytes;
use jobs::{State, StateError, Version};
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::lane::{Lane, flat};
use crate::signature::sha256;

/// The longest id that is part of a name as it is.
const LONGEST_ID: usize = 64;
/// Hexadecimal digits of a time.
const TIME: usize = 12;

/// What the queue of an endpoint could not do.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The state failed. What was asked for may have been done.
    #[error("the deliveries of the endpoint {endpoint} cannot be read or written")]
    State {
        /// Whose.
        endpoint: String,
        /// Why.
        source: StateError,
    },
    /// What lies there is not what was written.
    #[error("the record {key} of a delivery is corrupt")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The last segment of a record's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    text: String,
    /// Where its id ends and its repository begins.
    middle: usize,
}

impl Name {
    pub(crate) fn new(event: &Event) -> Self {
        let at = event.at.min((1 << (4 * TIME)) - 1);
        let front = format!("{at:0TIME$x}-{}", id(&event.id));
        let middle = front.len();
        Self { text: format!("{front}={}", flat(&event.repository)), middle }
    }

    /// `None` for a foreign object.
    fn parse(text: String) -> Option<Self> {
        let (time, _) = text.split_at_checked(TIME)?;
        let middle = text.find('=')?;
        let is_ours =
            time.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.get(TIME..=TIME) == Some("-") && middle > TIME + 1;
        is_ours.then_some(Self { text, middle })
    }

    pub(crate) fn is_in(&self, lane: &Lane) -> bool {
        self.repository() == lane.repository
    }

    pub(crate) fn is_of(&self, event: &str) -> bool {
        self.text.get(TIME + 1..self.middle) == Some(id(event).as_str())
    }

    pub(crate) fn lane(&self, endpoint: &str) -> Lane {
        Lane { endpoint: endpoint.to_owned(), repository: self.repository().to_owned() }
    }

    fn repository(&self) -> &str {
        self.text.get(self.middle + 1..).unwrap_or_default()
    }

    fn id(&self) -> &str {
        self.text.get(TIME + 1..self.middle).unwrap_or_default()
    }
}

/// An event's id in a segment. What no segment can have is replaced by its SHA-256.
fn id(event: &str) -> String {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=LONGEST_ID).contains(&event.len()) && event.bytes().all(letter) { event.to_owned() } else { sha256(event.as_bytes()) }
}

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) event: Event,
    /// Since when, in milliseconds since 1970.
    pub(crate) since: u64,
    /// Attempts that failed.
    #[serde(default)]
    pub(crate) attempts: u32,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// The id of its event, by which it is delivered again.
    pub id: String,
    /// The event; absent if its record could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Why.
    pub reason: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// Since when it was to be delivered, in milliseconds since 1970.
    pub since: u64,
    /// When it was given up, in milliseconds since 1970.
    pub at: u64,
}

impl Dead {
    pub(crate) fn new(name: &Name, queued: Option<Queued>, reason: &str, at: u64) -> Self {
        let (attempts, since) = queued.as_ref().map_or((0, at), |queued| (queued.attempts, queued.since));
        let event = queued.map(|queued| queued.event);
        let id = event.as_ref().map_or_else(|| name.id().to_owned(), |event| event.id.clone());
        Self { id, event, reason: reason.to_owned(), attempts, since, at }
    }
}

/// A record as it was read.
pub(crate) enum Found {
    Gone,
    Queued(Box<Queued>, Version),
    Corrupt,
}

/// The records of one endpoint.
#[derive(Clone)]
pub(crate) struct Queue<'s> {
    state: &'s Arc<dyn State>,
    endpoint: &'s str,
}

impl<'s> Queue<'s> {
    pub(crate) fn new(state: &'s Arc<dyn State>, endpoint: &'s str) -> Self {
        Self { state, endpoint }
    }

    /// Everything that waits, the oldest first.
    pub(crate) async fn waiting(&self) -> Result<Vec<Name>, QueueError> {
        self.names("queue").await
    }

    /// Everything that was given up, the oldest event first.
    pub(crate) async fn dead(&self) -> Result<Vec<Name>, QueueError> {
        self.names("dead").await
    }

    async fn names(&self, part: &str) -> Result<Vec<Name>, QueueError> {
        let listed = self.state.list(&format!("{}/{part}", self.endpoint)).await.map_err(|source| self.failed(source))?;
        let mut names: Vec<Name> = listed.into_iter().filter_map(Name::parse).collect();
        names.sort();
        Ok(names)
    }

    /// Writes what is not there yet. `false` if it is.
    pub(crate) async fn add(&self, name: &Name, queued: &Queued) -> Result<bool, QueueError> {
        Ok(self.swap(&self.key("queue", name), queued, None).await?.is_some())
    }

    pub(crate) async fn read(&self, name: &Name) -> Result<Found, QueueError> {
        let Some((bytes, version)) = self.raw(&self.key("queue", name)).await? else { return Ok(Found::Gone) };
        Ok(serde_json::from_slice(&bytes).map_or(Found::Corrupt, |queued| Found::Queued(Box::new(queued), version)))
    }

    /// Writes what has changed. `false` if somebody else was faster.
    pub(crate) async fn update(&self, name: &Name, queued: &Queued, version: &Version) -> Result<bool, QueueError> {
        Ok(self.swap(&self.key("queue", name), queued, Some(version)).await?.is_some())
    }

    pub(crate) async fn remove(&self, name: &Name) -> Result<(), QueueError> {
        self.state.remove(&self.key("queue", name)).await.map_err(|source| self.failed(source))
    }

    /// Moves a record to the dead ones. One that is there already, of a move that was broken off, stays as it is.
    pub(crate) async fn bury(&self, name: &Name, dead: &Dead) -> Result<(), QueueError> {
        self.swap(&self.key("dead", name), dead, None).await?;
        self.remove(name).await
    }

    pub(crate) async fn read_dead(&self, name: &Name) -> Result<Option<Dead>, QueueError> {
        let key = self.key("dead", name);
        let Some((bytes, _)) = self.raw(&key).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| QueueError::Corrupt { key, source })
    }

    pub(crate) async fn remove_dead(&self, name: &Name) -> Result<(), QueueError> {
        self.state.remove(&self.key("dead", name)).await.map_err(|source| self.failed(source))
    }

    fn key(&self, part: &str, name: &Name) -> String {
        format!("{}/{part}/{}", self.endpoint, name.text)
    }

    pub(crate) fn recent_key(&self) -> String {
        format!("{}/recent", self.endpoint)
    }

    pub(crate) async fn raw(&self, key: &str) -> Result<Option<(Bytes, Version)>, QueueError> {
        self.state.read(key).await.map_err(|source| self.failed(source))
    }

    pub(crate) async fn swap<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        expected: Option<&Version>,
    ) -> Result<Option<Version>, QueueError> {
        let bytes = serde_json::to_vec(value).map_err(|source| QueueError::Corrupt { key: key.to_owned(), source })?;
        self.state.swap(key, Bytes::from(bytes), expected).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: StateError) -> QueueError {
        QueueError::State { endpoint: self.endpoint.to_owned(), source }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::RepositoryName;

    use super::*;
    use crate::event::Action;

    fn event(id: &str, at: u64) -> Event {
        Event {
            id: id.to_owned(),
            action: Action::Push,
            repository: RepositoryName::parse("micro/a").unwrap(),
            tag: None,
            digest: None,
            media_type: None,
            size: None,
            at,
            actor: None,
            from: None,
            source_address: None,
            user_agent: None,
        }
    }

    #[test]
    fn names_sort_as_the_events_happened_and_are_themselves_again() {
        let names = [event("b", 9), event("a", 10), event("a/b c", u64::MAX)].map(|event| Name::new(&event));
        assert!(names.is_sorted());
        assert_eq!(names[0].text, "000000000009-b=micro=a");
        for (name, id) in names.iter().zip(["b", "a", "a/b c"]) {
            assert_eq!(Name::parse(name.text.clone()).as_ref(), Some(name));
            assert!(name.is_of(id) && !name.is_of("c"));
            assert_eq!(name.lane("argo").key(), "argo/micro=a");
        }
    }

    #[test]
    fn a_name_fits_into_a_segment() {
        let mut long = event(&"i".repeat(64), 1);
        long.repository = RepositoryName::parse(&format!("a{}", "/b".repeat(127))).unwrap();
        assert!(Name::new(&long).text.len() <= 255);
    }

    #[test]
    fn foreign_objects_have_no_name() {
        for text in ["", "x", "000000000009", "000000000009-=a", "00000000000g-b=a", "000000000009-b", "äääääääääääää"]
        {
            assert_eq!(Name::parse(text.to_owned()), None, "{text}");
        }
    }
}
