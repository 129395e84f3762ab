//! A fill: one fetch of a blob, read by any number of clients while it runs.
//!
//! It belongs to the server: it goes on when its readers leave. Readers follow the growing file and are given its last byte only
//! when the whole is verified and kept; if that cannot be, they are given an error instead, which breaks their connections.

use std::fs::File;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use oci::{Blob, Content, Digest, Error, GrowingFile, RangeSource, Readable, RepositoryName};
use telemetry::{Clock, FillOutcome, Metrics, chain};
use tokio::sync::{Semaphore, watch};

use crate::cache::{Cache, FillSpool};
use crate::flight::copy;
use crate::names::Upstream;

/// Readers are woken for so many new bytes, or when the upstream pauses: each is a task, and an upstream sends in small pieces.
const NEWS: u64 = 256 * 1024;
/// How long a fill waits for its place, or for an upstream that limits us: clients wait half a minute for the head of an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Attempts without a single new byte before a fill is given up.
const ATTEMPTS: u32 = 5;
/// The wait before the first new attempt; doubled for each that brings nothing.
const BACKOFF: Duration = Duration::from_millis(250);

/// Where a fill is.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// The upstream has not answered.
    Asking,
    /// Bytes are coming.
    Running { size: Option<u64>, written: u64, file: Arc<File> },
    /// The bytes are those that were asked for.
    Verified { size: u64, file: Arc<File> },
    /// It could not be had.
    Failed(Arc<Error>),
}

/// What to fetch, from where, to where.
pub(crate) struct Fill {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) name: RepositoryName,
    pub(crate) theirs: RepositoryName,
    pub(crate) digest: Digest,
    pub(crate) progress: watch::Sender<Progress>,
    /// Fills that may run at the same time; further ones wait before they ask the upstream.
    pub(crate) places: Arc<Semaphore>,
}

impl Fill {
    /// Runs to the end, whoever still listens.
    ///
    /// Asks the cache once more first: a fill of the same blob may have ended after the request that starts this one looked. Then
    /// there is nothing to do, and the progress stays where it is.
    pub(crate) async fn run(&self) {
        let place = tokio::select! {
            place = self.places.acquire() => place,
            () = self.clock.sleep(PATIENCE) => {
                let reason = format!("too many transfers from {} are running", self.upstream.host);
                self.progress.send_replace(Progress::Failed(Arc::new(Error::Unavailable { reason, source: None })));
                return;
            }
        };
        // One receiver is that of the list of fills. Nobody waits any more: a fill begins to be the server's with its first byte.
        if self.progress.receiver_count() <= 1 {
            return;
        }
        let Ok(_place) = place else { return };
        if self.cache.stat_blob(&self.name, &self.digest).await.is_ok() {
            return;
        }
        self.metrics.fill_started(&self.upstream.host);
        let start = self.clock.monotonic();
        let (outcome, bytes) = match self.fetch().await {
            Ok(fetched) => fetched,
            Err(error) => {
                let unknown = error.is_unknown();
                let (upstream, repository, digest) = (&self.upstream.host, &self.name, &self.digest);
                if !unknown {
                    tracing::warn!(upstream, %repository, %digest, error = %chain(&error), "a fill failed");
                }
                let before = self.progress.send_replace(Progress::Failed(Arc::new(error)));
                let written = if let Progress::Running { written, .. } = before { written } else { 0 };
                (FillOutcome::Failed, written)
            }
        };
        self.metrics.fill_ended(&self.upstream.host, outcome, bytes);
        let duration = self.clock.monotonic().saturating_sub(start);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(upstream = self.upstream.host, repository = %self.name, digest = %self.digest, size_bytes = bytes, duration_ms, "a fill ended");
    }

    /// How it ended, once every byte was right, and how many there were.
    async fn fetch(&self) -> Result<(FillOutcome, u64), Error> {
        let blob = self.upstream.remote.blob(&self.theirs, &self.digest).await?;
        let mut spool = self.cache.spool(self.digest.algorithm())?;
        let file = spool.file();
        self.progress.send_replace(Progress::Running { size: blob.size, written: 0, file: Arc::clone(&file) });
        self.receive(&blob, spool.as_mut()).await?;
        let size = spool.written();
        spool.verify(&self.digest).map_err(|error| match error {
            Error::DigestInvalid { reason } => self.failed(format!("it sent other bytes than were asked for: {reason}")),
            other => other,
        })?;
        // Nobody who pulls need wait for the disk. Until it is kept, further readers come here.
        self.progress.send_replace(Progress::Verified { size, file });
        let kept = spool.keep(&self.name, &self.digest, &self.upstream.host).await;
        if let Err(error) = &kept {
            let (upstream, repository, digest) = (&self.upstream.host, &self.name, &self.digest);
            tracing::error!(upstream, %repository, %digest, error = %chain(error), "a blob was served and could not be kept");
        }
        Ok((if kept.is_ok() { FillOutcome::Kept } else { FillOutcome::Failed }, size))
    }

