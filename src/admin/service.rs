//! The service: a request in, a response out.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use auth::Auth;
use bytes::Bytes;
use hooks::Hooks;
use http::header::ORIGIN;
use http::request::Parts as Head;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use jobs::Jobs;
use mirror::Mirrors;
use promotion::Promotions;
use server::{Body, Peer, Pending, RequestBody, RequestLog};
use telemetry::{Audit, Clock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answer::Refusal;
use crate::deliveries::Deliveries;
use crate::gate::Operator;
use crate::route::Route;
use crate::token::Token;

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 64 * 1024;

/// What it is made over.
pub struct Parts {
    /// What lets a request in.
    pub token: Token,
    /// Makes out who asks, where there are rules.
    pub auth: Option<Auth>,
    /// Where it is written down what was done by whom.
    pub audit: Audit,
    /// Durable work.
    pub jobs: Jobs,
    /// Mirrors.
    pub mirrors: Mirrors,
    /// Promotions.
    pub promotions: Promotions,
    /// By which names this server is known in manifests.
    pub names: promotion::Names,
    /// Those who are told of what happens here.
    pub hooks: Hooks,
    /// What takes deliveries of forges.
    pub deliveries: Arc<dyn Deliveries>,
    /// Bodies of deliveries that are held at the same time.
    pub bodies: Semaphore,
    /// How requests are named and told of.
    pub requests: RequestLog,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Once it is cancelled, what would go on for long ends: the server stops.
    pub stop: CancellationToken,
}

/// `/api/v1/` as a tower service. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Parts>);

impl Admin {
    /// The API over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    async fn handle(mut pending: Pending<Self>, head: Head, body: RequestBody) -> Response<Body> {
        if let Some(name) = head.uri.path().strip_prefix("/hooks/") {
            pending.set_route("hook_delivery");
            let response = pending.service().take(name, &head, body).await;
            return pending.answer(response);
        }
        let asked = pending.service().let_in(&head, body.peer()).await;
        pending.set_route(asked.as_ref().map_or("admin", |(route, _)| route.label()));
        let answered = match asked {
            Ok((route, operator)) => pending.service().answer(route, &operator, body).await,
            Err(refusal) => {
                pending.service().note_refusal(&refusal, head.uri.path(), body.peer());
                Err(refusal)
            }
        };
        let response = answered.unwrap_or_else(|refusal| refusal.response(pending.id()));
        pending.answer(response)
    }

    /// What is asked, of those who may ask.
    async fn let_in(&self, head: &Head, peer: Option<&Peer>) -> Result<(Route, Operator), Refusal> {
        let operator = self.operator(&head.headers, peer).await?;
        // A browser shows certificates and passwords by itself, also for a page of a stranger. There is no page of ours yet.
        if !matches!(head.method, Method::GET | Method::HEAD) && head.headers.contains_key(ORIGIN) {
            return Err(Refusal::Denied("web pages may not change anything here".to_owned()));
        }
        let route = Route::parse(&head.method, head.uri.path(), head.uri.query())?;
        self.check_route(&route, &operator)?;
        Ok((route, operator))
    }

    async fn answer(&self, route: Route, operator: &Operator, body: RequestBody) -> Result<Response<Body>, Refusal> {
        match route {
            Route::Mirrors => self.mirrors().await,
            Route::Mirror(name) => self.mirror(&name).await,
            Route::Runs(name, count) => self.runs(&name, count).await,
            Route::Run(name) => self.run_mirror(&name, &whole(body).await?).await,
            Route::Promotions => self.promotions(operator).await,
            Route::Promotion(name) => self.promotion(&name).await,
            Route::Diff(name, tag) => self.diff(&name, tag.as_deref()).await,
            Route::Check(name) => self.check(&name).await,
            Route::Operate(name, verb) => self.operate(&name, verb, operator, &whole(body).await?).await,
            Route::Hooks => self.hooks().await,
            Route::Hook(name) => self.hook(&name).await,
            Route::Redeliver(name, id) => self.redeliver(&name, &id).await,
            Route::Robots => self.robots().await,
            Route::MakeRobot(name) => self.make_robot(&name, operator, &whole(body).await?).await,
            Route::RemoveRobot(name, id) => self.remove_robot(&name, id.as_deref(), operator).await,
            Route::Jobs => self.jobs().await,
            Route::Job(id) => self.job(id).await,
            Route::Events(id) => self.events(id).await,
            Route::Cancel(id) => self.cancel(id).await,
            Route::Retry(id) => self.retry(id).await,
        }
    }
}

async fn whole(body: RequestBody) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, LARGEST_BODY).collect().await;
    let body = body.map_err(|error| Refusal::Invalid(format!("the body cannot be read: {error}")))?;
    Ok(body.to_bytes())
}

impl tower::Service<Request<RequestBody>> for Admin {
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

impl Admin {
    /// Answers a request, as the service does, for those who have it among others.
    pub fn respond(&self, request: Request<RequestBody>) -> <Self as tower::Service<Request<RequestBody>>>::Future {
        let (head, body) = request.into_parts();
        let pending = Pending::new(self.clone(), &head, body.peer().cloned());
        Box::pin(async move { Ok(Self::handle(pending, head, body).await) })
    }
}

impl AsRef<RequestLog> for Admin {
    fn as_ref(&self) -> &RequestLog {
        &self.0.requests
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Admin").finish_non_exhaustive()
    }
}
