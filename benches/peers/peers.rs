//! The servers that are compared, each with the configuration that suits it best.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::authorized;
use crate::machine::{Processors, said};
use crate::secure;
use crate::server::{Kind, Recipe};

/// What a server is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It holds content.
    Registry,
    /// The same, and it says in its log what was asked for.
    Upstream,
    /// It pulls through from the server at this port.
    Proxy(u16),
    /// It holds content, and its connections are encrypted.
    Encrypted,
    /// It holds content, and wants to know who asks. There is only ours.
    Guarded,
}

/// Where the programs are.
pub(crate) struct Programs {
    paths: Vec<(Kind, PathBuf)>,
    /// zot's own load tool, where it is at hand.
    pub(crate) zb: Option<PathBuf>,
}

impl Programs {
    /// Finds the programs of the chosen peers. One that is not installed is an error, but for zot and its load tool, which come as source
    /// alone: they are used where they are at hand.
    pub(crate) fn find(roadstead: &Path, tools: &Path, peers: &[Kind]) -> Result<Self> {
        let mut paths = Vec::new();
        for kind in peers {
            let path = match kind {
                Kind::Roadstead | Kind::Guarded => roadstead.to_owned(),
                Kind::V2Deb => PathBuf::from("/usr/bin/docker-registry"),
                Kind::V3 => tools.join("registry-v3"),
                Kind::Zot => tools.join("zot"),
                Kind::Nginx => PathBuf::from("/usr/sbin/nginx"),
            };
            if *kind == Kind::Zot && !path.exists() {
                continue;
            }
            ensure!(path.exists(), "{} is not there: benches/peers/run builds and installs it", path.display());
            paths.push((*kind, path));
        }
        let zb = Some(tools.join("zb")).filter(|path| path.exists());
        Ok(Self { paths, zb })
    }

    /// The peers that can be run.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.paths.iter().map(|(kind, _)| *kind).collect()
    }

    /// Where one is.
    pub(crate) fn path(&self, kind: Kind) -> Result<&Path> {
        let kind = if kind.is_ours() { Kind::Roadstead } else { kind };
        let found = self.paths.iter().find(|(found, _)| *found == kind);
        found.map(|(_, path)| path.as_path()).with_context(|| format!("{} is not among the peers of this run", kind.key()))
    }

    /// What one says it is.
    pub(crate) fn version(&self, kind: Kind) -> Result<String> {
        let path = self.path(kind)?.to_string_lossy();
        let line = said(&path, &[if kind == Kind::Nginx { "-v" } else { "--version" }])?;
        if kind != Kind::Zot {
            // Some say first where they are, which is nobody's business.
            let words = line.split_whitespace().filter(|word| !word.starts_with('/'));
            return Ok(words.collect::<Vec<_>>().join(" "));
        }
        // A line of its log.
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        // Built without its own script it does not know them.
        let known = |name: &str| fields[name].as_str().filter(|text| !text.is_empty());
        let release = known("release-tag").or(known("commit")).unwrap_or("of an unknown release");
        Ok(format!("{release}, {}", known("go version").unwrap_or("of an unknown Go")))
    }

    /// How to start one with its content in `data`. Its configuration and its log are written to `run`.
    pub(crate) fn recipe(
        &self,
        kind: Kind,
        role: Role,
        processors: Processors,
        port: u16,
        data: &Path,
        run: &Path,
    ) -> Result<Recipe> {
        let (name, place) = (format!("{}-{port}", kind.key()), data.to_owned());
        let log = run.join(format!("{name}.log"));
        let (extension, text) = match kind {
            Kind::Roadstead | Kind::Guarded => ("toml", roadstead(role, port, data, run)?),
            Kind::V2Deb | Kind::V3 => ("yml", distribution(role, port, data, run)),
            Kind::Zot => ("json", zot(port, data)),
            Kind::Nginx => ("conf", nginx(role, port, data, run, &log, processors)),
        };
        let config = run.join(format!("{name}.{extension}"));
        fs::write(&config, text)?;
        let config = config.to_string_lossy().into_owned();
        let arguments = match kind {
            Kind::Roadstead | Kind::Guarded => vec!["serve".to_owned(), "--config".to_owned(), config],
            Kind::V2Deb | Kind::V3 | Kind::Zot => vec!["serve".to_owned(), config],
            Kind::Nginx => vec!["-p".to_owned(), run.to_string_lossy().into_owned(), "-c".to_owned(), config],
        };
        // Without this v3 tries to send traces to a collector on this machine.
        let environment = if kind == Kind::V3 { vec![("OTEL_TRACES_EXPORTER", "none")] } else { Vec::new() };
        let certificate = (role == Role::Encrypted).then(|| run.join(secure::CERTIFICATE));
        Ok(Recipe { kind, program: self.path(kind)?.to_owned(), arguments, environment, port, data: place, log, certificate })
    }
}

