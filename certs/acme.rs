//! Certificates from an ACME server (RFC 8555), as Let's Encrypt is one, for all replicas of a server.
//!
//! The replicas share an account, the certificates and the answers to challenges by their [`Records`]: one of them orders, all
//! of them answer, and each takes over what was issued. Whoever drives this calls [`Acme::turn`] again and again.

mod account;
mod challenge;
mod error;
mod kept;
mod lease;
mod order;
mod pending;
mod records;
mod renewal;
mod settings;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use rustls::ServerConfig;
use rustls::server::ClientHello;
use telemetry::Clock;
use tokio::sync::Mutex;

pub use self::error::Error;
pub use self::records::{Records, RecordsError, Version};
pub use self::settings::{Challenge, Settings};
pub use self::wire::{Http, HttpError};

use self::kept::Kept;
use self::lease::{LEASE, Lease};
use self::order::Order;
use self::pending::Pending;
use self::records::Shelf;
use self::renewal::Suggestion;
use self::wire::Wire;
use crate::facts::Facts;
use crate::tls::Tls;

/// An order may take so long, which is less than the others wait for it.
const LIMIT: Duration = Duration::from_mins(4);
/// What the server is asked for beside orders may take so long.
const ASIDE: Duration = Duration::from_secs(20);
/// The longest time after which it is looked again whether another replica has a newer certificate.
const LOOK: Duration = Duration::from_mins(10);
/// While another replica orders, and there is nothing to serve; else it need not be that soon.
const SOON: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(30);
/// The longest token that is looked for; Let's Encrypt's have 43 characters.
const LONGEST_TOKEN: usize = 128;
/// Where HTTP-01 is answered (RFC 8555, section 8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// What [`Acme`] works with.
#[derive(Clone)]
pub struct Parts {
    /// Where the certificate is served: made by [`Tls::with_acme`].
    pub tls: Arc<Tls>,
    /// What the replicas share.
    pub records: Arc<dyn Records>,
    /// The way to the ACME server.
    pub http: Arc<dyn Http>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Has certificates issued and renewed.
pub struct Acme {
    settings: Settings,
    tls: Arc<Tls>,
    shelf: Shelf,
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
    pending: Pending,
    /// Held during a turn.
    memory: Mutex<Memory>,
}

/// What a turn came to.
#[derive(Debug)]
pub struct Turn {
    /// What was done, or what was wrong.
    pub outcome: Result<Did, Error>,
    /// After which time the next turn is worthwhile. An earlier one does no harm: it orders nothing before its time.
    pub again: Duration,
}

/// What a turn did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    /// Nothing: the certificate is good.
    Nothing {
        /// When it will be renewed.
        renewal: SystemTime,
    },
    /// A certificate that was kept, or that another replica had issued, is served from now on.
    Took,
    /// A certificate was issued, is kept, and is served from now on.
    Ordered,
    /// Another replica is ordering.
    Another,
    /// An attempt has failed, here or at another replica, and the next one has to wait.
    Waits {
        /// What was wrong.
        trouble: String,
    },
}

#[derive(Default)]
struct Memory {
    served: Option<Served>,
    /// What could not be kept yet.
    unsaved: Option<Kept>,
    /// For what is served.
    suggestion: Option<Suggestion>,
}

struct Served {
    kept: Kept,
    facts: Facts,
    identifier: Option<CertificateIdentifier<'static>>,
}

impl Acme {
    /// Asks nobody for anything yet. Fails if the settings cannot be used.
    pub fn new(settings: &Settings, parts: Parts) -> Result<Self, Error> {
        let Parts { tls, records, http, clock } = parts;
        let shelf = Shelf::new(records, Arc::clone(&clock));
        let pending = Pending::new(shelf.clone());
        Ok(Self { settings: settings.checked()?, tls, shelf, http, clock, pending, memory: Mutex::default() })
    }

    /// Serves the certificate that is kept, if there is one that is not served yet, and says whether. Orders nothing: it is for the
    /// time before a server listens.
    pub async fn load(&self) -> Result<bool, Error> {
        self.load_into(&mut *self.memory.lock().await).await
    }

