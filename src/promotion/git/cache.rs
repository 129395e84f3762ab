//! A bare repository here with the tip of one branch elsewhere: what is read from, and built upon.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::git::process::{Answer, Call, GitError, Program};
use crate::git::remote::Remote;

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
/// And those of what is no file.
const LINK: &str = "120000";
const SUBMODULE: &str = "160000";
/// A repository with more files is not listed.
const MOST_ENTRIES: usize = 100_000;
/// A larger file is not read together with others.
pub(crate) const LARGEST_OF_MANY: u64 = 1 << 20;
/// Bytes that one call of git is asked for.
const ONE_CALL: u64 = 12 << 20;

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

/// What is at a path of a commit, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the repository.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// How many bytes it has; 0 for what is no file.
    pub size: u64,
    object: String,
}

/// What can be at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be run as a program.
    Program,
    /// A symbolic link.
    Link,
    /// A commit of another repository.
    Submodule,
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

impl Entry {
    /// `mode type object size<TAB>path`, blanks before the size.
    fn parse(text: &str) -> Option<Self> {
        let (about, path) = text.split_once('\t')?;
        let words: Vec<&str> = about.split(' ').filter(|word| !word.is_empty()).collect();
        let [mode, _, object, size] = words[..] else { return None };
        let kind = match mode {
            PROGRAM_FILE => EntryKind::Program,
            LINK => EntryKind::Link,
            SUBMODULE => EntryKind::Submodule,
            // Also those of old, such as 100664.
            _ => EntryKind::File,
        };
        Some(Self { path: path.to_owned(), kind, size: size.parse().unwrap_or(0), object: object.to_owned() })
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
        // It may be a stranger's, and as large as he likes: a few of them, and all is begun anew.
        self.fetches.fetch_add(FETCHES / 20, Ordering::Relaxed);
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

    /// All that the tip has; `None` if that is more than can be listed.
    pub async fn list(&self, tip: &Tip) -> Result<Option<Vec<Entry>>, GitError> {
        let call = ["ls-tree", "-r", "-l", "-z", "--full-tree", tip.0.as_str()];
        let text = match self.git("ls-tree", &call, b"").await {
            Err(GitError::TooLarge { .. }) => return Ok(None),
            text => text?,
        };
        let text = String::from_utf8_lossy(&text);
        let mut entries = Vec::new();
        for entry in text.split('\0').filter(|entry| !entry.is_empty()) {
            if entries.len() == MOST_ENTRIES {
                return Ok(None);
            }
            entries.push(Entry::parse(entry).ok_or_else(|| strange("ls-tree", entry))?);
        }
        Ok(Some(entries))
    }

    /// The content of files of the tip, in their order: all of them together `most` bytes at most, read by as few calls of git as
    /// can be. `None` for what is larger than 1 MiB, no file, or behind the limit.
    pub async fn read_many(&self, entries: &[&Entry], most: u64) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let (mut files, mut left) = (vec![None; entries.len()], most);
        let (mut asked, mut bytes) = (Vec::new(), 0);
        for (index, entry) in entries.iter().enumerate() {
            let is_file = matches!(entry.kind, EntryKind::File | EntryKind::Program);
            if !is_file || entry.size > LARGEST_OF_MANY || entry.size > left {
                continue;
            }
            left -= entry.size;
            if bytes + entry.size > ONE_CALL {
                self.read_some(entries, &asked, &mut files).await?;
                (asked, bytes) = (Vec::new(), 0);
            }
            asked.push(index);
            // What git says of each takes a line.
            bytes += entry.size + 100;
        }
        self.read_some(entries, &asked, &mut files).await?;
        Ok(files)
    }

    async fn read_some(&self, entries: &[&Entry], asked: &[usize], files: &mut [Option<Vec<u8>>]) -> Result<(), GitError> {
        if asked.is_empty() {
            return Ok(());
        }
        let mut names = String::new();
        for index in asked {
            names.push_str(&entries[*index].object);
            names.push('\n');
        }
        let output = self.git("cat-file", &["cat-file", "--batch"], names.as_bytes()).await?;
        let mut rest = output.as_slice();
        for index in asked {
            let (bytes, behind) = blob(rest, entries[*index])
                .ok_or_else(|| strange("cat-file", &String::from_utf8_lossy(&rest[..rest.len().min(200)])))?;
            files[*index] = Some(bytes.to_vec());
            rest = behind;
        }
        Ok(())
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

/// The first of what `git cat-file --batch` gave, and what is behind it: `object type size`, a newline, the bytes, a newline.
fn blob<'o>(output: &'o [u8], entry: &Entry) -> Option<(&'o [u8], &'o [u8])> {
    let head = format!("{} blob {}\n", entry.object, entry.size);
    let size = usize::try_from(entry.size).ok()?;
    let (bytes, rest) = output.strip_prefix(head.as_bytes())?.split_at_checked(size)?;
    Some((bytes, rest.strip_prefix(b"\n")?))
}

fn strange(what: &'static str, text: &str) -> GitError {
    GitError::Strange { what, text: text.chars().take(200).collect() }
}
