//! Programs run by tests: found or named as missing, bounded in time, and ended by their process id when the test is over.

use std::fs::File;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The seconds that a program may take before it is ended.
const LIMIT: &str = "180";

/// Where programs run: on the host's network, or in a network namespace of their own.
#[derive(Clone, Default)]
pub(crate) struct Place {
    /// The namespace's file, if it is not the host's.
    pub(crate) netns: Option<PathBuf>,
    /// Where the server listens, if not at 127.0.0.1.
    pub(crate) address: Option<IpAddr>,
}

impl Place {
    /// A program to run to its end.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = self.enter(Path::new("timeout"));
        command.args(["--kill-after=5", LIMIT]).arg(program);
        command
    }

    /// A program to run until the test ends.
    pub(crate) fn daemon(&self, program: &Path) -> Command {
        self.enter(program)
    }

    /// An HTTP request: the status and the body, or `None` when nobody answered.
    pub(crate) fn request(&self, arguments: &[&str]) -> Option<(u16, Vec<u8>)> {
        let mut command = self.program(&tool("curl"));
        command.args(["--silent", "--insecure", "--max-time", "60"]);
        command.args(["--write-out", "%{stderr}%{http_code}"]);
        let output = command.args(arguments).output().expect("curl starts");
        let status = String::from_utf8_lossy(&output.stderr).parse().unwrap_or(0);
        (status != 0).then_some((status, output.stdout))
    }

    /// `nsenter` keeps the host's mounts, so cgroups stay visible; `ip netns exec` would hide them.
    fn enter(&self, program: &Path) -> Command {
        let Some(netns) = &self.netns else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", netns.display())).arg(program);
        command
    }
}

/// The path of a program the tests need.
///
/// # Panics
///
/// When it is not installed, saying how to install it.
pub(crate) fn tool(name: &str) -> PathBuf {
    let own = std::env::var_os("ROADSTEAD_TOOLS").map_or_else(default_tools, PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::iter::once(own.join("bin"))
        .chain(std::env::split_paths(&path))
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run tests/tools/install"))
}

fn default_tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    cache.join("roadstead/tools")
}

/// Runs a program to its end, which must be a success, and returns what it printed.
///
/// # Panics
///
/// When it fails, with all it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).expect("a program prints text")
}

/// Runs a program to its end, whatever that is.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("the socket is bound").port()
}

/// Waits until a condition holds, for about 20 seconds at most.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    (0..400).any(|_| {
        condition() || {
            sleep(Duration::from_millis(50));
            false
        }
    })
}

/// A program that runs until this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, with everything it prints going to a file.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Self {
        let out = File::create(&log).expect("the log can be written");
        let err = out.try_clone().expect("the log can be written twice");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { child, log }
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it ended or is not ready after 20 seconds, with its log.
    pub(crate) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) {
        let mut ended = None;
        let is_ready = eventually(|| {
            ended = self.child.try_wait().expect("a child can be asked");
            ended.is_some() || ready()
        });
        assert!(is_ready && ended.is_none(), "not ready (ended: {ended:?})\n--- {}\n{}", self.log.display(), self.log());
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of {}", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
