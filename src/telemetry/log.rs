//! Logs: one subscriber per process, to standard error.

mod behind;
mod json;

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use self::behind::Behind;
use self::json::Json;
pub(crate) use self::json::rfc3339;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: one line per event, coloured only on a terminal.
    #[default]
    Text,
    /// For machines: one JSON object per line, the event's fields at its top level, `timestamp` in RFC 3339 and UTC.
    Json,
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not in the language of [`EnvFilter`].
    #[error("`{filter}` is not a log filter (examples: `info`, `warn,roadstead_proxy=debug`)")]
    Filter {
        /// What was given.
        filter: String,
        /// Where it went wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The thread that writes it cannot be started.
    #[error("the log cannot be written")]
    Thread(#[source] io::Error),
    /// The process has a subscriber already.
    #[error("a log was already started in this process")]
    AlreadyStarted(#[source] tracing_subscriber::util::TryInitError),
}

/// A log that was started. What was logged is written a moment later by a thread of its own: [`Log::flush`] before the end.
#[must_use = "what was logged last is lost unless it is flushed"]
#[derive(Clone, Debug)]
pub struct Log(Behind);

impl Log {
    /// Returns once everything that was logged is written.
    pub fn flush(&self) {
        self.0.flush();
    }
}

/// Sends the process's log to standard error, keeping what `filter` lets through (`info`, `warn,roadstead_proxy=debug`).
///
/// Answers `Filter` for a filter that cannot be read and `AlreadyStarted` when called for the second time.
pub fn init(format: Format, filter: &str) -> Result<Log, Error> {
    let filter = EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let colour = io::stderr().is_terminal();
    let behind = Behind::start(io::stderr()).map_err(Error::Thread)?;
    subscriber(format, filter, colour, behind.clone()).try_init().map_err(Error::AlreadyStarted)?;
    Ok(Log(behind))
}

fn subscriber<W>(format: Format, filter: EnvFilter, colour: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Text => Box::new(builder.with_ansi(colour).finish()),
        Format::Json => Box::new(builder.event_format(Json).finish()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, EnvFilter::try_new(filter).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(repository = "library/alpine", size_bytes = 7, "stored");
            tracing::debug!("detail");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_kind_of_value_is_one_of_json() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(Format::Json, EnvFilter::new("info"), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let error: &dyn std::error::Error = &io::Error::other("a \"quoted\" cause");
            let none: Option<&str> = None;
            tracing::warn!(yes = true, less = -7, part = 0.5, none, nan = f64::NAN, error, shown = %"a\nb", seen = ?"c", "it's\t{}", 1);
        });
        let bytes = buffer.0.lock().unwrap().clone();
        let text = str::from_utf8(&bytes).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let mut line: serde_json::Value = serde_json::from_str(text).unwrap();
        line.as_object_mut().unwrap().remove("timestamp");
        let expected = serde_json::json!({
            "level": "WARN", "message": "it's\t1", "yes": true, "less": -7, "part": 0.5, "nan": null, "error": "a \"quoted\" cause",
            "shown": "a\nb", "seen": "\"c\"", "target": "roadstead_telemetry::log::tests",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_json_line_is_flat_and_has_a_timestamp_in_utc() {
        let text = logged(Format::Json, "info");
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["message"], "stored");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["repository"], "library/alpine");
        assert_eq!(line["size_bytes"], 7);
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z') && timestamp.as_bytes().get(10) == Some(&b'T'), "{timestamp}");
    }

    #[test]
    fn text_away_from_a_terminal_has_no_colour_codes() {
        let text = logged(Format::Text, "debug");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains("repository=\"library/alpine\"") && text.contains("detail"), "{text}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named_in_the_error() {
        let error = init(Format::Text, "roadstead=loudly").unwrap_err();
        assert!(error.to_string().contains("`roadstead=loudly`"), "{error}");
    }

    #[test]
    fn a_second_log_in_one_process_is_refused() {
        // The only test that installs a subscriber for the whole process: `off` keeps it out of the others' way.
        init(Format::Json, "off").unwrap().flush();
        assert!(matches!(init(Format::Json, "off"), Err(Error::AlreadyStarted(_))));
    }
}
