//! The reader's machine: a namespace with a registry that stands in for Docker Hub, an empty folder, and the server as the README
//! starts it.
//!
//! Three things differ from what a reader has. `cargo run --release --` is the binary of this test. `ROADSTEAD_CONFIG` names a file that
//! says where Docker Hub really is. And paths below `/etc/` lie in the test's folder, so that nothing of the machine is changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::document::Block;
use crate::hub;
use crate::netns::Netns;
use crate::support::layout::Layout;
use crate::support::process::{Daemon, Place, free_port, output, tool};

/// Where the README says that the server is.
pub(crate) const HOST: &str = "127.0.0.1:5000";

/// What containers need where limits cannot be raised: they are no part of an example.
const ENGINE: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nnetns = \"host\"\n\
                      [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n";

/// All of it; what is declared first ends first.
pub(crate) struct Stage {
    daemons: Vec<Daemon>,
    _server: Daemon,
    _upstream: Daemon,
    place: Place,
    _netns: Netns,
    /// What the upstream has as `library/alpine:latest`.
    pub(crate) alpine: Layout,
    directory: TempDir,
}

impl Stage {
    /// Sets the upstream up, and starts the server by this command of the README, with `mirrors` in its configuration.
    pub(crate) fn new(serve: &Block, mirrors: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let netns = Netns::new();
        let place = netns.place();
        let port = free_port();
        let upstream = hub::start(&place, directory.path(), port);
        let alpine = Layout::write(&directory.path().join("alpine"), "alpine");
        hub::push(&place, &alpine, port, "library/alpine:latest");
        let config = format!("[[upstream]]\nhost = \"docker.io\"\ndefault = true\nurl = \"http://127.0.0.1:{port}\"\n{mirrors}");
        std::fs::write(directory.path().join("upstream.toml"), config).unwrap();
        let server = start(&place, directory.path(), serve);
        // The reader is in the folder in which the server was started.
        std::fs::create_dir_all(directory.path().join("reader")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("server/data"), directory.path().join("reader/data")).unwrap();
        let stage = Self { daemons: vec![], _server: server, _upstream: upstream, place, _netns: netns, alpine, directory };
        stage.write("home/.config/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        stage.write("auth.json", "{}");
        stage.write("containers/containers.conf", &format!("{ENGINE}tmp_dir = \"{}\"\n", stage.path("containers/tmp").display()));
        let (running, graph) = (stage.path("containers/run"), stage.path("containers/graph"));
        let storage =
            format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n", running.display(), graph.display());
        stage.write("containers/storage.conf", &storage);
        stage
    }

    /// Runs a block of commands in the reader's folder. It ends at the first that fails.
    pub(crate) fn run(&self, block: &Block) -> String {
        let script = self.write("script", &self.here(&block.text));
        let mut bash = self.place.program(&tool("bash"));
        bash.args(["-euo", "pipefail"]).arg(script);
        self.settle(&mut bash);
        let ended = output(&mut bash);
        let (told, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(
            ended.status.success(),
            "the commands of line {} fail: {}\n{}\n--- stdout\n{told}\n--- stderr\n{complained}",
            block.line,
            ended.status,
            block.text,
        );
        told.into_owned()
    }

    /// Writes the file that a block is.
    pub(crate) fn install(&self, block: &Block) {
        let path = block.file().expect("the block is a file");
        self.write(path.trim_start_matches('/'), &block.text);
    }

    /// dockerd with the configuration of the README.
    pub(crate) fn start_docker(&mut self, daemon_json: &Block) {
        let config = self.write("etc/docker/daemon.json", &daemon_json.text).display().to_string();
        let [root, running, id] = ["data", "run", "pid"].map(|part| self.path(&format!("docker/{part}")).display().to_string());
        let mut command = self.place.daemon(&tool("dockerd"));
        command.args(["--config-file", &config, "--data-root", &root, "--exec-root", &running, "--pidfile", &id]);
        command.args(["--host", &self.socket("docker"), "--bridge=none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--ip-forward=false", "--storage-driver=vfs"]);
        self.daemon(&mut command, "docker", &["info"]);
    }

    /// containerd as it is by default, but in the test's folder.
    pub(crate) fn start_containerd(&mut self) {
        let [root, state, optional] = ["root", "state", "opt"].map(|part| self.path(&format!("containerd/{part}")));
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n\
             address = \"{}\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{}\"\n",
            root.display(),
            state.display(),
            self.path("containerd.sock").display(),
            optional.display(),
        );
        let config = self.write("containerd/config.toml", &text);
        let mut command = self.place.daemon(&tool("containerd"));
        command.arg("--config").arg(config);
        self.daemon(&mut command, "ctr", &["version"]);
    }

    /// The status and the body of a GET on the server.
    pub(crate) fn ask(&self, path: &str) -> (u16, Vec<u8>) {
        let accept = "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*";
        self.place.request(&["--header", accept, &format!("http://{HOST}{path}")]).expect("the server answers")
    }

    fn daemon(&mut self, command: &mut Command, client: &str, ping: &[&str]) {
        self.settle(command);
        let mut daemon = Daemon::start(command, self.path(&format!("{client}.log")));
        daemon.wait_until(|| {
            let mut probe = self.place.program(&tool(client));
            self.settle(&mut probe);
            output(probe.args(ping)).status.success()
        });
        self.daemons.push(daemon);
    }

    /// A home, settings and programs of the test's own.
    fn settle(&self, command: &mut Command) {
        let folder = self.path("reader");
        std::fs::create_dir_all(&folder).unwrap();
        command.current_dir(folder).env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run")).env("PATH", path());
        command.env("DOCKER_CONFIG", self.path("docker-config")).env("REGISTRY_AUTH_FILE", self.path("auth.json"));
        command.env("CONTAINERS_CONF", self.path("containers/containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.path("containers/storage.conf"));
        let registries = self.path("etc/containers/registries.conf.d/roadstead.conf");
        if registries.exists() {
            command.env("CONTAINERS_REGISTRIES_CONF", registries);
        }
        command.env("DOCKER_HOST", self.socket("docker")).env("CONTAINERD_ADDRESS", self.path("containerd.sock"));
        command.env("CONTAINERD_SNAPSHOTTER", "native");
        for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
    }

    /// A text with the paths of the test.
    fn here(&self, text: &str) -> String {
        in_folder(text, self.directory.path())
    }

    fn socket(&self, name: &str) -> String {
        format!("unix://{}", self.path(&format!("{name}.sock")).display())
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.directory.path().join(rest)
    }

    fn write(&self, rest: &str, text: &str) -> PathBuf {
        let path = self.path(rest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A text with the files of `/etc` in another folder.
pub(crate) fn in_folder(text: &str, folder: &Path) -> String {
    text.replace("/etc/", &format!("{}/etc/", folder.display()))
}

/// The clients first where `tests/tools/install` puts them, then as the system has them.
fn path() -> std::ffi::OsString {
    let own = tool("crane").parent().unwrap().to_owned();
    let system = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let program = Path::new(env!("CARGO_BIN_EXE_roadstead")).parent().unwrap().to_owned();
    std::env::join_paths([program, own].into_iter().chain(std::env::split_paths(&system)).chain(more)).unwrap()
}

/// Runs the README's command, with the binary of this test for cargo's.
fn start(place: &Place, directory: &Path, serve: &Block) -> Daemon {
    let command = serve.text.trim().replace("cargo run --release --", env!("CARGO_BIN_EXE_roadstead"));
    let folder = directory.join("server");
    std::fs::create_dir_all(&folder).unwrap();
    let mut bash = place.daemon(&tool("bash"));
    bash.args(["-c", &format!("exec {command}")]).current_dir(folder).env("ROADSTEAD_CONFIG", directory.join("upstream.toml"));
    let mut server = Daemon::start(&mut bash, directory.join("roadstead.log"));
    let ready = format!("http://{HOST}/readyz");
    server.wait_until(|| place.request(&[&ready]).is_some_and(|(status, _)| status == 200));
    server
}
