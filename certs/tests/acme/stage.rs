//! Replicas of a server, their store, their clock, and an ACME server that looks for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use roadstead_certs::acme::{Acme, Challenge, Did, Parts, Settings};
use roadstead_certs::{self as certs, Facts, Problem, Tls};
use rustls::ClientConfig;
use rustls::client::Resumption;
use telemetry::Clock;

use crate::front::{Front, Replica};
use crate::pebble::Pebble;
use crate::server::Server;
use crate::store::{Forward, Store};

pub(crate) const NAME: &str = "registry.example.test";

pub(crate) struct Stage {
    pub(crate) pebble: Pebble,
    pub(crate) server: Arc<Server>,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<Forward>,
    pub(crate) front: Arc<Front>,
    pub(crate) settings: Settings,
}

impl Stage {
    pub(crate) async fn new(challenges: &[Challenge]) -> Self {
        let front = Front::open().await;
        let pebble = Pebble::start(front.tls_port, front.http_port).await;
        let server = Arc::new(Server::new(pebble.client()));
        let settings = Settings {
            directory: pebble.directory(),
            contact: vec!["ops@example.test".to_owned()],
            challenges: challenges.to_vec(),
            ..Settings::new(vec![NAME.to_owned()])
        };
        Self { pebble, server, store: Arc::default(), clock: Arc::new(Forward::new()), front, settings }
    }

    /// Another replica; the last one made is the one that connections are led to.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_of(&self.settings)
    }

    pub(crate) fn replica_of(&self, settings: &Settings) -> Replica {
        let tls = Arc::new(Tls::with_acme(&certs::Settings::default(), &settings.domains).unwrap());
        let parts = Parts {
            tls: Arc::clone(&tls),
            records: Arc::clone(&self.store) as _,
            http: Arc::clone(&self.server) as _,
            clock: Arc::clone(&self.clock) as _,
        };
        let replica = Replica { acme: Arc::new(Acme::new(settings, parts).unwrap()), tls };
        self.front.lead_to(&replica);
        replica
    }

    /// A client that trusts the authority, and resumes no session: it would show the certificate of the first one.
    pub(crate) async fn client(&self) -> ClientConfig {
        let mut config = certs::client_config(&[self.pebble.root().await]).unwrap();
        config.resumption = Resumption::disabled();
        config
    }

    pub(crate) fn orders(&self) -> usize {
        self.server.made("/order-plz")
    }

    pub(crate) fn exchanges(&self) -> usize {
        self.server.exchanges.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl Replica {
    /// A turn that must go well.
    #[track_caller]
    pub(crate) fn turn(&self) -> impl Future<Output = Did> {
        let acme = Arc::clone(&self.acme);
        async move { acme.turn().await.outcome.unwrap() }
    }

    /// A turn that must not: what it says, and after which time it is worthwhile again.
    pub(crate) async fn failure(&self) -> (String, Duration) {
        let turn = self.acme.turn().await;
        (turn.outcome.unwrap_err().to_string(), turn.again)
    }

    pub(crate) fn facts(&self) -> Facts {
        self.tls.certificates().pop().unwrap()
    }

    pub(crate) fn problems(&self, now: SystemTime) -> Vec<Problem> {
        self.tls.problems(now, Duration::from_hours(14 * 24))
    }

    /// The only problem, in its words.
    #[track_caller]
    pub(crate) fn problem(&self, now: SystemTime) -> String {
        let problems = self.problems(now);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    }
}
