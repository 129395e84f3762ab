//! Certificates that are issued: the way to the authority, and the two doors at which it asks whether a name leads here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use certs::ClientHello;
use certs::acme::{Acme, Did, Parts};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use server::{Body, Challenges, RequestBody, Server};
use storage::Store;
use telemetry::{Clock, Metrics};

use crate::config::{self, Config};

/// A store that does not answer at the start does not keep the server from it.
const LOAD: Duration = Duration::from_secs(10);

/// What goes on behind connections that are encrypted by certificates that are issued; nothing where there are none.
#[derive(Default)]
pub(crate) struct Issuing {
    acme: Option<Arc<Acme>>,
    door: Option<Server>,
}

impl Issuing {
    /// Encryption by these certificates, if there are any, and what issues them where the configuration wants that.
    pub(crate) async fn new(
        config: &Config,
        tls: Option<&Arc<certs::Tls>>,
        store: &Store,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> anyhow::Result<(Option<server::Tls>, Self)> {
        let Some(tls) = tls else { return Ok((None, Self::default())) };
        let encryption = super::identity::encryption(tls, clock);
        let Some(settings) = config.server.tls.as_ref().and_then(|tls| tls.acme.as_ref()) else {
            return Ok((Some(encryption), Self::default()));
        };
        let acme = acme(settings, tls, store, clock).await?;
        let door = door(settings, metrics).await?;
        let encryption = encryption.with_challenges(Arc::new(ByHandshake(Arc::clone(&acme))));
        Ok((Some(encryption), Self { acme: Some(acme), door }))
    }

    /// Orders, renews and answers. Never returns.
    pub(crate) async fn run(self, clock: &dyn Clock) -> Infallible {
        let Some(acme) = self.acme else { return std::future::pending().await };
        let door = async {
            if let Some(door) = self.door {
                let acme = Arc::clone(&acme);
                let service = tower::service_fn(move |request| Box::pin(answer(Arc::clone(&acme), request)));
                door.serve(service, std::future::pending()).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            never = renew(&acme, clock) => never,
            never = door => never,
        }
    }
}

/// What issues certificates, over the store that replicas share.
async fn acme(
    settings: &config::Acme,
    tls: &Arc<certs::Tls>,
    store: &Store,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<Acme>> {
    let parts = Parts {
        tls: Arc::clone(tls),
        records: Arc::new(super::kept(store, "acme")),
        http: Arc::new(client(settings)?),
        clock: Arc::clone(clock),
    };
    let acme = Acme::new(&settings.settings, parts)?;
    match tokio::time::timeout(LOAD, acme.load()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(error = %telemetry::chain(&error), "the certificate that was issued cannot be read"),
        Err(_) => tracing::warn!("the certificate that was issued cannot be read in time"),
    }
    Ok(Arc::new(acme))
}

/// The way to the authority.
pub(crate) fn client(settings: &config::Acme) -> anyhow::Result<outbound::Client> {
    let directory = settings.settings.directory.parse().context("server.tls.acme.directory is not a URL")?;
    let mut way = outbound::Config::new(&directory);
    way.ca.extend(settings.ca.clone());
    Ok(outbound::Client::new(&way)?)
}

/// Orders and renews. Never returns.
async fn renew(acme: &Acme, clock: &dyn Clock) -> Infallible {
    loop {
        let turn = acme.turn().await;
        match &turn.outcome {
            Ok(Did::Nothing { .. }) => {}
            Ok(Did::Waits { trouble }) => tracing::warn!(trouble, again_s = turn.again.as_secs(), "no certificate is issued"),
            Ok(did) => tracing::info!(?did, "a certificate was looked after"),
            Err(error) => {
                tracing::error!(error = %telemetry::chain(error), again_s = turn.again.as_secs(), "no certificate is issued");
            }
        }
        clock.sleep(turn.again).await;
    }
}

/// The door at which it asks by a handshake.
struct ByHandshake(Arc<Acme>);

impl Challenges for ByHandshake {
    fn answer(&self, hello: &ClientHello<'_>) -> BoxFuture<'_, Option<Arc<certs::ServerConfig>>> {
        // What is kept of the greeting is its own.
        Box::pin(self.0.challenge(hello))
    }
}

/// What is behind the door at which it asks over plain HTTP: answers to its questions, and nothing else.
async fn answer(acme: Arc<Acme>, request: Request<RequestBody>) -> Result<Response<Body>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let answer = if is_read { acme.answer(request.uri().path()).await } else { None };
    let (status, text) = match answer {
        Some(text) => (StatusCode::OK, text),
        None => (StatusCode::NOT_FOUND, "the registry is served over https alone\n".to_owned()),
    };
    let mut response = Response::new(Body::full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Takes the address of the door over plain HTTP, where the configuration names one.
async fn door(settings: &config::Acme, metrics: &Metrics) -> anyhow::Result<Option<Server>> {
    let Some(listen) = settings.http_listen else { return Ok(None) };
    // An authority asks a few times, and everybody else is sent away at once.
    let limits = server::Limits { max_connections: 64, ..server::Limits::default() };
    let bound = Server::bind(&listen.to_string(), None, limits, metrics.clone()).await;
    Ok(Some(bound.context("server.tls.acme.http_listen")?))
}
