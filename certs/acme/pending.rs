//! The answers to challenges that are under way. Every replica gives them, whichever of them ordered.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::error::Error;
use super::records::{Record, Shelf};
use super::settings::Challenge;

/// Where they are kept.
const KEY: &str = "challenges";
/// How often a replica looks for an answer that it does not know, whoever asks for however many.
const AGAIN: Duration = Duration::from_millis(500);
/// After which time every replica finds a new answer.
pub(super) const SPREAD: Duration = Duration::from_secs(1);
/// An order takes less.
const LIFE: Duration = Duration::from_mins(10);
/// More than the names of a few certificates.
const MOST: usize = 500;

/// What an ACME server is to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) challenge: Challenge,
    pub(crate) domain: String,
    pub(crate) token: String,
    /// The key authorization (RFC 8555, section 8.1).
    pub(crate) authorization: String,
    /// In seconds since 1970.
    until: u64,
}

/// All of them.
#[derive(Default, Serialize, Deserialize)]
struct All {
    answers: Vec<Answer>,
}

impl Record for All {
    const WITHOUT: &'static str = "challenges are answered again";
}

#[derive(Default)]
struct Known {
    answers: Vec<Answer>,
    /// When they were looked for, by the monotonic clock.
    looked: Option<Duration>,
}

/// The answers as this replica knows them.
pub(crate) struct Pending {
    shelf: Shelf,
    known: Mutex<Known>,
}

impl Answer {
    pub(crate) fn new(challenge: Challenge, domain: String, token: String, authorization: String) -> Self {
        Self { challenge, domain, token, authorization, until: 0 }
    }
}

impl Pending {
    pub(crate) fn new(shelf: Shelf) -> Self {
        Self { shelf, known: Mutex::default() }
    }

    /// Is what is kept legible?
    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.shelf.read::<All>(KEY).await.map(|_| ())
    }

    /// Gives these answers from now on, and everywhere after [`SPREAD`].
    pub(crate) async fn publish(&self, mut answers: Vec<Answer>) -> Result<(), Error> {
        let now = self.shelf.now();
        for answer in &mut answers {
            answer.until = now + LIFE.as_secs();
        }
        let add = |all: &mut All| {
            all.answers.retain(|old| old.until > now);
            all.answers.extend(answers.iter().cloned());
            let surplus = all.answers.len().saturating_sub(MOST);
            all.answers.drain(..surplus);
        };
        let all = self.shelf.change(KEY, add).await?;
        self.known.lock().await.answers = all.answers;
        Ok(())
    }

    /// They are needed no more.
    pub(crate) async fn withdraw(&self, tokens: &[String]) -> Result<(), Error> {
        let now = self.shelf.now();
        let remove = |all: &mut All| all.answers.retain(|old| old.until > now && !tokens.contains(&old.token));
        let all = self.shelf.change(KEY, remove).await?;
        self.known.lock().await.answers = all.answers;
        Ok(())
    }

    pub(crate) async fn of_token(&self, token: &str) -> Option<Answer> {
        self.find(|answer| answer.challenge == Challenge::Http01 && answer.token == token).await
    }

    pub(crate) async fn of_domain(&self, domain: &str) -> Option<Answer> {
        self.find(|answer| answer.challenge == Challenge::TlsAlpn01 && answer.domain == domain).await
    }

    /// Looked for in the store if it is not known, but not for everybody who makes up a name: of those who ask at the same time
    /// one looks for all, and not soon again.
    async fn find(&self, wanted: impl Fn(&Answer) -> bool + Send + Sync) -> Option<Answer> {
        let mut known = self.known.lock().await;
        let now = self.shelf.now();
        let wanted = |answer: &&Answer| answer.until > now && wanted(answer);
        // The last one: an earlier order for the same name may have been given up.
        if let Some(found) = known.answers.iter().rfind(wanted) {
            return Some(found.clone());
        }
        let passed = self.shelf.clock().monotonic();
        if known.looked.is_some_and(|looked| passed < looked + AGAIN) {
            return None;
        }
        known.looked = Some(passed);
        match self.shelf.read::<All>(KEY).await {
            Ok(all) => known.answers = all.map(|(all, _)| all.answers).unwrap_or_default(),
            // Whoever orders is told; the one who asks is a stranger.
            Err(error) => tracing::debug!(%error, "the answers to challenges cannot be read"),
        }
        known.answers.iter().rfind(wanted).cloned()
    }
}
