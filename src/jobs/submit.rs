//! Asking for a job.

use std::time::SystemTime;

use serde_json::Value;

use crate::record::JobId;

/// A job that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// What kind of work: one that is registered.
    pub kind: String,
    /// What it is about: at most one job of a kind is open per key. Any text of 1 to 100 bytes.
    pub key: String,
    /// For its work.
    pub input: Value,
    /// Not begun before.
    pub due: SystemTime,
    /// For what is to happen once, whoever asks for it: a job is only made if no job was made there with this stamp or a higher one.
    /// A schedule gives the time that it is for, in milliseconds since 1970.
    pub stamp: Option<u64>,
    /// Who asks.
    pub by: Option<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// This job was made.
    New(JobId),
    /// This one is open already and none was made. The stamp is not used up.
    Open(JobId),
    /// One was made with this stamp or a higher one before.
    Past,
}
