//! The head of a response, and its body as it comes.

use std::fmt;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::error::{Error, ErrorKind};

/// Chunks of a body, as they come.
type Body = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// A response whose body has not been read yet. Dropping it ends the transfer.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The URL that was asked.
    pub url: Url,
    body: Body,
}

impl Response {
    pub(crate) fn new(mut response: reqwest::Response, url: Url) -> Self {
        let headers = std::mem::take(response.headers_mut());
        Self { status: response.status(), headers, url, body: Box::pin(response.bytes_stream()) }
    }

    /// A header as text, if it is there once or more and readable; the first counts.
    #[must_use]
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What `Content-Length` says.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// The body as it comes. An error is final. Silence beyond the idle limit is an error.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let url = self.url;
        self.body.map(move |chunk| chunk.map_err(|cause| Error::from_reqwest(cause, Some(&url))))
    }

    /// The whole body, if it is not larger than `limit` bytes. No more than that is ever held.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let too_large = Error::new(ErrorKind::TooLarge, &self.url, format!("the limit is {limit} bytes"));
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large);
        }
        let mut whole = BytesMut::new();
        let mut stream = self.stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if chunk.len() > limit - whole.len() {
                return Err(too_large);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl fmt::Debug for Response {
    /// Without the headers, which may hold tokens.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = crate::error::redacted(&self.url);
        formatter.debug_struct("Response").field("status", &self.status).field("url", &url).finish_non_exhaustive()
    }
}
