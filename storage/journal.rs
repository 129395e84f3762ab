//! The journal: each change of a tag, written down before the tag changes, so that nothing that follows from it can be lost.
//!
//! An entry is an object of its own. In a folder it is written in one step with the tag, right before it; elsewhere it is put first,
//! and the tag follows. Whoever acts on changes ([`Store::events`]) removes an entry once what follows from it is durable. A crash may
//! leave an entry whose change was never made, or was acted on already: acting twice on one, or on one whose tag does not point there,
//! must do no harm.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::path::Path;
use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::{Builder, Uuid};

use crate::commit::Write;
use crate::error::Error;
use crate::keys;
use crate::objects::encode;
use crate::store::Store;
use crate::time::millis;

/// Events that are handed over in memory; what is more is found in the store.
const HANDED: usize = 10_000;
/// Whoever wrote an entry acts on it himself within this, or not at all.
const ABANDONED: Duration = Duration::from_secs(30);

/// Who changes something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The principal, where there is one: `mirror:nightly`.
    pub by: Option<String>,
    /// An address of the network, or the repository that was copied.
    pub from: Option<String>,
}

/// A tag has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagEvent {
    /// The entry of the journal; later ones sort after earlier ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// Where it points; `None`: it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// How often the tag had moved by then; `None` where a crash has kept that from being known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// As [`Origin::by`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// As [`Origin::from`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Events that this process wrote and whose changes are made.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    ready: Mutex<VecDeque<TagEvent>>,
    arrived: Notify,
}

impl Journal {
    fn hand(&self, event: TagEvent) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() < HANDED {
            ready.push_back(event);
            self.arrived.notify_one();
        }
    }
}

impl Store {
    /// The same store, which writes every change of a tag into the journal. Somebody is to act on the events, else they grow.
    #[must_use]
    pub fn with_journal(mut self) -> Self {
        self.journal = Some(std::sync::Arc::default());
        self
    }

    /// The same store, whose changes are this one's.
    #[must_use]
    pub fn on_behalf(&self, origin: Origin) -> Self {
        Self { origin: std::sync::Arc::new(origin), ..self.clone() }
    }

    /// The next events whose changes this process has made, at least one. Never returns without a journal.
    pub async fn events(&self) -> Vec<TagEvent> {
        let Some(journal) = &self.journal else { return std::future::pending().await };
        loop {
            let arrived = journal.arrived.notified();
            let ready = std::mem::take(&mut *journal.ready.lock().unwrap_or_else(PoisonError::into_inner));
            if !ready.is_empty() {
                return ready.into();
            }
            arrived.await;
        }
    }

    /// Events that nobody has acted on although they are old: whoever wrote them has crashed, or could not act. Their changes may not
    /// have been made. Where this process is the only one, all are that are there when it `has_just_begun`.
    pub async fn abandoned_events(&self, now: SystemTime, has_just_begun: bool) -> Result<Vec<TagEvent>, Error> {
        let mut events = Vec::new();
        for (segment, _) in self.objects.children(&keys::journal()).await? {
            let mut event = match self.objects.read_json::<TagEvent>(&keys::event(&segment)).await {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(Error::Corrupt { reason, .. }) => {
                    // The others must not wait for one that nobody can read.
                    tracing::error!(entry = segment, reason, "an entry of the journal cannot be read");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let age = millis(now).saturating_sub(event.at);
            // One from a clock far ahead is as old as it can be.
            let is_old = u128::from(age) > ABANDONED.as_millis() || event.at > millis(now + ABANDONED);
            let is_left = is_old || (has_just_begun && self.backend.exact);
            if !is_left {
                continue;
            }
            let record = self.tag(&event.repository, &event.tag).await?;
            event.sequence = record.filter(|record| Some(&record.digest) == event.digest.as_ref()).map(|record| record.sequence);
            event.id = segment;
            events.push(event);
        }
        Ok(events)
    }

    /// What follows from this event is durable: its entry goes.
    pub async fn event_done(&self, event: &TagEvent) -> Result<(), Error> {
        self.objects.delete(&keys::event(&event.id)).await
    }

    /// An event that is about to happen; `None` without a journal.
    fn event(&self, repository: &RepositoryName, tag: &Tag, digest: Option<&Digest>, at: SystemTime) -> Option<TagEvent> {
        self.journal.as_ref()?;
        let mut random = [0; 10];
        random.copy_from_slice(&Uuid::new_v4().as_bytes()[..10]);
        let id = Builder::from_unix_timestamp_millis(millis(at), &random).into_uuid().to_string();
        let Origin { by, from } = self.origin.as_ref().clone();
        let (repository, tag, digest) = (repository.clone(), tag.clone(), digest.cloned());
        Some(TagEvent { id, repository, tag, digest, sequence: None, at: millis(at), by, from })
    }

    /// As [`Store::event`], and what writes it down.
    pub(crate) fn entry(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Option<&Digest>,
        at: SystemTime,
    ) -> Result<Option<(TagEvent, Write)>, Error> {
        let Some(event) = self.event(repository, tag, digest, at) else { return Ok(None) };
        let (key, bytes) = encoded(&event)?;
        Ok(Some((event, Write::Put(key, bytes))))
    }

    /// As [`Store::event`], written down.
    pub(crate) async fn announce(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Option<&Digest>,
        at: SystemTime,
    ) -> Result<Option<TagEvent>, Error> {
        let Some(event) = self.event(repository, tag, digest, at) else { return Ok(None) };
        let (key, bytes) = encoded(&event)?;
        self.objects.put(&key, bytes).await?;
        Ok(Some(event))
    }

    /// The change of an event was made, with this sequence.
    pub(crate) fn happened(&self, event: Option<TagEvent>, sequence: u64) {
        if let (Some(journal), Some(event)) = (&self.journal, event) {
            journal.hand(TagEvent { sequence: Some(sequence), ..event });
        }
    }

    /// The change of an event was not needed. If this fails, whoever finds the entry sees that.
    pub(crate) async fn did_not_happen(&self, event: Option<TagEvent>) {
        if let Some(event) = event
            && let Err(error) = self.event_done(&event).await
        {
            tracing::debug!(error = %telemetry::chain(&error), "an entry of the journal stays until it is found");
        }
    }
}

fn encoded(event: &TagEvent) -> Result<(Path, Bytes), Error> {
    let key = keys::event(&event.id);
    let bytes = encode(&key, event)?;
    Ok((key, bytes))
}
