//! The head of a response, and its body as it comes.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
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
    /// Where the client does not limit silence itself.
    silence: Option<Duration>,
}

impl Response {
    pub(crate) fn new(mut response: reqwest::Response, url: Url) -> Self {
        let headers = std::mem::take(response.headers_mut());
        Self { status: response.status(), headers, url, body: Box::pin(response.bytes_stream()), silence: None }
    }

    /// The same with a limit on silence in its body.
    pub(crate) fn with_silence(self, silence: Duration) -> Self {
        Self { silence: Some(silence), ..self }
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
        let Self { url, body, silence, .. } = self;
        // After an error nothing follows.
        stream::unfold(Some((body, url)), move |state| async move {
            let (mut body, url) = state?;
            let chunk = match silence {
                Some(silence) => match tokio::time::timeout(silence, body.next()).await {
                    Ok(chunk) => chunk?,
                    Err(_) => return Some((Err(Error::new(ErrorKind::Idle, &url, "")), None)),
                },
                None => body.next().await?,
            };
            match chunk {
                Ok(bytes) => Some((Ok(bytes), Some((body, url)))),
                Err(cause) => Some((Err(Error::from_reqwest(cause, Some(&url))), None)),
            }
        })
    }

    /// The whole body, if it is not larger than `limit` bytes. No more than that is ever held.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let too_large = Error::new(ErrorKind::TooLarge, &self.url, format!("the limit is {limit} bytes"));
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large);
        }
        let mut whole = BytesMut::new();
        let mut stream = std::pin::pin!(self.stream());
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
