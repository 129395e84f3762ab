//! crane, oras and regctl: clients that are one program and keep logins in a file of docker's form, or of their own.

use std::process::{Command, Output};

use crate::stage::{Stage, Way};
use crate::story::{Client, TAG, Words, all, follow};
use crate::support::process::{output, run};

#[test]
fn crane_logs_in() {
    follow(&Way::stages(), &Words::PLAIN, Crane);
}

#[test]
fn oras_logs_in() {
    follow(&Way::stages(), &Words::PLAIN, Oras);
}

#[test]
fn regctl_logs_in() {
    follow(&Way::stages(), &Words::PLAIN, Regctl::new);
}

/// An empty place for what is pulled.
fn into(stage: &Stage) -> String {
    let into = stage.path("pulled");
    if into.exists() {
        std::fs::remove_dir_all(&into).expect("what was pulled can be removed");
    }
    into.display().to_string()
}

/// crane trusts what the system trusts, and does not try a password when it remembers it.
struct Crane<'stage>(&'stage Stage);

impl Crane<'_> {
    fn command(&self) -> Command {
        let mut command = self.0.client("crane");
        command.env("SSL_CERT_FILE", &self.0.authority);
        command
    }
}

impl Client for Crane<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        let host = self.0.host();
        let mut login = self.command();
        login.args(["auth", "login", &host, "--username", name, "--password", password]);
        if name == crate::stage::OWNER.0 {
            return output(&mut login);
        }
        all([&mut login, self.command().args(["digest", &format!("{}:{TAG}", self.0.name("base/app"))])])
    }

    fn logout(&self) {
        run(self.command().args(["auth", "logout", &self.0.host()]));
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let layout = self.0.image.path.display().to_string();
        output(self.command().args(["push", &layout, &format!("{}:{tag}", self.0.name(repository))]))
    }

    fn pull(&self, repository: &str) -> Output {
        let name = format!("{}:{TAG}", self.0.name(repository));
        output(self.command().args(["pull", "--format=oci", &name, &into(self.0)]))
    }
}

/// oras is told the authority with each command.
struct Oras<'stage>(&'stage Stage);

impl Oras<'_> {
    fn ca(&self) -> String {
        self.0.authority.display().to_string()
    }
}

impl Client for Oras<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        let login = ["login", "--ca-file", &self.ca(), "--username", name, "--password", password, &self.0.host()];
        output(self.0.client("oras").args(login))
    }

    fn logout(&self) {
        output(self.0.client("oras").args(["logout", &self.0.host()]));
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let layout = format!("{}:1", self.0.image.path.display());
        let name = format!("{}:{tag}", self.0.name(repository));
        output(self.0.client("oras").args(["cp", "--from-oci-layout", &layout, "--to-ca-file", &self.ca(), &name]))
    }

    fn pull(&self, repository: &str) -> Output {
        let name = format!("{}:{TAG}", self.0.name(repository));
        let layout = format!("{}:1", into(self.0));
        output(self.0.client("oras").args(["cp", "--from-ca-file", &self.ca(), &name, "--to-oci-layout", &layout]))
    }
}

/// regctl remembers the authority of a registry.
struct Regctl<'stage>(&'stage Stage);

impl<'stage> Regctl<'stage> {
    fn new(stage: &'stage Stage) -> Self {
        let regctl = Self(stage);
        let authority = std::fs::read_to_string(&stage.authority).expect("the authority is a file");
        run(regctl.command().args(["registry", "set", &stage.host(), "--skip-check", "--cacert", &authority]));
        regctl
    }

    fn command(&self) -> Command {
        let mut command = self.0.client("regctl");
        command.env("REGCTL_CONFIG", self.0.path("regctl.json"));
        command
    }
}

impl Client for Regctl<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        output(self.command().args(["registry", "login", &self.0.host(), "--user", name, "--pass", password]))
    }

    fn logout(&self) {
        output(self.command().args(["registry", "logout", &self.0.host()]));
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let layout = format!("ocidir://{}:1", self.0.image.path.display());
        output(self.command().args(["image", "copy", &layout, &format!("{}:{tag}", self.0.name(repository))]))
    }

    fn pull(&self, repository: &str) -> Output {
        let name = format!("{}:{TAG}", self.0.name(repository));
        output(self.command().args(["image", "copy", &name, &format!("ocidir://{}:1", into(self.0))]))
    }
}