    /// All bytes into the spool, taking the transfer up where it broke off.
    async fn receive(&self, blob: &Blob, spool: &mut dyn FillSpool) -> Result<(), Error> {
        let source = source(blob)?;
        let (mut fruitless, mut backoff) = (0, BACKOFF);
        loop {
            let before = spool.written();
            let failure = match self.copy_from(&source, blob.size, spool).await {
                Ok(()) => return Ok(()),
                // The storage, not the upstream: another attempt would fail the same way.
                Err(failure @ (Error::Internal { .. } | Error::Unavailable { .. } | Error::TooLarge { .. })) => {
                    return Err(failure);
                }
                Err(failure) => failure,
            };
            if spool.written() > before {
                (fruitless, backoff) = (0, BACKOFF);
            }
            fruitless += 1;
            let asked = match failure {
                Error::TooManyRequests { retry_after: Some(seconds), .. } => Duration::from_secs(seconds),
                _ => Duration::ZERO,
            };
            // No client waits for longer than that, and the place is another's.
            if fruitless >= ATTEMPTS || asked > PATIENCE {
                return Err(failure);
            }
            tracing::info!(upstream = self.upstream.host, digest = %self.digest, at = spool.written(), error = %chain(&failure), "a fill broke off and is taken up again");
            self.metrics.fill_resumed(&self.upstream.host);
            self.clock.sleep(backoff.max(asked)).await;
            backoff *= 2;
        }
    }

    async fn copy_from(&self, source: &Arc<dyn RangeSource>, size: Option<u64>, spool: &mut dyn FillSpool) -> Result<(), Error> {
        if size == Some(spool.written()) && spool.written() > 0 {
            return Ok(());
        }
        let mut stream = source.open(spool.written(), None).await?;
        loop {
            let written = spool.written();
            let next = std::future::poll_fn(|cx| {
                let next = stream.as_mut().poll_next(cx);
                if !matches!(next, Poll::Ready(Some(Ok(_)))) {
                    self.tell(written, 1);
                }
                next
            });
            let Some(bytes) = next.await.transpose()? else { break };
            if size.is_some_and(|size| spool.written() + bytes.len() as u64 > size) {
                return Err(self.failed("it sent more bytes than it announced".to_owned()));
            }
            spool.append(&bytes)?;
            // Who waits for them need not wait for the hash.
            self.tell(spool.written(), NEWS);
            spool.hash(&bytes);
        }
        match size {
            Some(size) if spool.written() < size => {
                Err(self.failed(format!("it broke off after {} of {size} bytes", spool.written())))
            }
            _ => Ok(()),
        }
    }

    /// Wakes the readers if they do not know of so many bytes yet. The first are news however few they are.
    fn tell(&self, now: u64, news: u64) {
        self.progress.send_if_modified(|progress| match progress {
            Progress::Running { written, .. } if now >= *written + if *written == 0 { 1 } else { news } => {
                *written = now;
                true
            }
            _ => false,
        });
    }

    fn failed(&self, reason: String) -> Error {
        Error::Upstream { upstream: self.upstream.host.clone(), reason }
    }
}

fn source(blob: &Blob) -> Result<Arc<dyn RangeSource>, Error> {
    match &blob.content {
        Content::Source(source) => Ok(Arc::clone(source)),
        Content::Bytes(_) | Content::File(_) | Content::Growing(_) => {
            Err(Error::internal("filling a blob", "the upstream is not a remote one"))
        }
    }
}

/// The view that a client has of a running fill.
pub(crate) struct FillReader {
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) file: Arc<File>,
}

impl GrowingFile for FillReader {
    fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    fn readable(&self, end: Option<u64>) -> Readable {
        let state = (self.progress.clone(), 0);
        Box::pin(futures_util::stream::try_unfold(state, move |(mut progress, known)| async move {
            let readable = more(&mut progress, known, end).await?;
            Ok(readable.map(|readable| (readable, (progress, readable))))
        }))
    }
}

/// How far the file can be read, as soon as that is further than is known; `None` after the last byte.
async fn more(progress: &mut watch::Receiver<Progress>, known: u64, end: Option<u64>) -> Result<Option<u64>, Error> {
    loop {
        let (readable, done) = match &*progress.borrow_and_update() {
            Progress::Asking => (0, false),
            // Without the last byte nobody can take what was read for the whole before it is verified.
            Progress::Running { size, written, .. } => {
                let last = end.or(*size).unwrap_or(*written);
                ((*written).min(last.saturating_sub(1)), false)
            }
            Progress::Verified { size, .. } => (end.unwrap_or(*size).min(*size), true),
            Progress::Failed(error) => return Err(copy(error)),
        };
        if readable > known {
            return Ok(Some(readable));
        }
        if done {
            return Ok(None);
        }
        if progress.changed().await.is_err() {
            return Err(Error::internal("following a fill", "the fill was abandoned"));
        }
    }
}
