//! Tokens of other issuers: forges, clusters and directories say who their jobs and people are. [`OpenID` Connect Core 1.0; RFC 7519]
//!
//! A token names its issuer; only that issuer's keys are tried, and the kind of a key decides the algorithm. What somebody else wrote
//! into a token before it was proved (addresses, keys) leads nowhere.

mod claims;
mod fetch;
mod jwks;
mod keys;
mod provider;
mod refusal;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation};
use moka::sync::Cache;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use telemetry::Clock;
use tokio_util::task::TaskTracker;

pub use claims::Verified;
pub use fetch::{Fetch, FetchError};
pub use provider::{Algorithm, Provider, ProviderError};
pub use refusal::Refusal;
pub(crate) use token::{has_form, says_issuer};

use crate::oidc::jwks::KeySet;
use crate::oidc::keys::Keys;
use crate::oidc::token::Unproved;

/// Bytes of tokens that are remembered, and for how long after they were seen last.
const REMEMBERED: u64 = 16 << 20;
const REMEMBERED_FOR: Duration = Duration::from_mins(10);

/// Verifies tokens of several issuers. Cheap to clone.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

struct Inner {
    /// By what stands in `iss`.
    issuers: BTreeMap<String, Issuer>,
    /// By the SHA-256 of the token.
    verified: Cache<[u8; 32], Arc<Remembered>>,
    clock: Arc<dyn Clock>,
}

/// What was verified.
struct Remembered {
    issuer: String,
    /// Of the keys that were known.
    mark: [u8; 32],
    verified: Arc<Verified>,
}

struct Issuer {
    provider: Arc<Provider>,
    keys: Keys,
}

impl Oidc {
    /// Over these providers, each with its way out. Keys are fetched by tasks of `tasks`, when the first token of an issuer comes.
    pub fn new(
        providers: Vec<(Provider, Arc<dyn Fetch>)>,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> Result<Self, ProviderError> {
        let mut issuers: BTreeMap<String, Issuer> = BTreeMap::new();
        for (provider, fetch) in providers {
            provider.check()?;
            let same = issuers.values().map(|issuer| &issuer.provider).find(|known| is_same(known, &provider));
            if let Some(known) = same {
                return Err(ProviderError::Twice(known.name.clone(), provider.name));
            }
            let provider = Arc::new(provider);
            let keys = Keys::new(Arc::clone(&provider), fetch, Arc::clone(&clock), tasks.clone());
            issuers.insert(provider.issuer.clone(), Issuer { provider, keys });
        }
        let weight = |_: &[u8; 32], one: &Arc<Remembered>| u32::try_from(one.verified.size).unwrap_or(u32::MAX);
        let verified = Cache::builder().max_capacity(REMEMBERED).weigher(weight).time_to_idle(REMEMBERED_FOR).build();
        Ok(Self(Arc::new(Inner { issuers, verified, clock })))
    }

    /// Without any issuer: every token is refused.
    #[must_use]
    pub fn none(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { issuers: BTreeMap::new(), verified: Cache::new(0), clock }))
    }

    /// Is there no issuer?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.issuers.is_empty()
    }

    /// Who this token was made for, if its issuer made it for us and it is not over. Waits for keys that are not known, for ten seconds
    /// at most.
    pub async fn verify(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        if let Some(verified) = self.remembered(token) {
            return Ok(verified);
        }
        let unproved = Unproved::read(token)?;
        let issuer = self.0.issuers.get(&unproved.issuer).ok_or(Refusal::Issuer)?;
        let verified = issuer.prove(token, &unproved, self.now()).await;
        if let Err(refusal) = &verified {
            tracing::debug!(provider = issuer.provider.name, %refusal, "a token is refused");
        }
        let (keys, verified) = verified?;
        let one = Remembered { issuer: unproved.issuer, mark: keys.mark(), verified: Arc::clone(&verified) };
        self.0.verified.insert(Sha256::digest(token.as_bytes()).into(), Arc::new(one));
        Ok(verified)
    }

    /// What was verified before with the keys that are still the same, if the token is not over by now.
    pub(crate) fn remembered(&self, token: &str) -> Option<Arc<Verified>> {
        if self.is_empty() {
            return None;
        }
        let one = self.0.verified.get(&<[u8; 32]>::from(Sha256::digest(token.as_bytes())))?;
        let issuer = self.0.issuers.get(&one.issuer)?;
        let leeway = issuer.provider.leeway.as_secs();
        let is_good = one.verified.expires.saturating_add(leeway) > self.now() && issuer.keys.at_hand()?.mark() == one.mark;
        is_good.then(|| Arc::clone(&one.verified))
    }

    fn now(&self) -> u64 {
        self.0.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

fn is_same(one: &Provider, other: &Provider) -> bool {
    one.name == other.name || one.issuer == other.issuer
}

impl Issuer {
    /// The claims of a token that one of the issuer's keys has signed, and the keys among which it was.
    async fn prove(&self, token: &str, unproved: &Unproved, now: u64) -> Result<(Arc<KeySet>, Arc<Verified>), Refusal> {
        if !self.provider.algorithms.contains(&unproved.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let keys = self.keys.any().await.ok_or(Refusal::Unreachable)?;
        let (keys, claims) = match signed(token, unproved, &keys) {
            Ok(claims) => (keys, claims),
            // The issuer may have a new key by now. A wrong signature by a key that is known says nothing of the kind.
            Err(refusal) if refusal == Refusal::Key || unproved.kid.is_none() => {
                self.keys.renewed().await;
                let keys = self.keys.at_hand().ok_or(Refusal::Unreachable)?;
                let claims = signed(token, unproved, &keys)?;
                (keys, claims)
            }
            Err(refusal) => return Err(refusal),
        };
        claims::judge(&claims, &self.provider, now).map(|verified| (keys, Arc::new(verified)))
    }
}

/// The claims, if one of the keys that may have signed them did.
fn signed(token: &str, unproved: &Unproved, keys: &KeySet) -> Result<Value, Refusal> {
    let mut refusal = Refusal::Key;
    for key in keys.candidates(unproved.kid.as_deref(), unproved.algorithm) {
        if let Some(claims) = claims_by(token, unproved.algorithm, key) {
            return Ok(claims);
        }
        refusal = Refusal::Signature;
    }
    Err(refusal)
}

fn claims_by(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Value> {
    let mut validation = Validation::new(algorithm.in_header());
    // Looked at after the signature, by our clock and with their own reasons.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Value>(token, key, &validation).ok().map(|data| data.claims)
}

/// The bytes of a part of a token, or of a number of a key. [RFC 7515, 2]
fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl fmt::Debug for Oidc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Oidc").field(&self.0.issuers.keys()).finish()
    }
}
