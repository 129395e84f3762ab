//! The service: a request in, a response out, and what is told of it.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use oci::{Discover, Error, Pull};
use registry::Registry;
use server::{Body, Pending, RequestBody, RequestId, RequestLog};
use telemetry::{Audit, Clock, Metrics};
use tokio_util::task::TaskTracker;

use crate::body::Room;
use crate::caller::Caller;
use crate::change::ToTheEnd;
use crate::guard::{Guard, Wanted, wanted};
use crate::limits::Limits;
use crate::names::{Names, Resolved};
use crate::notes::length;
use crate::route::{Refusal, Route};
use crate::{error, respond};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Is the server to be sent requests? Shared with whoever starts and stops it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    running: AtomicBool,
    trouble: Mutex<Option<&'static str>>,
    warnings: Mutex<Vec<String>>,
}

impl Readiness {
    /// Says whether it is running: started, and not told to stop.
    pub fn set(&self, running: bool) {
        self.0.running.store(running, Ordering::Release);
    }

    /// Says what keeps it from its work, if something does.
    pub fn set_trouble(&self, trouble: Option<&'static str>) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Says what will keep it from its work if nobody sees to it, such as a certificate that expires soon.
    pub fn set_warnings(&self, warnings: Vec<String>) {
        *self.0.warnings.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trouble(&self) -> Option<&'static str> {
        if !self.0.running.load(Ordering::Acquire) {
            return Some("starting or stopping");
        }
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the API is made over.
pub struct Parts {
    /// What is held here: pushes, deletions and the catalog go to it.
    pub registry: Registry,
    /// Where pulls go of what is not hosted: a pull-through around the registry.
    pub pull: Arc<dyn Pull>,
    /// Where listings go.
    pub discover: Arc<dyn Discover>,
    /// How names are read.
    pub names: Arc<dyn Names>,
    /// Who may do what.
    pub guard: Guard,
    /// How much somebody may ask.
    pub limits: Limits,
    /// Where it is written down what was done by whom.
    pub audit: Audit,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What `/readyz` tells.
    pub readiness: Readiness,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// Where changes run that must come to their end; a stop waits for them.
    pub tasks: TaskTracker,
    /// How requests are named and told of.
    pub requests: RequestLog,
    /// What `Location` and `Link` begin with: the URL that clients use, without a slash at its end; empty for relative ones.
    pub external_url: String,
}

/// Of a request, what its answer needs beside its route.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'request> {
    pub(crate) caller: &'request Caller,
    pub(crate) request_id: &'request str,
}

/// The API as a tower service. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// For manifests on their way in.
    room: Room,
}

impl Api {
    /// The API over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let room = Room::new(parts.registry.limits().manifest_size);
        Self(Arc::new(Inner { parts, room }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// What manifests on their way in may take.
    pub(crate) fn room(&self) -> &Room {
        &self.0.room
    }

    /// The URL of something under `/v2/`.
    pub(crate) fn location(&self, path: &str) -> String {
        format!("{}/v2/{path}", self.0.parts.external_url)
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn has each of its parameters twice in its state")]
    fn handle(
        mut pending: Pending<Self>,
        parsed: Result<Route, Refusal>,
        headers: HeaderMap,
        body: RequestBody,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send {
        async move {
            let request_id = pending.id();
            let mut response = match parsed {
                Ok(route) => {
                    pending.set_route(route.label());
                    let answered = pending.service().answer(route, &headers, body, request_id).await;
                    answered.unwrap_or_else(|failure| error::response(&failure, request_id.as_str()))
                }
                Err(refusal) => error::refusal(&refusal, request_id.as_str()),
            };
            if pending.path().starts_with("/v2") {
                response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
            }
            Ok(pending.answer(response))
        }
    }

    #[expect(clippy::manual_async_fn, reason = "as above")]
    fn answer(
        &self,
        mut route: Route,
        headers: &HeaderMap,
        body: RequestBody,
        request_id: RequestId,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send {
        async move {
            let caller = match wanted(&route) {
                Wanted::Nothing => Caller::anybody(body.peer()),
                _ => match self.0.parts.guard.identify(headers, body.peer()).await {
                    Ok(caller) => caller,
                    Err(denial) => {
                        // Guesses count as what they are: requests of nobody in particular, from there.
                        let counted = self.enter(&route, &Caller::anybody(body.peer()));
                        let denial = counted.err().unwrap_or(denial);
                        return Ok(self.deny(&denial, &route, None, headers, body.peer(), request_id.as_str()));
                    }
                },
            };
            let pass = match self.enter(&route, &caller) {
                Ok(pass) => pass,
                Err(denial) => return Ok(self.deny(&denial, &route, Some(&caller), headers, body.peer(), request_id.as_str())),
            };
            let mut namespace = None;
            if let Some(source) = route.source_mut() {
                match self.0.parts.names.resolve(&source.name, source.namespace.as_deref()).await? {
                    Resolved::Hosted => source.hosted = true,
                    Resolved::Cached { repository, namespace: from } => {
                        if repository != source.name {
                            source.asked = Some(std::mem::replace(&mut source.name, repository));
                        }
                        namespace = from;
                    }
                }
            }
            if let Err(denial) = self.0.parts.guard.check(&route, &caller) {
                return Ok(self.deny(&denial, &route, Some(&caller), headers, body.peer(), request_id.as_str()));
            }
            let mut response = if route.is_change() {
                self.refuse_web_pages(headers)?;
                let (api, headers) = (self.clone(), headers.clone());
                let change = async move { api.change(route, &headers, body, request_id, &caller, pass).await };
                ToTheEnd::new(change, self.0.parts.tasks.clone()).await?
            } else {
                let response = Box::pin(self.dispatch(route, headers, body, request_id.as_str(), &caller)).await?;
                pass.took(length(&response));
                response
            };
            if let Some(namespace) = namespace {
                respond::set(&mut response, respond::NAMESPACE, namespace);
            }
            Ok(response)
        }
    }

    /// A web page that somebody has open on this machine can send requests here, also under a name that leads here by a trick. No
    /// client of registries sends an `Origin`; a page other than our own that changes something is nobody's wish.
    fn refuse_web_pages(&self, headers: &HeaderMap) -> Result<(), Error> {
        let Some(origin) = headers.get(http::header::ORIGIN) else { return Ok(()) };
        if !self.0.parts.external_url.is_empty() && origin.as_bytes() == self.0.parts.external_url.as_bytes() {
            return Ok(());
        }
        Err(Error::Denied { reason: "web pages may not change what is stored here".to_owned() })
    }

    pub(crate) async fn dispatch(
        &self,
        route: Route,
        headers: &HeaderMap,
        body: RequestBody,
        request_id: &str,
        caller: &Caller,
    ) -> Result<Response<Body>, Error> {
        let asked = Asked { caller, request_id };
        match route {
            Route::Live => Ok(respond::full("text/plain", "ok\n")),
            Route::Ready => Ok(self.ready()),
            Route::Metrics => Ok(respond::full(telemetry::CONTENT_TYPE, self.0.parts.metrics.encode())),
            Route::Token { query, by_form } => {
                Ok(Box::pin(self.token_or_denial(query.as_deref(), by_form, headers, body, request_id)).await)
            }
            Route::Version => Ok(respond::full("application/json", "{}")),
            Route::Catalog { page } => Box::pin(self.catalog(&page, caller)).await,
            Route::Tags { source, page } => self.tags(&source, &page).await,
            Route::Referrers { source, subject, artifact_type, page } => {
                Box::pin(self.referrers(&source, &subject, artifact_type, &page)).await
            }
            Route::PullManifest { source, reference, head } => self.pull_manifest(&source, &reference, head, headers).await,
            Route::PushManifest { name, reference, tags } => {
                Box::pin(self.push_manifest(&name, reference, tags, headers, body, caller)).await
            }
            Route::DeleteManifest { name, reference } => Box::pin(self.delete_manifest(&name, &reference, caller)).await,
            Route::PullBlob { source, digest, head: true } => self.stat_blob(&source, &digest, headers).await,
            Route::PullBlob { source, digest, head: false } => self.pull_blob(&source, &digest, headers).await,
            Route::DeleteBlob { name, digest } => Box::pin(self.delete_blob(&name, &digest, caller)).await,
            Route::StartUpload { name, algorithm } => Box::pin(self.start_upload(&name, algorithm, caller)).await,
            Route::PushBlob { name, digest } => Box::pin(self.push_blob(&name, &digest, body, caller)).await,
            Route::MountBlob { ref name, ref digest, ref from } => {
                let mounted = Box::pin(self.mount_blob(name, digest, from.as_ref(), caller)).await?;
                Ok(mounted.unwrap_or_else(|denial| self.deny(&denial, &route, Some(caller), headers, body.peer(), request_id)))
            }
            Route::UploadStatus { name, id } => Box::pin(self.upload_status(&name, id, caller)).await,
            Route::AppendUpload { name, id } => Box::pin(self.append_upload(&name, id, headers, body, asked)).await,
            Route::FinishUpload { name, id, digest } => {
                Box::pin(self.finish_upload(&name, id, &digest, headers, body, asked)).await
            }
            Route::CancelUpload { name, id } => Box::pin(self.cancel_upload(&name, id, caller)).await,
        }
    }

    fn ready(&self) -> Response<Body> {
        let Some(trouble) = self.0.parts.readiness.trouble() else {
            let warnings = self.0.parts.readiness.warnings().into_iter().map(|warning| format!("warning: {warning}\n"));
            return respond::full("text/plain", format!("ok\n{}", warnings.collect::<String>()));
        };
        let mut response = respond::full("text/plain", format!("not ready: {trouble}\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }
}

impl tower::Service<Request<RequestBody>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.respond(request)
    }
}

impl Api {
    /// Answers a request, as the service does, for those who have it among others.
    pub fn respond(&self, request: Request<RequestBody>) -> <Self as tower::Service<Request<RequestBody>>>::Future {
        let (mut head, body) = request.into_parts();
        // HTTP/2 has it in another place. [RFC 9113 section 8.3.1]
        if let Some(authority) = head.uri.authority().and_then(|authority| authority.as_str().parse().ok()) {
            head.headers.insert(http::header::HOST, authority);
        }
        let pending = Pending::new(self.clone(), &head, body.peer().cloned());
        // What is parsed here is not part of the future, which should be small: it is allocated for every request.
        let parsed = Route::parse(&head.method, head.uri.path(), head.uri.query());
        Box::pin(Self::handle(pending, parsed, head.headers, body))
    }
}

impl AsRef<RequestLog> for Api {
    fn as_ref(&self) -> &RequestLog {
        &self.0.parts.requests
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Api").field("registry", &self.0.parts.registry).finish_non_exhaustive()
    }
}
