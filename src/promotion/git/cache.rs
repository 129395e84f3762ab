//! A bare repository here with the tip of one branch elsewhere: what is read from, and built upon.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::git::process::{Answer, Call, GitError, Program};
use crate::git::remote::Remote;
use crate::validate::{self, Files};

/// Where the tip is kept here.
const TIP: &str = "refs/roadstead/tip";
/// Commits of the branch among which ours is looked for when an answer was lost.
const RECENT: &str = "--depth=200";
/// Fetches after which everything is forgotten and begun anew.
const FETCHES: u32 = 500;
/// How often a branch that stands where it stood is looked at again after a push, and what is waited before that.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is tried to remove what is here.
const REMOVALS: u32 = 5;
/// The modes of files that are edited.
const PLAIN_FILE: &str = "100644";
const PROGRAM_FILE: &str = "100755";

/// The repository. One caller at a time.
#[derive(Debug)]
pub struct Cache {
    program: Program,
    folder: PathBuf,
    remote: Remote,
    /// A call has not ended by itself, or the making of it all: there may be locks of a git that is gone.
    is_doubtful: AtomicBool,
    fetches: AtomicU32,
}

/// A commit, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit(String);

/// The last commit of the branch, whose files are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip(Commit);

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// From the root of the repository.
    pub path: String,
    /// All of it.
    pub bytes: Vec<u8>,
    /// It may be run as a program.
    pub is_program: bool,
    /// What a forge tells its versions by, where it came from one.
    pub version: Option<String>,
}

/// Who makes a commit, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name of the author and committer.
    pub name: String,
    /// Their address.
    pub email: String,
    /// Seconds since 1970.
    pub at: u64,
    /// The file of an SSH key that signs it.
    pub key: Option<PathBuf>,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The branch has our commit.
    Landed,
    /// Somebody else was faster: the branch is elsewhere, without our commit.
    Moved,
    /// The branch stands where it stood: the server does not want it.
    Refused(String),
}

impl Commit {
    /// The commit of this name, if it can be one.
    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::parse("a commit", text).ok()
    }

    fn parse(what: &'static str, text: &str) -> Result<Self, GitError> {
        let text = text.trim();
        let is_name = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_name { Ok(Self(text.to_owned())) } else { Err(strange(what, text)) }
    }

    /// Its name: 40 or 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tip {
    pub(crate) fn of(commit: Commit) -> Self {
        Self(commit)
    }

    /// The commit.
    #[must_use]
    pub fn commit(&self) -> &Commit {
        &self.0
    }
}

impl Cache {
    /// An empty cache for a remote in a folder that is ours alone. What was there is removed: a git that was killed may have left
    /// locks.
    pub async fn new(program: Program, folder: PathBuf, remote: Remote) -> Result<Self, GitError> {
        let cache = Self { program, folder, remote, is_doubtful: AtomicBool::new(true), fetches: AtomicU32::new(0) };
        cache.reset().await?;
        Ok(cache)
    }

    /// Where the branch is.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Forgets everything.
    async fn reset(&self) -> Result<(), GitError> {
        self.is_doubtful.store(true, Ordering::Relaxed);
        // Those that were killed may still be writing their last.
        let mut attempts = 0;
        loop {
            match tokio::fs::remove_dir_all(&self.folder).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if attempts == REMOVALS => return Err(GitError::Run(error)),
                Err(_) => self.program.pause(PAUSE).await,
                Ok(()) => break,
            }
            attempts += 1;
        }
        tokio::fs::create_dir_all(&self.folder).await.map_err(GitError::Run)?;
        self.git("init", &["init", "--quiet", "--bare", "--initial-branch=none"], b"").await?;
        for (key, value) in [("gc.auto", "0"), ("maintenance.auto", "false"), ("core.hooksPath", "/dev/null")] {
            self.git("config", &["config", key, value], b"").await?;
        }
        self.fetches.store(0, Ordering::Relaxed);
        self.is_doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Asks the remote for the tip of the branch; `None` if there is no such branch.
    pub async fn ask(&self) -> Result<Option<Commit>, GitError> {
        self.at(&self.remote.reference()).await
    }

