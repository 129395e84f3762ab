//! Blobs of a bucket, read over the network.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore};
use oci::{ByteStream, Error, RangeSource};

use crate::objects::Objects;

/// A blob of which the whole was asked for already.
pub(crate) struct RemoteBlob {
    objects: Objects,
    key: Path,
    whole: Mutex<Option<GetResult>>,
}

impl RemoteBlob {
    pub(crate) fn new(objects: Objects, key: Path, whole: GetResult) -> Self {
        Self { objects, key, whole: Mutex::new(Some(whole)) }
    }

    fn take_whole(&self) -> Option<GetResult> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl RangeSource for RemoteBlob {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        // Whatever is asked for, an answer that was begun must not be held open.
        let whole = self.take_whole();
        let range = match end {
            Some(end) if end <= start => return Ok(futures_util::stream::empty().boxed()),
            Some(end) => Some(GetRange::Bounded(start..end)),
            // An offset at the end of an empty object is out of range to some stores.
            None if start == 0 => None,
            None => Some(GetRange::Offset(start)),
        };
        let got = match (range, whole) {
            (None, Some(whole)) => whole,
            (range, _) => {
                let options = GetOptions { range, ..GetOptions::default() };
                let got = self.objects.timed("get", self.objects.store.get_opts(&self.key, options)).await;
                got.map_err(|cause| Error::internal("opening a blob", cause))?
            }
        };
        let health = self.objects.health.clone();
        let stream = got.into_stream().map(move |bytes| {
            bytes.map_err(|cause| {
                health.failed(&cause);
                Error::internal("reading a blob", cause)
            })
        });
        Ok(stream.boxed())
    }
}

impl fmt::Debug for RemoteBlob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RemoteBlob").field("key", &self.key).finish_non_exhaustive()
    }
}
