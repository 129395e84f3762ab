//! dockerd, which tries passwords for the docker command, and trusts what is below `/etc/docker`.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::stage::{Stage, Way};
use crate::story::{Client, TAG, Words, follow};
use crate::support::process::{Daemon, output, tool};

const WORDS: Words = Words {
    wrong: &["unauthorized", "incorrect username or password"],
    denied: &["denied"],
    hidden: &["not found", "not known"],
    unknown: &["unauthorized", "no basic auth credentials"],
    without_tokens: Some(&["no basic auth credentials"]),
};

#[test]
fn docker_logs_in() {
    follow(&Way::stages(), &WORDS, |stage| Docker::start(stage, "{}"));
}

/// A dockerd of the test's own, in a mount namespace with an `/etc/docker` of its own.
pub(crate) struct Docker<'stage> {
    _daemon: Daemon,
    socket: PathBuf,
    stage: &'stage Stage,
}

impl<'stage> Docker<'stage> {
    pub(crate) fn start(stage: &'stage Stage, settings: &str) -> Self {
        let socket = stage.path("d.sock");
        stage.trust(&format!("etc/certs.d/{}/ca.crt", stage.host()));
        stage.write("etc/daemon.json", settings);
        let [etc, data, exec, id] =
            ["etc", "dockerd/data", "dockerd/run", "dockerd.pid"].map(|rest| stage.path(rest).display().to_string());
        let address = format!("unix://{}", socket.display());
        std::fs::create_dir_all("/etc/docker").expect("the folder of dockerd can be made");
        let script = "mount --bind \"$0\" /etc/docker && exec \"$@\"";
        let dockerd = tool("dockerd").display().to_string();
        let network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--storage-driver=vfs"];
        let place = ["--data-root", &data, "--exec-root", &exec, "--pidfile", &id, "--host", &address];
        let begin = ["--mount", "--propagation=private", "sh", "-c", script, &etc, &dockerd];
        let mut daemon = stage.daemon("unshare", &[begin.as_slice(), &place, &network].concat());
        daemon.wait_until(|| output(stage.client("docker").args(["--host", &address, "info"])).status.success());
        let docker = Self { _daemon: daemon, socket, stage };
        stage.write("rootfs/hello", "hello");
        output(stage.client("tar").args(["--create", "--file", "rootfs.tar", "--directory", "rootfs", "hello"]));
        docker
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.stage.client("docker");
        command.args(["--host", &format!("unix://{}", self.socket.display())]);
        command
    }
}

impl Client for Docker<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        output(self.command().args(["login", "--username", name, "--password", password, &self.stage.host()]))
    }

    fn logout(&self) {
        output(self.command().args(["logout", &self.stage.host()]));
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let name = format!("{}:{tag}", self.stage.name(repository));
        let imported = output(self.command().args(["import", "rootfs.tar", &name]));
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let pushed = output(self.command().args(["push", &name]));
        output(self.command().args(["rmi", "--force", &name]));
        pushed
    }

    fn pull(&self, repository: &str) -> Output {
        let name = format!("{}:{TAG}", self.stage.name(repository));
        output(self.command().args(["rmi", "--force", &name]));
        output(self.command().args(["pull", &name]))
    }
}
