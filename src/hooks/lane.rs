//! A line of deliveries: one endpoint and one repository, in which each waits for the one before it.
//!
//! A repository's name is written with `=` for `/`, which no name has, so that it is one segment of a key. One that would be too long
//! for the key of a job is cut, and ends with `=H` and a part of its SHA-256.

use std::fmt;
use std::time::SystemTime;

use jobs::NewJob;
use oci::RepositoryName;
use serde_json::Value;

use crate::signature::sha256;

/// The kind of the jobs.
pub const KIND: &str = "hook";

/// What a repository may take of the key of a job, of whose 200 bytes an endpoint takes 43 at most.
const LONGEST: usize = 150;
/// What is kept of a name that is longer.
const KEPT: usize = 48;

/// One endpoint and one repository: the key of a job, of which one at most is open at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    pub(crate) endpoint: String,
    pub(crate) repository: String,
}

impl Lane {
    pub(crate) fn new(endpoint: &str, repository: &RepositoryName) -> Self {
        Self { endpoint: endpoint.to_owned(), repository: flat(repository) }
    }

    /// The endpoint that is delivered to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The key of its jobs.
    #[must_use]
    pub fn key(&self) -> String {
        self.to_string()
    }

    /// The job that delivers what waits here, to be submitted.
    #[must_use]
    pub fn job(&self, due: SystemTime, by: &str) -> NewJob {
        NewJob { kind: KIND.to_owned(), key: self.key(), input: Value::Null, due, stamp: None, by: Some(by.to_owned()) }
    }

    /// The lane of a job's key.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let (endpoint, repository) = key.split_once('/')?;
        Some(Self { endpoint: endpoint.to_owned(), repository: repository.to_owned() })
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.endpoint, self.repository)
    }
}

/// The name in one segment, of at most [`LONGEST`] bytes where each `=` counts three times.
pub(crate) fn flat(repository: &RepositoryName) -> String {
    let text = repository.as_str();
    let flat = text.replace('/', "=");
    if flat.len() + 2 * flat.matches('=').count() <= LONGEST {
        return flat;
    }
    let kept = flat.get(..KEPT).unwrap_or(&flat);
    format!("{kept}=H{}", &sha256(text.as_bytes())[..32])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).unwrap()
    }

    #[test]
    fn a_lane_is_its_key_again() {
        let lane = Lane::new("argo", &name("micro/tinybird-local"));
        assert_eq!(lane.key(), "argo/micro=tinybird-local");
        assert_eq!(Lane::parse(&lane.key()), Some(lane));
        assert_eq!(Lane::parse("argo"), None);
    }

    #[test]
    fn long_names_that_begin_alike_are_told_apart() {
        let (one, other) = (format!("a/{}", "b/".repeat(100) + "c"), format!("a/{}", "b/".repeat(100) + "d"));
        assert_ne!(flat(&name(&one)), flat(&name(&other)));
    }

    proptest! {
        #[test]
        fn a_name_is_one_short_segment(text in "[a-z0-9]{1,8}([/._-][a-z0-9]{1,8}){0,27}") {
            let flat = flat(&name(&text));
            prop_assert!(flat.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte)));
            prop_assert!(flat.len() + 2 * flat.matches('=').count() <= LONGEST);
            if !flat.contains('H') {
                prop_assert_eq!(flat.replace('=', "/"), text);
            }
        }
    }
}
