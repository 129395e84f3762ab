//! What the fake holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use oci::{Descriptor, Digest};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::auth::Auth;
use super::fault::Faults;
use super::listener::{self, Mode};

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
    pub(crate) log: Vec<Logged>,
    pub(crate) cdn_log: Vec<Logged>,
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) auth: Auth,
    pub(crate) redirect: bool,
    pub(crate) ranges: bool,
    pub(crate) referrers: bool,
    pub(crate) tag_page: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { auth: Auth::None, redirect: false, ranges: true, referrers: true, tag_page: None }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    pub(crate) manifests: BTreeMap<Digest, StoredManifest>,
    pub(crate) tags: BTreeMap<String, Digest>,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredManifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) subject: Option<Digest>,
    pub(crate) descriptor: Descriptor,
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
