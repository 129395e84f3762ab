//! From hyper to the tower service and back.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::Service;

use crate::activity::{Activity, Ours, Running};
use crate::body::{Body, Sent};
use crate::entry::Protocol;
use crate::peer::Peer;
use crate::regions::Regions;
use crate::request::RequestBody;

/// One connection's way into the service.
pub(crate) struct Dispatch<S> {
    /// In a box because hyper wants a service that can be moved while it is used.
    pub(crate) service: Box<S>,
    pub(crate) peer: Peer,
    pub(crate) protocol: Protocol,
    pub(crate) idle_timeout: Duration,
    pub(crate) activity: Arc<Activity>,
    /// Those of a connection that can send files itself.
    pub(crate) regions: Option<Arc<Regions>>,
}

impl<S> hyper::service::Service<Request<Incoming>> for Dispatch<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
    S::Future: Unpin + Send,
{
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Answer<S>;

    fn call(&self, request: Request<Incoming>) -> Answer<S> {
        let running = self.activity.begin(!request.body().is_end_stream());
        let ours = self.activity.ours();
        let request = request.map(|incoming| RequestBody::incoming(incoming, self.idle_timeout, &self.activity, &self.peer));
        Answer {
            step: Step::Asked(S::clone(&self.service), Some(request)),
            protocol: self.protocol,
            activity: Arc::clone(&self.activity),
            regions: self.regions.clone(),
            held: Some((ours, running)),
        }
    }
}

/// A response on its way, without a box of its own.
pub(crate) struct Answer<S: Service<Request<RequestBody>>> {
    step: Step<S>,
    protocol: Protocol,
    activity: Arc<Activity>,
    regions: Option<Arc<Regions>>,
    /// Until there is a response.
    held: Option<(Ours, Running)>,
}

#[expect(clippy::large_enum_variant, reason = "a box for each request is what this spares")]
enum Step<S: Service<Request<RequestBody>>> {
    Asked(S, Option<Request<RequestBody>>),
    Answering(S::Future),
}

impl<S> Future for Answer<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Unpin,
    S::Future: Unpin,
{
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Step::Asked(service, request) = &mut this.step {
            ready!(service.poll_ready(cx))?;
            let Some(request) = request.take() else { return Poll::Pending };
            this.step = Step::Answering(service.call(request));
        }
        let Step::Answering(answering) = &mut this.step else { return Poll::Pending };
        let response = ready!(Pin::new(answering).poll(cx))?;
        let sent = |body| Sent::new(body, this.protocol, &this.activity, this.regions.as_ref());
        let response = response.map(sent);
        this.held = None;
        Poll::Ready(Ok(response))
    }
}