    /// Where a branch of the remote is.
    async fn at(&self, reference: &str) -> Result<Option<Commit>, GitError> {
        let text = self.git("ls-remote", &["ls-remote", "--quiet", "--", self.remote.url(), reference], b"").await?;
        let text = String::from_utf8_lossy(&text);
        let ours = text.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == reference);
        ours.map(|(commit, _)| Commit::parse("ls-remote", commit)).transpose()
    }

    /// Brings the tip of the branch here.
    pub async fn fetch(&self) -> Result<Tip, GitError> {
        // Nothing here is ever thrown away one by one.
        if self.is_doubtful.load(Ordering::Relaxed) || self.fetches.fetch_add(1, Ordering::Relaxed) >= FETCHES {
            self.reset().await?;
        }
        self.bring("--depth=1").await
    }

    /// Brings a commit here that is not in the branch, such as the head of a pull request.
    pub async fn fetch_commit(&self, commit: &str) -> Result<Tip, GitError> {
        let commit = Commit::parse("a commit", commit)?;
        let arguments = ["fetch", "--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--no-recurse-submodules", "--"];
        let wanted = [self.remote.url(), commit.as_str()];
        self.git("fetch", &[&arguments[..], &wanted[..]].concat(), b"").await?;
        Ok(Tip(commit))
    }

    async fn bring(&self, depth: &str) -> Result<Tip, GitError> {
        let reference = format!("+{}:{TIP}", self.remote.reference());
        let arguments = [
            "fetch",
            "--quiet",
            "--no-tags",
            depth,
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--",
            self.remote.url(),
            &reference,
        ];
        self.git("fetch", &arguments, b"").await?;
        let text = self.git("rev-parse", &["rev-parse", "--verify", "--quiet", TIP], b"").await?;
        Commit::parse("rev-parse", &String::from_utf8_lossy(&text)).map(Tip)
    }

    /// A file of the tip; `None` if there is none. A link, a folder or a submodule is refused.
    pub async fn read(&self, tip: &Tip, path: &str) -> Result<Option<File>, GitError> {
        let Some((mode, blob)) = self.entry(tip, path).await? else { return Ok(None) };
        if mode != PLAIN_FILE && mode != PROGRAM_FILE {
            return Err(GitError::NotAFile);
        }
        let bytes = self.git("cat-file", &["cat-file", "blob", &blob], b"").await?;
        Ok(Some(File { path: path.to_owned(), bytes, is_program: mode == PROGRAM_FILE, version: None }))
    }

    /// All files of the tip, with the bytes of those that should be YAML. At most so many bytes in all.
    pub async fn files(&self, tip: &Tip) -> Result<Files, GitError> {
        let listed = self.git("ls-tree", &["ls-tree", "-r", "-z", "--full-tree", tip.0.as_str()], b"").await?;
        let listed = String::from_utf8_lossy(&listed);
        let (mut files, mut wanted) = (Files::new(), Vec::new());
        for entry in listed.split('\0').filter(|entry| !entry.is_empty()) {
            let Some((about, path)) = entry.split_once('\t') else { return Err(strange("ls-tree", entry)) };
            let [mode, _, blob] = about.split(' ').collect::<Vec<_>>()[..] else { return Err(strange("ls-tree", entry)) };
            match mode {
                PLAIN_FILE | PROGRAM_FILE if validate::is_yaml(path) => wanted.push((path, blob)),
                PLAIN_FILE | PROGRAM_FILE => files.add(path, None),
                _ => files.add_link(path),
            }
        }
        let names = wanted.iter().map(|(_, blob)| *blob).collect::<Vec<_>>().join("\n") + "\n";
        let read = self.git("cat-file", &["cat-file", "--batch"], names.as_bytes()).await?;
        let mut rest = read.as_slice();
        for (path, _) in wanted {
            // `NAME blob SIZE`, the bytes, and the end of a line.
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| strange("cat-file", path))?;
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            let size: Option<usize> = head.rsplit(' ').next().and_then(|size| size.parse().ok());
            let bytes = size.and_then(|size| rest.get(end + 1..end + 1 + size)).ok_or_else(|| strange("cat-file", &head))?;
            files.add(path, Some(bytes.to_vec()));
            rest = rest.get(end + 2 + bytes.len()..).unwrap_or_default();
        }
        Ok(files)
    }

    /// Mode and name of what is at a path.
    async fn entry(&self, tip: &Tip, path: &str) -> Result<Option<(String, String)>, GitError> {
        let text = self.git("ls-tree", &["ls-tree", "-z", "--full-tree", tip.0.as_str(), "--", path], b"").await?;
        let text = String::from_utf8_lossy(&text);
        for entry in text.split('\0').filter(|entry| !entry.is_empty()) {
            let Some((about, name)) = entry.split_once('\t') else { return Err(strange("ls-tree", entry)) };
            let [mode, _, object] = about.split(' ').collect::<Vec<_>>()[..] else { return Err(strange("ls-tree", entry)) };
            if name == path {
                return Ok(Some((mode.to_owned(), object.to_owned())));
            }
        }
        Ok(None)
    }

    /// Makes a commit on the tip with these files changed. It is here, and nowhere else yet.
    pub async fn commit(&self, tip: &Tip, files: &[File], message: &str, by: &Signature) -> Result<Commit, GitError> {
        let mut changes = Vec::new();
        for file in files {
            let mode = if file.is_program { PROGRAM_FILE } else { PLAIN_FILE };
            let blob = self.git("hash-object", &["hash-object", "-w", "--stdin"], &file.bytes).await?;
            let blob = Commit::parse("hash-object", &String::from_utf8_lossy(&blob))?;
            changes.extend_from_slice(format!("{mode} {}\t{}\0", blob.0, file.path).as_bytes());
        }
        let index = [("GIT_INDEX_FILE".to_owned(), self.folder.join("edited").display().to_string())];
        self.with("read-tree", &["read-tree", tip.0.as_str()], b"", &index).await?;
        self.with("update-index", &["update-index", "-z", "--index-info"], &changes, &index).await?;
        let tree = self.with("write-tree", &["write-tree"], b"", &index).await?;
        let tree = Commit::parse("write-tree", &String::from_utf8_lossy(&tree))?;
        let date = format!("@{} +0000", by.at);
        let mut who = Vec::new();
        for role in ["AUTHOR", "COMMITTER"] {
            for (what, value) in [("NAME", &by.name), ("EMAIL", &by.email), ("DATE", &date)] {
                who.push((format!("GIT_{role}_{what}"), value.clone()));
            }
        }
        let key = by.key.as_ref().map(|key| format!("user.signingKey={}", key.display()));
        let mut arguments = Vec::new();
        if let Some(key) = &key {
            arguments.extend(["-c", "gpg.format=ssh", "-c", key]);
        }
        arguments.extend(["commit-tree", "-p", tip.0.as_str(), "-F", "-"]);
        if key.is_some() {
            arguments.push("-S");
        }
        arguments.push(tree.as_str());
        let commit = self.with("commit-tree", &arguments, message.as_bytes(), &who).await?;
        Commit::parse("commit-tree", &String::from_utf8_lossy(&commit))
    }

    /// Puts our commit at the end of the branch, if that stands where it stood.
    ///
    /// An error if it is not known what became of it.
    pub async fn push(&self, commit: &Commit, on: &Tip) -> Result<Pushed, GitError> {
        let reference = self.remote.reference();
        let lease = format!("--force-with-lease={reference}:{}", on.0.as_str());
        let new = format!("{}:{reference}", commit.as_str());
        let arguments = ["push", "--quiet", "--porcelain", "--no-verify", &lease, "--", self.remote.url(), &new];
        let answer = match self.answer("push", &arguments, b"", &[]).await {
            Ok(answer) => answer,
            Err(error) => return self.landed(commit, on, Err(error)).await,
        };
        let refusals = answer.refusals();
        if refusals.iter().any(|line| line.contains("(stale info)")) {
            // Nothing was sent.
            return Ok(Pushed::Moved);
        }
        let reason = answer.reason(|text| self.remote.redacted(text));
        let told = if answer.status.success() || !refusals.is_empty() {
            Ok(reason)
        } else {
            Err(GitError::Failed { what: "push", reason })
        };
        self.landed(commit, on, told).await
    }

    /// Points a branch of our own at a commit, whatever it pointed to: one that nobody else builds upon. `Err` with the server's reason
    /// if it is not allowed.
    ///
    /// An error of git if it is not known what became of it.
    pub async fn publish(&self, commit: &Commit, branch: &str) -> Result<Result<(), String>, GitError> {
        let reference = format!("refs/heads/{branch}");
        let new = format!("+{}:{reference}", commit.as_str());
        let arguments = ["push", "--quiet", "--porcelain", "--no-verify", "--", self.remote.url(), &new];
        let answer = self.answer("push", &arguments, b"", &[]).await?;
        if self.at(&reference).await?.as_ref() == Some(commit) {
            return Ok(Ok(()));
        }
        Ok(Err(answer.reason(|text| self.remote.redacted(text))))
    }

    /// What became of a push, whatever was answered. `told` is why the server does not want it, or why no answer came: then it may
    /// still be on its way.
    async fn landed(&self, commit: &Commit, on: &Tip, told: Result<String, GitError>) -> Result<Pushed, GitError> {
        let mut looks = 0;
        loop {
            match self.ask().await? {
                Some(tip) if tip == *commit => return Ok(Pushed::Landed),
                // Whoever was faster may not have come to the end yet.
                Some(tip) if tip == on.0 && looks < LOOKS => self.program.pause(PAUSE).await,
                Some(tip) if tip == on.0 => return told.map(Pushed::Refused),
                Some(_) => break,
                None => return Ok(Pushed::Refused(format!("the branch {} is gone", self.remote.branch()))),
            }
            looks += 1;
        }
        let tip = self.bring(RECENT).await?;
        Ok(if self.is_ancestor(commit.as_str(), tip.0.as_str()).await? { Pushed::Landed } else { Pushed::Moved })
    }

    /// Is a revision our commit, or one after it? One that is not among the last of the branch is not.
    pub async fn has_followed(&self, commit: &str, revision: &str) -> Result<bool, GitError> {
        let is_name = |text: &str| Commit::parse("a revision", text).is_ok();
        if !is_name(commit) || !is_name(revision) {
            return Ok(false);
        }
        if commit == revision {
            return Ok(true);
        }
        self.bring(RECENT).await?;
        self.is_ancestor(commit, revision).await
    }

    async fn is_ancestor(&self, commit: &str, of: &str) -> Result<bool, GitError> {
        let answer = self.answer("merge-base", &["merge-base", "--is-ancestor", commit, of], b"", &[]).await?;
        Ok(answer.status.success())
    }

    async fn git(&self, what: &'static str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, GitError> {
        self.with(what, arguments, input, &[]).await
    }

    async fn with(
        &self,
        what: &'static str,
        arguments: &[&str],
        input: &[u8],
        more: &[(String, String)],
    ) -> Result<Vec<u8>, GitError> {
        let answer = self.answer(what, arguments, input, more).await?;
        if answer.status.success() {
            return Ok(answer.output);
        }
        Err(GitError::Failed { what, reason: answer.reason(|text| self.remote.redacted(text)) })
    }

    async fn answer(
        &self,
        what: &'static str,
        arguments: &[&str],
        input: &[u8],
        more: &[(String, String)],
    ) -> Result<Answer, GitError> {
        // Only those that speak to the remote are told how.
        let is_far = matches!(what, "ls-remote" | "fetch" | "push");
        let mut environment = if is_far { self.remote.environment() } else { Vec::new() };
        environment.push(("GIT_LITERAL_PATHSPECS".to_owned(), "1".to_owned()));
        environment.extend_from_slice(more);
        // Until it has ended by itself, and for good if it does not.
        let was_doubtful = self.is_doubtful.swap(true, Ordering::Relaxed);
        let answer = self.program.run(&self.folder, &Call { what, arguments, input, environment: &environment }).await?;
        self.is_doubtful.store(was_doubtful, Ordering::Relaxed);
        Ok(answer)
    }
}

fn strange(what: &'static str, text: &str) -> GitError {
    GitError::Strange { what, text: text.chars().take(200).collect() }
}
