//! Robot accounts: names for programs, each with tokens that expire and can be revoked. Kept with what the server stores; of a token
//! itself nothing is kept but its SHA-256, which is enough for 256 random bits.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use telemetry::Clock;

use crate::signer::{Records, RecordsError};

/// Where they are kept.
const KEY: &str = "robots";
/// How a token begins, so that scanners of secrets find one that has gone astray.
pub(crate) const PREFIX: &str = "rst_";
/// What another server has changed is seen after so many milliseconds.
const AGAIN: u128 = 5_000;
/// And what was read goes on being taken for so many while the store cannot be reached.
const GOES_ON: u128 = 600_000;
/// Names, and tokens of one name.
const MOST_ROBOTS: usize = 1_000;
const MOST_TOKENS: usize = 20;

/// One token of a robot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RobotToken {
    /// What it is called; a part of the token, and no secret.
    pub id: String,
    /// SHA-256 of the whole, in base64.
    hash: String,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// Until when it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Who made it.
    pub by: String,
    /// What the robot belongs to when it shows this token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Robots by their names.
pub type Robots = BTreeMap<String, Vec<RobotToken>>;

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// How long it is taken; without end where nothing is said.
    pub lifetime: Option<Duration>,
    /// What the robot belongs to when it shows it.
    pub groups: Vec<String>,
    /// Who makes it.
    pub by: String,
}

/// Why a robot is not changed.
#[derive(Debug, thiserror::Error)]
pub enum RobotError {
    /// The records cannot be reached.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Not a name.
    #[error("{0:?} is no name of a robot: write up to 64 small letters, digits, -, _ and .")]
    Name(String),
    /// There is none of that name, or it has no such token.
    #[error("there is no robot called {name:?}{}", .id.as_ref().map(|id| format!(" with a token {id}")).unwrap_or_default())]
    Unknown {
        /// The robot.
        name: String,
        /// The token.
        id: Option<String>,
    },
    /// There are enough.
    #[error("there are {0} already; revoke those that nobody needs")]
    Enough(&'static str),
    /// What is kept is not what was written.
    #[error("the robots cannot be read; remove `auth/robots` from the store, and make them anew")]
    Damaged,
}

pub(crate) struct Store {
    records: Arc<dyn Records>,
    /// The robots, when they were looked for last, and when they were read.
    known: RwLock<(Arc<Robots>, u128, u128)>,
    clock: Arc<dyn Clock>,
}

impl Store {
    pub(crate) fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Self {
        Self { records, known: RwLock::default(), clock }
    }

    fn millis(&self) -> u128 {
        self.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()
    }

    fn seconds(&self) -> u64 {
        u64::try_from(self.millis() / 1000).unwrap_or(u64::MAX)
    }

    /// All of them, as they were a few seconds ago at most.
    pub(crate) async fn all(&self) -> Result<Arc<Robots>, RobotError> {
        if let Some(robots) = self.at_hand() {
            return Ok(robots);
        }
        let now = self.millis();
        match self.records.read(KEY).await {
            Ok(found) => self.take(found.as_deref(), now),
            Err(error) => {
                // A store that hiccups logs nobody out: what was known goes on for a while.
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                if known.1 == 0 || known.2 + GOES_ON <= now {
                    return Err(error.into());
                }
                tracing::warn!(error = %telemetry::chain(&error), "robots cannot be read again; those of before are taken");
                known.1 = now;
                Ok(Arc::clone(&known.0))
            }
        }
    }

    /// What was read a few seconds ago at most.
    fn at_hand(&self) -> Option<Arc<Robots>> {
        let now = self.millis();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.1 + AGAIN > now).then(|| Arc::clone(&known.0))
    }

    fn take(&self, found: Option<&[u8]>, now: u128) -> Result<Arc<Robots>, RobotError> {
        let robots = found.map_or_else(|| Ok(Robots::new()), serde_json::from_slice).map_err(|_| RobotError::Damaged)?;
        let robots = Arc::new(robots);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (Arc::clone(&robots), now, now);
        Ok(robots)
    }

