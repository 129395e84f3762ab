//! The last attempts of an endpoint, for operators, and to know an event again that was delivered a moment ago.

use jobs::Version;
use serde::{Deserialize, Serialize};

use crate::queue::{Queue, QueueError};

/// How many are kept.
const KEPT: usize = 20;
/// How often it is tried again when another writer was faster.
const ATTEMPTS: u32 = 8;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The receiver has it.
    Delivered,
    /// It is tried again.
    Failed,
    /// It was given up.
    Dead,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The id of the event.
    pub id: String,
    /// Its repository.
    pub repository: String,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// What the receiver answered, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub at: u64,
    /// How long it took.
    pub duration_ms: u64,
}

/// The last attempts, the latest first. They are only for looking, so that what cannot be read counts as none.
pub(crate) async fn recent(queue: &Queue<'_>) -> Result<Vec<Attempt>, QueueError> {
    Ok(read(queue, &queue.recent_key()).await?.0)
}

/// Notes an attempt. What cannot be noted because others are faster is only logged.
pub(crate) async fn note(queue: &Queue<'_>, attempt: Attempt) -> Result<(), QueueError> {
    let key = queue.recent_key();
    for _ in 0..ATTEMPTS {
        let (mut attempts, version) = read(queue, &key).await?;
        attempts.insert(0, attempt.clone());
        attempts.truncate(KEPT);
        if queue.swap(&key, &attempts, version.as_ref()).await?.is_some() {
            return Ok(());
        }
    }
    tracing::debug!(key, id = attempt.id, "an attempt was not noted: too many are being made at once");
    Ok(())
}

async fn read(queue: &Queue<'_>, key: &str) -> Result<(Vec<Attempt>, Option<Version>), QueueError> {
    let Some((bytes, version)) = queue.raw(key).await? else { return Ok((Vec::new(), None)) };
    Ok((serde_json::from_slice(&bytes).unwrap_or_default(), Some(version)))
}
