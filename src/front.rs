//! One listener, two services: the registry's API, and under `/api/` that of operators, with the doors for forges under `/hooks/`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use admin::Admin;
use api::Api;
use http::{Request, Response};
use server::{Body, RequestBody};
use tower::Service;

/// What answers requests. Cheap to clone: every request does, so there is one count of references.
#[derive(Clone, Debug)]
pub(crate) struct Front(Arc<Services>);

#[derive(Debug)]
struct Services {
    api: Api,
    admin: Admin,
}

impl Front {
    pub(crate) fn new(api: Api, admin: Admin) -> Self {
        Self(Arc::new(Services { api, admin }))
    }

    pub(crate) fn api(&self) -> &Api {
        &self.0.api
    }
}

impl Service<Request<RequestBody>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let path = request.uri().path();
        let is_admin = path.starts_with("/api/") || path.starts_with("/hooks/");
        if is_admin { self.0.admin.respond(request) } else { self.0.api.respond(request) }
    }
}
