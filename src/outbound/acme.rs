//! The way to an ACME server, for the room that has certificates issued.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use certs::acme::{Http, HttpError};
use http::{Method, Request, Response};
use url::Url;

use crate::body::Body;
use crate::client::Client;

/// More than any chain of certificates.
const LARGEST: usize = 1 << 20;
/// A server answers at once, or says that it is not done.
const SILENCE: Duration = Duration::from_secs(30);

#[async_trait]
impl Http for Client {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|cause| HttpError(cause.into()))?;
        let failed = |cause: crate::Error| HttpError(cause.into());
        // A name is looked at when it is resolved; an address that stands in the URL is not resolved.
        self.reach().check(&url, &url).map_err(failed)?;
        let sent = match head.method {
            Method::GET => self.get(&url, head.headers).await,
            Method::HEAD => self.head(&url, head.headers).await,
            method => self.send(method, &url, head.headers, Body::Bytes(body), SILENCE, SILENCE).await,
        };
        let answer = sent.map_err(failed)?;
        let mut whole = Response::new(Bytes::new());
        (*whole.status_mut(), *whole.headers_mut()) = (answer.status, answer.headers.clone());
        *whole.body_mut() = answer.bytes(LARGEST).await.map_err(failed)?;
        Ok(whole)
    }
}
