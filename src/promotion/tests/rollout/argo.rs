//! A small Argo CD on 127.0.0.1: its webhook, its API, and one application that follows a branch. It stands also for Flux and for
//! anybody else who takes a webhook.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use testing::ManualClock;
use tokio::net::TcpListener;
use url::Url;

use crate::cluster::Cluster;

pub(crate) const SECRET: &str = "the-secret-of-gogs";
pub(crate) const TOKEN: &str = "the-token-of-the-api";
pub(crate) const APPLICATION: &str = "tinybird";
pub(crate) const PROJECT: &str = "analytics";

/// What goes wrong at the door. What goes wrong in the cluster is [`crate::cluster::Trouble`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, with this body.
    Status(u16, String),
    /// Nothing comes.
    Silent,
    /// Nothing comes when a refresh is asked for, which takes place nevertheless.
    SilentRefresh,
    /// 200 with this body.
    Body(String),
    /// More bytes than anybody wants.
    Huge,
    /// 429 with `Retry-After`.
    TooMany(u64),
    /// The name and password of whoever asks are in the answer.
    Echo,
    /// To a login page.
    Redirect,
}

pub(crate) struct Logged {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct State {
    pub(crate) cluster: Cluster,
    pub(crate) fault: Option<Fault>,
    pub(crate) log: Vec<Logged>,
    secret: String,
}

/// It serves until its runtime ends.
pub(crate) struct Argo {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Argo {
    pub(crate) async fn start(clock: &Arc<ManualClock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cluster = Cluster::new(clock);
        let state = Arc::new(Mutex::new(State { cluster, fault: None, log: Vec::new(), secret: SECRET.to_owned() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&shared), request));
                    // A connection that fails is what faults are for.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }
}

async fn serve(
    state: Arc<Mutex<State>>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let logged = Logged { method: head.method, path, headers: head.headers, body };
    let (answer, is_silent) = {
        let mut state = state.lock().unwrap();
        let fault = state.fault.clone();
        let answer = fault.as_ref().and_then(|fault| broken(fault, &logged)).unwrap_or_else(|| route(&mut state, &logged));
        let is_refresh = logged.path.contains("refresh=");
        state.log.push(logged);
        (answer, fault == Some(Fault::Silent) || (is_refresh && fault == Some(Fault::SilentRefresh)))
    };
    if is_silent {
        std::future::pending::<()>().await;
    }
    Ok(answer)
}

fn broken(fault: &Fault, request: &Logged) -> Option<Response<Full<Bytes>>> {
    Some(match fault {
        Fault::Silent | Fault::SilentRefresh => return None,
        Fault::Status(status, body) => answer(*status, body.clone()),
        Fault::Body(body) => answer(200, body.clone()),
        Fault::Huge => answer(200, vec![b' '; 40 << 20]),
        Fault::TooMany(seconds) => with(answer(429, "slower"), "retry-after", &seconds.to_string()),
        Fault::Echo => answer(401, format!("{:?} is not known", request.headers.get("authorization"))),
        Fault::Redirect => with(answer(307, ""), "location", "https://login.example.org/?token=secret"),
    })
}

fn route(state: &mut State, request: &Logged) -> Response<Full<Bytes>> {
    let url = Url::parse(&format!("http://argocd{}", request.path)).unwrap();
    let parts: Vec<&str> = url.path_segments().unwrap().collect();
    match (&request.method, parts.as_slice()) {
        (&Method::POST, ["api", "webhook"]) => webhook(state, request),
        (&Method::GET, ["api", "v1", "applications", name]) => application(state, request, name, &url),
        (&Method::POST, ["hook", "flux"]) => signed(request, "x-signature", 400),
        (&Method::POST, ["plain"]) => signed(request, "x-roadstead-signature-256", 403),
        _ => answer(404, "404 page not found"),
    }
}

/// As argocd-server: the parser is chosen by a header, and what it does not believe is 400.
fn webhook(state: &mut State, request: &Logged) -> Response<Full<Bytes>> {
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-gogs-event").is_empty() {
        return answer(400, "Unknown webhook event");
    }
    let is_believed = state.secret.is_empty() || header("x-gogs-signature") == sign(&state.secret, &request.body);
    let Ok(push) = serde_json::from_slice::<Value>(&request.body) else { return answer(400, "Webhook processing failed") };
    if header("x-gogs-event") != "push" || !is_believed {
        return answer(400, "Webhook processing failed");
    }
    let text = |pointer| push.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let revision = text("/ref").splitn(3, '/').last().unwrap().to_owned();
    let followed = state.cluster.target_revision.clone();
    let is_followed = if followed == "HEAD" || followed.is_empty() {
        text("/repository/default_branch") == revision
    } else {
        followed == revision
    };
    if is_followed && is_same(&text("/repository/html_url"), &state.cluster.repo_url) {
        state.cluster.refresh();
    }
    answer(200, "")
}

/// Host and path alone; the path of the application may have `.git` besides.
fn is_same(told: &str, known: &str) -> bool {
    let (told, known) = (Url::parse(told).unwrap(), Url::parse(known).unwrap());
    let paths = [told.path().to_owned(), format!("{}.git", told.path())];
    told.host_str() == known.host_str() && paths.contains(&known.path().to_owned())
}

fn application(state: &mut State, request: &Logged, name: &str, url: &Url) -> Response<Full<Bytes>> {
    if request.headers.get("authorization").is_none_or(|value| value != &format!("Bearer {TOKEN}")) {
        return answer(401, r#"{"error":"invalid session","code":16,"message":"invalid session: token signature is invalid"}"#);
    }
    let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let is_there = name == APPLICATION && query("appNamespace").is_none_or(|namespace| namespace == "argocd");
    match query("project") {
        Some(project) if project == PROJECT && !is_there => return answer(404, r#"{"code":5,"message":"not found"}"#),
        Some(project) if project != PROJECT => return answer(403, r#"{"code":7,"message":"permission denied"}"#),
        None if !is_there => return answer(403, r#"{"code":7,"message":"permission denied"}"#),
        _ => {}
    }
    if query("refresh").is_some() {
        state.cluster.refresh();
    }
    answer(200, state.cluster.application(name).to_string())
}

fn signed(request: &Logged, name: &str, refused: u16) -> Response<Full<Bytes>> {
    let given = request.headers.get(name).and_then(|value| value.to_str().ok());
    if given == Some(&format!("sha256={}", sign(SECRET, &request.body))) { answer(200, "") } else { answer(refused, "") }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn with(mut response: Response<Full<Bytes>>, name: &'static str, value: &str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}
