//! What the fake holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use oci::{Descriptor, Digest, ManifestView};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::auth::Auth;
use super::fault::Faults;
use super::listener::{self, Mode};
use super::quota::Quota;

/// A request as it came, and how it was answered.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Method.
    pub method: String,
    /// Path, as it was sent.
    pub path: String,
    /// Query, without the question mark; empty if there was none.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Status of the answer; 0 if the connection was closed instead.
    pub status: u16,
}

impl Logged {
    /// A header of the request as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: SocketAddr,
    pub(crate) cdn: SocketAddr,
    pub(crate) ca_pem: Option<String>,
    pub(crate) mode: watch::Sender<Mode>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) faults: Faults,
    pub(crate) settings: Settings,
    /// Tokens that were issued, with their scopes.
    pub(crate) tokens: BTreeMap<String, BTreeSet<String>>,
    pub(crate) issued: usize,
    /// Open uploads by their id.
    pub(crate) sessions: BTreeMap<String, Session>,
    /// Uploads that were ever opened.
    pub(crate) opened: usize,
    pub(crate) quota: Option<Quota>,
    pub(crate) log: Vec<Logged>,
    pub(crate) cdn_log: Vec<Logged>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Settings {
    pub(crate) auth: Auth,
    pub(crate) redirect: bool,
    pub(crate) ranges: bool,
    pub(crate) referrers: bool,
    pub(crate) tag_page: Option<usize>,
    pub(crate) pushes: bool,
    pub(crate) mounts: bool,
    pub(crate) sessions_survive: bool,
    pub(crate) tags_in_queries: bool,
    pub(crate) body_limit: Option<u64>,
    pub(crate) smallest_chunk: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            redirect: false,
            ranges: true,
            referrers: true,
            tag_page: None,
            pushes: true,
            mounts: true,
            sessions_survive: true,
            tags_in_queries: true,
            body_limit: None,
            smallest_chunk: None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    pub(crate) manifests: BTreeMap<Digest, StoredManifest>,
    pub(crate) tags: BTreeMap<String, Digest>,
}

/// An open upload.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) repository: String,
    pub(crate) bytes: Vec<u8>,
    /// A chunk was smaller than the smallest: it has to be the last.
    pub(crate) has_last: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredManifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) subject: Option<Digest>,
    pub(crate) descriptor: Descriptor,
}

impl State {
    /// Keeps a blob.
    pub(crate) fn hold_blob(&mut self, repository: &str, digest: Digest, bytes: Bytes) {
        self.repositories.entry(repository.to_owned()).or_default().blobs.insert(digest, bytes);
    }

    /// Keeps a manifest, whatever its bytes are, and moves the tags to it.
    pub(crate) fn hold_manifest(&mut self, repository: &str, tags: &[String], media_type: &str, digest: &Digest, bytes: Bytes) {
        let view = ManifestView::parse(&bytes, None).or_else(|_| ManifestView::parse(&bytes, Some(media_type))).ok();
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            artifact_type: view.as_ref().and_then(|view| view.artifact_type.clone()),
            platform: None,
            annotations: view.as_ref().and_then(|view| view.annotations.clone()),
        };
        let subject = view.and_then(|view| view.subject).map(|subject| subject.digest);
        let stored = StoredManifest { media_type: media_type.to_owned(), bytes, subject, descriptor };
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        repository.manifests.insert(digest.clone(), stored);
        for tag in tags {
            repository.tags.insert(tag.clone(), digest.clone());
        }
    }
}

impl Shared {
    pub(crate) fn new(registry: SocketAddr, cdn: SocketAddr, tls: bool) -> (Arc<Self>, Option<TlsAcceptor>) {
        let (ca_pem, acceptor) = if tls {
            let (pem, acceptor) = listener::authority();
            (Some(pem), Some(acceptor))
        } else {
            (None, None)
        };
        let mode = watch::Sender::new(Mode::Up);
        (Arc::new(Self { registry, cdn, ca_pem, mode, state: Mutex::default() }), acceptor)
    }

    /// A test that panicked while it held the lock must not hide its message behind another.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registry_url(&self) -> String {
        self.base(self.registry)
    }

    pub(crate) fn cdn_url(&self) -> String {
        self.base(self.cdn)
    }

    fn base(&self, address: SocketAddr) -> String {
        format!("{}://{address}", if self.ca_pem.is_some() { "https" } else { "http" })
    }
}
