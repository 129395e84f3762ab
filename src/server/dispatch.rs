//! From hyper to the tower service and back.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::Service;

use crate::activity::{Activity, Ours, Running};
use crate::body::{Body, Sent};
use crate::entry::Protocol;
use crate::framing;
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
        // HTTP/2 has frames instead.
        let is_http1 = self.protocol == Protocol::Http1;
        let refused = if is_http1 { framing::refusal(&request) } else { None };
        // Over HTTP/1 hyper keeps the body of an answer to HEAD back, over HTTP/2 it does not.
        let has_no_body = !is_http1 && request.method() == Method::HEAD;
        let request = request.map(|incoming| RequestBody::incoming(incoming, self.idle_timeout, &self.activity, &self.peer));
        Answer {
            step: match refused {
                Some(response) => Step::Refused(Some(response)),
                None => Step::Asked(S::clone(&self.service), Some(request)),
            },
            protocol: self.protocol,
            has_no_body,
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
    has_no_body: bool,
    activity: Arc<Activity>,
    regions: Option<Arc<Regions>>,
    /// Until there is a response.
    held: Option<(Ours, Running)>,
}

enum Step<S: Service<Request<RequestBody>>> {
    /// Without the service.
    Refused(Option<Response<Body>>),
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
        let response = match &mut this.step {
            Step::Answering(answering) => ready!(Pin::new(answering).poll(cx))?,
            Step::Refused(response) => match response.take() {
                Some(response) => response,
                None => return Poll::Pending,
            },
            Step::Asked(..) => return Poll::Pending,
        };
        let response = if this.has_no_body { without_body(response) } else { response };
        let sent = |body| Sent::new(body, this.protocol, &this.activity, this.regions.as_ref());
        let response = response.map(sent);
        this.held = None;
        Poll::Ready(Ok(response))
    }
}

/// The head alone, which tells how long the body would be.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    response.map(|_| Body::empty())
}
