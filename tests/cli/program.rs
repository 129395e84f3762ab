//! Runs of the program: to its end, or until the test is over.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::process::{Place, eventually, output};

/// How a run ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Expects this exit code, an empty standard output, and one line of error with all of these parts.
    #[track_caller]
    pub(crate) fn expect_error(&self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        let errors: Vec<&str> = self.err.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.err);
        for part in parts {
            assert!(errors[0].contains(part), "{part:?} is not in: {}", errors[0]);
        }
        // A cause that is told in a message and again behind it helps nobody.
        assert!(self.err.matches("(os error").count() < 2, "{}", self.err);
    }
}

/// Runs the program to its end in a folder, with nothing of ours in its environment but what is given.
pub(crate) fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Place::default().program(Path::new(env!("CARGO_BIN_EXE_roadstead")));
    finish(command.args(arguments), folder, environment)
}

/// Runs a command that runs the program to its end.
pub(crate) fn finish(command: &mut Command, folder: &Path, environment: &[(&str, &str)]) -> Ended {
    clean(command);
    let ended = output(command.current_dir(folder).envs(environment.iter().copied()));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ended { code: ended.status.code(), out: text(&ended.stdout), err: text(&ended.stderr) }
}

/// The program, serving until it is told to stop; killed when dropped.
pub(crate) struct Serving {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub(crate) address: String,
}

impl Serving {
    /// Starts it in a folder, on a port that the system chooses, and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// As [`Serving::start`], with more arguments.
    pub(crate) fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        let log = folder.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        clean(&mut command);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(folder)
            .stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        let mut serving = Self { child, log, address: String::new() };
        assert!(eventually(|| serving.log().contains("listening address=")), "it does not listen: {}", serving.log());
        let log = serving.log();
        let after = log.split("listening address=").nth(1).unwrap();
        after.split_whitespace().next().unwrap().clone_into(&mut serving.address);
        serving
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, for about 20 seconds.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = eventually(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end: {}", self.log());
        status.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROADSTEAD_") {
            command.env_remove(name);
        }
    }
}
