//! What can go wrong, where, and how often.

use std::time::Duration;

/// A way to fail. Faults of a body befall only answers that have one, not HEAD, redirects or errors; and the bodies of pushes, where
/// offsets count from the beginning of the request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with an error body of the specification.
    Status(u16),
    /// 429, with this `Retry-After` if any.
    TooManyRequests {
        /// Seconds or a date.
        retry_after: Option<String>,
    },
    /// 503, with this `Retry-After`.
    Unavailable {
        /// Seconds or a date.
        retry_after: String,
    },
    /// 307 to this place.
    Redirect {
        /// What stands in `Location`.
        location: String,
    },
    /// 200 with this body in place of the real one.
    Body(String),
    /// The connection is closed without an answer.
    Drop,
    /// The request has its effect, and the connection is closed without an answer.
    LoseAnswer,
    /// The head of the answer waits for so long.
    Delay(Duration),
    /// The body breaks off after so many bytes. That of a push is not read any further, and the connection is closed.
    Cut {
        /// Bytes that still arrive.
        after: u64,
    },
    /// One byte of the content is another. For manifests, too.
    Corrupt {
        /// Its offset in the content.
        at: u64,
    },
    /// The body comes no faster than this.
    Rate {
        /// Bytes per second, per body.
        bytes_per_second: u64,
    },
    /// The body stops after so many bytes, and the connection stays open.
    Stall {
        /// Bytes that still arrive.
        after: u64,
    },
    /// The body comes without a `Content-Length`.
    Chunked,
    /// `Docker-Content-Digest` is that of other content.
    WrongDigest,
    /// There is no `Docker-Content-Digest`.
    NoDigest,
    /// HEAD is answered with 405.
    RefuseHead,
    /// The answer has this header, in place of its own of that name.
    Header {
        /// Name, in lower case.
        name: &'static str,
        /// Value.
        value: String,
    },
    /// The answer lacks this header.
    WithoutHeader(&'static str),
}

impl Fault {
    /// Does it change the bytes of a body or their coming?
    fn is_of_body(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Corrupt { .. } | Self::Rate { .. } | Self::Stall { .. } | Self::Chunked)
    }

    /// Does it change the headers of a successful answer?
    fn is_of_headers(&self) -> bool {
        matches!(self, Self::WrongDigest | Self::NoDigest | Self::Header { .. } | Self::WithoutHeader(_))
    }
}

/// At which point of an answer faults are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Request { head: bool },
    Headers,
    Body,
}

#[derive(Debug)]
struct Armed {
    path: String,
    left: Option<usize>,
    fault: Fault,
}

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Armed>);

impl Faults {
    pub(crate) fn add(&mut self, path: &str, times: Option<usize>, fault: Fault) {
        self.0.push(Armed { path: path.to_owned(), left: times, fault });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The faults that befall an answer to `path` at `stage`; each is counted as having happened once more.
    pub(crate) fn strike(&mut self, path: &str, stage: Stage) -> Vec<Fault> {
        let mut struck = Vec::new();
        for armed in &mut self.0 {
            let fits = match stage {
                Stage::Body => armed.fault.is_of_body(),
                Stage::Headers => armed.fault.is_of_headers(),
                Stage::Request { head } => {
                    let of_request = !armed.fault.is_of_body() && !armed.fault.is_of_headers();
                    of_request && (head || armed.fault != Fault::RefuseHead)
                }
            };
            if fits && armed.left != Some(0) && path.contains(&armed.path) {
                armed.left = armed.left.map(|left| left - 1);
                struck.push(armed.fault.clone());
            }
        }
        struck
    }
}
