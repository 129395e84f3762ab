//! How long a peer may be silent and how many there may be.

use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// What a peer may cost. There is no limit on the length of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From accepting a connection to the end of its first request's head, TLS handshake included; and for each later head from
    /// its first byte to its last.
    pub header_timeout: Duration,
    /// Silence within a request body, or of a peer that takes no byte of a response. A connection without a request may be
    /// silent this long too, but at least for a minute.
    pub idle_timeout: Duration,
    /// Connections at the same time. Further ones wait in the kernel's queue until one ends.
    pub max_connections: usize,
    /// What running requests get to finish once the server is told to stop.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            max_connections: 10_000,
            drain_timeout: Duration::from_mins(5),
        }
    }
}

impl Limits {
    /// How long a connection without a request stays open: clients keep theirs for a minute or more, and one that is closed just
    /// when a request is under way costs a retry.
    pub(crate) fn keep_alive(&self) -> Duration {
        self.idle_timeout.max(Duration::from_mins(1))
    }
}

/// Raises the process's limit on open files as far as it may go without privileges. A connection and a blob are a file each, and
/// many systems start a process with 1,024. A failure is logged and changes nothing.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit on open files"),
        Err(error) => tracing::warn!(%error, ?current, ?maximum, "the limit on open files could not be raised"),
    }
}

/// What this process makes from now on is for its user and his group: among what it stores are the keys of its tokens, and content
/// that not everybody may pull. A stricter mask stays.
pub fn keep_from_others() {
    let before = umask(Mode::RWXO);
    umask(before | Mode::RWXO);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_on_open_files_becomes_the_hard_one() {
        raise_file_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[test]
    fn a_connection_without_a_request_may_be_silent_for_a_minute_at_least() {
        let short = Limits { idle_timeout: Duration::from_secs(1), ..Limits::default() };
        let long = Limits { idle_timeout: Duration::from_mins(3), ..Limits::default() };
        assert_eq!(short.keep_alive(), Duration::from_mins(1));
        assert_eq!(long.keep_alive(), Duration::from_mins(3));
    }
}
