//! Blobs that arrive over several requests.

use futures_util::StreamExt;
use oci::{Algorithm, ByteStream, ContentRange, Digest, Error, RepositoryName};
use storage::{FinishError, Upload, UploadId};

use crate::blobs::mismatch;
use crate::fault;
use crate::registry::Registry;

/// Seconds after which a client may ask again for a session when all are in use.
const RETRY_AFTER: u64 = 5;

impl Registry {
    /// Opens an upload session. `algorithm` is what the blob will be finished under, where the client says so.
    pub async fn start_upload(&self, name: &RepositoryName, algorithm: Algorithm) -> Result<UploadId, Error> {
        if self.store.open_uploads() >= self.limits.uploads {
            let reason = format!("{} uploads are open", self.limits.uploads);
            return Err(Error::TooManyRequests { reason, retry_after: Some(RETRY_AFTER) });
        }
        self.store.start_upload(name, algorithm).await.map_err(fault::store("starting an upload"))
    }

    /// Bytes that a session has received.
    pub async fn upload_size(&self, name: &RepositoryName, id: UploadId) -> Result<u64, Error> {
        let size = self.store.upload_size(name, id).await.map_err(fault::store("looking an upload up"))?;
        size.ok_or_else(|| unknown(id))
    }

    /// Adds a chunk: at its `range`, which must begin where the session ends, or simply at the end. Gives the bytes received.
    ///
    /// `RangeNotSatisfiable` for a chunk out of order and `SizeInvalid` for one that is not as long as its range; both leave the
    /// session as it was. Of a `body` that breaks off, what arrived is kept, and the client may ask how much.
    pub async fn append_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        range: Option<ContentRange>,
        body: ByteStream,
    ) -> Result<u64, Error> {
        let upload = self.take(name, id, range, body).await?;
        upload.save().await.map_err(fault::store("saving an upload"))
    }

    /// Adds a last chunk, if there is one, verifies the whole and makes it a blob of the repository, durably.
    ///
    /// Errors as [`Registry::append_upload`], and the session goes on; `DigestInvalid` ends it. Must run to its end: on a task that no
    /// client can cancel.
    pub async fn finish_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        digest: &Digest,
        range: Option<ContentRange>,
        body: ByteStream,
    ) -> Result<(), Error> {
        let upload = self.take(name, id, range, body).await?;
        let finished = upload.finish(digest, self.hosted(name)).await;
        finished.map(|_| ()).map_err(|error| match error {
            FinishError::Digest { actual } => mismatch(digest, &actual),
            FinishError::Store(failure) => fault::store("finishing an upload")(failure),
        })
    }

    /// Ends a session and drops what it received.
    pub async fn cancel_upload(&self, name: &RepositoryName, id: UploadId) -> Result<(), Error> {
        self.upload(name, id).await?.cancel().await.map_err(fault::store("cancelling an upload"))
    }

    async fn upload(&self, name: &RepositoryName, id: UploadId) -> Result<Upload, Error> {
        match self.store.upload(name, id).await {
            Ok(upload) => upload.ok_or_else(|| unknown(id)),
            Err(storage::Error::Contended { .. }) => {
                // Perhaps one whose client is gone and whose connection is not yet known to be dead: it passes.
                let reason = "another request is sending to this upload".to_owned();
                Err(Error::TooManyRequests { reason, retry_after: Some(RETRY_AFTER) })
            }
            Err(failure) => Err(fault::store("taking an upload up")(failure)),
        }
    }

    /// A session with a body added to it. If that fails, what may stay of it is saved; too much ends the session.
    async fn take(
        &self,
        name: &RepositoryName,
        id: UploadId,
        range: Option<ContentRange>,
        body: ByteStream,
    ) -> Result<Upload, Error> {
        let mut upload = self.upload(name, id).await?;
        let failure = match self.receive(&mut upload, range, body).await {
            Ok(()) => return Ok(upload),
            Err(failure) => failure,
        };
        match failure {
            Error::TooLarge { .. } => upload.cancel().await.map_err(fault::store("cancelling an upload"))?,
            _ => upload.save().await.map(|_| ()).map_err(fault::store("saving an upload"))?,
        }
        Err(failure)
    }

    async fn receive(&self, upload: &mut Upload, range: Option<ContentRange>, mut body: ByteStream) -> Result<(), Error> {
        let start = upload.size();
        if range.is_some_and(|range| range.start != start) {
            return Err(Error::RangeNotSatisfiable { size: start });
        }
        let announced = range.map(|range| range.length().unwrap_or(u64::MAX));
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            let received = upload.size() - start + bytes.len() as u64;
            if announced.is_some_and(|announced| received > announced) {
                return Err(not_as_announced(upload, announced, received).await);
            }
            self.check_size(upload.size() + bytes.len() as u64)?;
            upload.append(&bytes).await.map_err(fault::store("writing an upload"))?;
        }
        let received = upload.size() - start;
        if announced.is_some_and(|announced| received != announced) {
            return Err(not_as_announced(upload, announced, received).await);
        }
        Ok(())
    }
}

fn unknown(id: UploadId) -> Error {
    Error::BlobUploadUnknown { id: id.to_string() }
}

/// The chunk contradicts its own range: nothing of it counts.
async fn not_as_announced(upload: &mut Upload, announced: Option<u64>, received: u64) -> Error {
    if let Err(failure) = upload.roll_back().await {
        return fault::store("rolling an upload back")(failure);
    }
    let announced = announced.unwrap_or_default();
    Error::SizeInvalid { reason: format!("Content-Range announces {announced} bytes, the body has {received} or more") }
}
