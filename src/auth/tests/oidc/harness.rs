use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use roadstead_auth::{Auth, Fetch, Htpasswd, Memory, Oidc, Parts, Policy, Provider, Refusal, Signer};
use serde_json::{Value, json};
use telemetry::Clock;
use testing::ManualClock;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::issuer::Issuer;

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A clock, and what runs by it.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) tasks: TaskTracker,
}

/// An issuer as it is configured.
pub(crate) fn provider(name: &str, issuer: &Issuer) -> Provider {
    Provider::new(name, issuer.url(), vec!["registry".to_owned(), "https://registry.example.org".to_owned()])
}

pub(crate) fn client(origin: &str) -> Arc<dyn Fetch> {
    let config = outbound::Config { system_roots: false, ..outbound::Config::new(&Url::parse(origin).unwrap()) };
    Arc::new(outbound::Client::new(&config).unwrap())
}

impl World {
    pub(crate) fn new() -> Self {
        Self { clock: Arc::new(ManualClock::new()), tasks: TaskTracker::new() }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::<ManualClock>::clone(&self.clock)
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    pub(crate) fn oidc(&self, providers: Vec<Provider>) -> Oidc {
        let ways = providers.into_iter().map(|provider| (provider.clone(), client(&provider.issuer))).collect();
        Oidc::new(ways, self.clock(), &self.tasks).unwrap()
    }

    /// Good claims of this issuer, with these in their place; null removes one.
    pub(crate) fn claims(&self, issuer: &Issuer, changed: &Value) -> Value {
        let now = self.now();
        let mut claims = json!({ "iss": issuer.url(), "aud": "registry", "sub": "job", "exp": now + 300, "iat": now });
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    pub(crate) async fn auth(&self, oidc: Oidc, policy: Policy, accounts: &str) -> Auth {
        let records = Arc::new(Memory::default());
        Auth::new(Parts {
            policy,
            accounts: Htpasswd::parse(accounts).unwrap(),
            oidc,
            signer: Signer::new(Arc::clone(&records) as _, self.clock()).await.unwrap(),
            records,
            service: "registry.example.org".to_owned(),
            token_lifetime: Duration::from_mins(5),
            clock: self.clock(),
        })
    }

    /// Waits until whatever was begun behind an answer is done.
    pub(crate) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}

/// Whose token it is, or why it is not taken.
pub(crate) async fn named(oidc: &Oidc, token: &str) -> Result<String, Refusal> {
    oidc.verify(token).await.map(|verified| verified.principal().name().to_owned())
}
