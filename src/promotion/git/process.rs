//! Running git: what it is given, how long it may take, and what is left of what it said.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use telemetry::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Bytes of an answer: of more no file that we edit is made.
const LONGEST_ANSWER: u64 = 16 << 20;
/// Bytes of what is said about an error.
const LONGEST_REASON: usize = 2000;

/// Why git did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program could not be run, or its pipes not be read.
    #[error("git cannot be run")]
    Run(#[source] io::Error),
    /// It did not come to its end, and was killed with all that it had started.
    #[error("git {what} did not end within {} s, and was ended", limit.as_secs())]
    Overdue {
        /// What it was to do.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It said that it could not do it.
    #[error("git {what} failed: {reason}")]
    Failed {
        /// What it was to do.
        what: &'static str,
        /// What it said, without secrets, cut short.
        reason: String,
    },
    /// It said something that it never says.
    #[error("git {what} said what was not expected: {text:?}")]
    Strange {
        /// What it was to do.
        what: &'static str,
        /// What it said, cut short.
        text: String,
    },
    /// The forge failed, in whose place git is not.
    #[error(transparent)]
    Forge(#[from] crate::forge::ForgeError),
    /// What is at a path is no file.
    #[error("is a link, a folder or a submodule, and no file")]
    NotAFile,
    /// Too large to be a file that is edited.
    #[error("git {what} gave more than {LONGEST_ANSWER} bytes")]
    TooLarge {
        /// What it was to do.
        what: &'static str,
    },
}

/// The program, and the surroundings that it has.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Where programs are looked for: the PATH.
    search: OsString,
    limit: Duration,
    clock: Arc<dyn Clock>,
}

/// What is run.
pub(super) struct Call<'c> {
    /// Its first word, for errors.
    pub(super) what: &'static str,
    pub(super) arguments: &'c [&'c str],
    pub(super) input: &'c [u8],
    pub(super) environment: &'c [(String, String)],
}

/// How it ended.
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    pub(super) errors: String,
}

impl Program {
    /// `git` at `path`, or the one in the folders of `search`, a PATH, if that is only a name. No call takes longer than `limit`.
    #[must_use]
    pub fn new(path: PathBuf, search: OsString, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { path, search, limit, clock }
    }

    /// Waits on its clock.
    pub(super) async fn pause(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    /// Runs it in a folder. An answer of failure is no error here.
    pub(super) async fn run(&self, folder: &Path, call: &Call<'_>) -> Result<Answer, GitError> {
        let mut child = self.command(folder, call).spawn().map_err(GitError::Run)?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let answer = tokio::select! {
            answer = talk(&mut child, call.what, call.input) => answer,
            () = self.clock.sleep(self.limit) => Err(GitError::Overdue { what: call.what, limit: self.limit }),
        };
        if answer.is_ok() {
            // It has ended, and its number may be another's soon.
            group.forget();
        }
        answer
    }

    fn command(&self, folder: &Path, call: &Call<'_>) -> Command {
        let mut command = Command::new(&self.path);
        command.args(call.arguments).current_dir(folder).env_clear();
        // What is set for people on this machine must change nothing.
        command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_TERMINAL_PROMPT", "0")]);
        command.envs([
            ("LC_ALL", "C"),
            ("GIT_ASKPASS", "/bin/false"),
            ("SSH_ASKPASS", "/bin/false"),
            ("GIT_OPTIONAL_LOCKS", "0"),
        ]);
        command.env("HOME", folder).env("GIT_DIR", folder);
        command.env("PATH", &self.search);
        command.envs(call.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Transports are programs of their own: they end together.
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// Lines that help nobody.
fn is_noise(line: &str) -> bool {
    matches!(line, "" | "remote:" | "remote: error:") || line.starts_with("hint:") || line.contains("askpass")
}

/// What to do about words of git that do not say it themselves. Nothing is decided by it.
fn advice(said: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 4] = [
        ("could not read Username", "the token is missing, wrong or has expired"),
        ("could not read Password", "the token is missing, wrong or has expired"),
        ("Authentication failed", "the token is wrong or has expired"),
        ("returned error: 403", "the token may not do this, or the repository does not let anybody"),
    ];
    KNOWN.iter().find(|(words, _)| said.contains(words)).map(|(_, advice)| *advice)
}

/// Kills all that was started, unless it is over.
struct Group(Option<Pid>);

impl Group {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Whoever has ended meanwhile is not killed, and that is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn talk(child: &mut Child, what: &'static str, input: &[u8]) -> Result<Answer, GitError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // Who does not want to read it all says why in other ways.
            let _ = stdin.write_all(input).await;
        }
    };
    let (status, (), output, errors) = tokio::join!(child.wait(), write, read(stdout), read(stderr));
    let (output, is_whole) = output.map_err(GitError::Run)?;
    if !is_whole {
        return Err(GitError::TooLarge { what });
    }
    let (errors, _) = errors.map_err(GitError::Run)?;
    let errors = String::from_utf8_lossy(&errors).into_owned();
    Ok(Answer { status: status.map_err(GitError::Run)?, output, errors })
}

/// All that comes, and whether that was all: what is more is read too, so that nobody waits for us, and forgotten.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<(Vec<u8>, bool)> {
    let Some(mut pipe) = pipe else { return Ok((Vec::new(), true)) };
    let mut bytes = Vec::new();
    (&mut pipe).take(LONGEST_ANSWER).read_to_end(&mut bytes).await?;
    let more = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok((bytes, more == 0))
}

impl Answer {
    /// What it said on one line, as `redacted` leaves it, without advice and without what a terminal would obey.
    pub(super) fn reason(&self, redacted: impl Fn(&str) -> String) -> String {
        let said = redacted(&format!("{}\n{}", self.refusals().join("\n"), self.errors));
        let lines = said.lines().map(str::trim).filter(|line| !is_noise(line));
        let advice = advice(&said);
        let lines = advice.into_iter().chain(lines);
        let text: String = lines.collect::<Vec<_>>().join("; ").chars().filter(|character| !character.is_control()).collect();
        match text.char_indices().nth(LONGEST_REASON) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None if text.is_empty() => self.status.to_string(),
            None => text,
        }
    }

    /// The lines of a push that say which reference was refused, and why.
    pub(super) fn refusals(&self) -> Vec<String> {
        let output = String::from_utf8_lossy(&self.output);
        output.lines().filter_map(|line| line.strip_prefix("!\t")).map(|line| line.replace('\t', " ")).collect()
    }
}
