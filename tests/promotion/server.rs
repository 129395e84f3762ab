//! The server as a process of its own, with promotions, and those who push to it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use oci::{Algorithm, Hasher};
use reqwest::blocking::Client;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A server, killed when the test ends however it ends.
pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) url: String,
    process: Option<Child>,
    settings: String,
    /// `[storage]` of its configuration; its own folder where there is none.
    storage: Option<String>,
    environment: Vec<(String, String)>,
    client: Client,
}

/// What a push brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) digest: String,
    pub(crate) manifest: Vec<u8>,
}

fn client() -> Client {
    let builder = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap());
    builder.no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    until_within(Duration::from_mins(1), what, &mut holds)
}

pub(crate) fn until_within<T>(limit: Duration, what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(waited < limit, "not within {limit:?}: {what}");
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

impl Server {
    /// Starts it with these sections of a configuration beside where it listens and keeps.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings, &[])
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, settings: &str, environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (settings, storage) = (settings.to_owned(), None);
        let mut server = Self { folder, url: String::new(), process: None, settings, storage, environment, client: client() };
        server.begin();
        server
    }

    /// Starts it on a store that others use too.
    pub(crate) fn start_on(storage: &str, settings: &str) -> Self {
        let (folder, storage) = (tempfile::tempdir().unwrap(), Some(storage.to_owned()));
        let (settings, environment) = (settings.to_owned(), Vec::new());
        let mut server = Self { folder, url: String::new(), process: None, settings, storage, environment, client: client() };
        server.begin();
        server
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.path().join("r.toml")
    }

    /// Starts the process; with the same content where there is some.
    pub(crate) fn begin(&mut self) {
        let folder = self.folder.path();
        let upstreams = if self.settings.contains("[[upstream]]") { "" } else { "upstream = []\n" };
        let text = format!(
            "{upstreams}[server]\nlisten = \"127.0.0.1:0\"\n[storage]\n{}\n[log]\nformat = \"json\"\n[admin]\ntoken_file = \"{}\"\n{}",
            self.storage.clone().unwrap_or_else(|| format!("url = \"file:{}\"", folder.join("data").display())),
            folder.join("admin-token").display(),
            self.settings
        );
        fs::write(self.configuration(), text).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let told = fs::metadata(self.log_file()).unwrap().len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.arg("serve").arg("--config").arg(self.configuration()).stdin(Stdio::null()).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(command.spawn().unwrap());
        let address = until("the server listens", || {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let lines = log.get(usize::try_from(told).unwrap()..).unwrap_or_default().lines();
            let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server did not start: {log}");
            lines.find_map(|line| line["address"].as_str().map(str::to_owned))
        });
        self.url = format!("http://{address}");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The same with other settings.
    pub(crate) fn with(mut self, change: impl Fn(&str) -> String) -> Self {
        let settings = change(&self.settings);
        self.restart_with(&settings);
        self
    }

    /// Kills it and starts it again with other settings.
    pub(crate) fn restart_with(&mut self, settings: &str) {
        settings.clone_into(&mut self.settings);
        self.kill();
        self.begin();
    }

    fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Hasher::digest(Algorithm::Sha256, bytes).to_string();
        let url = format!("{}/v2/{repository}/blobs/uploads/?digest={digest}", self.url);
        let response = self.client.post(url).body(bytes.to_vec()).send().unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().unwrap());
        digest
    }

    /// Pushes an image whose content is told apart by `content`, under these tags, one after the other.
    pub(crate) fn push(&self, repository: &str, content: &str, tags: &[&str]) -> Pushed {
        let labels = json!({ "org.opencontainers.image.revision": content });
        self.push_labelled(repository, content, tags, &labels)
    }

    pub(crate) fn push_labelled(&self, repository: &str, content: &str, tags: &[&str], labels: &Value) -> Pushed {
        let configuration = json!({ "os": "linux", "architecture": "amd64", "config": { "Labels": labels }, "rootfs": {} });
        let configuration = configuration.to_string();
        let layer = format!("layer {content}");
        let (config, blob) = (self.put_blob(repository, configuration.as_bytes()), self.put_blob(repository, layer.as_bytes()));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": configuration.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": blob, "size": layer.len() }],
        });
        let manifest = manifest.to_string().into_bytes();
        for tag in tags {
            let status = self.put_manifest(repository, tag, &manifest);
            assert_eq!(status, 201, "{tag}");
        }
        Pushed { digest: Hasher::digest(Algorithm::Sha256, &manifest).to_string(), manifest }
    }

    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, manifest: &[u8]) -> u16 {
        self.put_typed(repository, tag, MANIFEST, manifest)
    }

    /// The status that is answered; 0 where nothing is.
    pub(crate) fn put_typed(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) -> u16 {
        let url = format!("{}/v2/{repository}/manifests/{tag}", self.url);
        let put = self.client.put(url).header("content-type", media_type).body(manifest.to_vec()).send();
        put.map_or(0, |response| response.status().as_u16())
    }

    pub(crate) fn delete_tag(&self, repository: &str, tag: &str) {
        let response = self.client.delete(format!("{}/v2/{repository}/manifests/{tag}", self.url)).send().unwrap();
        assert_eq!(response.status(), 202);
    }

    /// What is answered to a POST.
    pub(crate) fn post(&self, path: &str, headers: &[(&str, String)], body: String) -> (u16, String) {
        let request = self.client.post(format!("{}{path}", self.url)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let response = request.send().unwrap();
        (response.status().as_u16(), response.text().unwrap())
    }

    fn token(&self) -> String {
        fs::read_to_string(self.folder.path().join("admin-token")).unwrap().trim().to_owned()
    }

    /// What `/api/v1/` answers.
    pub(crate) fn api(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}/api/v1/{path}", self.url)).bearer_auth(self.token());
        request.send().unwrap().json().unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        self.client.get(format!("{}/metrics", self.url)).send().unwrap().text().unwrap()
    }

    /// Its promotion, by the number; the latest where that is 0.
    pub(crate) fn promotion(&self, rule: &str, number: u64) -> Option<Value> {
        let shown = self.api(&format!("promotions/{rule}"));
        let promotions = shown["promotions"].as_array().unwrap_or_else(|| panic!("{shown}")).clone();
        promotions.into_iter().find(|promotion| number == 0 || promotion["number"] == number)
    }

    /// Waits until the promotion of this tag is in one of these phases, and gives it.
    pub(crate) fn reaches(&self, rule: &str, tag: &str, phases: &[&str]) -> Value {
        self.reaches_within(Duration::from_mins(1), rule, tag, phases)
    }

    pub(crate) fn reaches_within(&self, limit: Duration, rule: &str, tag: &str, phases: &[&str]) -> Value {
        until_within(limit, &format!("{rule} {tag} {phases:?}"), || {
            let shown = self.api(&format!("promotions/{rule}"));
            let found = shown["promotions"].as_array()?.iter().find(|promotion| promotion["tag"] == tag)?.clone();
            phases.contains(&found["phase"].as_str()?).then_some(found)
        })
    }

    /// A command of the program, about this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).arg("--server").arg(&self.url).arg("--token-file").arg(self.folder.path().join("admin-token"));
        command.output().unwrap()
    }

    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"request\"")).collect();
            eprintln!("the end of the server's log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// The section of a promotion into the overlay of [`crate::forge::OVERLAY`].
pub(crate) fn rule(name: &str, repository: &str, tags: &str, url: &str, image: &str, more: &str) -> String {
    format!(
        "[[promotion]]\nname = \"{name}\"\nrepository = \"{repository}\"\ntags = {tags}\ngit = {{ url = \"{url}\" }}\n\
         edit = {{ kustomization = \"k8s/overlays/prod\", image = \"{image}\" }}\n{more}\n"
    )
}
