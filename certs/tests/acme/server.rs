//! The way to an ACME server, which looks at what is asked and misbehaves on demand.

use std::future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use roadstead_certs::acme::{Http, HttpError};
use serde_json::{Value, json};

/// What is done instead of asking.
#[derive(Clone)]
pub(crate) enum Instead {
    /// This is answered: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Nothing is answered.
    Silence,
}

pub(crate) struct Server {
    inner: Box<dyn Http>,
    /// The paths that were asked for.
    asked: Mutex<Vec<String>>,
    /// Those where something was made. Now and then the server refuses a nonce, and is asked for the same again.
    made: Mutex<Vec<String>>,
    /// For the next so many requests whose path holds this.
    instead: Mutex<Vec<(&'static str, usize, Instead)>>,
    /// The window that it suggests for renewals (RFC 9773), where it does.
    pub(crate) window: Mutex<Option<(String, String)>>,
    /// With what orders said that they replace something.
    pub(crate) replaced: Mutex<Vec<String>>,
    pub(crate) exchanges: AtomicUsize,
}

/// A problem document.
pub(crate) fn problem(status: u16, kind: &str, headers: Vec<(&'static str, String)>) -> Instead {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    let body = json!({ "type": kind, "detail": "because of a test", "status": status });
    Instead::Answer(status, headers, body.to_string())
}

impl Server {
    pub(crate) fn new(inner: impl Http + 'static) -> Self {
        Self {
            inner: Box::new(inner),
            asked: Mutex::default(),
            made: Mutex::default(),
            instead: Mutex::default(),
            window: Mutex::default(),
            replaced: Mutex::default(),
            exchanges: AtomicUsize::new(0),
        }
    }

    pub(crate) fn misbehave(&self, path: &'static str, times: usize, instead: Instead) {
        self.instead.lock().unwrap().push((path, times, instead));
    }

    /// How often a path was asked for that holds this.
    pub(crate) fn asked(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }

    /// How often something was made at a path that holds this.
    pub(crate) fn made(&self, part: &str) -> usize {
        self.made.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }

    /// `None` for what is asked of the server itself.
    fn meddle(&self, path: &str) -> Option<Instead> {
        let mut all = self.instead.lock().unwrap();
        let (_, left, instead) = all.iter_mut().find(|(part, left, _)| *left > 0 && path.contains(part))?;
        *left -= 1;
        Some(instead.clone())
    }

    /// What it knows of renewals, which pebble does not.
    fn suggest(&self, path: &str) -> Option<Instead> {
        let (start, end) = self.window.lock().unwrap().clone().filter(|_| path.contains("/renewal/"))?;
        let body = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        Some(Instead::Answer(200, vec![("retry-after", "3600".to_owned())], body))
    }

    fn with_renewals(&self, url: &http::Uri, replaces: Option<&str>, answer: Response<Bytes>) -> Response<Bytes> {
        let is_directory = url.path() == "/dir" && self.window.lock().unwrap().is_some();
        if !is_directory && replaces.is_none() {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        if is_directory {
            body["renewalInfo"] = json!(format!("https://{}/renewal", url.authority().unwrap()));
        }
        if let Some(replaces) = replaces {
            body["replaces"] = json!(replaces);
        }
        let mut answer = Response::from_parts(parts, Bytes::from(body.to_string()));
        answer.headers_mut().remove("content-length");
        answer
    }
}

/// What an order says that it replaces.
fn replaces(body: &[u8]) -> Option<String> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
    Some(serde_json::from_slice::<Value>(&payload).ok()?["replaces"].as_str()?.to_owned())
}

#[async_trait]
impl Http for Server {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let url = request.uri().clone();
        self.asked.lock().unwrap().push(url.path().to_owned());
        match self.meddle(url.path()).or_else(|| self.suggest(url.path())) {
            None => {}
            Some(Instead::Silence) => future::pending().await,
            Some(Instead::Answer(status, headers, body)) => {
                let answer = Response::builder().status(status);
                let answer = headers.iter().fold(answer, |answer, (name, value)| answer.header(*name, value));
                return Ok(answer.body(Bytes::from(body)).unwrap());
            }
        }
        let replaces = replaces(request.body());
        let answer = self.inner.exchange(request).await?;
        if answer.status() == StatusCode::CREATED {
            self.made.lock().unwrap().push(url.path().to_owned());
        }
        let replaces = replaces.filter(|_| answer.status() == StatusCode::CREATED);
        self.replaced.lock().unwrap().extend(replaces.clone());
        Ok(self.with_renewals(&url, replaces.as_deref(), answer))
    }
}
