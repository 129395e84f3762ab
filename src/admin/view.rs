//! How things are shown.

use jiff::Timestamp;
use jobs::Record;
use serde::Serialize;
use serde_json::{Value, json};

/// A time as text. [RFC 3339]
pub(crate) fn time(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string()
}

/// A job without what it did in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    id: String,
    kind: String,
    key: String,
    state: jobs::JobState,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    created: String,
    due: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    progress: Value,
    /// What a mirror's run did, in numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<mirror::Totals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
}

impl Summary {
    pub(crate) fn new(record: &Record) -> Self {
        let report = report(record);
        let ended = record.ended.zip(record.started);
        Self {
            id: record.id.to_string(),
            kind: record.kind.clone(),
            key: record.key.clone(),
            state: record.state,
            by: record.by.clone(),
            created: time(record.created),
            due: time(record.due),
            started: record.started.map(time),
            ended: record.ended.map(time),
            duration_ms: ended.map(|(ended, started)| ended.saturating_sub(started)),
            attempts: record.attempts,
            reason: record.reason.clone(),
            progress: record.progress.clone(),
            totals: report.as_ref().map(mirror::Report::totals),
            dry_run: report.map(|report| report.dry_run),
        }
    }
}

/// A job with all that is known of it.
pub(crate) fn whole(record: &Record) -> Value {
    let mut shown = serde_json::to_value(Summary::new(record)).unwrap_or_default();
    let log: Vec<Value> =
        record.log.iter().map(|line| json!({ "at": time(line.at), "level": line.level, "text": line.text })).collect();
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("log".to_owned(), Value::Array(log));
        if let Some(report) = report(record) {
            shown.insert("report".to_owned(), serde_json::to_value(report).unwrap_or_default());
        } else if !record.result.is_null() {
            shown.insert("result".to_owned(), record.result.clone());
        }
    }
    shown
}

/// What a mirror's run did, as far as it is.
fn report(record: &Record) -> Option<mirror::Report> {
    if record.kind != mirror::KIND {
        return None;
    }
    let value = if record.result.is_null() { &record.checkpoint } else { &record.result };
    serde_json::from_value(value.clone()).ok()
}
