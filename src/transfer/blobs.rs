//! One blob: skipped, mounted or copied; and the stream that goes on where its source broke off.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci::{ByteStream, Descriptor, Error as OciError, RangeSource};
use telemetry::chain;

use crate::error::{Error, Piece};
use crate::graph::Copy;
use crate::progress::Progress;
use crate::retry::Patience;
use crate::source::range_source;

/// How a blob came to be in the target.
enum Way {
    Skipped,
    Mounted,
    Copied(u64),
}

impl Copy<'_> {
    /// Sees to it that the target's repository serves the blob.
    pub(crate) async fn blob(&self, blob: &Descriptor) -> Result<(), Error> {
        let transfer = self.transfer;
        // One at a time: who comes second finds it there, or mounts it. A place is taken only after that, so that nobody who has one
        // waits for another who has none.
        let _one = transfer.blobs.lock(&blob.digest).await;
        let Ok(_place) = transfer.places.acquire().await else {
            return Err(self.target(self.blob_piece(blob), OciError::internal("copying a blob", "the places are closed")));
        };
        let way = self.bring(blob).await?;
        self.progress.blob_done();
        if !matches!(way, Way::Copied(_)) {
            self.progress.bytes_done(blob.size);
        }
        let mut tally = self.tally();
        match way {
            Way::Skipped => tally.blobs_skipped += 1,
            Way::Mounted => tally.blobs_mounted += 1,
            Way::Copied(size) => {
                tally.blobs_copied += 1;
                tally.bytes_copied += size;
                return Ok(());
            }
        }
        tally.bytes_skipped += blob.size;
        Ok(())
    }

    async fn bring(&self, blob: &Descriptor) -> Result<Way, Error> {
        let (target, patience) = (&self.transfer.target, &self.transfer.patience);
        let refused = |cause| self.target(self.blob_piece(blob), cause);
        let unread = |cause| self.source(self.blob_piece(blob), cause);
        if patience.ask(|| target.has_blob(self.to, &blob.digest)).await.map_err(refused)? {
            self.transfer.placed(&blob.digest, self.to);
            return Ok(Way::Skipped);
        }
        // Only what the source serves in this repository may be taken from another repository of the target.
        let source = &self.transfer.source;
        patience.ask(|| source.stat_blob(self.from, &blob.digest)).await.map_err(unread)?;
        let way = if self.mount(blob).await? { Way::Mounted } else { Way::Copied(self.carry(blob).await?) };
        self.transfer.placed(&blob.digest, self.to);
        Ok(way)
    }

    /// Takes a blob from another repository of the target; `false` if it is to be pushed.
    async fn mount(&self, blob: &Descriptor) -> Result<bool, Error> {
        let (target, patience) = (&self.transfer.target, &self.transfer.patience);
        let elsewhere = self.transfer.place_of(&blob.digest).filter(|place| place != self.to);
        match patience.ask(|| target.mount_blob(self.to, &blob.digest, elsewhere.as_ref())).await {
            Ok(mounted) => Ok(mounted),
            Err(cause @ OciError::TooManyRequests { .. }) => Err(self.target(self.blob_piece(blob), cause)),
            // Who may not mount may perhaps push.
            Err(cause) => {
                tracing::debug!(repository = %self.to, digest = %blob.digest, error = %chain(&cause), "a blob could not be mounted");
                Ok(false)
            }
        }
    }

    /// Moves the bytes. Gives how many they were.
    async fn carry(&self, blob: &Descriptor) -> Result<u64, Error> {
        let patience = &self.transfer.patience;
        let unread = |cause| self.source(self.blob_piece(blob), cause);
        let opened = patience.ask(|| self.transfer.source.blob(self.from, &blob.digest)).await.map_err(unread)?;
        let size = opened.size.unwrap_or(blob.size);
        let source = Resuming::new(range_source(opened).map_err(unread)?, size, Arc::clone(patience), self.progress.clone());
        let mut failed = 0;
        loop {
            let whole: Arc<dyn RangeSource> = Arc::new(Resuming(Arc::clone(&source.0)));
            let failure = match self.transfer.target.push_blob(self.to, &blob.digest, Some(size), whole).await {
                Ok(()) => return Ok(size),
                Err(failure) => failure,
            };
            // The source has its own attempts. What the target made of its end says less than the end itself.
            if let Some(cause) = source.failure() {
                return Err(unread(cause));
            }
            failed += 1;
            if !patience.goes_on(&failure, failed) {
                // Bytes that are others than their digest says came from the source.
                let wrong = matches!(failure, OciError::DigestInvalid { .. });
                let piece = self.blob_piece(blob);
                return Err(if wrong { self.source(piece, failure) } else { self.target(piece, failure) });
            }
            tracing::info!(repository = %self.to, digest = %blob.digest, error = %chain(&failure), "the push of a blob is repeated");
            patience.wait(failed).await;
        }
    }

    fn blob_piece(&self, blob: &Descriptor) -> Piece {
        Piece::Blob(self.from.clone(), blob.digest.clone())
    }
}

