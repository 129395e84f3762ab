//! A small but real registry on 127.0.0.1 that can be made to fail in every way upstreams do.

mod auth;
mod body;
mod fault;
mod listener;
mod push;
mod put;
mod quota;
mod receive;
mod serve;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use oci::Digest;
use telemetry::Clock;
use tokio::runtime;

use listener::{Bound, Mode, Role};
use state::Shared;

pub use auth::{Auth, TokenAuth};
pub use fault::Fault;
pub use put::{Image, Index};
pub use state::Logged;

/// A registry with content, a log of what it was asked, and faults that are set while it runs.
///
/// It has a second listener, the "CDN", to which blobs can be redirected and which keeps its own log. Paths of the registry
/// begin with `/v2/` (and `/token`), those of the CDN with `/cdn/`, so that a fault's path tells which of them it means. It
/// serves from the start and stops when it is dropped.
#[derive(Debug)]
pub struct FakeUpstream {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FakeUpstream {
    /// A registry over plain HTTP, as tasks of the current tokio runtime.
    #[must_use]
    pub fn start() -> Self {
        Self::in_this_runtime(false)
    }

    /// A registry over TLS with its own authority, see [`FakeUpstream::ca_pem`]; as tasks of the current tokio runtime.
    #[must_use]
    pub fn start_tls() -> Self {
        Self::in_this_runtime(true)
    }

    /// A registry over plain HTTP with a thread and a runtime of its own, for tests that are not asynchronous.
    #[must_use]
    pub fn start_on_thread() -> Self {
        Self::on_thread(false)
    }

    /// As [`FakeUpstream::start_on_thread`], over TLS.
    #[must_use]
    pub fn start_tls_on_thread() -> Self {
        Self::on_thread(true)
    }

    fn in_this_runtime(tls: bool) -> Self {
        let (registry, cdn) = (Bound::new(Role::Registry), Bound::new(Role::Cdn));
        let (shared, acceptor) = Shared::new(registry.address, cdn.address, tls);
        tokio::spawn(listener::run(registry, Arc::clone(&shared), acceptor.clone()));
        tokio::spawn(listener::run(cdn, Arc::clone(&shared), acceptor));
        Self { shared, thread: None }
    }

    fn on_thread(tls: bool) -> Self {
        let (registry, cdn) = (Bound::new(Role::Registry), Bound::new(Role::Cdn));
        let (shared, acceptor) = Shared::new(registry.address, cdn.address, tls);
        let (ready, started) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            ready.send(()).unwrap();
            let registry = listener::run(registry, Arc::clone(&theirs), acceptor.clone());
            let cdn = listener::run(cdn, theirs, acceptor);
            runtime.block_on(async { tokio::join!(registry, cdn) });
        });
        started.recv().unwrap();
        Self { shared, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.registry_url()
    }