/// As it is run: its log of requests on, its metrics counted. Only the log's form is chosen.
fn roadstead(role: Role, port: u16, data: &Path, run: &Path) -> Result<String> {
    let more = match role {
        Role::Proxy(upstream) => format!(
            "[[upstream]]\nhost = \"127.0.0.1:{upstream}\"\nurl = \"http://127.0.0.1:{upstream}\"\ndefault = true\nroot = [\"**\"]\n"
        ),
        Role::Encrypted => {
            let [certificate, key] = [secure::CERTIFICATE, secure::KEY].map(|name| run.join(name));
            format!("[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", certificate.display(), key.display())
        }
        Role::Guarded => authorized::rules(run)?,
        Role::Registry | Role::Upstream => String::new(),
    };
    let none = if matches!(role, Role::Proxy(_)) { "" } else { "upstream = []\n" };
    let data = data.display();
    Ok(format!(
        "{none}[server]\nlisten = \"127.0.0.1:{port}\"\n[storage]\nurl = \"file:{data}\"\n[log]\nformat = \"json\"\n{more}"
    ))
}

/// At its best: no log of requests, errors alone in the other, descriptors in memory.
fn distribution(role: Role, port: u16, data: &Path, run: &Path) -> String {
    let quiet = role != Role::Upstream;
    let more = match role {
        Role::Proxy(upstream) => format!("proxy:\n  remoteurl: http://127.0.0.1:{upstream}\n"),
        Role::Encrypted => {
            let [certificate, key] = [secure::CERTIFICATE, secure::KEY].map(|name| run.join(name));
            format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display())
        }
        Role::Registry | Role::Upstream | Role::Guarded => String::new(),
    };
    format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: {quiet}\nstorage:\n  filesystem:\n    rootdirectory: {data}\n  \
         cache:\n    blobdescriptor: inmemory\n  maintenance:\n    uploadpurging:\n      enabled: false\nhttp:\n  addr: \
         127.0.0.1:{port}\n  secret: bench\n{more}",
        data = data.display()
    )
}

/// Its smallest configuration, with nothing running beside the requests.
fn zot(port: u16, data: &Path) -> String {
    json!({
        "distSpecVersion": "1.1.1",
        "storage": { "rootDirectory": data, "gc": false, "dedupe": false },
        "http": { "address": "127.0.0.1", "port": port.to_string() },
        "log": { "level": "error" },
    })
    .to_string()
}

