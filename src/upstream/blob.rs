//! Blobs: one GET for the whole of it, more only for the rest of a broken one.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::{Blob, BlobStat, ByteStream, Content, Digest, Error, RangeSource, RepositoryName};
use outbound::Response;

use crate::ask::{Access, Call, Remote};
use crate::budget::Cost;
use crate::outcome::{Wanted, What};
use crate::stream::{Bounds, exact};
use crate::wire::{Method, Reply};

impl Remote {
    pub(crate) async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        let wanted = Wanted::pull(name, What::Blob(digest));
        let url = self.url(name, &format!("blobs/{digest}"));
        let head = self.ask(Call::new(Method::Head, &url, name, Access::Pull, Cost::Other)).await;
        let mut reply = head.map_err(|refusal| self.refused(refusal, &wanted))?;
        if is_head_refused(&reply) {
            // The body is never read: dropping the response ends it.
            let get = self.ask(Call::new(Method::Get, &url, name, Access::Pull, Cost::Other)).await;
            reply = get.map_err(|refusal| self.refused(refusal, &wanted))?;
        }
        if reply.response.status != StatusCode::OK {
            return Err(self.unexpected(reply, &wanted).await);
        }
        Ok(BlobStat { digest: digest.clone(), size: reply.response.content_length() })
    }

    pub(crate) async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        let reply = self.ask_for_blob(name, digest, HeaderMap::new()).await?;
        if reply.response.status != StatusCode::OK {
            return Err(self.unexpected(reply, &Wanted::pull(name, What::Blob(digest))).await);
        }
        let size = reply.response.content_length();
        let source = Source {
            remote: self.clone(),
            name: name.clone(),
            digest: digest.clone(),
            size,
            etag: strong_etag(&reply.response),
            opened: Mutex::new(Some(reply.response)),
        };
        Ok(Blob { digest: digest.clone(), size, content: Content::Source(Arc::new(source)) })
    }

    async fn ask_for_blob(&self, name: &RepositoryName, digest: &Digest, headers: HeaderMap) -> Result<Reply, Error> {
        let url = self.url(name, &format!("blobs/{digest}"));
        let call = Call::new(Method::Get, &url, name, Access::Pull, Cost::Bytes).with_headers(headers);
        let reply = self.ask(call).await;
        reply.map_err(|refusal| self.refused(refusal, &Wanted::pull(name, What::Blob(digest))))
    }
}

/// No HEAD at all; or a store behind a redirect whose signature is good for GET only.
fn is_head_refused(reply: &Reply) -> bool {
    let status = reply.response.status;
    let unsupported = matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED);
    unsupported || (reply.crossed && matches!(status, StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST))
}

/// Only a strong one can stand in `If-Range`. [RFC 9110, If-Range]
fn strong_etag(response: &Response) -> Option<HeaderValue> {
    response.headers.get(ETAG).filter(|value| value.as_bytes().starts_with(b"\"")).cloned()
}

/// A blob of the upstream. The response that told its size is open already and is given to the first who reads it whole.
struct Source {
    remote: Remote,
    name: RepositoryName,
    digest: Digest,
    size: Option<u64>,
    etag: Option<HeaderValue>,
    opened: Mutex<Option<Response>>,
}

#[async_trait]
impl RangeSource for Source {
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error> {
        let whole = start == 0 && (end.is_none() || end == self.size);
        if let Some(response) = self.take_opened(whole) {
            let bounds = Bounds { length: self.size, ..Bounds::default() };
            return Ok(exact(response.stream(), bounds, self.remote.host()));
        }
        let headers = if whole { HeaderMap::new() } else { self.range(start, end)? };
        let reply = self.remote.ask_for_blob(&self.name, &self.digest, headers).await?;
        let bounds = match reply.response.status {
            StatusCode::PARTIAL_CONTENT if !whole => self.part(&reply.response, start, end)?,
            StatusCode::OK => self.all(&reply.response, start, end)?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(self.remote.failed(format!("the upstream has no byte {start} of {}", self.digest)));
            }
            _ => {
                let wanted = Wanted::pull(&self.name, What::Blob(&self.digest));
                return Err(self.remote.unexpected(reply, &wanted).await);
            }
        };
        Ok(exact(reply.response.stream(), bounds, self.remote.host()))
    }
}

impl Source {
    fn take_opened(&self, whole: bool) -> Option<Response> {
        if !whole {
            return None;
        }
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn range(&self, start: u64, end: Option<u64>) -> Result<HeaderMap, Error> {
        let last = end.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
        let range = HeaderValue::try_from(format!("bytes={start}-{last}"));
        let range = range.map_err(|cause| Error::internal("writing a Range header", cause))?;
        let mut headers = HeaderMap::from_iter([(RANGE, range)]);
        if let Some(etag) = &self.etag {
            headers.insert(IF_RANGE, etag.clone());
        }
        Ok(headers)
    }

    /// A 206 must hold the range that was asked for, of content of the size that is known.
    fn part(&self, response: &Response, start: u64, end: Option<u64>) -> Result<Bounds, Error> {
        let range = response.header(CONTENT_RANGE).and_then(parse_content_range);
        let range = range.ok_or_else(|| self.remote.failed("a part without a usable Content-Range"))?;
        let wanted = end.or(self.size).or(range.size);
        let is_size_right = self.size.is_none() || range.size.is_none() || range.size == self.size;
        if range.start != start || !is_size_right || wanted.is_some_and(|wanted| wanted != range.end) {
            return Err(self.remote.failed(format!("another part of {} than the one asked for", self.digest)));
        }
        Ok(Bounds { length: Some(range.end - range.start), ..Bounds::default() })
    }

    /// A 200 to a range: the upstream does not know ranges, so what was not asked for is read over.
    fn all(&self, response: &Response, start: u64, end: Option<u64>) -> Result<Bounds, Error> {
        let told = response.content_length();
        if let (Some(told), Some(size)) = (told, self.size)
            && told != size
        {
            return Err(self.remote.failed(format!("{} had {size} bytes before and now has {told}", self.digest)));
        }
        let wanted = end.or(self.size).or(told);
        Ok(Bounds { skip: start, length: wanted.map(|end| end.saturating_sub(start)), cut: end.is_some() })
    }
}

/// `bytes 5-9/10` or `bytes 5-9/*`, with the end made exclusive.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    end: u64,
    size: Option<u64>,
}

fn parse_content_range(text: &str) -> Option<Part> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.trim().split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    let size = if size.trim() == "*" { None } else { Some(size.trim().parse().ok()?) };
    let end = last.checked_add(1)?;
    let fits = start < end && size.is_none_or(|size| end <= size);
    fits.then_some(Part { start, end, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_of_answers() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some(Part { start: 5, end: 10, size: Some(10) }));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some(Part { start: 5, end: 10, size: None }));
        for text in ["", "5-9/10", "bytes 9-5/10", "bytes 5-9/9", "bytes */10", "bytes 5-18446744073709551615/*", "bytes a-b/c"] {
            assert_eq!(parse_content_range(text), None, "{text:?}");
        }
    }
}
