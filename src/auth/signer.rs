//! The keys that our own tokens are signed with: made once, kept with what the server stores, so that replicas know each other's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use telemetry::Clock;

/// Where the keys are kept.
const KEY: &str = "keys";
/// A key signs for so long; what it signed is taken for as long again.
const LIFETIME: Duration = Duration::from_hours(30 * 24);
/// How often the keys are read again for one that is not known.
const AGAIN: u64 = 10;
/// Clocks of replicas differ by no more.
const LEEWAY: u64 = 30;

/// Small objects that outlive the process and are the same for all replicas.
#[async_trait]
pub trait Records: Send + Sync {
    /// The object; `None` if it is not there.
    async fn read(&self, key: &str) -> Result<Option<Bytes>, RecordsError>;

    /// Changes the object by compare-and-swap: `change` is asked again after each lost race. Where it gives `None` the object stays as
    /// it is. Gives what stands there in the end.
    async fn update(&self, key: &str, change: Change<'_>) -> Result<Option<Bytes>, RecordsError>;
}

/// What makes the next content of an object out of the present one.
pub type Change<'c> = &'c mut (dyn FnMut(Option<&[u8]>) -> Option<Bytes> + Send);

/// The records cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("what is kept of accounts and keys cannot be reached")]
pub struct RecordsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why there is nothing to sign with.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The records cannot be reached.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What is kept is not what was written.
    #[error("the keys that tokens are signed with cannot be read; remove `auth/keys` from the store, and clients log in again")]
    Damaged,
}

#[derive(Clone, Serialize, Deserialize)]
struct Secret {
    /// Its name, which a token has in its head.
    id: String,
    /// In base64.
    bytes: String,
    /// When it was made, in seconds since 1970.
    made: u64,
}

#[derive(Default)]
struct Known {
    /// By their names.
    keys: BTreeMap<String, (EncodingKey, DecodingKey)>,
    current: String,
    /// When they were read.
    read: u64,
}

/// Signs and verifies.
pub struct Signer {
    records: Arc<dyn Records>,
    known: RwLock<Known>,
    clock: Arc<dyn Clock>,
}

fn seconds(clock: &dyn Clock) -> u64 {
    clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Signer {
    /// Reads the keys, and makes a new one if there is none or the last one is old.
    pub async fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Result<Self, SignerError> {
        let signer = Self { records, known: RwLock::default(), clock };
        signer.renew().await?;
        Ok(signer)
    }

    /// Reads the keys again, and makes a new one if it is time. To be called now and then.
    pub async fn renew(&self) -> Result<(), SignerError> {
        let now = seconds(self.clock.as_ref());
        let is_old = |secret: &Secret| secret.made + LIFETIME.as_secs() <= now;
        let mut renew = |found: Option<&[u8]>| {
            let mut secrets: Vec<Secret> = found.map_or_else(|| Some(Vec::new()), |bytes| serde_json::from_slice(bytes).ok())?;
            if !secrets.first().is_none_or(is_old) {
                return None;
            }
            secrets.retain(|secret| secret.made + 2 * LIFETIME.as_secs() > now);
            secrets.insert(0, fresh(now));
            serde_json::to_vec(&secrets).ok().map(Bytes::from)
        };
        let found = self.records.update(KEY, &mut renew).await?.ok_or(SignerError::Damaged)?;
        let secrets: Vec<Secret> = serde_json::from_slice(&found).map_err(|_| SignerError::Damaged)?;
        self.take(&secrets)
    }

    fn take(&self, secrets: &[Secret]) -> Result<(), SignerError> {
        let mut known = Known { read: seconds(self.clock.as_ref()), ..Known::default() };
        for secret in secrets {
            let bytes = URL_SAFE_NO_PAD.decode(&secret.bytes).ok().filter(|bytes| bytes.len() >= 32);
            let bytes = bytes.ok_or(SignerError::Damaged)?;
            known.keys.insert(secret.id.clone(), (EncodingKey::from_secret(&bytes), DecodingKey::from_secret(&bytes)));
        }
        known.current = secrets.first().map(|secret| secret.id.clone()).ok_or(SignerError::Damaged)?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Signs claims with the present key.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (key, _) = known.keys.get(&known.current)?;
        let header = Header { kid: Some(known.current.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, key).ok()
    }

    /// The claims of a token that one of us signed for `audience`, and that is not over.
    pub(crate) async fn verify<C: DeserializeOwned>(&self, token: &str, audience: &str) -> Option<C> {
        let header = jsonwebtoken::decode_header(token).ok().filter(|header| header.alg == Algorithm::HS256)?;
        let id = header.kid?;
        if !self.knows(&id) && !self.read_again().await {
            return None;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (_, key) = known.keys.get(&id)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[crate::token::ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        // The clock comes in: times are looked at below.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let claims = jsonwebtoken::decode::<serde_json::Value>(token, key, &validation).ok()?.claims;
        let now = seconds(self.clock.as_ref());
        let time = |name: &str| claims[name].as_u64();
        if time("exp")? + LEEWAY <= now || time("nbf").is_some_and(|from| from > now + LEEWAY) {
            return None;
        }
        serde_json::from_value(claims).ok()
    }

    fn knows(&self, id: &str) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).keys.contains_key(id)
    }

    /// Another server may have made one. Not for everybody who sends a name that he has made up.
    async fn read_again(&self) -> bool {
        let now = seconds(self.clock.as_ref());
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.read + AGAIN > now {
                return false;
            }
            known.read = now;
        }
        let Ok(Some(bytes)) = self.records.read(KEY).await else { return false };
        let Ok(secrets) = serde_json::from_slice::<Vec<Secret>>(&bytes) else { return false };
        self.take(&secrets).is_ok()
    }

    pub(crate) fn now(&self) -> u64 {
        seconds(self.clock.as_ref())
    }
}

fn fresh(now: u64) -> Secret {
    let bytes: [u8; 32] = rand::random();
    let id: [u8; 6] = rand::random();
    Secret { id: URL_SAFE_NO_PAD.encode(id), bytes: URL_SAFE_NO_PAD.encode(bytes), made: now }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}
