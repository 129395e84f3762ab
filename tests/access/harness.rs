//! A server with rules, and those who ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher, media_type};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, RequestBuilder, Response};
use roadstead::config::Config;
use serde_json::{Value, json};
use telemetry::SystemClock;
use tokio::sync::oneshot;

/// Accounts by the names of their owners; each has its name and `-password` as its password. bcrypt of the lowest cost.
pub(crate) const PEOPLE: [&str; 5] = ["alice", "bob", "carol", "dave", "root"];

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum As<'a> {
    Nobody,
    /// With a password.
    User(&'a str),
    /// With any token.
    Bearer(&'a str),
}

impl Server {
    /// A server on memory with these settings, which may begin with more of `[server]`.
    pub(crate) async fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let people: String = PEOPLE.iter().map(|name| account(name, &format!("{name}-password"))).collect();
        std::fs::write(folder.path().join("htpasswd"), people).unwrap();
        let file = Self::write(folder.path(), settings);
        let config = Config::load(Some(&file), std::iter::empty()).unwrap();
        let app = roadstead::build(config, Arc::new(SystemClock::default())).await.unwrap();
        let url = format!("http://{}", app.local_addr());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(app.run(async move {
            let _ = stopped.await;
        }));
        let client = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap();
        Self { url, folder, client, stop: Some(stop) }
    }

    fn write(folder: &Path, settings: &str) -> PathBuf {
        let file = folder.join("roadstead.toml");
        let upstreams = if settings.contains("[[upstream]]") { "" } else { "upstream = []\n" };
        let text = format!(
            "{upstreams}[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"memory:\"\n[admin]\ntoken_file = \"{}\"\n[auth]\nhtpasswd_file = \"{}\"\n{settings}",
            folder.join("admin-token").display(),
            folder.join("htpasswd").display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    pub(crate) fn request(&self, who: As<'_>, method: &str, path: &str) -> RequestBuilder {
        let url = if path.starts_with('/') { format!("{}{path}", self.url) } else { path.to_owned() };
        let request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        match who {
            As::Nobody => request,
            As::User(name) => request.basic_auth(name, Some(format!("{name}-password"))),
            As::Bearer(token) => request.bearer_auth(token),
        }
    }

    pub(crate) async fn ask(&self, who: As<'_>, method: &str, path: &str) -> Response {
        self.request(who, method, path).send().await.unwrap()
    }

    pub(crate) async fn status(&self, who: As<'_>, method: &str, path: &str) -> u16 {
        self.ask(who, method, path).await.status().as_u16()
    }

    /// The token of the server's file.
    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("admin-token")).unwrap().trim().to_owned()
    }

    pub(crate) async fn push_blob(&self, who: As<'_>, name: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let pushed = self.request(who, "POST", &path).body(bytes).send().await.unwrap();
        assert_eq!(pushed.status(), 201, "{name}");
        digest
    }

    /// Pushes an image of one layer; gives the digests of its manifest and of its layer.
    pub(crate) async fn push_image(&self, who: As<'_>, name: &str, tag: &str, content: &str) -> (Digest, Digest) {
        let config = self.push_blob(who, name, "{}").await;
        let layer = self.push_blob(who, name, content.to_owned()).await;
        let manifest = self.put(who, &format!("/v2/{name}/manifests/{tag}"), &image(&config, &layer, content.len(), None)).await;
        (manifest, layer)
    }

    /// Pushes an image manifest.
    pub(crate) async fn put(&self, who: As<'_>, path: &str, manifest: &Value) -> Digest {
        let body = manifest.to_string();
        let request = self.request(who, "PUT", path).header(CONTENT_TYPE, media_type::OCI_MANIFEST);
        let pushed = request.body(body.clone()).send().await.unwrap();
        assert_eq!(pushed.status(), 201, "{path}");
        sha256(body.as_bytes())
    }

    /// A token of the server's own token service.
    pub(crate) async fn token(&self, who: As<'_>, scopes: &[&str]) -> Value {
        let query = [["service=roadstead"].as_slice(), scopes].concat().join("&scope=");
        let answer = self.ask(who, "GET", &format!("/token?{query}")).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

pub(crate) fn image(config: &Digest, layer: &Digest, size: usize, subject: Option<(&Digest, usize)>) -> Value {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 2 },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(), "size": size }],
    });
    if let Some((subject, size)) = subject {
        manifest["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject.to_string(), "size": size });
    }
    manifest
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

/// A line of a file of accounts, of the lowest cost that there is.
pub(crate) fn account(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap())
}
