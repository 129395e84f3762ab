//! containerd pulls by the path of the server, and docker.io through `hosts.toml`, by which it sends `?ns=docker.io`.

use std::path::PathBuf;

use crate::stage::{Stage, THROUGH};
use crate::support::process::{Daemon, output, run};

#[test]
fn containerd_pushes_and_pulls_an_index() {
    let containerd = Containerd::start();
    let stage = &containerd.stage;
    let name = stage.name("micro/containerd:1");
    let archive = stage.path("image.tar").display().to_string();
    let layout = stage.image.path.display().to_string();
    run(stage.client("tar").args(["--create", "--file", &archive, "--directory", &layout, "."]));
    let base = stage.name("micro/containerd");
    containerd.ctr(&["images", "import", "--all-platforms", "--base-name", &base, &archive]);
    containerd.ctr(&["images", "push", "--plain-http", &name]);
    assert!(stage.serves("micro/containerd", &stage.image.index));
    containerd.forget(&name);
    containerd.pull(&["--plain-http", "--all-platforms"], &name, &stage.image.index);
    let by_digest = format!("{base}@{}", stage.image.index);
    containerd.pull(&["--plain-http", "--all-platforms"], &by_digest, &stage.image.index);
}

#[test]
fn containerd_pulls_through_by_path() {
    let containerd = Containerd::start();
    let stage = &containerd.stage;
    let name = stage.name(&format!("{THROUGH}:1"));
    containerd.pull(&["--plain-http"], &name, &stage.busybox.index);
    let by_digest = stage.name(&format!("{THROUGH}@{}", stage.busybox.index));
    containerd.pull(&["--plain-http"], &by_digest, &stage.busybox.index);
}

#[test]
fn containerd_pulls_docker_io_through_the_mirror() {
    let containerd = Containerd::start();
    let stage = &containerd.stage;
    let hosts = mirror(stage, "docker.io");
    containerd.pull(&["--hosts-dir", &hosts], &format!("{THROUGH}:1"), &stage.busybox.index);
    containerd.pull(&["--hosts-dir", &hosts], &format!("{THROUGH}@{}", stage.busybox.index), &stage.busybox.index);
}

/// Nothing but `?ns=registry.test` tells the server which upstream is meant.
#[test]
fn containerd_pulls_from_another_registry_through_the_mirror() {
    let containerd = Containerd::start();
    let stage = &containerd.stage;
    let hosts = mirror(stage, "registry.test");
    containerd.pull(&["--hosts-dir", &hosts], "registry.test/team/app:1", &stage.busybox.index);
    let by_digest = format!("registry.test/team/app@{}", stage.busybox.index);
    containerd.pull(&["--hosts-dir", &hosts], &by_digest, &stage.busybox.index);
}

/// Settings that make the server the mirror of a registry, and the registry itself a dead end.
fn mirror(stage: &Stage, registry: &str) -> String {
    let text =
        format!("server = \"http://127.0.0.1:9\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", stage.host());
    stage.write(&format!("hosts.d/{registry}/hosts.toml"), &text);
    stage.path("hosts.d").display().to_string()
}

/// A containerd of the test's own; what is declared first ends first.
struct Containerd {
    _daemon: Daemon,
    socket: PathBuf,
    stage: Stage,
}

impl Containerd {
    fn start() -> Self {
        let stage = Stage::new();
        let socket = stage.path("c.sock");
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{}\"\n",
            stage.path("containerd/root").display(),
            stage.path("containerd/state").display(),
            socket.display(),
            stage.path("containerd/opt").display(),
        );
        let config = stage.write("containerd/config.toml", &config).display().to_string();
        let mut daemon = stage.daemon("containerd", &["--config", &config]);
        let address = socket.display().to_string();
        daemon.wait_until(|| output(stage.client("ctr").args(["--address", &address, "version"])).status.success());
        Self { _daemon: daemon, socket, stage }
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        let address = self.socket.display().to_string();
        run(self.stage.client("ctr").args(["--address", &address]).args(arguments))
    }

    /// Removes an image and, at once, the content that only it used.
    fn forget(&self, name: &str) {
        self.ctr(&["images", "rm", "--sync", name]);
    }

    /// Pulls an image that is not there and expects its digest.
    fn pull(&self, options: &[&str], name: &str, digest: &str) {
        let mut arguments = vec!["images", "pull", "--snapshotter=native"];
        arguments.extend(options);
        arguments.push(name);
        self.ctr(&arguments);
        let images = self.ctr(&["images", "ls", &format!("name=={name}")]);
        assert!(images.contains(digest), "{images}");
        self.forget(name);
    }
}
