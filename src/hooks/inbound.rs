//! A forge's deliveries: shown to be authentic over the bytes that were sent, and only then read.

mod authentic;

use std::fmt;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use telemetry::Clock;
use url::form_urlencoded;

use crate::forge::{ForgeEvent, read_generic, read_gitlab, read_hub};
use crate::refusal::Refusal;
use crate::signature::sha256;

/// The largest body that is taken: whoever reads one for [`Inbound::read`] need not read more.
pub const BODY_LIMIT: usize = 8 << 20;

/// What a sender speaks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InboundKind {
    /// Gitea, Forgejo and Gogs.
    Gitea,
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Any JSON, signed as GitHub does: `X-Signature-256` or `X-Hub-Signature-256`.
    Generic,
}

impl InboundKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gitea, Self::GitHub, Self::GitLab, Self::Generic];

    /// As it is called in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gitea => "gitea",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Generic => "generic",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One sender that is listened to.
#[derive(Clone)]
pub struct Inbound {
    name: String,
    kind: InboundKind,
    secret: SecretString,
    clock: Arc<dyn Clock>,
}

/// A sender cannot be listened to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// Without a secret everyone could send.
    #[error("the inbound webhook {name} needs a secret that is not empty")]
    Secret {
        /// Its name.
        name: String,
    },
    /// The name is part of a key.
    #[error("{name:?} cannot be the name of an inbound webhook: take 1 to 40 lower case letters, digits, '-', '_' or '.'")]
    Name {
        /// Its name.
        name: String,
    },
}

/// What was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What the sender calls the delivery, for logs: most do not sign it.
    pub id: String,
    /// What was told.
    pub event: ForgeEvent,
    /// The SHA-256 of what was signed: the same when it is sent again, whatever it is called then.
    pub digest: String,
}

/// How the payload came.
enum Form {
    Json,
    /// As the field `payload` of a form, or of the query.
    Field(String),
}

impl Inbound {
    /// A sender and the secret that it signs with.
    pub fn new(name: &str, kind: InboundKind, secret: SecretString, clock: Arc<dyn Clock>) -> Result<Self, InboundError> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=40).contains(&name.len()) || name.starts_with('.') || !name.bytes().all(letter) {
            return Err(InboundError::Name { name: name.to_owned() });
        }
        if secret.expose_secret().trim().is_empty() {
            return Err(InboundError::Secret { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), kind, secret, clock })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a delivery as it was sent: `body` is what came over the wire, byte for byte.
    ///
    /// Nothing of the payload is looked at before it is shown to be authentic.
    pub fn read(&self, method: &Method, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Delivery, Refusal> {
        if body.len() > BODY_LIMIT {
            return Err(Refusal::TooLarge { size: body.len() });
        }
        let form = self.form(method, headers, query, body)?;
        let payload = match &form {
            Form::Json => body,
            Form::Field(payload) => payload.as_bytes(),
        };
        // Gitea signs the payload, GitHub what is sent. A query is not part of what is sent, so that only Gitea may use it.
        let signed = if self.kind == InboundKind::Gitea { payload } else { body };
        self.authenticate(headers, signed)?;
        let digest = sha256(signed);
        let payload: Value = serde_json::from_slice(payload).map_err(|error| Refusal::malformed(error.to_string()))?;
        let event = self.event(headers, &payload)?;
        let id = self.id(headers).unwrap_or_else(|| digest.clone());
        Ok(Delivery { id, event, digest })
    }

    fn form(&self, method: &Method, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Result<Form, Refusal> {
        if *method == Method::GET && self.kind == InboundKind::Gitea {
            return field(query.unwrap_or_default().as_bytes());
        }
        if *method != Method::POST {
            return Err(Refusal::Method { method: method.as_str().chars().take(20).collect() });
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
        match essence.as_str() {
            _ if is_json => Ok(Form::Json),
            "application/x-www-form-urlencoded" if self.kind != InboundKind::GitLab => field(body),
            _ => Err(Refusal::ContentType { content_type: content_type.chars().take(80).collect() }),
        }
    }

    fn event(&self, headers: &HeaderMap, payload: &Value) -> Result<ForgeEvent, Refusal> {
        let names: &[&str] = match self.kind {
            // Gitea sends the headers of GitHub too, so that its own come first.
            InboundKind::Gitea => &["x-gitea-event", "x-forgejo-event", "x-gogs-event", "x-github-event"],
            InboundKind::GitHub => &["x-github-event"],
            InboundKind::GitLab => return read_gitlab(payload),
            InboundKind::Generic => return read_generic(payload),
        };
        let name = first(headers, names).ok_or_else(|| Refusal::malformed("it does not say which event it is"))?;
        read_hub(name, payload)
    }

    fn id(&self, headers: &HeaderMap) -> Option<String> {
        let names: &[&str] = match self.kind {
            InboundKind::Gitea => &["x-gitea-delivery", "x-forgejo-delivery", "x-gogs-delivery", "x-github-delivery"],
            InboundKind::GitHub => &["x-github-delivery"],
            InboundKind::GitLab => &["webhook-id", "idempotency-key", "x-gitlab-event-uuid", "x-gitlab-webhook-uuid"],
            InboundKind::Generic => &["webhook-id", "x-delivery-id", "x-request-id", "x-github-delivery"],
        };
        let id: String = first(headers, names)?.chars().filter(char::is_ascii_graphic).take(128).collect();
        (!id.is_empty()).then_some(id)
    }

    /// What tells a delivery from one that was done already: what was signed, and nothing that anybody can write beside it. Whoever
    /// means the same thing twice has to say so in the body, by a time or a number.
    #[expect(clippy::unused_self, reason = "what it is made of is the sender's kind's to say")]
    pub(crate) fn identity(&self, delivery: &Delivery) -> String {
        delivery.digest.clone()
    }
}

fn field(form: &[u8]) -> Result<Form, Refusal> {
    let payload = form_urlencoded::parse(form).find(|(name, _)| name == "payload");
    // Nothing is known of the sender yet, so that it is told no more than anyone.
    let (_, payload) = payload.ok_or(Refusal::Unauthentic { reason: "there is no payload in the form" })?;
    Ok(Form::Field(payload.into_owned()))
}

/// The first of these headers that is there.
fn first<'h>(headers: &'h HeaderMap, names: &[&str]) -> Option<&'h str> {
    names.iter().find_map(|name| headers.get(*name)?.to_str().ok())
}

impl fmt::Debug for Inbound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbound").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}
