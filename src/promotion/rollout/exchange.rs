//! One request and its answer, with limits on both, and what a status means.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use outbound::{Body, Client, Config, Response};
use secrecy::{ExposeSecret, SecretString};
use telemetry::Clock;
use url::Url;

use crate::rollout::error::{RolloutError, SettingsError};

/// The longest silence of somebody who is told.
const SILENCE: Duration = Duration::from_secs(30);
/// What is read of an answer that is only looked at for its reason.
const LONGEST_REASON_BODY: usize = 16 * 1024;
/// What is shown of it.
const LONGEST_REASON: usize = 300;

const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// What a refusal most likely means, by its status.
pub(crate) type Advice = fn(StatusCode) -> &'static str;

/// A way to one of those who are asked.
#[derive(Clone)]
pub(crate) struct Way {
    client: Client,
    url: Url,
    to: String,
    advice: Advice,
    clock: Arc<dyn Clock>,
    /// They may come back in an answer, and must not be shown then.
    secrets: Vec<SecretString>,
}

impl Way {
    /// Waits on its clock.
    pub(crate) async fn pause(&self, duration: std::time::Duration) {
        self.clock.sleep(duration).await;
    }

    /// To `url`, which is spoken of as `what`.
    pub(crate) fn new(
        what: &'static str,
        url: &Url,
        ca: Option<&PathBuf>,
        advice: Advice,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        let Some(host) = url.host_str().filter(|host| !host.is_empty() && matches!(url.scheme(), "https" | "http")) else {
            return Err(SettingsError::Address { what });
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SettingsError::Password { what });
        }
        let to = format!("{what} at {host}{}", url.port().map(|port| format!(":{port}")).unwrap_or_default());
        // The clock ends what takes too long; until then nobody needs to say anything.
        let config = Config { ca: ca.into_iter().cloned().collect(), idle_timeout: Duration::from_mins(10), ..Config::new(url) };
        let client = Client::new(&config)?;
        Ok(Self { client, url: url.clone(), to, advice, clock: Arc::clone(clock), secrets: Vec::new() })
    }

    /// The same, with a secret that is never shown.
    pub(crate) fn hiding(mut self, secret: Option<&SecretString>) -> Self {
        self.secrets.extend(secret.cloned());
        self
    }

    /// Whom it leads to.
    pub(crate) fn to(&self) -> &str {
        &self.to
    }

    /// The address that it was made with.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Gives him a body. What he says to it does not matter, if it is yes.
    pub(crate) async fn post(&self, headers: HeaderMap, body: Bytes, limit: Duration) -> Result<(), RolloutError> {
        let exchange = async {
            let sent = self.client.send(Method::POST, &self.url, headers, Body::Bytes(body), SILENCE, limit).await;
            self.accepted(sent).await.map(|_| ())
        };
        self.within(limit, exchange).await
    }

    /// Asks him for something of at most `longest` bytes.
    pub(crate) async fn fetch(
        &self,
        url: &Url,
        headers: HeaderMap,
        longest: usize,
        limit: Duration,
    ) -> Result<Bytes, RolloutError> {
        let exchange = async {
            let response = self.accepted(self.client.get(url, headers).await).await?;
            response.bytes(longest).await.map_err(|cause| self.unanswered(cause))
        };
        self.within(limit, exchange).await
    }

    /// Sends him something, and gives what he answers to it, of at most `longest` bytes.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        longest: usize,
        limit: Duration,
    ) -> Result<Bytes, RolloutError> {
        let exchange = async {
            let sent = self.client.send(method, url, headers, Body::Bytes(body), SILENCE, limit).await;
            let response = self.accepted(sent).await?;
            response.bytes(longest).await.map_err(|cause| self.unanswered(cause))
        };
        self.within(limit, exchange).await
    }

    /// An answer that cannot be read.
    pub(crate) fn strange(&self, reason: impl Into<String>) -> RolloutError {
        RolloutError::Strange { to: self.to.clone(), reason: reason.into() }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        exchange: impl Future<Output = Result<T, RolloutError>>,
    ) -> Result<T, RolloutError> {
        tokio::select! {
            answer = exchange => answer,
            () = self.clock.sleep(limit) => Err(RolloutError::Overdue { to: self.to.clone(), limit }),
        }
    }

    /// The answer, if it is yes.
    async fn accepted(&self, sent: Result<Response, outbound::Error>) -> Result<Response, RolloutError> {
        let response = sent.map_err(|cause| self.unanswered(cause))?;
        let status = response.status;
        if status.is_success() {
            return Ok(response);
        }
        // A date is as good as nothing: his clock is not ours.
        let after = response.header(RETRY_AFTER).and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        // GitHub's way to say "too many".
        let is_used_up = status == StatusCode::FORBIDDEN && response.header(RATE_LIMIT_REMAINING) == Some("0");
        let said = response.bytes(LONGEST_REASON_BODY).await.map(|body| self.reason(&body)).unwrap_or_default();
        let to = self.to.clone();
        Err(match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                RolloutError::Busy { to, status, after, said }
            }
            _ if status.is_server_error() || is_used_up => RolloutError::Busy { to, status, after, said },
            _ if status.is_redirection() => {
                let advice = "a redirect is not followed; configure the address that it leads to";
                RolloutError::Refused { to, status, advice, said: String::new() }
            }
            _ => RolloutError::Refused { to, status, advice: (self.advice)(status), said },
        })
    }

    fn unanswered(&self, cause: outbound::Error) -> RolloutError {
        RolloutError::Unanswered { to: self.to.clone(), cause }
    }

    /// What a body says, on one line, short and without our secrets.
    fn reason(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        if text.trim_start().starts_with('<') {
            return "a page of HTML".to_owned();
        }
        // The API of Argo CD says it in JSON.
        let message = serde_json::from_slice::<serde_json::Value>(body).ok();
        let message = message.as_ref().and_then(|value| value.get("message")?.as_str());
        let mut said = message.map_or_else(|| text.clone().into_owned(), str::to_owned);
        for secret in &self.secrets {
            said = said.replace(secret.expose_secret(), "***");
        }
        line(&said, LONGEST_REASON)
    }
}

impl fmt::Debug for Way {
    /// Without its path, which may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Way").field("to", &self.to).finish_non_exhaustive()
    }
}

/// A secret as the value of a header.
pub(crate) fn secret_header(what: &'static str, value: &str) -> Result<HeaderValue, SettingsError> {
    let mut header = HeaderValue::from_str(value).map_err(|_| SettingsError::Secret { what })?;
    header.set_sensitive(true);
    Ok(header)
}

/// A header whose value is made here.
pub(crate) fn header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // All values that are made here are hexadecimal.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A foreign text on one line, without what a terminal would obey, cut short.
pub(crate) fn line(text: &str, longest: usize) -> String {
    let words: Vec<&str> = text.split(|letter: char| letter.is_whitespace() || letter.is_control()).collect();
    let text = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_foreign_text_is_one_short_line(text in any::<String>(), longest in 0_usize..40) {
            let line = line(&text, longest);
            prop_assert!(line.chars().count() <= longest + 1);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
