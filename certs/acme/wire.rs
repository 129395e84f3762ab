//! The way to the ACME server: whoever speaks HTTP for us, and what we look at in the answers before the library does.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use telemetry::Clock;

use super::error::{Error, advice, legible};

/// A longer wait is asked for by no server, and a mistaken one must not put us to sleep for a year.
pub(super) const LONGEST_RETRY: Duration = Duration::from_hours(7 * 24);

/// Whoever exchanges a request for an answer: outbound's client, in the house.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends the request and reads the whole answer, whatever its status. Follows no redirect; has a limit on time and on the
    /// size of the answer.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>;
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// What the library asks for its requests. It may be cloned; the clones know the same.
#[derive(Clone)]
pub(crate) struct Wire {
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
    /// Whether answers may lead to plain HTTP, because the directory is there.
    plain: bool,
    /// What `Retry-After` said in the last answer that refused something.
    retry: Arc<Mutex<Option<Duration>>>,
}

/// What the library passes through.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{url} cannot be reached")]
    Unreachable { url: String, source: HttpError },
    #[error("{url}: {reason}")]
    NotAcme { url: String, reason: String },
}

impl Wire {
    pub(crate) fn new(http: Arc<dyn Http>, clock: Arc<dyn Clock>, directory: &str) -> Self {
        Self { http, clock, plain: directory.starts_with("http://"), retry: Arc::default() }
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Failure> {
        let (mut parts, body) = request.into_parts();
        // Whoever sends it introduces us.
        parts.headers.remove(USER_AGENT);
        let Ok(body) = body.collect().await;
        let url = parts.uri.to_string();
        if parts.uri.scheme_str() != Some("https") && !self.plain {
            return Err(Failure::NotAcme { url, reason: "it leads to an address without https".to_owned() });
        }
        let answer = self.http.exchange(Request::from_parts(parts, body.to_bytes())).await;
        let answer = answer.map_err(|source| Failure::Unreachable { url: url.clone(), source })?;
        self.look(&url, &answer)?;
        let (parts, body) = answer.into_parts();
        Ok(BytesResponse { parts, body: Box::new(body) })
    }

    /// RFC 8555, section 6.7: what is refused comes with a problem document.
    fn look(&self, url: &str, answer: &Response<Bytes>) -> Result<(), Failure> {
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            *self.retry.lock().unwrap_or_else(PoisonError::into_inner) = self.retry_after(answer);
            if serde_json::from_slice::<instant_acme::Problem>(answer.body()).is_err() {
                let reason = format!("the status is {status}, without a problem document");
                return Err(Failure::NotAcme { url: url.to_owned(), reason });
            }
        } else if status.is_redirection() && status != StatusCode::SEE_OTHER {
            let reason = format!("the status is {status}: it leads elsewhere");
            return Err(Failure::NotAcme { url: url.to_owned(), reason });
        }
        Ok(())
    }

    /// RFC 9110, section 10.2.3: seconds, or a date.
    fn retry_after(&self, answer: &Response<Bytes>) -> Option<Duration> {
        span(answer.headers().get(RETRY_AFTER)?.to_str().ok()?, self.clock.now())
    }

    /// What the library's error means, when `what` was asked for.
    pub(crate) fn explain(&self, cause: instant_acme::Error, what: &'static str) -> Error {
        match cause {
            instant_acme::Error::Api(problem) => self.refused(&problem, what),
            instant_acme::Error::Other(other) => match other.downcast::<Failure>() {
                Ok(failure) => match *failure {
                    Failure::Unreachable { url, source } => Error::Unreachable { url, source },
                    Failure::NotAcme { url, reason } => Error::NotAcme { url, reason },
                },
                Err(other) => Error::NotAcme { url: "the server".to_owned(), reason: legible(&other.to_string()) },
            },
            // Their texts can quote the answer, but never a key: none was in it.
            other => Error::NotAcme { url: "the server".to_owned(), reason: legible(&other.to_string()) },
        }
    }

    fn refused(&self, problem: &instant_acme::Problem, what: &'static str) -> Error {
        let (kind, detail) = told(problem);
        if kind == "rateLimited" || problem.status == Some(StatusCode::TOO_MANY_REQUESTS.as_u16()) {
            let retry = *self.retry.lock().unwrap_or_else(PoisonError::into_inner);
            return Error::RateLimited { what, detail, retry };
        }
        let advice = advice(&kind);
        Error::Refused { what, kind, detail, advice }
    }
}

fn span(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let span = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?,
    };
    Some(span.min(LONGEST_RETRY))
}

/// The type and the words of a problem, those about single names included.
pub(crate) fn told(problem: &instant_acme::Problem) -> (String, String) {
    let kind = problem.r#type.as_deref().unwrap_or("no type");
    let kind = legible(kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind));
    let mut detail = problem.detail.clone().unwrap_or_else(|| "without a reason".to_owned());
    for part in &problem.subproblems {
        detail = format!("{detail}; {part}");
    }
    (kind, legible(&detail))
}

impl HttpClient for Wire {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async { exchange.await.map_err(|failure| instant_acme::Error::Other(Box::new(failure))) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(span("120", now), Some(Duration::from_mins(2)));
        assert_eq!(span(" Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_mins(1)));
        assert_eq!(span("Sun, 06 Nov 1994 08:49:36 GMT", now), None);
        assert_eq!(span("soon", now), None);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_a_week_whatever_a_server_says(text in "[0-9]{1,25}|.{0,40}") {
            prop_assert!(span(&text, SystemTime::UNIX_EPOCH).is_none_or(|span| span <= LONGEST_RETRY));
        }

        #[test]
        fn the_words_of_a_server_are_one_short_legible_line(detail in any::<String>(), kind in any::<String>()) {
            let problem = serde_json::json!({ "type": kind, "detail": detail });
            let problem = serde_json::from_value(problem).map_err(|_| TestCaseError::fail("a problem"))?;
            let (kind, detail) = told(&problem);
            for text in [kind, detail] {
                prop_assert!(text.is_empty() || crate::names::legible(&text), "{text:?}");
            }
        }
    }
}
