//! Requests as they go out: redirects by hand, one line of metrics each.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use outbound::{Client, Response, redacted};
use telemetry::{Clock, Metrics};
use url::Url;

use crate::outcome::Refusal;
use crate::payload::Payload;

/// Redirects that are followed before an upstream is taken to send us in circles.
const MAX_REDIRECTS: usize = 5;

/// The methods that an upstream is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Patch,
    Put,
    Delete,
}

impl Method {
    fn label(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// May be asked for elsewhere by any redirect, not only by one that keeps method and body.
    fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    /// Sent to the origin of `url` and to no other.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) payload: Payload,
}

/// The answer after all redirects.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response,
    /// Did another origin than the one asked give it?
    pub(crate) crossed: bool,
    /// Was the token refused, and has another one been had for the next request?
    pub(crate) renewed: bool,
}

/// The way to one upstream.
#[derive(Debug)]
pub(crate) struct Wire {
    host: String,
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// The longest silence.
    silence: Duration,
}

/// So many times the longest silence may pass until what was sent has arrived and is answered.
const PATIENCE: u32 = 4;
/// Whoever has taken a large blob may have to read it once more, or to move it within a bucket, before it says 201.
const KEEPING: Duration = Duration::from_mins(5);

impl Wire {
    /// The way by `client`, whose silence is limited to `idle`.
    pub(crate) fn new(host: String, client: Client, idle: Duration, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { host, client, clock, metrics, silence: idle }
    }

    /// May an answer from `from` name `to`?
    pub(crate) fn check(&self, from: &Url, to: &Url) -> Result<(), Refusal> {
        self.client.reach().check(from, to).map_err(|cause| Refusal::Failed(cause.to_string()))
    }

    /// Sends a request and follows redirects. Once another origin was named, `Authorization` stays away for good: what comes
    /// after it was chosen by a stranger. All other headers, `Range` among them, are sent on every hop.
    ///
    /// A change is sent elsewhere only by a redirect that keeps method and body [RFC 9110, 307 and 308], and only if its body can
    /// be had again; else the redirect is the answer.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Reply, Refusal> {
        let mut url = request.url.clone();
        let mut crossed = false;
        let mut payload = request.payload;
        for _hop in 0..=MAX_REDIRECTS {
            let mut headers = request.headers.clone();
            if let Some(value) = request.authorization.clone().filter(|_| !crossed) {
                headers.insert(AUTHORIZATION, value);
            }
            let again = payload.again();
            let response = self.exchange(request.method, &url, headers, payload).await?;
            let follows = request.method.is_safe() || is_kept(response.status);
            let (Some(location), Some(next)) = (redirect(&response).filter(|_| follows), again) else {
                check_encoding(&response)?;
                return Ok(Reply { response, crossed, renewed: false });
            };
            payload = next;
            let target = target(&url, location)?;
            self.check(&url, &target)?;
            crossed |= target.origin() != request.url.origin();
            url = target;
        }
        Err(Refusal::Failed(format!("more than {MAX_REDIRECTS} redirects, the last to {}", redacted(&url))))
    }

    async fn exchange(&self, method: Method, url: &Url, headers: HeaderMap, payload: Payload) -> Result<Response, Refusal> {
        let began = self.clock.monotonic();
        let label = method.label();
        let patience = self.silence * PATIENCE;
        let change = match method {
            Method::Get | Method::Head => None,
            Method::Post => Some((http::Method::POST, patience)),
            Method::Patch => Some((http::Method::PATCH, patience)),
            Method::Put => Some((http::Method::PUT, patience.max(KEEPING))),
            Method::Delete => Some((http::Method::DELETE, patience)),
        };
        let result = match change {
            Some((method, patience)) => self.client.send(method, url, headers, payload.into_body(), self.silence, patience).await,
            None if method == Method::Head => self.client.head(url, headers).await,
            None => self.client.get(url, headers).await,
        };
        let duration = self.clock.monotonic().saturating_sub(began);
        let outcome = result.as_ref().map_or("error", |response| response.status.as_str());
        self.metrics.upstream_call(&self.host, label, outcome, duration);
        tracing::debug!(
            upstream = self.host,
            method = label,
            url = redacted(url),
            outcome,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "upstream call"
        );
        result.map_err(|cause| Refusal::Failed(cause.to_string()))
    }
}

/// Where a response sends us; `None` if it is an answer.
fn redirect(response: &Response) -> Option<&str> {
    let follows = matches!(
        response.status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if follows { Some(response.header(LOCATION).unwrap_or_default()) } else { None }
}

fn is_kept(status: StatusCode) -> bool {
    matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

fn target(from: &Url, location: &str) -> Result<Url, Refusal> {
    let joined = if location.is_empty() { None } else { from.join(location).ok() };
    joined.ok_or_else(|| Refusal::Failed(format!("a redirect of {} without a usable Location", redacted(from))))
}

/// Encoded bytes have another digest and another length; we never asked for them.
fn check_encoding(response: &Response) -> Result<(), Refusal> {
    let encoded = response.header(CONTENT_ENCODING).is_some_and(|value| !value.trim().eq_ignore_ascii_case("identity"));
    if encoded && response.status.is_success() {
        let from = redacted(&response.url);
        return Err(Refusal::Failed(format!("{from} sent a Content-Encoding that was not asked for")));
    }
    Ok(())
}
