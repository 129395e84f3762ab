//! A fill: one fetch of a blob, read by any number of clients while it runs.
//!
//! It belongs to the server: it goes on when its readers leave. Readers follow the growing file and are given its last byte only
//! when the whole is verified and kept; if that cannot be, they are given an error instead, which breaks their connections.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use oci::{Blob, ByteStream, Content, Digest, Error, RangeSource, RepositoryName};
use telemetry::{Clock, FillOutcome, Metrics, chain};
use tokio::sync::{Semaphore, watch};

use crate::cache::{Cache, FillSpool};
use crate::flight::copy;
use crate::names::Upstream;

/// Bytes that a reader takes from the file at a time. Its buffer, and so the memory of many readers, is bounded by this.
const CHUNK: u64 = 64 * 1024;
/// So far behind the end, what was written is still in memory; a reader further behind may have to wait for the disk.
const WARM: u64 = 256 * 1024 * 1024;
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
    /// The blob is verified and kept.
    Kept { size: u64, file: Arc<File> },
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
            Ok(size) => (FillOutcome::Kept, size),
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

    async fn fetch(&self) -> Result<u64, Error> {
        let blob = self.upstream.remote.blob(&self.theirs, &self.digest).await?;
        let mut spool = self.cache.spool(self.digest.algorithm())?;
        let file = spool.file();
        self.publish(blob.size, spool.as_ref(), &file);
        self.receive(&blob, spool.as_mut(), &file).await?;
        let size = spool.written();
        spool.keep(&self.name, &self.digest, &self.upstream.host).await.map_err(|error| match error {
            Error::DigestInvalid { reason } => self.failed(format!("it sent other bytes than were asked for: {reason}")),
            other => other,
        })?;
        self.progress.send_replace(Progress::Kept { size, file });
        Ok(size)
    }

    /// All bytes into the spool, taking the transfer up where it broke off.
    async fn receive(&self, blob: &Blob, spool: &mut dyn FillSpool, file: &Arc<File>) -> Result<(), Error> {
        let source = source(blob)?;
        let (mut fruitless, mut backoff) = (0, BACKOFF);
        loop {
            let before = spool.written();
            let failure = match self.copy_from(&source, blob.size, spool, file).await {
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

    async fn copy_from(
        &self,
        source: &Arc<dyn RangeSource>,
        size: Option<u64>,
        spool: &mut dyn FillSpool,
        file: &Arc<File>,
    ) -> Result<(), Error> {
        if size == Some(spool.written()) && spool.written() > 0 {
            return Ok(());
        }
        let mut stream = source.open(spool.written(), None).await?;
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            if size.is_some_and(|size| spool.written() + bytes.len() as u64 > size) {
                return Err(self.failed("it sent more bytes than it announced".to_owned()));
            }
            spool.write(&bytes)?;
            self.publish(size, spool, file);
        }
        match size {
            Some(size) if spool.written() < size => {
                Err(self.failed(format!("it broke off after {} of {size} bytes", spool.written())))
            }
            _ => Ok(()),
        }
    }

    fn publish(&self, size: Option<u64>, spool: &dyn FillSpool, file: &Arc<File>) {
        let running = Progress::Running { size, written: spool.written(), file: Arc::clone(file) };
        self.progress.send_replace(running);
    }

    fn failed(&self, reason: String) -> Error {
        Error::Upstream { upstream: self.upstream.host.clone(), reason }
    }
}

fn source(blob: &Blob) -> Result<Arc<dyn RangeSource>, Error> {
    match &blob.content {
        Content::Source(source) => Ok(Arc::clone(source)),
        Content::Bytes(_) | Content::File(_) => Err(Error::internal("filling a blob", "the upstream is not a remote one")),
    }
}

/// The view that a client has of a running fill.
pub(crate) struct FillReader(pub(crate) watch::Receiver<Progress>);

#[async_trait]
impl RangeSource for FillReader {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        let state = (self.0.clone(), start, end);
        let stream = futures_util::stream::try_unfold(state, |(mut progress, offset, end)| async move {
            let next = next_chunk(&mut progress, offset, end).await?;
            Ok(next.map(|bytes| {
                let offset = offset + bytes.len() as u64;
                (bytes, (progress, offset, end))
            }))
        });
        Ok(Box::pin(stream))
    }
}

/// The next bytes at `offset`, as soon as there are some; `None` after the last.
async fn next_chunk(progress: &mut watch::Receiver<Progress>, offset: u64, end: Option<u64>) -> Result<Option<Bytes>, Error> {
    loop {
        let current = progress.borrow_and_update().clone();
        let (available, file, done) = match current {
            Progress::Asking => (0, None, false),
            // Without the last byte nobody can take what was read for the whole before it is verified.
            Progress::Running { size, written, file } => {
                let last = end.or(size).unwrap_or(written);
                (written.min(last.saturating_sub(1)), Some(file), false)
            }
            Progress::Kept { size, file } => (end.unwrap_or(size).min(size), Some(file), true),
            Progress::Failed(error) => return Err(copy(&error)),
        };
        if let Some(file) = file.filter(|_| available > offset) {
            let length = (available - offset).min(CHUNK);
            if available - offset <= WARM {
                return read(&file, offset, length).map(Some);
            }
            let work = tokio::task::spawn_blocking(move || read(&file, offset, length)).await;
            return work.map_err(|cause| Error::internal("reading a fill", cause))?.map(Some);
        }
        if done {
            return Ok(None);
        }
        if progress.changed().await.is_err() {
            return Err(Error::internal("following a fill", "the fill was abandoned"));
        }
    }
}

/// Read in place where these bytes were written a moment ago and are in the page cache.
fn read(file: &File, offset: u64, length: u64) -> Result<Bytes, Error> {
    let mut buffer = BytesMut::zeroed(usize::try_from(length).unwrap_or(0));
    file.read_exact_at(&mut buffer, offset).map_err(|cause| Error::internal("reading a fill", cause))?;
    Ok(buffer.freeze())
}