/// Bytes that go on where their source broke off.
pub(crate) struct Resuming(Arc<Broken>);

/// A source that may break off, and what is known of it.
struct Broken {
    source: Arc<dyn RangeSource>,
    size: u64,
    patience: Arc<Patience>,
    progress: Progress,
    /// Up to here bytes have been counted; what is read again is not new.
    counted: AtomicU64,
    /// Why the source was given up.
    failure: Mutex<Option<OciError>>,
}

impl Resuming {
    pub(crate) fn new(source: Arc<dyn RangeSource>, size: u64, patience: Arc<Patience>, progress: Progress) -> Self {
        Self(Arc::new(Broken { source, size, patience, progress, counted: AtomicU64::new(0), failure: Mutex::new(None) }))
    }

    /// Why the source was given up, if it was. Told once.
    pub(crate) fn failure(&self) -> Option<OciError> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Broken {
    fn count(&self, end: u64) {
        let before = self.counted.fetch_max(end, Ordering::Relaxed);
        self.progress.bytes_done(end.saturating_sub(before));
    }
}

#[async_trait]
impl RangeSource for Resuming {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, OciError> {
        let end = end.unwrap_or(self.0.size).min(self.0.size);
        let reading = Reading { blob: Arc::clone(&self.0), at: start, end, stream: None, failed: 0 };
        Ok(Box::pin(stream::try_unfold(reading, |mut reading| async move {
            let bytes = reading.next().await?;
            Ok(bytes.map(|bytes| (bytes, reading)))
        })))
    }
}

/// A reader of a resuming blob.
struct Reading {
    blob: Arc<Broken>,
    at: u64,
    end: u64,
    stream: Option<ByteStream>,
    /// Attempts in a row that brought nothing.
    failed: u32,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, OciError> {
        loop {
            let failure = match self.step().await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            self.stream = None;
            self.failed += 1;
            if !self.blob.patience.goes_on(&failure, self.failed) {
                *self.blob.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                return Err(OciError::Unavailable { reason: "the source of the copy failed".to_owned(), source: None });
            }
            tracing::info!(at = self.at, error = %chain(&failure), "a blob broke off and is taken up again");
            self.blob.patience.wait(self.failed).await;
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, OciError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            // The last bytes came before the end was seen.
            None if self.at >= self.end => return Ok(None),
            None => {
                let end = (self.end < self.blob.size).then_some(self.end);
                self.blob.source.open(self.at, end).await?
            }
        };
        loop {
            match stream.next().await.transpose()? {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    self.at += bytes.len() as u64;
                    self.failed = 0;
                    self.blob.count(self.at);
                    self.stream = Some(stream);
                    return Ok(Some(bytes));
                }
                None if self.at < self.end => {
                    let reason = format!("it ended after {} of {} bytes", self.at, self.end);
                    return Err(OciError::Unavailable { reason, source: None });
                }
                None => return Ok(None),
            }
        }
    }
}
