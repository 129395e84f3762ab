//! One attempt to deliver one event.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use outbound::{Body, ErrorKind, Response};
use telemetry::Clock;
use url::Host;

use crate::dialect::{Dialect, Registry};
use crate::endpoint::{Bound, is_local};
use crate::event::Event;

/// The largest payload: events are small, and receivers take no large ones.
const LARGEST: usize = 256 * 1024;
/// What is read of an answer that tells why it is none that we want.
const ANSWER: usize = 16 * 1024;
/// What is shown of it.
const SHOWN: usize = 200;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The receiver has it.
    Delivered,
    /// It will not be taken, however often it is sent.
    Rejected { reason: String },
    /// It was not taken now.
    Failed { reason: String, after: Option<Duration> },
}

/// Sends an event, and says what came of it. Takes no longer than the endpoint's timeout.
pub(crate) async fn deliver(endpoint: &Bound, event: &Event, registry: &Registry, clock: &dyn Clock) -> Answer {
    let begun = clock.monotonic();
    let limit = endpoint.settings.timeout;
    let (status, verdict) = tokio::select! {
        biased;
        answer = exchange(endpoint, event, registry, clock) => answer,
        () = clock.sleep(limit) => {
            let reason = format!("there was no answer within {} ms", limit.as_millis());
            (None, Verdict::Failed { reason, after: None })
        }
    };
    Answer { status, verdict, took: clock.monotonic().saturating_sub(begun) }
}

async fn exchange(endpoint: &Bound, event: &Event, registry: &Registry, clock: &dyn Clock) -> (Option<u16>, Verdict) {
    let settings = &endpoint.settings;
    let Some(payload) = endpoint.payload(event, registry) else {
        let reason = format!("the dialect {} has no words for it", settings.dialect);
        return (None, Verdict::Rejected { reason });
    };
    if payload.body.len() > LARGEST {
        let reason = format!("the payload has {} bytes, the limit is {LARGEST}", payload.body.len());
        return (None, Verdict::Rejected { reason });
    }
    if let Some(reason) = forbidden(endpoint).await {
        return (None, Verdict::Rejected { reason });
    }
    let headers = endpoint.headers(event, &payload);
    let (body, limit) = (Body::Bytes(payload.body), settings.timeout);
    match endpoint.client.send(Method::POST, &settings.url, headers, body, limit, limit).await {
        Ok(response) => (Some(response.status.as_u16()), judge(endpoint, response, clock.now()).await),
        Err(error) if error.kind() == ErrorKind::Forbidden => (None, Verdict::Rejected { reason: error.to_string() }),
        Err(error) => (None, Verdict::Failed { reason: error.to_string(), after: None }),
    }
}

/// Why the name of the endpoint leads to where it may not. The client itself refuses this machine and link-local addresses where it
/// resolves the name; private networks are refused here. A name that cannot be resolved may be a proxy's to resolve.
async fn forbidden(endpoint: &Bound) -> Option<String> {
    let settings = &endpoint.settings;
    let Some(Host::Domain(name)) = settings.url.host().filter(|_| !settings.allow_local) else { return None };
    let mut found = tokio::net::lookup_host((name, 0)).await.ok()?;
    let is_forbidden = found.any(|address| is_local(address.ip()));
    is_forbidden.then(|| format!("{name} leads to this machine or a private network: say allow_local if it is meant"))
}

async fn judge(endpoint: &Bound, response: Response, now: SystemTime) -> Verdict {
    let status = response.status;
    if status.is_success() {
        return Verdict::Delivered;
    }
    if status.is_redirection() {
        // CNCF Distribution takes these for success, and its receivers may rely on that.
        if endpoint.settings.dialect == Dialect::Distribution {
            return Verdict::Delivered;
        }
        let reason = format!("it answered {}, and a redirect is not followed: give the URL that it leads to", status.as_u16());
        return Verdict::Rejected { reason };
    }
    let after = response.header(RETRY_AFTER).and_then(|text| retry_after(text, now));
    let told = told(endpoint, response).await;
    let reason = format!("it answered {}{told}", status.as_u16());
    let is_for_now = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if status.is_client_error() && !is_for_now {
        return Verdict::Rejected { reason };
    }
    Verdict::Failed { reason, after }
}

/// The begin of what the answer says, in one line, if it is text and betrays nothing.
async fn told(endpoint: &Bound, response: Response) -> String {
    let Ok(bytes) = response.bytes(ANSWER).await else { return String::new() };
    let Ok(text) = std::str::from_utf8(&bytes) else { return String::new() };
    if endpoint.betrays(text) {
        return String::new();
    }
    let line: String = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    let line: String = line.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

/// Seconds, or a date. [RFC 9110, 10.2.3]
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_mins(1)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        for wrong in ["", "-1", "soon", "99999999999999999999"] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
