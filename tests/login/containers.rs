//! skopeo, podman and buildah, which have their logins, their certificates and their ways with registries in common.

use std::process::{Command, Output};

use crate::stage::{Stage, Way};
use crate::story::{Client, Words, follow};
use crate::support::process::{output, run};

const WORDS: Words = Words {
    wrong: &["invalid username/password"],
    denied: &["denied"],
    hidden: &["name unknown", "not known"],
    unknown: &["unauthorized"],
    without_tokens: None,
};

#[test]
fn skopeo_logs_in() {
    follow(&Way::stages(), &WORDS, |stage| Skopeo(Login::new(stage, "skopeo")));
}

#[test]
fn podman_logs_in() {
    follow(&Way::stages(), &WORDS, |stage| Engine(Login::new(stage, "podman")));
}

#[test]
fn buildah_logs_in() {
    follow(&Way::stages(), &WORDS, |stage| Engine(Login::new(stage, "buildah")));
}

/// podman, for which the server is the mirror of `registry.test`.
pub(crate) fn podman(stage: &Stage) -> impl Client + use<'_> {
    Engine(Login::new(stage, "podman"))
}

/// What is the same for all of them.
struct Login<'stage> {
    stage: &'stage Stage,
    program: &'static str,
}

impl<'stage> Login<'stage> {
    /// With the authority where they look for it, and nothing else trusted.
    fn new(stage: &'stage Stage, program: &'static str) -> Self {
        stage.trust(&format!(".config/containers/certs.d/{}/ca.crt", stage.host()));
        stage.write(".config/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        stage.write("auth.json", "{}");
        Self { stage, program }
    }

    fn command(&self) -> Command {
        let mut command = self.stage.client(self.program);
        let place = |rest: &str| self.stage.path(&format!("containers/{rest}")).display().to_string();
        let (run, graph, temporary) = (place("run"), place("graph"), place("tmp"));
        let storage = format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{run}\"\ngraphroot = \"{graph}\"\n");
        let engine = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
             tmp_dir = \"{temporary}\"\n"
        );
        command.env("CONTAINERS_STORAGE_CONF", self.stage.write("containers/storage.conf", &storage));
        command.env("CONTAINERS_CONF", self.stage.write("containers/containers.conf", &engine));
        let registries = format!(
            "unqualified-search-registries = []\n[[registry]]\nprefix = \"registry.test\"\nlocation = \"registry.test\"\n\
             [[registry.mirror]]\nlocation = \"{}/registry.test\"\n",
            self.stage.host()
        );
        command.env("CONTAINERS_REGISTRIES_CONF", self.stage.write("containers/registries.conf", &registries));
        command
    }

    fn login(&self, name: &str, password: &str) -> Output {
        output(self.command().args(["login", "--username", name, "--password", password, &self.stage.host()]))
    }

    fn logout(&self) {
        // There may be nothing to forget.
        output(self.command().args(["logout", "--all"]));
    }

    /// By a path from where the programs run: engines make a name of it.
    fn layout() -> &'static str {
        "oci:image:1"
    }
}

struct Skopeo<'stage>(Login<'stage>);

impl Client for Skopeo<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        self.0.login(name, password)
    }

    fn logout(&self) {
        self.0.logout();
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let to = format!("docker://{}:{tag}", self.0.stage.name(repository));
        output(self.0.command().args(["copy", "--all", Login::layout(), &to]))
    }

    fn pull(&self, repository: &str) -> Output {
        let from = format!("docker://{}:{}", self.0.stage.name(repository), crate::story::TAG);
        let into = self.0.stage.path("pulled");
        if into.exists() {
            std::fs::remove_dir_all(&into).expect("what was pulled can be removed");
        }
        output(self.0.command().args(["copy", "--all", &from, &format!("oci:{}:1", into.display())]))
    }
}

/// podman or buildah.
struct Engine<'stage>(Login<'stage>);

impl Client for Engine<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        self.0.login(name, password)
    }

    fn logout(&self) {
        self.0.logout();
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let id = run(self.0.command().args(["pull", "--quiet", Login::layout()]));
        let to = format!("docker://{}:{tag}", self.0.stage.name(repository));
        output(self.0.command().args(["push", id.trim(), &to]))
    }

    fn pull(&self, repository: &str) -> Output {
        let name = match repository {
            "registry.test/team/app" => format!("{repository}:1"),
            repository => format!("{}:{}", self.0.stage.name(repository), crate::story::TAG),
        };
        output(self.0.command().args(["rmi", "--all", "--force"]));
        output(self.0.command().args(["pull", "--quiet", &name]))
    }
}
