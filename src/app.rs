//! From a configuration to a running server.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin::{Admin, Token};
use anyhow::Context;
use api::{Api, Readiness};
use auth::Auth;
use proxy::PullThrough;
use registry::{Limits, Registry, Rules};
use server::{RequestLog, Server};
use storage::{Store, Surroundings};
use telemetry::{Audit, Clock, Metrics, SystemClock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::durable::Durable;
use crate::front::Front;
use crate::wiring::acme::{self, Issuing};
use crate::wiring::hooks::Triggers;
use crate::wiring::identity::{self, Mark, Reloading, Source};
use crate::wiring::{self, ApiNames, RegistryCache};

/// How often upload sessions that nobody goes on with are looked for.
const SWEEP: Duration = Duration::from_hours(1);
/// How often upload sessions are looked for that are only in memory.
const SETTLE: Duration = Duration::from_secs(1);
/// Deliveries of forges whose bodies are read at the same time; each may have 8 MiB.
const DELIVERIES: usize = 16;
/// What runs behind the requests (keeping what was fetched) gets so long at a stop.
const BACKGROUND: Duration = Duration::from_secs(10);

/// A server that is bound and wired but does not accept yet.
pub struct App {
    server: Server,
    front: Front,
    durable: Durable,
    issuing: Issuing,
    reloading: Reloading,
    /// Where it is read again from, and what it was read from at first.
    source: Option<(Source, Mark)>,
    /// Cancelled when the server is told to stop.
    stop: CancellationToken,
    registry: Registry,
    readiness: Readiness,
    tasks: TaskTracker,
    clock: Arc<dyn Clock>,
    upload_lifetime: Duration,
}

/// Opens the store, makes every room and binds the socket, with the given clock. Every error says what to do.
pub async fn build(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<App> {
    let metrics = Metrics::new();
    let tls = identity::tls(&config)?;
    // The socket first: a taken port must not disturb the store of whoever has it.
    let server = Server::bind(&config.server.listen.to_string(), None, limits(&config), metrics.clone()).await?;
    let transport = wiring::transport(&config.storage)?;
    let around = Surroundings { transport, ..Surroundings::new(Arc::clone(&clock), metrics.clone()) };
    let audit = config.audit.as_ref().map_or_else(|| Ok(Audit::off()), |place| Audit::open(place, metrics.clone()))?;
    let store = Store::open_in(&config.storage.location, around).await?;
    let (encryption, issuing) = Issuing::new(&config, tls.as_ref(), &store, &clock, &metrics).await?;
    let server = server.with_tls(encryption);
    let store = if is_heard(&config) { store.with_journal() } else { store };
    let tasks = TaskTracker::new();
    let registry = registry(&config, store.clone(), &clock).with_tasks(tasks.clone());
    let cache: Arc<dyn proxy::Cache> = Arc::new(RegistryCache(registry.clone()));
    let remotes = wiring::upstreams(&config.upstreams, &clock, &metrics)?;
    let routed = |entry: &config::Upstream| Some(wiring::routed(entry, remotes.get(&entry.host)?.clone()));
    let upstreams = config.upstreams.iter().filter_map(routed).collect();
    let names = Arc::new(proxy::Names::new(upstreams, Arc::clone(&cache)));
    let pull = PullThrough::new(Arc::clone(&names), cache, Arc::clone(&clock), metrics.clone(), tasks.clone());
    let readiness = Readiness::default();
    let external_url = config.server.external_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let (guard, auth) = identity::guard(&config, &store, &clock, &tasks).await?;
    let api = Api::new(api::Parts {
        registry: registry.clone(),
        pull: Arc::new(pull.clone()),
        discover: Arc::new(pull),
        names: Arc::new(ApiNames(names)),
        guard,
        limits: api::Limits::new(config.limits.clone(), Arc::clone(&clock)),
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
        requests: RequestLog::new(Arc::clone(&clock), metrics.clone()),
        external_url: external_url.unwrap_or_default(),
    });
    let durable = Durable::new(&config, &store, &registry, &remotes, &clock, &metrics, &audit)?;
    let stop = CancellationToken::new();
    let seen = Arc::new(wiring::kept(&store, "triggers"));
    let triggers = Triggers::new(&config.triggers, seen, durable.jobs.clone(), durable.promotions.clone(), &clock)?;
    let around = Around { auth: auth.clone(), audit: audit.clone(), clock: Arc::clone(&clock), metrics: metrics.clone() };
    let front = Front::new(api, admin(&config, &durable, Arc::new(triggers), &stop, around)?);
    let reloading = Reloading { tls, auth, audit, readiness: readiness.clone(), metrics, clock: Arc::clone(&clock) };
    let upload_lifetime = config.storage.upload_lifetime;
    Ok(App { server, front, durable, issuing, reloading, source: None, stop, registry, readiness, tasks, clock, upload_lifetime })
}

fn limits(config: &Config) -> server::Limits {
    server::Limits {
        header_timeout: config.server.header_timeout,
        idle_timeout: config.server.idle_timeout,
        max_connections: config.server.max_connections,
        drain_timeout: config.server.drain_timeout,
    }
}

/// What all rooms that answer requests are given.
struct Around {
    auth: Option<Auth>,
    audit: Audit,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// The API of operators, with the token of its file, which is made if it is not there.
fn admin(
    config: &Config,
    durable: &Durable,
    deliveries: Arc<dyn admin::Deliveries>,
    stop: &CancellationToken,
    around: Around,
) -> anyhow::Result<Admin> {
    let Around { auth, audit, clock, metrics } = around;
    let mut random = [0; 32];
    random[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    random[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    Ok(Admin::new(admin::Parts {
        token: match config.token_file() {
            Some(path) => Token::load_or_make(&path, random)?,
            None => Token::unknown(random),
        },
        auth,
        audit,
        jobs: durable.jobs.clone(),
        mirrors: durable.mirrors.clone(),
        promotions: durable.promotions.clone(),
        names: wiring::names(config),
        hooks: durable.hooks.clone(),
        deliveries,
        bodies: Semaphore::new(DELIVERIES),
        requests: RequestLog::new(Arc::clone(&clock), metrics),
        clock,
        stop: stop.clone(),
    }))
}

/// Reads the files that the configuration names as [`build`] would, and touches nothing: neither the store nor the socket.
pub(crate) fn rehearse(config: &Config) -> anyhow::Result<()> {
    identity::tls(config)?;
    if let Some(settings) = config.server.tls.as_ref().and_then(|tls| tls.acme.as_ref()) {
        acme::client(settings)?;
    }
    wiring::transport(&config.storage)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    wiring::upstreams(&config.upstreams, &clock, &Metrics::new())?;
    identity::issuers(config, &clock, &TaskTracker::new())?;
    wiring::hooks::rehearse(config, &clock)?;
    for promotion in &config.promotions {
        wiring::deployer(&promotion.deployer, &clock).with_context(|| format!("the promotion {}", promotion.rule.name))?;
    }
    Ok(())
}

/// Does anybody act on changes of tags? Without that their journal would only grow.
pub(crate) fn is_heard(config: &Config) -> bool {
    !config.promotions.is_empty() || !config.hooks.is_empty()
}

/// The registry over a store, as the configuration wants it.
pub(crate) fn registry(config: &Config, store: Store, clock: &Arc<dyn Clock>) -> Registry {
    let limits =
        Limits { manifest_size: config.server.max_manifest_size, blob_size: config.server.max_blob_size, ..Limits::default() };
    let bounds = (!config.repositories.is_empty()).then(|| Arc::new(config.repositories.clone()) as _);
    let rules = Rules { sparse_images: config.server.sparse_images, bounds };
    Registry::new(store, Arc::clone(clock), limits, rules)
}

impl App {
    /// Where it listens, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Reads certificates, rules and accounts again from there while it runs.
    pub(crate) fn with_source(self, source: Source, mark: Mark) -> Self {
        Self { source: Some((source, mark)), ..self }
    }

    /// What answers the requests, for benchmarks that ask it without a socket.
    #[doc(hidden)]
    #[must_use]
    pub fn api(&self) -> Api {
        self.front.api().clone()
    }

    /// Answers requests until `shutdown` resolves, then lets running ones finish. `false` if some had to be cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> bool {
        let Self { server, front, durable, issuing, reloading, source, stop, registry, readiness, tasks, clock, upload_lifetime } =
            self;
        readiness.set(true);
        let stopping = readiness.clone();
        let work = tasks.spawn(durable.run(stop.clone()));
        let shutdown = async move {
            shutdown.await;
            stopping.set(false);
            stop.cancel();
        };
        let drained = tokio::select! {
            drained = server.serve(front, shutdown) => drained,
            never = sweep(&registry, clock.as_ref(), upload_lifetime) => match never {},
            never = settle(&registry, clock.as_ref()) => match never {},
            never = tell_trouble(&registry, &readiness) => match never {},
            never = reloading.run(source) => match never {},
            never = issuing.run(clock.as_ref()) => match never {},
        };
        if let Err(error) = work.await {
            tracing::error!(%error, "what runs jobs has failed");
        }
        tasks.close();
        let behind = tokio::time::timeout(BACKGROUND, tasks.wait()).await;
        if behind.is_err() {
            tracing::warn!(fills = tasks.len(), "fills that nobody waits for were given up");
        }
        if let Err(error) = registry.settle_uploads(true).await {
            tracing::error!(error = %telemetry::chain(&error), "upload sessions could not be saved");
        }
        drained.finished
    }
}

/// Keeps what `/readyz` says in step with the store, and tries a store in trouble until it is well.
async fn tell_trouble(registry: &Registry, readiness: &Readiness) -> Infallible {
    let mut trouble = registry.trouble();
    let tell = async {
        loop {
            readiness.set_trouble(*trouble.borrow_and_update());
            if trouble.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        never = tell => never,
        () = registry.watch_over() => std::future::pending().await,
    }
}

/// Saves upload sessions that have become older than most.
async fn settle(registry: &Registry, clock: &dyn Clock) -> Infallible {
    loop {
        clock.sleep(SETTLE).await;
        if let Err(error) = registry.settle_uploads(false).await {
            tracing::error!(error = %telemetry::chain(&error), "upload sessions could not be saved");
        }
    }
}

/// Ends forgotten upload sessions, at the start and then every hour.
async fn sweep(registry: &Registry, clock: &dyn Clock, lifetime: Duration) -> Infallible {
    loop {
        match registry.expire_uploads(lifetime).await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "upload sessions that nobody went on with were ended"),
            Err(error) => tracing::error!(error = %telemetry::chain(&error), "upload sessions could not be looked through"),
        }
        clock.sleep(SWEEP.min(lifetime)).await;
    }
}

/// Runs a server until SIGTERM or SIGINT. A second one ends the process at once.
pub(crate) async fn serve(config: Config, source: Source, mark: Mark) -> anyhow::Result<()> {
    let log = telemetry::log::init(config.log.format, &config.log.level)?;
    let served = Box::pin(serve_logged(config, (source, mark), log.clone())).await;
    log.flush();
    served
}

async fn serve_logged(config: Config, (source, mark): (Source, Mark), log: telemetry::log::Log) -> anyhow::Result<()> {
    server::raise_file_limit();
    server::keep_from_others();
    let facts = summary(&config);
    let encrypted = config.server.tls.is_some();
    if config.access.is_some() && !encrypted && !config.server.listen.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "passwords and tokens come here without encryption: set server.tls, unless something before this server ends it"
        );
    }
    let app = build(config, Arc::new(SystemClock::default())).await?.with_source(source, mark);
    tracing::info!(address = %app.local_addr(), tls = encrypted, version = telemetry::build::VERSION, storage = facts.0, upstreams = facts.1, "listening");
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping; running transfers may finish, a second signal cuts them");
        // Untracked: it waits for a signal that may never come, and ends with the process.
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("stopped at once");
            log.flush();
            std::process::exit(1);
        });
    };
    let finished = app.run(shutdown).await;
    tracing::info!(finished, "stopped");
    anyhow::ensure!(finished, "transfers were cut: they did not finish within server.drain_timeout");
    Ok(())
}

/// What the first log line tells: where content rests and who is pulled from.
fn summary(config: &Config) -> (String, String) {
    let hosts: Vec<&str> = config.upstreams.iter().map(|upstream: &config::Upstream| upstream.host.as_str()).collect();
    (config.storage.location.to_string(), hosts.join(","))
}
