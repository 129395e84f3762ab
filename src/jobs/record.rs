//! What is known of a job.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Lines of a job's log that are kept: the last ones.
const LINES: usize = 200;
/// Bytes of one line; what is longer is cut.
const LINE_LENGTH: usize = 500;

/// Which job. Later ids sort after earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub(crate) Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

/// The text is not the id of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a job")]
pub struct NotAnId(String);

impl FromStr for JobId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        Uuid::try_parse(text).map(Self).map_err(|_| NotAnId(text.chars().take(80).collect()))
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Nobody works on it; it is due at [`Record::due`].
    Waiting,
    /// Somebody holds its lease.
    Running,
    /// It ended well.
    Done,
    /// It was given up.
    Failed,
    /// It was ended because somebody asked for that.
    Cancelled,
}

impl JobState {
    /// Nothing more will happen to it.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A job, whole: as it lies in the state, and as operators are shown it. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which job.
    pub id: JobId,
    /// What kind of work it is.
    pub kind: String,
    /// What it is about: at most one job of a kind is open per key.
    pub key: String,
    /// Where it is.
    pub state: JobState,
    /// What it was given.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What its work saved last, to go on from there.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub checkpoint: Value,
    /// How far it is, in the words of its work.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub progress: Value,
    /// What came of it, in the words of its work.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// Why it failed or was put off last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Who asked to cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_by: Option<String>,
    /// The stamp that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<u64>,
    /// The job that this one was made again of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Not begun before.
    pub due: u64,
    /// When it was submitted.
    pub created: u64,
    /// When it was begun first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Runs that failed and count.
    #[serde(default)]
    pub attempts: u32,
    /// Runs that were begun, whatever became of them. Tells the holders of the lease apart.
    #[serde(default)]
    pub epoch: u64,
    /// Runs whose holder was not heard of any more.
    #[serde(default)]
    pub lost: u32,
    /// Who works on it; only while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The last lines of its log, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<Line>,
}

/// The right to work on a job, for as long as it is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which process: another one after each start.
    pub owner: String,
    /// Counts the renewals.
    pub beat: u64,
    /// It may be taken over once it was not renewed for so long, in milliseconds on the observer's clock.
    pub duration_ms: u64,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What was done.
    Info,
    /// What went wrong and was helped.
    Warn,
    /// What went wrong.
    Error,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How much it matters.
    pub level: Level,
    /// At most 500 bytes.
    pub text: String,
}

impl Line {
    pub(crate) fn new(at: u64, level: Level, mut text: String) -> Self {
        if text.len() > LINE_LENGTH {
            let end = (0..=LINE_LENGTH - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        Self { at, level, text }
    }
}

impl Record {
    /// Adds a line to the log, which forgets the oldest for it.
    pub(crate) fn log(&mut self, line: Line) {
        add_line(&mut self.log, line);
    }

    /// The time since its first begin until its end, or until `now`.
    #[must_use]
    pub fn duration(&self, now: SystemTime) -> Duration {
        let end = self.ended.unwrap_or_else(|| millis(now));
        Duration::from_millis(self.started.map_or(0, |started| end.saturating_sub(started)))
    }
}

/// All that is known of a kind and key at one time: the object that everyone swaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Counts the writes, so that no content comes twice: some stores tell versions by their content.
    pub(crate) revision: u64,
    /// The highest stamp that was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<u64>,
    /// The job that was here last and is in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<JobId>,
    /// The job that is not in the history yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<Record>,
}

/// Adds a line to a log, which forgets the oldest for it.
pub(crate) fn add_line(log: &mut Vec<Line>, line: Line) {
    log.push(line);
    let over = log.len().saturating_sub(LINES);
    log.drain(..over);
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
