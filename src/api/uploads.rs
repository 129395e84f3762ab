//! Pushing blobs: in one request, over a session, or by a mount.

use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, Response, StatusCode};
use oci::{Algorithm, ContentRange, Digest, Error, RepositoryName};
use registry::UploadId;
use server::{Body, RequestBody};

use crate::caller::Caller;
use crate::guard::Denial;
use crate::service::{Api, Asked};
use crate::{body, error, respond};

impl Api {
    /// [end-4a, end-4c] POST that opens a session.
    pub(crate) async fn start_upload(
        &self,
        name: &RepositoryName,
        algorithm: Algorithm,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        self.parts().names.check_push(name)?;
        let id = self.registry_for(caller).start_upload(name, algorithm).await?;
        Ok(self.session(StatusCode::ACCEPTED, name, id, 0))
    }

    /// [end-4b] POST with the whole blob.
    pub(crate) async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        request: RequestBody,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        self.parts().names.check_push(name)?;
        self.registry_for(caller).push_blob(name, digest, body::stream(request)).await?;
        Ok(self.created(name, digest))
    }

    /// [end-11] POST that mounts a blob, or opens a session where it cannot be: also where the caller may not pull what he wants to
    /// mount, so that he learns nothing of what is there. `Err` of the inner kind where he may, and his token is for less: clients do
    /// not know before which token a mount needs, and fetch it when they are told.
    pub(crate) async fn mount_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        caller: &Caller,
    ) -> Result<Result<Response<Body>, Denial>, Error> {
        self.parts().names.check_push(name)?;
        let registry = self.registry_for(caller);
        if registry.mount_blob(name, digest, from, &|name| caller.may_pull(name)).await? {
            return Ok(Ok(self.created(name, digest)));
        }
        if caller.has_token()
            && let Some(from) = registry.mountable_from(digest, from, &|name| caller.may_see(name)).await?
        {
            let scope = format!("repository:{name}:pull,push repository:{from}:pull");
            return Ok(Err(Denial::Challenge { scope: Some(scope), error: Some("insufficient_scope") }));
        }
        self.start_upload(name, digest.algorithm(), caller).await.map(Ok)
    }

    /// [end-13] GET of a session's state.
    pub(crate) async fn upload_status(
        &self,
        name: &RepositoryName,
        id: UploadId,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        let size = self.registry_for(caller).upload_size(name, id).await?;
        Ok(self.session(StatusCode::NO_CONTENT, name, id, size))
    }

    /// [end-5] PATCH: a chunk with `Content-Range`, or a stream without.
    pub(crate) async fn append_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        headers: &HeaderMap,
        request: RequestBody,
        asked: Asked<'_>,
    ) -> Result<Response<Body>, Error> {
        let range = content_range(headers)?;
        match self.registry_for(asked.caller).append_upload(name, id, range, body::stream(request)).await {
            Ok(size) => Ok(self.session(StatusCode::ACCEPTED, name, id, size)),
            Err(Error::RangeNotSatisfiable { size }) => Ok(self.out_of_order(name, id, size, asked.request_id)),
            Err(other) => Err(other),
        }
    }

    /// [end-6] PUT: the last chunk, if there is one, and the digest of the whole.
    pub(crate) async fn finish_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        digest: &Digest,
        headers: &HeaderMap,
        request: RequestBody,
        asked: Asked<'_>,
    ) -> Result<Response<Body>, Error> {
        let range = content_range(headers)?;
        match self.registry_for(asked.caller).finish_upload(name, id, digest, range, body::stream(request)).await {
            Ok(()) => Ok(self.created(name, digest)),
            Err(Error::RangeNotSatisfiable { size }) => Ok(self.out_of_order(name, id, size, asked.request_id)),
            Err(other) => Err(other),
        }
    }

    /// [end-14] DELETE of a session.
    pub(crate) async fn cancel_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        self.registry_for(caller).cancel_upload(name, id).await?;
        Ok(respond::empty(StatusCode::NO_CONTENT))
    }

    fn created(&self, name: &RepositoryName, digest: &Digest) -> Response<Body> {
        let mut response = respond::empty(StatusCode::CREATED);
        respond::locate(&mut response, &self.location(&format!("{name}/blobs/{digest}")));
        respond::set(&mut response, respond::CONTENT_DIGEST, digest.to_string());
        response
    }

    /// Where a session is: its URL, and the range received, `0-0` also for nothing.
    fn session(&self, status: StatusCode, name: &RepositoryName, id: UploadId, size: u64) -> Response<Body> {
        let mut response = respond::empty(status);
        self.describe_session(&mut response, name, id, size);
        response
    }

    fn describe_session(&self, response: &mut Response<Body>, name: &RepositoryName, id: UploadId, size: u64) {
        respond::locate(response, &self.location(&format!("{name}/blobs/uploads/{id}")));
        respond::set(response, RANGE, format!("0-{}", size.saturating_sub(1)));
        respond::set(response, respond::UPLOAD_ID, id.to_string());
    }

    /// 416 that tells where to go on.
    fn out_of_order(&self, name: &RepositoryName, id: UploadId, size: u64, request_id: &str) -> Response<Body> {
        let mut response = error::response(&Error::RangeNotSatisfiable { size }, request_id);
        self.describe_session(&mut response, name, id, size);
        response
    }
}

fn content_range(headers: &HeaderMap) -> Result<Option<ContentRange>, Error> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let range = value.to_str().ok().and_then(ContentRange::parse);
    let reason = || "Content-Range is not <first byte>-<last byte>".to_owned();
    range.map(Some).ok_or_else(|| Error::BlobUploadInvalid { reason: reason() })
}
