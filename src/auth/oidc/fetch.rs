//! How an issuer is asked.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

/// Asks an issuer for what it publishes.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The body of the answer of `url`, if that has the status 200 and at most `limit` bytes. No redirect is followed.
    async fn fetch(&self, url: &Url, limit: usize) -> Result<Bytes, FetchError>;

    /// May an answer from `from` send us to `to`?
    fn may_lead(&self, from: &Url, to: &Url) -> Result<(), FetchError>;
}

/// Why an issuer did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] outbound::Error),
    /// It answered something else.
    #[error("{url} answered {status}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
    },
}

#[async_trait]
impl Fetch for outbound::Client {
    async fn fetch(&self, url: &Url, limit: usize) -> Result<Bytes, FetchError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let response = self.get(url, headers).await?;
        if response.status != StatusCode::OK {
            return Err(FetchError::Status { url: outbound::redacted(url), status: response.status });
        }
        Ok(response.bytes(limit).await?)
    }

    fn may_lead(&self, from: &Url, to: &Url) -> Result<(), FetchError> {
        Ok(self.reach().check(from, to)?)
    }
}
