//! Blobs of upstreams: from what is here, from a fill that runs, or by a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Blob, BlobStat, Content, Digest, Error, RepositoryName};
use telemetry::{CacheKind, CacheResult};
use tokio::sync::{Semaphore, watch};

use crate::fill::{Fill, FillReader, Progress};
use crate::flight::copy;
use crate::names::Upstream;
use crate::pull_through::PullThrough;
use crate::sharing::{First, Sharing};

/// Looks and starts before a request gives up; more than two are never needed.
const ATTEMPTS: usize = 4;

type Key = (RepositoryName, Digest);

/// Fills from one upstream that run at the same time. More would only share the same line, and each takes a file and its space on disk.
const PLACES: usize = 64;

/// The fills that run.
pub(crate) struct Fills {
    running: Sharing<Key, watch::Receiver<Progress>>,
    /// By the upstream's host, so that a slow one does not hold up the others.
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Fills {
    pub(crate) fn new() -> Self {
        Self { running: Sharing::new(), places: Mutex::default() }
    }

    fn running(&self, key: &Key) -> Option<watch::Receiver<Progress>> {
        self.running.running(key)
    }

    /// The running fill, or a place for a new one.
    fn enter(&self, key: &Key) -> (watch::Receiver<Progress>, First<Key, watch::Receiver<Progress>, watch::Sender<Progress>>) {
        self.running.enter(key, || {
            let (sender, receiver) = watch::channel(Progress::Asking);
            (receiver, sender)
        })
    }

    fn places(&self, upstream: &Upstream) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(upstream.host.clone()).or_insert_with(|| Arc::new(Semaphore::new(PLACES))))
    }
}

/// Can a reader be told anything? Of nothing at all the end is seen with the beginning, so it must be right first.
fn has_begun(progress: &Progress) -> bool {
    !matches!(progress, Progress::Asking | Progress::Running { size: Some(0), .. })
}

impl PullThrough {
    pub(crate) async fn blob_cached(
        &self,
        upstream: Arc<Upstream>,
        name: &RepositoryName,
        theirs: RepositoryName,
        digest: &Digest,
    ) -> Result<Blob, Error> {
        let key = (name.clone(), digest.clone());
        for _ in 0..ATTEMPTS {
            let mut progress = match self.0.fills.running(&key) {
                Some(progress) => progress,
                None => match self.blob_here(&upstream, name, &theirs, digest).await? {
                    Some(blob) => return Ok(blob),
                    None => self.fill(Arc::clone(&upstream), &key, theirs.clone()),
                },
            };
            let begun = progress.wait_for(has_begun).await.map(|progress| progress.clone());
            let (size, content) = match begun {
                Ok(Progress::Running { size, file, .. }) => (size, Content::Growing(Arc::new(FillReader { progress, file }))),
                Ok(Progress::Verified { size, file }) => (Some(size), Content::File(file)),
                Ok(Progress::Failed(error)) => return Err(copy(&error)),
                // It was not needed: another one ended between our look and our start.
                Ok(Progress::Asking) | Err(_) => continue,
            };
            return Ok(Blob { digest: digest.clone(), size, content });
        }
        Err(Error::internal("filling a blob", "the fill was abandoned"))
    }

    /// The blob from what is kept; also when another repository brought its bytes, if the upstream has it in this one too.
    async fn blob_here(
        &self,
        upstream: &Upstream,
        name: &RepositoryName,
        theirs: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Blob>, Error> {
        match self.0.cache.blob(name, digest).await {
            Ok(blob) => {
                self.note(upstream, CacheKind::Blob, CacheResult::Hit);
                return Ok(Some(blob));
            }
            Err(unknown) if unknown.is_unknown() => {}
            Err(failure) => return Err(failure),
        }
        if self.0.cache.has_bytes(digest).await?
            && upstream.remote.stat_blob(theirs, digest).await.is_ok()
            && self.0.cache.adopt_blob(name, digest, &upstream.host).await?
        {
            self.note(upstream, CacheKind::Blob, CacheResult::Revalidated);
            return self.0.cache.blob(name, digest).await.map(Some);
        }
        self.note(upstream, CacheKind::Blob, CacheResult::Miss);
        Ok(None)
    }

    /// Starts a fill, unless another request was faster.
    fn fill(&self, upstream: Arc<Upstream>, key: &Key, theirs: RepositoryName) -> watch::Receiver<Progress> {
        let (receiver, first) = self.0.fills.enter(key);
        if let Some((entered, progress)) = first {
            let (name, digest) = key.clone();
            let (cache, clock, metrics) = (Arc::clone(&self.0.cache), Arc::clone(&self.0.clock), self.0.metrics.clone());
            let places = self.0.fills.places(&upstream);
            let fill = Fill { upstream, cache, clock, metrics, name, theirs, digest, progress, places };
            self.run(async move {
                // Dropped in the reverse order, also by a panic: whoever sees that the fill is gone must not find it here again.
                let fill = fill;
                let _entered = entered;
                fill.run().await;
            });
        }
        receiver
    }

    pub(crate) async fn stat_cached(
        &self,
        upstream: &Upstream,
        name: &RepositoryName,
        theirs: &RepositoryName,
        digest: &Digest,
    ) -> Result<BlobStat, Error> {
        match self.0.cache.stat_blob(name, digest).await {
            Err(unknown) if unknown.is_unknown() => {}
            known => return known,
        }
        let running = self.0.fills.running(&(name.clone(), digest.clone()));
        if let Some(Progress::Running { size: Some(size), .. }) = running.map(|progress| progress.borrow().clone()) {
            return Ok(BlobStat { digest: digest.clone(), size: Some(size) });
        }
        upstream.remote.stat_blob(theirs, digest).await
    }
}
