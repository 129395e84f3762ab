//! Pulling: manifests and blobs.

use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, Response, StatusCode};
use oci::{Blob, ByteRange, Content, Digest, Error, GrowingFile, Pull, RangeOutcome, Reference, media_type};
use server::{Body, BoxError};

use crate::respond;
use crate::route::Source;
use crate::service::Api;

impl Api {
    /// [end-3] GET and HEAD of a manifest.
    pub(crate) async fn pull_manifest(
        &self,
        source: &Source,
        reference: &Reference,
        head: bool,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Error> {
        let pull = self.pull(source);
        let (stat, body) = if head {
            (pull.resolve(&source.name, reference).await?, Body::empty())
        } else {
            let manifest = pull.manifest(&source.name, reference).await?;
            (manifest.stat(), Body::full(manifest.bytes))
        };
        let mut response = if respond::none_match(headers, &stat.digest) {
            respond::not_modified(&stat.digest)
        } else {
            let mut response = Response::new(body);
            respond::describe(&mut response, &stat.digest, &stat.media_type, Some(stat.size));
            response
        };
        respond::warn(&mut response, stat.warning.as_ref());
        Ok(response)
    }

    /// [end-2] HEAD of a blob.
    pub(crate) async fn stat_blob(&self, source: &Source, digest: &Digest, headers: &HeaderMap) -> Result<Response<Body>, Error> {
        let stat = self.pull(source).stat_blob(&source.name, digest).await?;
        if respond::none_match(headers, digest) {
            return Ok(respond::not_modified(digest));
        }
        let mut response = respond::empty(StatusCode::OK);
        respond::describe(&mut response, digest, media_type::OCTET_STREAM, stat.size);
        respond::accept_ranges(&mut response);
        Ok(response)
    }

    /// [end-2] GET of a blob, whole or in part. [RFC 9110 section 14]
    pub(crate) async fn pull_blob(&self, source: &Source, digest: &Digest, headers: &HeaderMap) -> Result<Response<Body>, Error> {
        if respond::none_match(headers, digest) {
            self.pull(source).stat_blob(&source.name, digest).await?;
            return Ok(respond::not_modified(digest));
        }
        let blob = self.pull(source).blob(&source.name, digest).await?;
        match (blob.size, wanted_range(headers, &blob)) {
            (Some(size), RangeOutcome::Unsatisfiable) => Ok(unsatisfiable(size)),
            (Some(size), RangeOutcome::Part(range)) => part(blob, range, size).await,
            (size, _) => whole(blob, size).await,
        }
    }

    fn pull(&self, source: &Source) -> &dyn Pull {
        if source.hosted { &self.parts().registry } else { self.parts().pull.as_ref() }
    }
}

/// The range that is asked for. `If-Range` with another entity tag, and a size that is not known yet, make it the whole.
fn wanted_range(headers: &HeaderMap, blob: &Blob) -> RangeOutcome {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(range), Some(size)) = (text(RANGE), blob.size) else { return RangeOutcome::Whole };
    if text(IF_RANGE).is_some_and(|tag| tag != respond::entity_tag(&blob.digest)) {
        return RangeOutcome::Whole;
    }
    RangeOutcome::parse(range, size)
}

fn unsatisfiable(size: u64) -> Response<Body> {
    let mut response = respond::empty(StatusCode::RANGE_NOT_SATISFIABLE);
    respond::set(&mut response, CONTENT_RANGE, format!("bytes */{size}"));
    respond::accept_ranges(&mut response);
    response
}

async fn whole(blob: Blob, size: Option<u64>) -> Result<Response<Body>, Error> {
    let body = match (blob.content, size) {
        (Content::Bytes(bytes), _) => Body::full(bytes),
        (Content::File(file), Some(size)) => Body::file(file, 0, size),
        (Content::File(file), None) => {
            let size = file.metadata().map_err(|cause| Error::internal("reading the size of a blob", cause))?.len();
            Body::file(file, 0, size)
        }
        (Content::Growing(file), size) => growing(file.as_ref(), 0, size, None),
        (Content::Source(source), size) => streamed(source.open(0, None).await?, size),
    };
    let mut response = Response::new(body);
    respond::describe(&mut response, &blob.digest, media_type::OCTET_STREAM, size);
    respond::accept_ranges(&mut response);
    Ok(response)
}

async fn part(blob: Blob, range: ByteRange, size: u64) -> Result<Response<Body>, Error> {
    let ByteRange { start, end } = range;
    let body = match blob.content {
        Content::Bytes(bytes) => {
            let position = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            Body::full(bytes.slice(position(start)..position(end.saturating_add(1))))
        }
        Content::File(file) => Body::file(file, start, range.length()),
        Content::Growing(file) => growing(file.as_ref(), start, Some(range.length()), Some(end.saturating_add(1))),
        Content::Source(source) => streamed(source.open(start, Some(end.saturating_add(1))).await?, Some(range.length())),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    respond::describe(&mut response, &blob.digest, media_type::OCTET_STREAM, None);
    respond::set(&mut response, CONTENT_LENGTH, range.length().to_string());
    respond::set(&mut response, CONTENT_RANGE, format!("bytes {start}-{end}/{size}"));
    respond::accept_ranges(&mut response);
    Ok(response)
}

fn growing(file: &dyn GrowingFile, start: u64, length: Option<u64>, end: Option<u64>) -> Body {
    let readable = file.readable(end).map(|readable| readable.map_err(BoxError::from));
    Body::growing(file.file(), start, length, Box::pin(readable))
}

fn streamed(stream: oci::ByteStream, length: Option<u64>) -> Body {
    Body::stream(Box::pin(stream.map(|bytes| bytes.map_err(BoxError::from))), length)
}
