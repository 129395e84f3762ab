//! The branches that promotions commit to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobs::Random;
use telemetry::Clock;
use tokio::sync::{Mutex, MutexGuard};

use crate::backing::Backing;
use crate::forge::Contents;
use crate::git::{Cache, GitError, Program, Remote, Signature};
use crate::land::Branch;

/// What is needed to commit to a branch.
#[derive(Clone, Debug)]
pub struct PlaceSettings {
    /// The branch.
    pub remote: Remote,
    /// The API of its forge, where that is used in the place of git.
    pub contents: Option<Contents>,
    /// The program git: a path, or a name to look for in `search`.
    pub program: PathBuf,
    /// A PATH.
    pub search: OsString,
    /// No call of git takes longer.
    pub limit: Duration,
    /// So long it is tried while git fails.
    pub patience: Duration,
    /// A folder of this place alone, for what is known of the branch. Whatever is there is removed.
    pub folder: PathBuf,
    /// Who commits: the name.
    pub name: String,
    /// Who commits: the address.
    pub email: String,
    /// The file of an SSH key that signs the commits.
    pub signing_key: Option<PathBuf>,
    /// How long is waited for more before a commit is made.
    pub batch: Duration,
}

/// A branch that promotions commit to.
#[derive(Debug)]
pub struct Place {
    settings: PlaceSettings,
    clock: Arc<dyn Clock>,
    random: Random,
    /// Made when it is first needed: a server without git, or without its forge, starts all the same.
    branch: Mutex<Option<Branch>>,
}

/// The branch, in the hands of one.
pub(crate) struct Held<'p>(MutexGuard<'p, Option<Branch>>);

impl Place {
    /// A place. Nothing is asked yet.
    #[must_use]
    pub fn new(settings: PlaceSettings, clock: Arc<dyn Clock>, random: Random) -> Self {
        Self { settings, clock, random, branch: Mutex::new(None) }
    }

    /// Where it is.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.settings.remote
    }

    /// How long is waited for more before a commit is made.
    #[must_use]
    pub fn batch(&self) -> Duration {
        self.settings.batch
    }

    /// So long it is tried while git fails.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.settings.patience
    }

    /// The branch, when nobody else has it.
    pub(crate) async fn hold(&self) -> Result<Held<'_>, GitError> {
        let mut branch = self.branch.lock().await;
        if branch.is_none() {
            let PlaceSettings { remote, program, search, limit, folder, contents, .. } = &self.settings;
            let backing = if let Some(contents) = contents {
                Backing::Contents(contents.clone())
            } else {
                let program = Program::new(program.clone(), search.clone(), *limit, Arc::clone(&self.clock));
                Backing::Git(Cache::new(program, folder.clone(), remote.clone()).await?)
            };
            *branch = Some(Branch::new(backing, Arc::clone(&self.clock), self.random.clone()));
        }
        Ok(Held(branch))
    }

    /// Who commits, now.
    pub(crate) fn signature(&self, now: SystemTime) -> Signature {
        let PlaceSettings { name, email, signing_key, .. } = &self.settings;
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Signature { name: name.clone(), email: email.clone(), at, key: signing_key.clone() }
    }
}

impl Held<'_> {
    /// The branch.
    pub(crate) fn branch(&self) -> Result<&Branch, GitError> {
        self.0.as_ref().ok_or_else(|| GitError::Run(std::io::Error::other("there is no branch")))
    }
}
