//! The server as a process of its own, and what it tells of itself.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use oci::{Algorithm, Hasher};
use reqwest::blocking::Client;
use serde_json::Value;

/// Held by each server, and alone by who measures how fast one is.
pub(crate) static QUIET: RwLock<()> = RwLock::new(());

const PAUSE: Duration = Duration::from_millis(10);

/// A server, killed when the test ends however it ends.
pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    process: Child,
    markers: AtomicUsize,
    turn: Option<RwLockReadGuard<'static, ()>>,
}

/// How a server is to be, beside where it listens and keeps.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// Keys of `[server]`.
    pub(crate) server: &'a str,
    /// Further sections.
    pub(crate) sections: &'a str,
    /// Whether it logs lines of text instead of JSON.
    pub(crate) text_log: bool,
}

pub(crate) fn client() -> Client {
    let builder = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap());
    builder.no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

/// Asks until there is an answer, for half a minute at most.
pub(crate) fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = holds() {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("never came: {what}");
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Hasher::digest(Algorithm::Sha256, bytes).to_string()
}

impl Server {
    /// Starts it on an empty folder.
    pub(crate) fn start(settings: Settings<'_>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, settings: Settings<'_>) -> Self {
        let turn = QUIET.read().unwrap_or_else(PoisonError::into_inner);
        let mut server = Self::start_alone(folder, settings);
        server.turn = Some(turn);
        server
    }

    /// Starts it although somebody measures.
    pub(crate) fn start_alone(folder: tempfile::TempDir, settings: Settings<'_>) -> Self {
        let inside = folder.path();
        let upstreams = if settings.sections.contains("[[upstream]]") { "" } else { "upstream = []\n" };
        let text = format!(
            "{upstreams}[server]\nlisten = \"127.0.0.1:0\"\n{}\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"{}\"\n[admin]\n\
             token_file = \"{}\"\n{}",
            settings.server,
            inside.join("data").display(),
            if settings.text_log { "text" } else { "json" },
            inside.join("admin-token").display(),
            settings.sections
        );
        fs::write(inside.join("r.toml"), text).unwrap();
        let log = fs::File::create(inside.join("server.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.arg("serve").arg("--config").arg(inside.join("r.toml")).current_dir(inside);
        let mut process = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let address = until("the server listens", || {
            let log = fs::read_to_string(inside.join("server.log")).unwrap_or_default();
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "the server did not start: {log}");
            log.lines().find_map(address)
        });
        Self { folder, address, client: client(), process, markers: AtomicUsize::new(0), turn: None }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    /// The log with all requests in it that have ended by now.
    pub(crate) fn settled_log(&self) -> String {
        let marker = format!("/v2/marker-{}/tags/list", self.markers.fetch_add(1, Ordering::Relaxed));
        assert_eq!(self.client.get(self.url(&marker)).send().unwrap().status(), 404);
        // A line that is being written is none yet.
        let is_there = |log: &String| log.lines().any(|line| line.contains(&marker)) && log.ends_with('\n');
        until("the marker is logged", || Some(self.log()).filter(is_there))
    }

    /// The paths of the requests that were answered so far, without markers. Panics where a line of the log is no line of JSON.
    pub(crate) fn answered(&self) -> Vec<String> {
        let log = self.settled_log();
        let lines =
            log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("a forged line: {line}")));
        let requests = lines.filter(|line| line["target"] == "roadstead::requests");
        let paths = requests.map(|line| line["path"].as_str().unwrap().to_owned());
        paths.filter(|path| !path.starts_with("/v2/marker-")).collect()
    }

    /// Fails unless it answers others.
    pub(crate) fn is_well(&mut self) {
        assert!(self.process.try_wait().unwrap().is_none(), "the server has ended: {}", self.log());
        assert_eq!(self.client.get(self.url("/readyz")).send().unwrap().status(), 200);
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// Pushes a blob and gives its digest.
    pub(crate) fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let url = self.url(&format!("/v2/{name}/blobs/uploads/?digest={digest}"));
        let pushed = self.client.post(url).body(bytes.to_vec()).send().unwrap();
        assert_eq!(pushed.status(), 201);
        digest
    }

    /// A measure of its memory in bytes: `VmHWM` for the peak, `RssAnon` for what is its own now.
    pub(crate) fn memory(&self, measure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(measure)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// From now on [`Server::memory`] tells the peak anew.
    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }
}

/// Where it listens, if this line of the log tells it.
fn address(line: &str) -> Option<SocketAddr> {
    if let Ok(line) = serde_json::from_str::<Value>(line) {
        return line["address"].as_str()?.parse().ok();
    }
    line.split_whitespace().find_map(|word| word.strip_prefix("address=")?.parse().ok())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("roadstead::requests")).collect();
            eprintln!("the end of the server's log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// Every file below a folder, without those that are always there.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
