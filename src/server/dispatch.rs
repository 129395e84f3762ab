//! From hyper to the tower service and back.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use telemetry::Metrics;
use tower::{Service, ServiceExt};

use crate::Peer;
use crate::activity::Activity;
use crate::body::{Body, Sent};
use crate::entry::Protocol;
use crate::regions::Regions;
use crate::request::RequestBody;

/// One connection's way into the service.
pub(crate) struct Dispatch<S> {
    /// In a box because hyper wants a service that can be moved while it is used.
    pub(crate) service: Box<S>,
    pub(crate) peer: Peer,
    pub(crate) protocol: Protocol,
    pub(crate) idle_timeout: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) activity: Arc<Activity>,
    /// Those of a connection that can send files itself.
    pub(crate) regions: Option<Arc<Regions>>,
}

impl<S> hyper::service::Service<Request<Incoming>> for Dispatch<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Sent>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let running = self.activity.begin();
        let ours = self.activity.ours();
        let activity = Arc::clone(&self.activity);
        let metrics = self.metrics.clone();
        let protocol = self.protocol;
        let regions = self.regions.clone();
        let service = S::clone(&self.service);
        let mut request =
            request.map(|incoming| RequestBody::incoming(incoming, self.idle_timeout, self.metrics.clone(), &self.activity));
        request.extensions_mut().insert(self.peer);
        Box::pin(async move {
            let response = service.oneshot(request).await?;
            let response = response.map(|body| Sent::new(body, protocol, metrics, &activity, regions.as_ref()));
            drop((ours, running));
            Ok(response)
        })
    }
}
