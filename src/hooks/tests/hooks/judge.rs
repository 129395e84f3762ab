//! The code of other programs, built on first use out of published Go modules, at pinned versions. Without Go their tests fail: that
//! others understand us is shown by nothing else.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/go/hooks");

/// A published module of which files are laid beside ours, so that they become one program.
struct Module {
    name: &'static str,
    /// Of its content.
    sum: &'static str,
    folder: &'static str,
    wants: fn(&str) -> bool,
}

/// Its parsers, without the file that is a server.
const UPDATER: Module = Module {
    name: "github.com/argoproj-labs/argocd-image-updater@v1.3.0",
    sum: "h1:MFqUKURoh14wV1ansPGFnzLIvUGhzWOMU8L2x96041U=",
    folder: "pkg/webhook",
    wants: |file| file != "server.go",
};

/// What it has about receivers.
const FLUX: Module = Module {
    name: "github.com/fluxcd/notification-controller@v1.6.0",
    sum: "h1:5C06VdqTVsbBFjtSZejnKT60U00Uyj6DAtKrqU1Si/w=",
    folder: "internal/server",
    wants: |file| file.starts_with("receiver_"),
};

/// One at a time is built.
static BUILDING: Mutex<()> = Mutex::new(());

/// Who is asked.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    /// Libraries that many receivers are made of.
    Receivers,
    /// The parsers of the Argo CD Image Updater.
    Updater,
    /// The receivers of Flux.
    Flux,
}

impl Program {
    /// What it makes of a request, or why it refuses it.
    pub(crate) fn asks(self, judge: &str, headers: &[(String, String)], body: &[u8], secret: &str) -> Result<Value, String> {
        self.asks_with(judge, headers, body, secret, "")
    }

    pub(crate) fn asks_with(
        self,
        judge: &str,
        headers: &[(String, String)],
        body: &[u8],
        secret: &str,
        query: &str,
    ) -> Result<Value, String> {
        let question =
            json!({ "judge": judge, "headers": headers, "body": STANDARD.encode(body), "secret": secret, "query": query });
        let mut child =
            Command::new(self.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        match status.code() {
            Some(0) => Ok(serde_json::from_slice(&stdout).unwrap()),
            Some(1) => Err(String::from_utf8(stderr).unwrap()),
            other => panic!("the judge ended with {other:?}: {}", String::from_utf8_lossy(&stderr)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Receivers => "receivers",
            Self::Updater => "updater",
            Self::Flux => "flux",
        }
    }

    fn module(self) -> Option<Module> {
        match self {
            Self::Receivers => None,
            Self::Updater => Some(UPDATER),
            Self::Flux => Some(FLUX),
        }
    }

    /// The program, built if it is not there as its sources say.
    fn path(self) -> PathBuf {
        let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = Path::new(SOURCES).join(self.name());
        let mut hasher = Sha256::new();
        for file in files(&sources) {
            hasher.update(fs::read(file).unwrap());
        }
        hasher.update(self.module().map_or("", |module| module.sum));
        let version = hex::encode(&hasher.finalize()[..8]);
        let folder = tools().join("bin");
        let program = folder.join(format!("hooks-{}-{version}", self.name()));
        if !program.exists() {
            fs::create_dir_all(&folder).unwrap();
            let made = self.build(&sources, &folder);
            // Another process may have been as fast: then it is the same.
            fs::rename(made, &program).unwrap();
        }
        program
    }

    fn build(self, sources: &Path, folder: &Path) -> PathBuf {
        let go = go();
        let place = tempfile::tempdir().unwrap();
        for file in files(sources) {
            copy(&file, &place.path().join(file.strip_prefix(sources).unwrap()));
        }
        if let Some(module) = self.module() {
            module.add(&go, place.path());
        }
        let made = folder.join(format!(".hooks-{}-{}", self.name(), std::process::id()));
        let mut build = Command::new(&go);
        build
            .args(["build", "-mod=readonly", "-trimpath", "-o"])
            .arg(&made)
            .arg(".")
            .current_dir(place.path())
            .env("CGO_ENABLED", "0");
        run(build);
        made
    }
}

impl Module {
    /// Lays its files beside ours, without their tests.
    fn add(&self, go: &Path, place: &Path) {
        let mut download = Command::new(go);
        download.args(["mod", "download", "-json", self.name]).current_dir(std::env::temp_dir());
        let told: Value = serde_json::from_slice(&run(download)).unwrap();
        assert_eq!(told["Sum"], self.sum, "{} is not what it was", self.name);
        for file in files(&Path::new(told["Dir"].as_str().unwrap()).join(self.folder)) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if file.extension().is_some_and(|end| end == "go") && !name.ends_with("_test.go") && (self.wants)(name) {
                copy(&file, &place.join(self.folder).join(name));
            }
        }
    }
}

/// What is in the cache of modules may not be written to, and its copy must be.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, fs::read(from).unwrap()).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn tools() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ROADSTEAD_TOOLS").unwrap_or_else(|| {
        let cache = set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").unwrap().join(".cache"));
        cache.join("roadstead/tools")
    })
}

fn go() -> PathBuf {
    let candidates = [PathBuf::from("go"), PathBuf::from("/usr/local/go/bin/go"), tools().join("go/bin/go")];
    let works = |go: &PathBuf| Command::new(go).arg("version").output().is_ok_and(|output| output.status.success());
    candidates.into_iter().find(works).unwrap_or_else(|| {
        panic!(
            "Go is needed to build what reads our webhooks: install it, or put it into PATH or {}",
            tools().join("go").display()
        )
    })
}

fn run(mut command: Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let told = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&told));
    output.stdout
}