    /// The registry's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.registry
    }

    /// The CDN's base URL.
    #[must_use]
    pub fn cdn_url(&self) -> String {
        self.shared.cdn_url()
    }

    /// The certificate of the authority that a client has to trust, if this registry speaks TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.shared.ca_pem.as_deref()
    }

    /// Who may pull. At first everyone.
    pub fn auth(&self, auth: Auth) {
        self.shared.lock().settings.auth = auth;
    }

    /// Forgets every token that was issued, as when they have expired early.
    pub fn revoke_tokens(&self) {
        self.shared.lock().tokens.clear();
    }

    /// How many token requests came, successful or not.
    #[must_use]
    pub fn token_requests(&self) -> usize {
        self.count("GET", "/token")
    }

    /// Whether blobs are served by a 307 to the CDN. At first not.
    pub fn redirect_blobs(&self, redirect: bool) {
        self.shared.lock().settings.redirect = redirect;
    }

    /// Whether `Range` is honoured. At first yes.
    pub fn ranges(&self, ranges: bool) {
        self.shared.lock().settings.ranges = ranges;
    }

    /// Whether the referrers API exists. At first yes.
    pub fn referrers(&self, referrers: bool) {
        self.shared.lock().settings.referrers = referrers;
    }

    /// At most so many tags in one answer, whatever the client asks. At first without limit.
    pub fn tag_page(&self, limit: usize) {
        self.shared.lock().settings.tag_page = Some(limit);
    }

    /// Whether pushes are accepted. At first yes.
    pub fn pushes(&self, pushes: bool) {
        self.shared.lock().settings.pushes = pushes;
    }

    /// Whether a blob of another repository is mounted. At first yes; else a mount is answered with 202 and an upload session, as it
    /// also is for a blob that is not there.
    pub fn mounts(&self, mounts: bool) {
        self.shared.lock().settings.mounts = mounts;
    }

    /// Whether an upload session outlives a request that broke off in its middle, with the bytes that came. At first yes.
    pub fn sessions_survive(&self, survive: bool) {
        self.shared.lock().settings.sessions_survive = survive;
    }

    /// Whether `PUT /manifests/DIGEST?tag=` sets tags. At first yes.
    pub fn tags_in_queries(&self, tags: bool) {
        self.shared.lock().settings.tags_in_queries = tags;
    }

    /// The longest body of a request that is taken; longer ones are answered with 413. At first without limit.
    pub fn body_limit(&self, bytes: u64) {
        self.shared.lock().settings.body_limit = Some(bytes);
    }

    /// What is said in `OCI-Chunk-Min-Length`; a smaller chunk is refused unless the next request closes the session. At first
    /// nothing.
    pub fn smallest_chunk(&self, bytes: u64) {
        self.shared.lock().settings.smallest_chunk = Some(bytes);
    }

    /// Forgets every upload session.
    pub fn forget_sessions(&self) {
        self.shared.lock().sessions.clear();
    }

    /// How many upload sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.lock().sessions.len()
    }

    /// From now on at most `limit` manifests are served in a window, which begins with the first of them by `clock`. GETs count and
    /// HEADs do not; answers to both carry `ratelimit-limit` and `ratelimit-remaining`. What is more is answered with 429, without
    /// `Retry-After`.
    pub fn quota(&self, limit: u64, window: Duration, clock: Arc<dyn Clock>) {
        self.shared.lock().quota = Some(quota::Quota::new(limit, window, clock));
    }

    /// How much is left of the quota now.
    ///
    /// # Panics
    ///
    /// Without a quota.
    #[must_use]
    pub fn quota_remaining(&self) -> u64 {
        self.shared.lock().quota.as_ref().unwrap().remaining()
    }

    /// The bytes of a blob, put or pushed.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.shared.lock().repositories.get(repository)?.blobs.get(digest).cloned()
    }

    /// The bytes of a manifest, put or pushed.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        Some(self.shared.lock().repositories.get(repository)?.manifests.get(digest)?.bytes.clone())
    }

    /// Where a tag points.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.shared.lock().repositories.get(repository)?.tags.get(tag).cloned()
    }

    /// Every tag of a repository, in order.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.shared.lock().repositories.get(repository).map(|held| held.tags.keys().cloned().collect()).unwrap_or_default()
    }

    /// Ends every connection and drops new ones until it is called with `false`: an upstream that is gone.
    pub fn down(&self, down: bool) {
        self.shared.mode.send_replace(if down { Mode::Down } else { Mode::Up });
    }

    /// From now on every answer to a path that contains `path` (all paths: "") has this fault.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.shared.lock().faults.add(path, None, fault);
    }

    /// The next `times` answers that the fault can befall have it.
    pub fn fault_times(&self, path: &str, times: usize, fault: Fault) {
        self.shared.lock().faults.add(path, Some(times), fault);
    }

    /// From now on every request is answered with this status: short for [`Fault::Status`] on all paths.
    pub fn respond_with(&self, status: u16) {
        self.fault("", Fault::Status(status));
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// What the registry was asked, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.shared.lock().log.clone()
    }

    /// What the CDN was asked, in order.
    #[must_use]
    pub fn cdn_requests(&self) -> Vec<Logged> {
        self.shared.lock().cdn_log.clone()
    }

    /// How many requests the registry and the CDN got with this method and a path that contains `path`.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        let state = self.shared.lock();
        state.log.iter().chain(&state.cdn_log).filter(|entry| entry.method == method && entry.path.contains(path)).count()
    }

    /// Empties both logs.
    pub fn clear_requests(&self) {
        let mut state = self.shared.lock();
        state.log.clear();
        state.cdn_log.clear();
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.shared.mode.send_replace(Mode::Stopped);
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been printed; a second one while a test unwinds would abort the process.
            let _ = thread.join();
        }
    }
}