    /// Does what is to be done now: takes over what is kept, and orders if there is nothing or it is time. Takes a few minutes
    /// at most. What is wrong is told by [`Tls::problems`] too.
    ///
    /// Dropping it in the middle of an order leaves the order to the next turn, here or elsewhere, a few minutes later.
    pub async fn turn(&self) -> Turn {
        let mut memory = self.memory.lock().await;
        let (outcome, again) = match Box::pin(self.step(&mut memory)).await {
            Ok((did, again)) => (Ok(did), again),
            Err((error, again)) => (Err(error), again),
        };
        match &outcome {
            Ok(Did::Nothing { .. } | Did::Took | Did::Ordered) => self.tls.set_trouble(None),
            Ok(Did::Waits { trouble }) => self.tls.set_trouble(Some(trouble.clone())),
            Ok(Did::Another) => {}
            Err(error) => self.tls.set_trouble(Some(error.to_string())),
        }
        // Replicas that were started together need not look together.
        let again = again.mul_f64(1.0 + rand::random::<f64>() / 10.0);
        Turn { outcome, again }
    }

    /// What is answered at a path over plain HTTP, if it is that of a challenge under way; whichever replica it is of.
    pub async fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(WELL_KNOWN)?;
        let stands = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(stands) {
            return None;
        }
        Some(self.pending.of_token(token).await?.authorization)
    }

    /// With what a handshake is answered that wants to see a name proven by TLS-ALPN-01, if that is under way. `None` for every
    /// other handshake, which [`Tls::config`] is for: it refuses those that offer `acme-tls/1` alone.
    ///
    /// After such a handshake the connection is closed: no HTTP is spoken on it.
    pub fn challenge(&self, hello: &ClientHello<'_>) -> impl Future<Output = Option<Arc<ServerConfig>>> + Send + use<'_> {
        let asked = challenge::asked(hello);
        async move {
            // Whether the name is one of ours is not asked: another replica may have newer settings.
            let answer = self.pending.of_domain(&asked?).await?;
            let made = challenge::config(&answer);
            made.inspect_err(|cause| tracing::warn!(%cause, "a challenge cannot be answered")).ok().map(Arc::new)
        }
    }

    async fn step(&self, memory: &mut Memory) -> Result<(Did, Duration), (Error, Duration)> {
        let soon = |error| (error, LATER);
        if let Some(kept) = memory.unsaved.clone() {
            kept::keep(&self.shelf, &kept).await.map_err(soon)?;
            memory.unsaved = None;
        }
        let took = self.load_into(memory).await.map_err(soon)?;
        let due = self.due(memory).await;
        let left = |due: SystemTime| due.duration_since(self.clock.now()).unwrap_or_default();
        if let Some(due) = due.filter(|due| !left(*due).is_zero()) {
            let did = if took { Did::Took } else { Did::Nothing { renewal: due } };
            return Ok((did, left(due).min(LOOK)));
        }
        self.pending.check().await.map_err(soon)?;
        match lease::take(&self.shelf, &self.settings).await.map_err(soon)? {
            lease::Turn::Another => Ok((Did::Another, if memory.served.is_some() { LATER } else { SOON })),
            lease::Turn::Wait { left, trouble } => Ok((Did::Waits { trouble }, left.min(LOOK))),
            lease::Turn::Ours(lease) => self.order(memory, lease).await,
        }
    }

    /// The right to order is ours.
    async fn order(&self, memory: &mut Memory, lease: Lease) -> Result<(Did, Duration), (Error, Duration)> {
        let wire = self.wire();
        let order = Order {
            settings: &self.settings,
            shelf: &self.shelf,
            pending: &self.pending,
            wire: &wire,
            failures: lease.failures,
            placed: AtomicBool::new(false),
        };
        let issued = tokio::select! {
            biased;
            issued = Box::pin(self.issue(memory, &order)) => issued,
            () = self.clock.sleep(LIMIT) => Err(Error::Slow { limit: LIMIT }),
        };
        let placed = order.placed.load(Ordering::Relaxed);
        match issued {
            Ok(did) => {
                // Served already: if it cannot be written down, the next turn does it.
                if let Err(error) = lease.succeed(&self.shelf).await {
                    tracing::debug!(%error, "that the order has succeeded cannot be kept");
                }
                if memory.unsaved.is_some() {
                    let lost = RecordsError("a certificate was issued and cannot be kept yet".into());
                    return Err((lost.into(), LATER));
                }
                Ok((did, LOOK))
            }
            Err(error) => {
                let wait = lease.fail(&self.shelf, &error, placed).await;
                // Unwritten, the failure counts as an order that is under way, until its time is over.
                Err((error, wait.unwrap_or(LEASE)))
            }
        }
    }

    async fn issue(&self, memory: &mut Memory, order: &Order<'_>) -> Result<Did, Error> {
        // Another replica may have come to an end between the look and the lease.
        if self.load_into(memory).await? && self.due(memory).await.is_some_and(|due| due > self.clock.now()) {
            return Ok(Did::Took);
        }
        let renews = memory.served.as_ref().filter(|served| served.kept.is_for(&self.settings));
        let suggested = memory.suggestion.as_ref().is_some_and(|suggestion| suggestion.at.is_some());
        let replaces = renews.and_then(|served| served.identifier.clone()).filter(|_| suggested);
        let kept = order.issue(replaces.as_ref()).await?;
        self.serve(memory, &kept)?;
        if let Err(error) = kept::keep(&self.shelf, &kept).await {
            tracing::warn!(%error, "a certificate was issued and cannot be kept yet");
            memory.unsaved = Some(kept);
        }
        Ok(Did::Ordered)
    }

    async fn load_into(&self, memory: &mut Memory) -> Result<bool, Error> {
        let Some(kept) = kept::newest(&self.shelf, &self.settings).await? else { return Ok(false) };
        if memory.served.as_ref().is_some_and(|served| served.kept == kept) {
            return Ok(false);
        }
        let damaged = |_| Error::Damaged { record: "certificates".to_owned(), then: "a new certificate is ordered" };
        self.serve(memory, &kept).map_err(damaged)?;
        Ok(true)
    }

    fn serve(&self, memory: &mut Memory, kept: &Kept) -> Result<(), Error> {
        let chain = kept.chain()?;
        let served = Served { kept: kept.clone(), facts: chain.facts.clone(), identifier: renewal::identifier(&chain) };
        self.tls.take_from_acme(chain).map_err(|cause| Error::Issued { reason: cause.to_string() })?;
        tracing::info!(names = %served.facts.names.join(", "), issuer = %served.facts.issuer, "a certificate by ACME is served");
        memory.served = Some(served);
        memory.suggestion = None;
        Ok(())
    }

    /// When another certificate is ordered; `None` if there is not the right one.
    async fn due(&self, memory: &mut Memory) -> Option<SystemTime> {
        let served = memory.served.as_ref().filter(|served| served.kept.is_for(&self.settings))?;
        let now = self.clock.monotonic();
        if memory.suggestion.as_ref().is_none_or(|suggestion| suggestion.again <= now) {
            let found = match &served.identifier {
                Some(identifier) => self.suggestion(identifier, now).await,
                None => Suggestion::none(now),
            };
            memory.suggestion = Some(found);
        }
        let suggested = memory.suggestion.as_ref().and_then(|suggestion| suggestion.at);
        let due = renewal::due(&served.facts, &self.settings, suggested);
        Some(served.kept.rests_until(served.facts.lifetime(), self.clock.now()).map_or(due, |rest| due.max(rest)))
    }

    /// A courtesy, for which nothing else waits long.
    async fn suggestion(&self, identifier: &CertificateIdentifier<'_>, now: Duration) -> Suggestion {
        let wire = self.wire();
        let ask = Box::pin(async {
            match account::known(&self.shelf, &self.settings, &wire).await {
                Ok(Some(account)) => Suggestion::ask(&account, identifier, now).await,
                _ => Suggestion::none(now),
            }
        });
        tokio::select! {
            biased;
            found = ask => found,
            () = self.clock.sleep(ASIDE) => Suggestion::none(now),
        }
    }

    fn wire(&self) -> Wire {
        Wire::new(Arc::clone(&self.http), Arc::clone(&self.clock), &self.settings.directory)
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Acme").field("settings", &self.settings).finish_non_exhaustive()
    }
}
