//! dockerd 20.10 pulls one platform of an index and remembers the index's digest; it pushes one platform in Docker's own format.

use std::path::PathBuf;

use crate::skopeo;
use crate::stage::{Stage, THROUGH};
use crate::support::process::{Daemon, output, run};

#[test]
fn dockerd_pulls_an_index_and_pushes_one_platform() {
    let docker = Docker::start();
    let stage = &docker.stage;
    skopeo::push(stage, "micro/base:1");
    docker.pull(&stage.name("micro/base:1"), &stage.image.index);
    docker.pull(&stage.name(&format!("micro/base@{}", stage.image.index)), &stage.image.index);
    docker.run(&["pull", "--quiet", &stage.name("micro/base:1")]);
    let name = stage.name("micro/dockerd:1");
    docker.run(&["tag", &stage.name("micro/base:1"), &name]);
    let pushed = docker.run(&["push", &name]);
    let digest = pushed.split_whitespace().find(|word| word.starts_with("sha256:")).expect("docker tells the digest");
    assert!(stage.serves("micro/dockerd", digest));
    docker.forget();
    docker.pull(&name, digest);
    docker.pull(&stage.name(&format!("micro/dockerd@{digest}")), digest);
}

#[test]
fn dockerd_pulls_through_by_path() {
    let docker = Docker::start();
    let index = &docker.stage.busybox.index;
    docker.pull(&docker.stage.name(&format!("{THROUGH}:1")), index);
    docker.pull(&docker.stage.name(&format!("{THROUGH}@{index}")), index);
}

#[test]
fn dockerd_pulls_official_images_through_the_mirror() {
    let docker = Docker::start();
    let index = &docker.stage.busybox.index;
    docker.pull("busybox:1", index);
    docker.pull(&format!("busybox@{index}"), index);
}

/// A dockerd of the test's own, with the server as its mirror; what is declared first ends first.
struct Docker {
    _daemon: Daemon,
    socket: PathBuf,
    stage: Stage,
}

impl Docker {
    fn start() -> Self {
        let stage = Stage::new();
        let socket = stage.path("d.sock");
        let config = format!(r#"{{"registry-mirrors": ["http://{}"], "insecure-registries": ["127.0.0.0/8"]}}"#, stage.host());
        let config = stage.write("dockerd/daemon.json", &config).display().to_string();
        let root = stage.path("dockerd/data").display().to_string();
        let running = stage.path("dockerd/run").display().to_string();
        let id = stage.path("dockerd/pid").display().to_string();
        let address = format!("unix://{}", socket.display());
        let network = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--storage-driver=vfs"];
        let place =
            ["--config-file", &config, "--data-root", &root, "--exec-root", &running, "--pidfile", &id, "--host", &address];
        let mut daemon = stage.daemon("dockerd", &[place.as_slice(), network.as_slice()].concat());
        daemon.wait_until(|| output(stage.client("docker").args(["--host", &address, "info"])).status.success());
        Self { _daemon: daemon, socket, stage }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let address = format!("unix://{}", self.socket.display());
        run(self.stage.client("docker").args(["--host", &address]).args(arguments))
    }

    fn forget(&self) {
        let images = self.run(&["images", "--all", "--quiet", "--no-trunc"]);
        let mut images: Vec<_> = images.lines().collect();
        images.dedup();
        let mut arguments = vec!["rmi", "--force"];
        arguments.extend(images);
        self.run(&arguments);
    }

    /// Pulls an image into an empty store and expects its digest.
    fn pull(&self, name: &str, digest: &str) {
        self.run(&["pull", "--quiet", name]);
        let digests = self.run(&["image", "inspect", "--format", "{{json .RepoDigests}}", name]);
        assert!(digests.contains(digest), "{name}: {digests} lack {digest}");
        self.forget();
    }
}
