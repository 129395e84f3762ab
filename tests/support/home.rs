//! Where clients run: a home of the test's own, and a network of its own, if it has one.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::process::{Daemon, Place, tool};

/// A home for clients, removed with it.
pub(crate) struct Home {
    pub(crate) place: Place,
    directory: TempDir,
}

impl Home {
    /// This directory, in this place.
    pub(crate) fn new(place: Place, directory: TempDir) -> Self {
        Self { place, directory }
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.directory.path().join(rest)
    }

    /// Writes a file of the test and returns its path.
    pub(crate) fn write(&self, rest: &str, text: &str) -> PathBuf {
        let path = self.path(rest);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// A client, bounded in time, with a home and settings of its own.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = self.place.program(&tool(name));
        self.make_private(&mut command);
        command
    }

    /// A program that runs as long as the returned guard lives.
    pub(crate) fn daemon(&self, name: &str, arguments: &[&str]) -> Daemon {
        let mut command = self.place.daemon(&tool(name));
        command.args(arguments);
        self.make_private(&mut command);
        Daemon::start(&mut command, self.path(&format!("{name}.log")))
    }

    fn make_private(&self, command: &mut Command) {
        let directory = self.directory.path();
        command.current_dir(directory).env("HOME", directory).env("XDG_RUNTIME_DIR", directory.join("run"));
        command.env("DOCKER_CONFIG", directory.join("docker-config")).env("REGISTRY_AUTH_FILE", self.logins());
        for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE"] {
            command.env_remove(variable);
        }
    }

    /// The file of logins, which some clients want to be there.
    fn logins(&self) -> PathBuf {
        let path = self.path("auth.json");
        if Path::exists(&path) { path } else { self.write("auth.json", "{}") }
    }
}
