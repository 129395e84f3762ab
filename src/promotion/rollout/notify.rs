//! Telling those who deploy that a branch moved.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;
use telemetry::Clock;

use crate::rollout::argocd::ArgoCd;
use crate::rollout::error::{RolloutError, SettingsError};
use crate::rollout::exchange::{Way, header, secret_header};
use crate::rollout::payload::{Moved, Signer};
use crate::rollout::settings::{ArgoCdWebhook, FluxReceiver, NotifySettings, Webhook};

/// Who is told only has to say that he has heard it.
const LIMIT: Duration = Duration::from_secs(30);

const GOGS_EVENT: HeaderName = HeaderName::from_static("x-gogs-event");
const GOGS_SIGNATURE: HeaderName = HeaderName::from_static("x-gogs-signature");
const FLUX_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const OUR_SIGNATURE: HeaderName = HeaderName::from_static("x-roadstead-signature-256");

/// One of those who are told. It is made once: its connections are used again.
pub struct Notify(How);

enum How {
    ArgoCdWebhook { way: Way, settings: ArgoCdWebhook, signer: Option<Signer> },
    ArgoCdRefresh(ArgoCd),
    Flux { way: Way, signer: Signer },
    Webhook { way: Way, signer: Option<Signer>, authorization: Option<HeaderValue> },
}

/// What came of telling one of them.
#[derive(Debug)]
pub struct Told {
    /// Whom: what he is, and his host.
    pub to: String,
    /// Whether he has heard it.
    pub result: Result<(), RolloutError>,
}

impl Notify {
    /// A way to whom these settings name.
    pub fn new(settings: NotifySettings, clock: &Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let how = match settings {
            NotifySettings::ArgoCdWebhook(settings) => argocd_webhook(settings, clock)?,
            NotifySettings::ArgoCdRefresh(settings) => How::ArgoCdRefresh(ArgoCd::new(settings, clock)?),
            NotifySettings::Flux(settings) => flux(&settings, clock)?,
            NotifySettings::Webhook(settings) => webhook(&settings, clock)?,
        };
        Ok(Self(how))
    }

    /// Whom it tells: what he is, and his host.
    #[must_use]
    pub fn to(&self) -> &str {
        match &self.0 {
            How::ArgoCdRefresh(argocd) => argocd.to(),
            How::ArgoCdWebhook { way, .. } | How::Flux { way, .. } | How::Webhook { way, .. } => way.to(),
        }
    }

    /// Tells him. To be told twice harms nobody.
    pub async fn tell(&self, moved: &Moved) -> Result<(), RolloutError> {
        match &self.0 {
            How::ArgoCdWebhook { way, settings, signer } => {
                let now = Timestamp::try_from(way.clock().now()).unwrap_or_default();
                let body = bytes(&moved.gogs(settings, now));
                let mut headers = json_headers();
                headers.insert(GOGS_EVENT, HeaderValue::from_static("push"));
                if let Some(signer) = signer {
                    header(&mut headers, GOGS_SIGNATURE, &signer.sign(&body));
                }
                way.post(headers, body, LIMIT).await
            }
            How::ArgoCdRefresh(argocd) => argocd.refresh(false).await.map(|_| ()),
            How::Flux { way, signer } => {
                let body = bytes(&moved.plain());
                let mut headers = json_headers();
                header(&mut headers, FLUX_SIGNATURE, &format!("sha256={}", signer.sign(&body)));
                way.post(headers, body, LIMIT).await
            }
            How::Webhook { way, signer, authorization } => {
                let body = bytes(&moved.plain());
                let mut headers = json_headers();
                headers.extend(authorization.clone().map(|value| (AUTHORIZATION, value)));
                if let Some(signer) = signer {
                    header(&mut headers, OUR_SIGNATURE, &format!("sha256={}", signer.sign(&body)));
                }
                way.post(headers, body, LIMIT).await
            }
        }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Notify").field(&self.to()).finish()
    }
}

/// Tells all of them at the same time, so that nobody waits for a slow one. What came of each is in their order.
pub async fn tell(notifies: &[Notify], moved: &Moved) -> Vec<Told> {
    let one = |notify| async move { Told { to: Notify::to(notify).to_owned(), result: notify.tell(moved).await } };
    let mut open: Vec<Open<'_>> = notifies.iter().map(|notify| Open::Telling(Box::pin(one(notify)))).collect();
    poll_fn(|context| {
        let mut is_over = true;
        for item in &mut open {
            if let Open::Telling(telling) = item {
                match telling.as_mut().poll(context) {
                    Poll::Ready(told) => *item = Open::Told(told),
                    Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let told = open.into_iter().filter_map(|item| match item {
        Open::Told(told) => Some(told),
        Open::Telling(_) => None,
    });
    told.collect()
}

enum Open<'n> {
    Telling(Pin<Box<dyn Future<Output = Told> + Send + 'n>>),
    Told(Told),
}

fn argocd_webhook(settings: ArgoCdWebhook, clock: &Arc<dyn Clock>) -> Result<How, SettingsError> {
    let advice = |status| match status {
        StatusCode::BAD_REQUEST => {
            "it does not believe the push, or does not know such events: compare the secret with webhook.gogs.secret in its argocd-secret, and look whether the URL ends in /api/webhook"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "something before Argo CD lets nobody in without a login; let /api/webhook pass there"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "there is no webhook at this URL, which ends in /api/webhook",
        StatusCode::PAYLOAD_TOO_LARGE => "the push is too large for it, or for a proxy before it",
        _ => "look at the URL, and at the log of argocd-server",
    };
    let way = Way::new("the webhook of Argo CD", &settings.url, settings.ca.as_ref(), advice, clock)?;
    let way = way.hiding(settings.secret.as_ref());
    let signer = settings.secret.as_ref().map(Signer::new).transpose()?;
    Ok(How::ArgoCdWebhook { way, settings, signer })
}

fn flux(settings: &FluxReceiver, clock: &Arc<dyn Clock>) -> Result<How, SettingsError> {
    let advice = |status| match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "it does not believe us: compare the secret with the token of the Receiver, whose type has to be generic-hmac"
        }
        StatusCode::NOT_FOUND => {
            "no Receiver has this path: compare the URL with the Receiver's status.webhookPath, which changes with its token"
        }
        _ => "look at the URL, and at the log of the notification-controller",
    };
    let way = Way::new("the Receiver of Flux", &settings.url, settings.ca.as_ref(), advice, clock)?;
    Ok(How::Flux { way: way.hiding(Some(&settings.secret)), signer: Signer::new(&settings.secret)? })
}

fn webhook(settings: &Webhook, clock: &Arc<dyn Clock>) -> Result<How, SettingsError> {
    let advice = |status| match status {
        StatusCode::BAD_REQUEST => "it does not take our JSON, or does not believe its signature: compare the secrets",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "it does not let us in: look at the secret and at the authorization",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "nothing there takes a POST: look at the URL",
        _ => "look at the URL, and at the log of who is there",
    };
    let way = Way::new("the webhook", &settings.url, settings.ca.as_ref(), advice, clock)?;
    let way = way.hiding(settings.secret.as_ref()).hiding(settings.authorization.as_ref());
    let signer = settings.secret.as_ref().map(Signer::new).transpose()?;
    let value = settings.authorization.as_ref().map(|value| secret_header("authorization", value.expose_secret()));
    Ok(How::Webhook { way, signer, authorization: value.transpose()? })
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
