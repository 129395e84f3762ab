//! containerd, to which names and passwords are told with each command, or by `hosts.toml` as an `Authorization` for everything.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Output;

use crate::stage::{OWNER, Stage, Way};
use crate::story::{Client, TAG, Words, follow};
use crate::support::process::{Daemon, output, run};

const WORDS: Words = Words {
    wrong: &["unauthorized"],
    denied: &["denied", "forbidden"],
    hidden: &["not found"],
    unknown: &["unauthorized"],
    without_tokens: None,
};

#[test]
fn containerd_logs_in() {
    follow(&Way::stages(), &WORDS, |stage| Containerd::start(stage, None));
}

/// A containerd of the test's own.
pub(crate) struct Containerd<'stage> {
    _daemon: Daemon,
    socket: PathBuf,
    user: RefCell<Option<String>>,
    stage: &'stage Stage,
}

impl<'stage> Containerd<'stage> {
    /// With these settings of the plugin that a kubelet pulls by, or without that.
    pub(crate) fn start(stage: &'stage Stage, kubelet: Option<&str>) -> Self {
        let socket = stage.path("c.sock");
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n{}\n\
             [grpc]\naddress = \"{}\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{}\"\n{}",
            stage.path("containerd/root").display(),
            stage.path("containerd/state").display(),
            if kubelet.is_some() { "" } else { "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]" },
            socket.display(),
            stage.path("containerd/opt").display(),
            kubelet.unwrap_or_default(),
        );
        let config = stage.write("containerd/config.toml", &config).display().to_string();
        let mut daemon = stage.daemon("containerd", &["--config", &config]);
        let address = socket.display().to_string();
        daemon.wait_until(|| output(stage.client("ctr").args(["--address", &address, "version"])).status.success());
        let host = stage.host();
        let text = format!("server = \"https://{host}\"\nca = \"{}\"\n[host]\n", stage.authority.display());
        stage.write(&format!("hosts.d/{host}/hosts.toml"), &text);
        let archive = stage.path("image.tar").display().to_string();
        let layout = stage.image.path.display().to_string();
        run(stage.client("tar").args(["--create", "--file", &archive, "--directory", &layout, "."]));
        Self { _daemon: daemon, socket, user: RefCell::new(None), stage }
    }

    pub(crate) fn ctr(&self, arguments: &[&str]) -> Output {
        let address = self.socket.display().to_string();
        output(self.stage.client("ctr").args(["--address", &address]).args(arguments))
    }

    /// What a kubelet asks of it.
    pub(crate) fn crictl(&self, arguments: &[&str]) -> Output {
        let address = format!("unix://{}", self.socket.display());
        let sockets = ["--runtime-endpoint", &address, "--image-endpoint", &address, "--timeout", "60s"];
        output(self.stage.client("crictl").args(sockets).args(arguments))
    }

    /// Pushes or pulls, as whoever has logged in.
    fn exchange(&self, what: &str, options: &[&str], names: &[&str]) -> Output {
        let hosts = self.stage.path("hosts.d").display().to_string();
        let user = self.user.borrow().clone();
        let mut arguments = vec!["images", what, "--hosts-dir", &hosts];
        if let Some(user) = &user {
            arguments.extend(["--user", user]);
        }
        self.ctr(&[arguments.as_slice(), options, names].concat())
    }
}

impl Client for Containerd<'_> {
    fn login(&self, name: &str, password: &str) -> Output {
        self.user.replace(Some(format!("{name}:{password}")));
        if name == OWNER.0 { self.ctr(&["version"]) } else { self.pull("base/app") }
    }

    fn logout(&self) {
        self.user.replace(None);
    }

    fn push(&self, repository: &str, tag: &str) -> Output {
        let archive = self.stage.path("image.tar").display().to_string();
        self.ctr(&["images", "import", "--all-platforms", "--base-name", "local/image", &archive]);
        self.exchange("push", &[], &[&format!("{}:{tag}", self.stage.name(repository)), "local/image:1"])
    }

    fn pull(&self, repository: &str) -> Output {
        let name = format!("{}:{TAG}", self.stage.name(repository));
        self.ctr(&["images", "rm", "--sync", &name, "local/image:1"]);
        self.exchange("pull", &["--snapshotter=native", "--all-platforms"], &[&name])
    }
}
