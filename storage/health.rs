//! Is the store well? Red from the first failure on, green again once something could be written.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutOptions};
use rustix::io::Errno;
use tokio::sync::watch;
use uuid::Uuid;

use crate::backend::Backend;
use crate::error::Error;
use crate::store::Store;

/// How often a store in trouble is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What is written to try it: more than the few blocks that a full disk may still have.
const PROBE_BYTES: usize = 1024 * 1024;

/// What is wrong with the store, if something is. Shared by all who see it work or fail.
#[derive(Clone, Debug)]
pub(crate) struct Health(watch::Sender<Option<&'static str>>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Health {
    /// Notes a failure that is the store's own.
    pub(crate) fn failed(&self, failure: &(dyn StdError + 'static)) {
        let trouble = name(failure);
        let changed = self.0.send_if_modified(|current| {
            let changed = *current != Some(trouble);
            *current = Some(trouble);
            changed
        });
        if changed {
            tracing::error!(error = %telemetry::chain(failure), trouble, "the store is in trouble; not ready until it can be written again");
        }
    }

    fn recovered(&self) {
        if self.0.send_replace(None).is_some() {
            tracing::info!("the store can be written again");
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<&'static str>> {
        self.0.subscribe()
    }
}

/// What an operator is told in a word.
fn name(failure: &(dyn StdError + 'static)) -> &'static str {
    let mut cause = Some(failure);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the storage is full",
                ErrorKind::ReadOnlyFilesystem => "the storage is read-only",
                ErrorKind::PermissionDenied => "the storage may not be written",
                _ if is(io, Errno::MFILE) || is(io, Errno::NFILE) => "too many files are open",
                _ if is(io, Errno::IO) => "the disk fails",
                _ => "the storage fails",
            };
        }
        cause = error.source();
    }
    "the storage fails"
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

impl Store {
    /// What is wrong with the store, as it changes; `None` while it is well.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<&'static str>> {
        self.objects.health.subscribe()
    }

    /// Tries a store in trouble again and again, so that it is ready once the cause is gone. Never returns.
    pub async fn watch_over(&self) {
        let mut trouble = self.trouble();
        // The sender lives as long as the store.
        while trouble.wait_for(Option::is_some).await.is_ok() {
            self.objects.clock.sleep(RETRY).await;
            match probe(&self.backend).await {
                Ok(()) => self.objects.health.recovered(),
                Err(failure) => self.objects.health.failed(&failure),
            }
        }
        std::future::pending::<()>().await;
    }

    /// Notes a failure in the health of the store, if it is the store's own.
    pub(crate) fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|failure| self.note(failure))
    }

    /// As [`Store::noted`].
    pub(crate) fn note(&self, failure: &Error) {
        if matches!(failure, Error::File { .. } | Error::Backend { .. }) {
            self.objects.health.failed(failure);
        }
    }
}

/// Writes something and takes it away again.
async fn probe(backend: &Backend) -> Result<(), Error> {
    if let Some(folder) = backend.folder.clone() {
        let work = tokio::task::spawn_blocking(move || {
            // Dropped, it is removed.
            folder.stage_synced(&vec![0; PROBE_BYTES]).map(drop)
        });
        return work.await.map_err(io::Error::other).and_then(|staged| staged).map_err(Error::file("trying the folder"));
    }
    let key = Path::from(format!("probe/{}", Uuid::now_v7()));
    let put = backend.objects.put_opts(&key, Bytes::from_static(b"roadstead").into(), PutOptions::default());
    put.await.map_err(|source| Error::backend(&key, source))?;
    backend.objects.delete(&key).await.map_err(|source| Error::backend(&key, source))
}
