//! The door for forges: `/hooks/NAME`. Who may enter is not asked of a token but of a signature, by whoever takes the delivery.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use server::{Body, RequestBody};

use crate::service::Admin;

/// The largest delivery, in bytes.
const LARGEST: usize = hooks::BODY_LIMIT;

/// What takes deliveries.
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// Takes a delivery for the trigger `name`, exactly as it was sent, and answers when what follows from it is durable.
    async fn take(
        &self,
        name: &str,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: Bytes,
    ) -> (StatusCode, &'static str);
}

impl Admin {
    pub(crate) async fn take(&self, name: &str, head: &Head, body: RequestBody) -> Response<Body> {
        // Nothing is known of who sends, so that few may make us hold what they send.
        let Ok(_place) = self.parts().bodies.try_acquire() else {
            return answer(StatusCode::SERVICE_UNAVAILABLE, "busy; send it again");
        };
        let (status, said) = match Limited::new(body, LARGEST).collect().await {
            Ok(body) => {
                let taken = self.parts().deliveries.take(name, &head.method, &head.headers, head.uri.query(), body.to_bytes());
                taken.await
            }
            Err(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload too large"),
        };
        answer(status, said)
    }
}

fn answer(status: StatusCode, said: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(format!("{said}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
