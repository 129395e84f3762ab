//! The keys of one issuer as they are known here: fetched when they are wanted, kept, and fetched again when that may help.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use telemetry::{Clock, chain};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::oidc::fetch::{Fetch, FetchError};
use crate::oidc::jwks::KeySet;
use crate::oidc::provider::{Provider, ProviderError, unsafe_because};

/// Bytes of what an issuer publishes.
const LARGEST: usize = 1 << 20;
/// How long it may take to publish it, both answers together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Not more often is an issuer asked, however many tokens name keys that nobody knows.
const PAUSE: Duration = Duration::from_secs(30);
/// After this the keys are fetched again, behind the answers.
const FRESH: Duration = Duration::from_hours(1);
/// So long they are used while the issuer cannot be asked.
const LASTING: Duration = Duration::from_hours(24);
/// Characters of a foreign text in our log.
const SHOWN: usize = 200;

/// The keys of one issuer.
pub(crate) struct Keys {
    inner: Arc<Inner>,
    tasks: TaskTracker,
}

struct Inner {
    provider: Arc<Provider>,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// When the issuer was asked last, on the monotonic clock.
    asked: Option<Duration>,
    /// Open as long as it is being asked.
    flight: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<KeySet>,
    since: Duration,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("its answer took longer than {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("what it says of itself cannot be read")]
    Discovery,
    #[error("it calls itself {0:?}: write the issuer so, to the letter")]
    OtherIssuer(String),
    #[error("the address that it gives for its keys {0}")]
    Address(&'static str),
    #[error("its keys cannot be read")]
    Keys,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub(crate) fn new(provider: Arc<Provider>, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self { inner: Arc::new(Inner { provider, fetch, clock, state: Mutex::default() }), tasks }
    }

    /// The keys without waiting, if they may still be used. Old ones are fetched again behind the answer.
    pub(crate) fn at_hand(&self) -> Option<Arc<KeySet>> {
        let known = self.inner.known()?;
        let age = self.inner.clock.monotonic().saturating_sub(known.since);
        if age >= FRESH {
            self.ask();
        }
        (age < LASTING).then_some(known.keys)
    }

    /// The keys, which may have to be fetched.
    pub(crate) async fn any(&self) -> Option<Arc<KeySet>> {
        if let Some(keys) = self.at_hand() {
            return Some(keys);
        }
        self.renewed().await;
        self.at_hand()
    }

    /// Asks the issuer for its keys, or waits for whoever is asking; not, if it was asked a moment ago.
    pub(crate) async fn renewed(&self) {
        if let Some(mut flight) = self.ask() {
            // Ends with an error: that it is over.
            let _ = flight.changed().await;
        }
    }

    /// Begins to ask, if nobody does and it may be asked. Whoever is waiting for the answer may leave.
    fn ask(&self) -> Option<watch::Receiver<()>> {
        let now = self.inner.clock.monotonic();
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Some(flight.clone());
        }
        if state.asked.is_some_and(|asked| now.saturating_sub(asked) < PAUSE) {
            return None;
        }
        let (ends, flight) = watch::channel(());
        (state.asked, state.flight) = (Some(now), Some(flight.clone()));
        let inner = Arc::clone(&self.inner);
        self.tasks.spawn(async move {
            inner.renew(now).await;
            drop(ends);
        });
        Some(flight)
    }
}

impl Inner {
    fn known(&self) -> Option<Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).known.clone()
    }

    async fn renew(&self, now: Duration) {
        let loaded = tokio::select! {
            loaded = self.load() => loaded,
            () = self.clock.sleep(PATIENCE) => Err(LoadError::TooSlow),
        };
        let provider = self.provider.name.as_str();
        match loaded {
            Ok(keys) => {
                if keys.len() == 0 {
                    tracing::warn!(provider, "the issuer has no key that can be used: none of its tokens is taken");
                }
                let known = Some(Known { keys: Arc::new(keys), since: now });
                self.state.lock().unwrap_or_else(PoisonError::into_inner).known = known;
            }
            Err(error) => {
                let has_keys = self.known().is_some_and(|known| now.saturating_sub(known.since) < LASTING);
                let instead = if has_keys { "the last ones go on being used" } else { "its tokens are refused" };
                tracing::warn!(provider, error = chain(&error), instead, "the keys of the issuer cannot be fetched");
            }
        }
    }

    async fn load(&self) -> Result<KeySet, LoadError> {
        let address = match &self.provider.jwks_uri {
            Some(address) => address.clone(),
            None => self.discover().await?,
        };
        let bytes = self.fetch.fetch(&address, LARGEST).await?;
        KeySet::parse(&bytes).ok_or(LoadError::Keys)
    }

    /// Where the keys are. What the issuer says of itself must be what we call it, or anybody's keys could be put under its name.
    /// [`OpenID` Connect Discovery 1.0, 4.3]
    async fn discover(&self) -> Result<Url, LoadError> {
        let bytes = self.fetch.fetch(&self.provider.discovery()?, LARGEST).await?;
        let discovery: Discovery = serde_json::from_slice(&bytes).map_err(|_| LoadError::Discovery)?;
        if discovery.issuer != self.provider.issuer {
            return Err(LoadError::OtherIssuer(discovery.issuer.chars().take(SHOWN).collect()));
        }
        let issuer = self.provider.url()?;
        let keys = Url::parse(&discovery.jwks_uri).map_err(|_| LoadError::Address("is no URL"))?;
        if let Some(reason) = unsafe_because(&keys, issuer.scheme() == "http") {
            return Err(LoadError::Address(reason));
        }
        self.fetch.may_lead(&issuer, &keys)?;
        Ok(keys)
    }
}