/// Files as they are, by sendfile, or a cache that lets one request through and makes the others wait for it.
fn nginx(role: Role, port: u16, data: &Path, run: &Path, log: &Path, processors: Processors) -> String {
    let (data, run, workers) = (data.display(), run.display(), processors.count());
    let (cache, place, listen) = match role {
        Role::Proxy(upstream) => (
            format!("proxy_cache_path {data} levels=1:2 keys_zone=bench:10m max_size=100g inactive=1d use_temp_path=off;"),
            format!(
                "location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                 proxy_cache bench; proxy_cache_valid 200 1d; proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h; }}"
            ),
            String::new(),
        ),
        Role::Encrypted => (
            // What is encrypted has to be read first: in large pieces, and framed in the largest that clients take.
            format!(
                "ssl_protocols TLSv1.3; ssl_certificate {run}/{}; ssl_certificate_key {run}/{}; output_buffers 2 512k; \
                 http2_chunk_size 16k;",
                secure::CERTIFICATE,
                secure::KEY
            ),
            format!("root {data}; location = /v2/ {{ return 200; }}"),
            "ssl http2".to_owned(),
        ),
        Role::Registry | Role::Upstream | Role::Guarded => {
            (String::new(), format!("root {data}; location = /v2/ {{ return 200; }}"), String::new())
        }
    };
    format!(
        "daemon off;\nuser root;\nworker_processes {workers};\nworker_rlimit_nofile 8192;\nerror_log {log} error;\npid \
         {run}/nginx-{port}.pid;\nevents {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  tcp_nopush \
         on;\n  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n  default_type application/octet-stream;\n  \
         client_body_temp_path {run}/nginx-{port}-body;\n  proxy_temp_path {run}/nginx-{port}-proxy;\n  {cache}\n  server {{\n    \
         listen 127.0.0.1:{port} backlog=4096 {listen};\n    {place}\n  }}\n}}\n",
        log = log.display()
    )
}

/// Where a server keeps the bytes of a blob, from the folder of its data.
pub(crate) fn stored(kind: Kind, data: &Path, repository: &str, digest: &str) -> PathBuf {
    let short = &digest[..2];
    match kind {
        Kind::Roadstead | Kind::Guarded => data.join("blobs/sha256").join(short).join(digest),
        Kind::V2Deb | Kind::V3 => data.join("docker/registry/v2/blobs/sha256").join(short).join(digest).join("data"),
        Kind::Zot => data.join(repository).join("blobs/sha256").join(digest),
        Kind::Nginx => data.join("v2").join(repository).join("blobs").join(format!("sha256:{digest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roadstead_has_no_upstream_unless_it_pulls_through() {
        let (data, run) = (Path::new("/tmp/data"), Path::new("/tmp/run"));
        let registry = roadstead(Role::Registry, 5000, data, run).unwrap();
        assert!(registry.starts_with("upstream = []\n[server]\nlisten = \"127.0.0.1:5000\"\n"), "{registry}");
        let proxy = roadstead(Role::Proxy(6000), 5000, data, run).unwrap();
        assert!(proxy.contains("url = \"http://127.0.0.1:6000\"") && !proxy.contains("upstream = []"), "{proxy}");
    }

    #[test]
    fn the_log_of_requests_of_a_peer_is_on_only_where_it_is_counted() {
        let data = Path::new("/tmp/data");
        let of = |role| distribution(role, 5000, data, Path::new("/tmp/run"));
        assert!(of(Role::Registry).contains("disabled: true"));
        assert!(of(Role::Upstream).contains("disabled: false"));
        assert!(!of(Role::Registry).contains("proxy:"));
        assert!(of(Role::Proxy(6000)).contains("proxy:\n  remoteurl: http://127.0.0.1:6000\n"));
    }

    #[test]
    fn connections_are_encrypted_where_that_is_measured_and_nowhere_else() {
        let (data, run) = (Path::new("/tmp/data"), Path::new("/tmp/run"));
        for (role, encrypted) in [(Role::Encrypted, true), (Role::Registry, false)] {
            let log = Path::new("/tmp/log");
            for text in [
                roadstead(role, 5000, data, run).unwrap(),
                distribution(role, 5000, data, run),
                nginx(role, 5000, data, run, log, Processors::Pinned),
            ] {
                assert_eq!(text.contains("/tmp/run/certificate.pem"), encrypted, "{text}");
            }
        }
    }
}
