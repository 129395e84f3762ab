//! What was done, by whom, from where: a line of JSON each, for those who have to know later.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use serde::Serialize;

use crate::Metrics;
use crate::log::rfc3339;

/// Lines that may wait to be written. One more is lost, counted, and told of in the log.
const WAITING: usize = 16 * 1024;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Standard output.
    Output,
    /// A file, which is continued.
    File {
        /// Which.
        path: PathBuf,
        /// A file of more bytes is put aside, as `PATH.1`, and a new one is begun. Absent: somebody else does that, and a file that
        /// he has moved away is noticed.
        rotate: Option<u64>,
        /// So many files put aside are kept.
        keep: usize,
    },
}

/// What happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// `push`, `delete`, `login`, `access`, `token`, `promotion`, `reload`.
    pub event: &'static str,
    /// `done`, `refused`, `failed`.
    pub outcome: &'static str,
    /// Who: `user:alice`, `anonymous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What he did it to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// A tag, or the digest by which a manifest was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What else is to be said, and never a secret: the route, the verb, the id of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The id of the request, as the log and the answer have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[derive(Serialize)]
struct Line<'e> {
    at: String,
    #[serde(flatten)]
    entry: &'e Entry,
}

/// Why no lines can be written.
#[derive(Debug, thiserror::Error)]
#[error("the audit file {path} cannot be opened", path = .path.display())]
pub struct AuditError {
    path: PathBuf,
    source: io::Error,
}

/// Takes what happened. Cheap to clone; nothing happens with one that is off.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    lines: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
    metrics: Metrics,
}

impl Audit {
    /// One that writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// One that writes there, on a thread of its own, so that no request waits for a disk.
    pub fn open(place: &Place, metrics: Metrics) -> Result<Self, AuditError> {
        let mut writer = Writer::open(place)?;
        let (lines, waiting): (_, Receiver<Vec<u8>>) = sync_channel(WAITING);
        let counted = metrics.clone();
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            for line in waiting {
                if let Err(error) = writer.write(&line) {
                    counted.audit_lost();
                    tracing::error!(error = %error, "a line of the audit could not be written");
                }
            }
        });
        let path = || match place {
            Place::Output => PathBuf::from("-"),
            Place::File { path, .. } => path.clone(),
        };
        let writer = writer.map_err(|source| AuditError { path: path(), source })?;
        Ok(Self(Some(Arc::new(Inner { lines: Some(lines), writer: Some(writer), metrics }))))
    }

    /// Is anything written?
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes what happened at this time.
    pub fn record(&self, at: SystemTime, entry: &Entry) {
        let Some(inner) = &self.0 else { return };
        let Some(lines) = &inner.lines else { return };
        let Ok(line) = serde_json::to_string(&Line { at: rfc3339(at), entry }) else { return };
        let line = escaped(&line).into_bytes();
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(line) {
            inner.metrics.audit_lost();
            tracing::error!(
                event = entry.event,
                outcome = entry.outcome,
                "a line of the audit was lost: too many wait for the disk"
            );
        }
    }
}

impl Drop for Inner {
    /// What waits is written first.
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // It has told of what went wrong itself.
            let _ = writer.join();
        }
    }
}

enum Writer {
    Output,
    File(Box<Rotated>),
}

struct Rotated {
    path: PathBuf,
    rotate: Option<u64>,
    keep: usize,
    file: File,
    size: u64,
}

impl Writer {
    fn open(place: &Place) -> Result<Self, AuditError> {
        match place {
            Place::Output => Ok(Self::Output),
            Place::File { path, rotate, keep } => {
                let (file, size) = append_to(path).map_err(|source| AuditError { path: path.clone(), source })?;
                Ok(Self::File(Box::new(Rotated { path: path.clone(), rotate: *rotate, keep: *keep, file, size })))
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Output => {
                let mut output = io::stdout().lock();
                output.write_all(line)?;
                output.flush()
            }
            Self::File(rotated) => rotated.write(line),
        }
    }
}

impl Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.rotate.is_some_and(|limit| self.size > 0 && self.size + line.len() as u64 > limit) {
            self.put_aside()?;
        } else if !self.is_in_place() {
            (self.file, self.size) = append_to(&self.path)?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    /// Is the file still what the path names? Another program may have moved it away.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()));
        identity(fs::metadata(&self.path)) == identity(self.file.metadata())
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let numbered = |number: usize| {
            let mut path = self.path.as_os_str().to_owned();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        for number in (1..self.keep).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, numbered(1))?;
        }
        (self.file, self.size) = append_to(&self.path)?;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// What a reader could take for the end of a line, or a terminal for a command, stands in JSON as an escape.
fn escaped(line: &str) -> String {
    let is_odd = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    let mut out = String::with_capacity(line.len() + 1);
    for letter in line.chars() {
        if is_odd(letter) {
            // All of them are below 0x10000, and writing to a string cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry(reference: &str) -> Entry {
        Entry { event: "push", outcome: "done", reference: Some(reference.to_owned()), ..Entry::default() }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_767_323_045, "2026-01-02T03:04:05.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn lines_are_written_in_order_and_hostile_text_stays_on_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let place = Place::File { path: path.clone(), rotate: None, keep: 0 };
        let audit = Audit::open(&place, Metrics::new()).unwrap();
        for reference in ["v1", "a\nb\r\u{2028}c\u{85}d", "v3"] {
            audit.record(UNIX_EPOCH, &entry(reference));
        }
        drop(audit);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.split('\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1]["reference"], "a\nb\r\u{2028}c\u{85}d");
        assert!(!text.chars().any(|letter| letter != '\n' && (letter.is_control() || letter == '\u{2028}')));
        assert_eq!(
            lines[0],
            serde_json::json!({ "at": "1970-01-01T00:00:00.000Z", "event": "push", "outcome": "done", "reference": "v1" })
        );
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let place = Place::File { path: path.clone(), rotate: Some(200), keep: 2 };
        let audit = Audit::open(&place, Metrics::new()).unwrap();
        for number in 0..20 {
            audit.record(UNIX_EPOCH, &entry(&number.to_string()));
        }
        drop(audit);
        let names: Vec<String> =
            fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(fs::read_to_string(&path).unwrap().contains("\"19\""));
        assert!(fs::metadata(folder.path().join("audit.jsonl.2")).unwrap().len() <= 200);
    }

    #[test]
    fn a_file_that_is_moved_away_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut writer = Writer::open(&Place::File { path: path.clone(), rotate: None, keep: 0 }).unwrap();
        writer.write(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("old")).unwrap();
        writer.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(folder.path().join("old")).unwrap(), "one\n");
    }
}
