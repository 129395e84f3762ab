//! Requests as they go out: redirects by hand, one line of metrics each.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use outbound::{Client, Response, redacted};
use telemetry::{Clock, Metrics};
use url::Url;

use crate::outcome::Refusal;

/// Redirects that are followed before an upstream is taken to send us in circles.
const MAX_REDIRECTS: usize = 5;

/// The methods that an upstream is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    /// Sent to the origin of `url` and to no other.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The answer after all redirects.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response,
    /// Did another origin than the one asked give it?
    pub(crate) crossed: bool,
}

/// The way to one upstream.
#[derive(Debug)]
pub(crate) struct Wire {
    host: String,
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Wire {
    pub(crate) fn new(host: String, client: Client, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { host, client, clock, metrics }
    }

    /// May an answer from `from` name `to`?
    pub(crate) fn check(&self, from: &Url, to: &Url) -> Result<(), Refusal> {
        self.client.reach().check(from, to).map_err(|cause| Refusal::Failed(cause.to_string()))
    }

    /// Sends a request and follows redirects. Once another origin was named, `Authorization` stays away for good: what comes
    /// after it was chosen by a stranger. All other headers, `Range` among them, are sent on every hop.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Reply, Refusal> {
        let mut url = request.url.clone();
        let mut crossed = false;
        for _hop in 0..=MAX_REDIRECTS {
            let mut headers = request.headers.clone();
            if let Some(value) = request.authorization.clone().filter(|_| !crossed) {
                headers.insert(AUTHORIZATION, value);
            }
            let response = self.exchange(request.method, &url, headers).await?;
            let Some(location) = redirect(&response) else {
                check_encoding(&response)?;
                return Ok(Reply { response, crossed });
            };
            let target = target(&url, location)?;
            self.check(&url, &target)?;
            crossed |= target.origin() != request.url.origin();
            url = target;
        }
        Err(Refusal::Failed(format!("more than {MAX_REDIRECTS} redirects, the last to {}", redacted(&url))))
    }

    async fn exchange(&self, method: Method, url: &Url, headers: HeaderMap) -> Result<Response, Refusal> {
        let began = self.clock.monotonic();
        let (label, result) = match method {
            Method::Get => ("GET", self.client.get(url, headers).await),
            Method::Head => ("HEAD", self.client.head(url, headers).await),
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