    /// Whose token that is, with what it says of its groups; `None` for one that is not known, or is over.
    pub(crate) async fn owner(&self, token: &str) -> Result<Option<(String, RobotToken)>, RobotError> {
        let robots = self.all().await?;
        let hash = hash(token);
        let now = self.seconds();
        let mut found = None;
        for (name, tokens) in robots.iter() {
            for one in tokens {
                if bool::from(one.hash.as_bytes().ct_eq(hash.as_bytes())) && one.expires.is_none_or(|until| until > now) {
                    found = Some((name.clone(), one.clone()));
                }
            }
        }
        Ok(found)
    }

    /// Is that token of that robot still taken?
    pub(crate) async fn has(&self, name: &str, id: &str) -> bool {
        self.all().await.is_ok_and(|robots| self.is_taken(&robots, name, id))
    }

    /// The same without waiting; `None` if they would have to be read anew for it.
    pub(crate) fn has_at_hand(&self, name: &str, id: &str) -> Option<bool> {
        self.at_hand().map(|robots| self.is_taken(&robots, name, id))
    }

    fn is_taken(&self, robots: &Robots, name: &str, id: &str) -> bool {
        let now = self.seconds();
        let is_it = |one: &RobotToken| one.id == id && one.expires.is_none_or(|until| until > now);
        robots.get(name).is_some_and(|tokens| tokens.iter().any(is_it))
    }

    /// Makes a token, and the robot if there is none. The token is told once.
    pub(crate) async fn create(&self, name: &str, new: &NewToken) -> Result<(RobotToken, SecretString), RobotError> {
        if !is_name(name) {
            return Err(RobotError::Name(name.chars().take(80).collect()));
        }
        let (id, random): ([u8; 6], [u8; 32]) = (rand::random(), rand::random());
        let id = id.map(|byte| format!("{byte:02x}")).concat();
        let token = SecretString::from(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(random)));
        let now = self.seconds();
        let made = RobotToken {
            id,
            hash: hash(token.expose_secret()),
            made: now,
            expires: new.lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs())),
            by: new.by.clone(),
            groups: new.groups.clone(),
        };
        self.change(|robots| {
            if !robots.contains_key(name) && robots.len() >= MOST_ROBOTS {
                return Err(RobotError::Enough("1000 robots"));
            }
            let tokens = robots.entry(name.to_owned()).or_default();
            tokens.retain(|one| one.expires.is_none_or(|until| until > now));
            if tokens.len() >= MOST_TOKENS {
                return Err(RobotError::Enough("20 tokens of this robot"));
            }
            tokens.push(made.clone());
            Ok(())
        })
        .await?;
        Ok((made, token))
    }

    /// Ends one token of a robot, or all of them.
    pub(crate) async fn revoke(&self, name: &str, id: Option<&str>) -> Result<(), RobotError> {
        self.change(|robots| {
            let unknown = || RobotError::Unknown { name: name.to_owned(), id: id.map(str::to_owned) };
            let tokens = robots.get_mut(name).ok_or_else(unknown)?;
            let before = tokens.len();
            tokens.retain(|one| id.is_some_and(|id| one.id != id));
            if tokens.len() == before && id.is_some() {
                return Err(unknown());
            }
            if tokens.is_empty() {
                robots.remove(name);
            }
            Ok(())
        })
        .await
    }

    async fn change(&self, mut edit: impl FnMut(&mut Robots) -> Result<(), RobotError> + Send) -> Result<(), RobotError> {
        let mut outcome = Ok(());
        let mut change = |found: Option<&[u8]>| {
            let read = found.map_or_else(|| Ok(Robots::new()), serde_json::from_slice).map_err(|_| RobotError::Damaged);
            let edited = read.and_then(|mut robots| edit(&mut robots).map(|()| robots));
            let written = edited.and_then(|robots| serde_json::to_vec(&robots).map_err(|_| RobotError::Damaged));
            match written {
                Ok(bytes) => Some(Bytes::from(bytes)),
                Err(error) => {
                    outcome = Err(error);
                    None
                }
            }
        };
        let found = self.records.update(KEY, &mut change).await?;
        outcome?;
        self.take(found.as_deref(), self.millis()).map(drop)
    }
}

fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

fn is_name(name: &str) -> bool {
    let is_fine = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"-_.".contains(&letter);
    (1..=64).contains(&name.len()) && name.bytes().all(is_fine)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use telemetry::SystemClock;
    use testing::ManualClock;

    use super::*;
    use crate::memory::Memory;

    fn store(records: &Arc<Memory>) -> Store {
        Store::new(Arc::clone(records) as Arc<dyn Records>, Arc::new(SystemClock::default()))
    }

    fn new(lifetime: Option<Duration>) -> NewToken {
        NewToken { lifetime, groups: vec!["builders".to_owned()], by: "operator".to_owned() }
    }

    #[tokio::test]
    async fn a_token_is_known_until_it_is_revoked_and_nothing_of_it_is_kept() {
        let records = Arc::new(Memory::default());
        let store = store(&records);
        let (made, token) = store.create("ci", &new(None)).await.unwrap();
        let (other, _) = store.create("ci", &new(None)).await.unwrap();
        let (name, known) = store.owner(token.expose_secret()).await.unwrap().unwrap();
        assert_eq!((name.as_str(), &known), ("ci", &made));
        let kept = records.read(KEY).await.unwrap().unwrap();
        let secret = token.expose_secret().rsplit('_').next().unwrap();
        assert!(!String::from_utf8_lossy(&kept).contains(secret));
        store.revoke("ci", Some(&made.id)).await.unwrap();
        assert!(store.owner(token.expose_secret()).await.unwrap().is_none());
        assert!(store.has("ci", &other.id).await && !store.has("ci", &made.id).await);
        store.revoke("ci", None).await.unwrap();
        assert!(store.all().await.unwrap().is_empty());
        assert!(matches!(store.revoke("ci", None).await, Err(RobotError::Unknown { .. })));
    }

    #[tokio::test]
    async fn a_store_that_hiccups_logs_nobody_out() {
        let (records, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new()));
        let store = Store::new(Arc::clone(&records) as Arc<dyn Records>, Arc::clone(&clock) as Arc<dyn Clock>);
        let (made, token) = store.create("ci", &new(None)).await.unwrap();
        records.set_down(true);
        clock.advance(Duration::from_mins(1));
        assert!(store.owner(token.expose_secret()).await.unwrap().is_some() && store.has("ci", &made.id).await);
        clock.advance(Duration::from_mins(20));
        assert!(store.owner(token.expose_secret()).await.is_err());
        records.set_down(false);
        assert!(store.owner(token.expose_secret()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_token_that_is_over_is_not_known() {
        let store = store(&Arc::new(Memory::default()));
        let (made, token) = store.create("ci", &new(Some(Duration::ZERO))).await.unwrap();
        assert!(store.owner(token.expose_secret()).await.unwrap().is_none());
        assert!(!store.has("ci", &made.id).await);
    }

    #[tokio::test]
    async fn names_and_numbers_have_limits() {
        let store = store(&Arc::new(Memory::default()));
        for name in ["", "A", "a b", "a:b", "a\nb", &"a".repeat(65)] {
            assert!(matches!(store.create(name, &new(None)).await, Err(RobotError::Name(_))), "{name:?}");
        }
        for _ in 0..MOST_TOKENS {
            store.create("ci", &new(None)).await.unwrap();
        }
        assert!(matches!(store.create("ci", &new(None)).await, Err(RobotError::Enough(_))));
    }
}
