//! From what a request shows to who it is.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use moka::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use telemetry::Clock;
use tokio::sync::Semaphore;

use crate::access::{Identity, Known};
use crate::credentials::Credentials;
use crate::htpasswd::Htpasswd;
use crate::oidc::{self, Oidc, Verified};
use crate::patience::Patience;
use crate::policy::Policy;
use crate::principal::Principal;
use crate::robots::{self, NewToken, RobotError, RobotToken, Robots};
use crate::scope::Scope;
use crate::signer::{Records, Signer, SignerError};
use crate::token::{Claims, Granted, ISSUER, REFRESH_LIFETIME, SHORTEST_LIFETIME};

/// Passwords that are looked at together: each takes a processor for tens of milliseconds.
const LOOKS: usize = 2;
/// Those that may wait for that.
const QUEUE: usize = 64;
/// What is remembered of right passwords and tokens, and for how long.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
/// What says that a token is one of access, or one that others are had for.
const ACCESS: &str = "access";
const REFRESH: &str = "refresh";
/// The kind of accounts of the file.
const USER: &str = "user";
/// The kind of accounts that have tokens.
const ROBOT: &str = "robot";

/// What it is made over.
pub struct Parts {
    /// The rules.
    pub policy: Policy,
    /// Accounts with passwords.
    pub accounts: Htpasswd,
    /// What verifies the tokens of other issuers.
    pub oidc: Oidc,
    /// What signs our own tokens.
    pub signer: Signer,
    /// Where robots are kept.
    pub records: Arc<dyn Records>,
    /// How this server is called in tokens: what is made for another one is not taken.
    pub service: String,
    /// How long an access token is taken.
    pub token_lifetime: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why nobody was made out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What was shown is wrong, over, or cannot be read; which of them, only the log is told.
    Wrong(&'static str),
    /// There were too many wrong ones: come again after that.
    Wait(Duration),
}

/// What a token is asked for.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The scopes.
    pub scopes: Vec<Scope>,
    /// A refresh token is wanted too.
    pub is_offline: bool,
}

/// A token that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The access token.
    pub token: SecretString,
    /// How long it is taken.
    pub expires_in: Duration,
    /// When it was made, in seconds since 1970.
    pub issued_at: u64,
    /// What another one is had for without a password.
    pub refresh_token: Option<SecretString>,
}

/// Makes out who asks. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    policy: RwLock<Arc<Policy>>,
    accounts: RwLock<Arc<Htpasswd>>,
    oidc: Oidc,
    signer: Signer,
    robots: robots::Store,
    service: String,
    token_lifetime: Duration,
    patience: Patience,
    looks: Semaphore,
    queue: Semaphore,
    /// Stamps of accounts by a mark of name and password that only this process can make.
    passwords: Cache<[u8; 32], Arc<str>>,
    process: [u8; 32],
    nobody: Arc<Principal>,
    /// Claims of tokens by their SHA-256.
    tokens: Cache<[u8; 32], Arc<Claims>>,
}

impl Auth {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            policy: RwLock::new(Arc::new(parts.policy)),
            accounts: RwLock::new(Arc::new(parts.accounts)),
            oidc: parts.oidc,
            signer: parts.signer,
            robots: robots::Store::new(parts.records, Arc::clone(&parts.clock)),
            service: parts.service,
            token_lifetime: parts.token_lifetime,
            patience: Patience::new(parts.clock),
            looks: Semaphore::new(LOOKS),
            queue: Semaphore::new(QUEUE),
            passwords: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build(),
            process: rand::random(),
            nobody: Arc::new(Principal::anonymous()),
            tokens: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build(),
        }))
    }

    /// Other accounts from now on.
    pub fn set_accounts(&self, accounts: Htpasswd) {
        *self.0.accounts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accounts);
    }

    /// Other rules from now on.
    pub fn set_policy(&self, policy: Policy) {
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The rules as they are now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.0.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the keys that tokens are signed with, and makes a new one if it is time. To be called now and then.
    pub async fn renew(&self) -> Result<(), SignerError> {
        self.0.signer.renew().await
    }

    /// How this server is called in tokens.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.0.service
    }

    fn accounts(&self) -> Arc<Htpasswd> {
        Arc::clone(&self.0.accounts.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn identity(&self, principal: impl Into<Arc<Principal>>) -> Identity {
        Identity { known: Known::Principal(principal.into()), stamp: None, until: None, policy: self.policy() }
    }

    /// Somebody who was made out in another way, such as by a certificate.
    #[must_use]
    pub fn identity_of(&self, principal: Principal) -> Identity {
        self.identity(principal)
    }

    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn anonymous(&self) -> Identity {
        self.identity(Arc::clone(&self.0.nobody))
    }

    /// Who sends this, from this address.
    pub async fn identify(&self, authorization: Option<&[u8]>, address: IpAddr) -> Result<Identity, Failure> {
        match Credentials::parse(authorization) {
            Credentials::None => Ok(self.anonymous()),
            // All but a token that is known is put into boxes of its own: those who wait for this keep room for its largest part.
            Credentials::Basic { name, password } => Box::pin(self.by_password(&name, password, address)).await,
            Credentials::Bearer(token) if is_robots(token) => Box::pin(self.by_robot(token, address)).await,
            Credentials::Bearer(token) => {
                let mark = Sha256::digest(token.as_bytes()).into();
                match self.remembered(&mark) {
                    Some(identity) => Ok(identity),
                    None => Box::pin(self.by_token(token, mark, address)).await,
                }
            }
            Credentials::Strange => Err(Failure::Wrong("the header Authorization cannot be read")),
        }
    }

    /// Somebody with a name and a password, or with a token in its place, which says itself whose it is.
    pub async fn by_password(&self, name: &str, password: SecretString, address: IpAddr) -> Result<Identity, Failure> {
        if is_robots(password.expose_secret()) {
            return self.by_robot(password.expose_secret(), address).await;
        }
        if !self.0.oidc.is_empty() && oidc::has_form(password.expose_secret()) {
            return self.by_issuer(password.expose_secret(), address).await;
        }
        let principal = || self.identity(Principal::known(USER, name));
        let mark = self.mark_of(name, password.expose_secret());
        if let (Some(known), Some(now)) = (self.0.passwords.get(&mark), self.stamp(name))
            && *known == *now
        {
            return Ok(principal());
        }
        if let Some(wait) = self.0.patience.wait(address, name) {
            return Err(Failure::Wait(wait));
        }
        let Ok(_place) = self.0.queue.try_acquire() else { return Err(Failure::Wait(Duration::from_secs(1))) };
        let Ok(_look) = self.0.looks.acquire().await else { return Err(Failure::Wait(Duration::from_secs(1))) };
        // Those who asked at the same moment have waited here for each other.
        if let Some(wait) = self.0.patience.wait(address, name) {
            return Err(Failure::Wait(wait));
        }
        let (accounts, asked) = (self.accounts(), name.to_owned());
        let looked = tokio::task::spawn_blocking(move || accounts.verify(&asked, password.expose_secret())).await;
        if !looked.unwrap_or(false) {
            self.0.patience.failed(address, name);
            return Err(Failure::Wrong("the password is wrong, or there is no such account"));
        }
        self.0.patience.succeeded(address, name);
        if let Some(stamp) = self.stamp(name) {
            self.0.passwords.insert(mark, stamp);
        }
        Ok(principal())
    }

    async fn by_robot(&self, token: &str, address: IpAddr) -> Result<Identity, Failure> {
        let found = self.0.robots.owner(token).await;
        let found = found.inspect_err(|error| tracing::error!(error = %telemetry::chain(error), "robots cannot be looked up"));
        // That the store cannot be reached is no fault of who asks.
        let Ok(found) = found else { return Err(Failure::Wait(Duration::from_secs(1))) };
        let Some((name, token)) = found else {
            // Nobody guesses one: a robot whose token is over must not hold up the others of its address. It waits itself.
            if let Some(wait) = self.0.patience.wait(address, ROBOT) {
                return Err(Failure::Wait(wait));
            }
            self.0.patience.failed(address, ROBOT);
            return Err(Failure::Wrong("the token of a robot is not known, is over, or was revoked"));
        };
        let principal = Principal::known(ROBOT, &name).in_groups(token.groups);
        Ok(Identity { stamp: Some(token.id), ..self.identity(principal) })
    }

    /// Robots and their tokens.
    pub async fn robots(&self) -> Result<Arc<Robots>, RobotError> {
        self.0.robots.all().await
    }

    /// Makes a token for a robot, which is made with its first one. It is told once.
    pub async fn create_robot_token(&self, name: &str, new: &NewToken) -> Result<(RobotToken, SecretString), RobotError> {
        self.0.robots.create(name, new).await
    }

    /// Ends a token of a robot, or all of them and the robot with them; also what clients have fetched with it.
    pub async fn revoke_robot_token(&self, name: &str, id: Option<&str>) -> Result<(), RobotError> {
        self.0.robots.revoke(name, id).await
    }

    /// Somebody with a token of another issuer.
    async fn by_issuer(&self, token: &str, address: IpAddr) -> Result<Identity, Failure> {
        if let Some(verified) = self.0.oidc.remembered(token) {
            return Ok(self.verified(&verified));
        }
        if let Some(wait) = self.0.patience.wait_at(address) {
            return Err(Failure::Wait(wait));
        }
        let looked = self.0.oidc.verify(token).await;
        if looked.as_ref().is_err_and(|refusal| refusal.is_guess()) {
            self.0.patience.failed_at(address);
        }
        looked.map(|verified| self.verified(&verified)).map_err(|refusal| Failure::Wrong(refusal.as_str()))
    }

    fn verified(&self, verified: &Verified) -> Identity {
        Identity { until: Some(verified.expires), ..self.identity(Arc::clone(&verified.principal)) }
    }

    /// Somebody with a token of ours that was looked at before and is good as far as can be told without waiting; otherwise it is looked
    /// at anew.
    fn remembered(&self, mark: &[u8; 32]) -> Option<Identity> {
        let claims = self.0.tokens.get(mark).filter(|claims| claims.exp > self.0.signer.now())?;
        let is_current = match claims.who.name().split_once(':') {
            Some((USER, name)) => self.has_stamp(name, &claims),
            Some((ROBOT, name)) => self.0.robots.has_at_hand(name, claims.stamp.as_deref()?)?,
            _ => true,
        };
        is_current.then(|| self.by_claims(claims))
    }

    fn by_claims(&self, claims: Arc<Claims>) -> Identity {
        Identity { until: claims.until, stamp: None, policy: self.policy(), known: Known::Token(claims) }
    }

    async fn by_token(&self, token: &str, key: [u8; 32], address: IpAddr) -> Result<Identity, Failure> {
        let claims = match self.0.tokens.get(&key) {
            Some(claims) if claims.exp > self.0.signer.now() => claims,
            _ if !self.0.oidc.is_empty() && !oidc::says_issuer(token, ISSUER) => return self.by_issuer(token, address).await,
            _ => {
                let claims = self.claims(token, ACCESS).await?;
                self.0.tokens.insert(key, Arc::clone(&claims));
                claims
            }
        };
        self.is_current(&claims).await?;
        Ok(self.by_claims(claims))
    }

    async fn claims(&self, token: &str, kind: &str) -> Result<Arc<Claims>, Failure> {
        let wrong = Failure::Wrong("the token is not one of ours, or is over");
        let claims: Claims = self.0.signer.verify(token, &self.0.service).await.ok_or(wrong)?;
        if claims.kind == kind { Ok(Arc::new(claims)) } else { Err(Failure::Wrong("the token is of another kind")) }
    }

    /// Is the account still as it was when the token was made?
    async fn is_current(&self, claims: &Claims) -> Result<(), Failure> {
        let is_current = match claims.who.name().split_once(':') {
            Some((USER, name)) => self.has_stamp(name, claims),
            Some((ROBOT, name)) => match &claims.stamp {
                Some(id) => self.0.robots.has(name, id).await,
                None => false,
            },
            _ => true,
        };
        let gone = Failure::Wrong("the account has another password by now, or its token was revoked, or it is gone");
        if is_current { Ok(()) } else { Err(gone) }
    }

    /// Somebody with a refresh token.
    pub async fn by_refresh_token(&self, token: &str, address: IpAddr) -> Result<Identity, Failure> {
        let found = self.claims(token, REFRESH).await;
        // As with robots: whoever has a right one is not held up by others of his address.
        let claims = found.map_err(|wrong| {
            let wait = self.0.patience.wait(address, REFRESH);
            wait.map_or_else(
                || {
                    self.0.patience.failed(address, REFRESH);
                    wrong
                },
                Failure::Wait,
            )
        })?;
        self.is_current(&claims).await?;
        if claims.stamp.is_none() {
            return Err(Failure::Wrong("what the token was made for cannot be renewed by it"));
        }
        Ok(Identity { stamp: claims.stamp.clone(), ..self.identity(claims.who.clone()) })
    }

    /// A token for as much of what is asked as the rules allow; asking for more is no error. [distribution, spec/auth/token]
    ///
    /// Whoever is known by a token of another issuer gets one that ends with that (but a minute is the least that clients are told),
    /// none to renew it by, and after its end none at all for one that he had before.
    #[must_use]
    pub fn grant(&self, identity: &Identity, request: &TokenRequest) -> Option<Made> {
        let access = identity.granted(&request.scopes);
        let now = self.0.signer.now();
        if identity.has_token() && identity.until.is_some_and(|until| until <= now) {
            return None;
        }
        let left = |until: u64| Duration::from_secs(until.saturating_sub(now)).max(SHORTEST_LIFETIME);
        let lifetime = identity.until.map_or(self.0.token_lifetime, |until| left(until).min(self.0.token_lifetime));
        let token = self.0.signer.sign(&self.claims_of(identity, ACCESS, now, lifetime, access))?;
        // What cannot be ended by a new password or a revocation is not renewed without being shown again: a certificate, say.
        let can_end = identity.stamp.is_some() || identity.principal().name().starts_with("user:");
        let refresh = (request.is_offline && can_end && identity.until.is_none())
            .then(|| self.0.signer.sign(&self.claims_of(identity, REFRESH, now, REFRESH_LIFETIME, Vec::new())))
            .flatten();
        Some(Made { token: token.into(), expires_in: lifetime, issued_at: now, refresh_token: refresh.map(Into::into) })
    }

    fn claims_of(&self, identity: &Identity, kind: &str, now: u64, lifetime: Duration, access: Vec<Granted>) -> Claims {
        let who = identity.principal().clone();
        Claims {
            iss: ISSUER.to_owned(),
            aud: self.0.service.clone(),
            sub: who.name().to_owned(),
            iat: now,
            nbf: now,
            exp: now + lifetime.as_secs(),
            kind: kind.to_owned(),
            until: identity.until,
            stamp: who
                .name()
                .strip_prefix("user:")
                .map_or_else(|| identity.stamp.clone(), |name| self.stamp(name).map(|stamp| stamp.as_ref().to_owned())),
            who,
            access,
        }
    }

    /// What tells an account as it is from what it was and will be.
    fn stamp(&self, name: &str) -> Option<Arc<str>> {
        self.0.accounts.read().unwrap_or_else(PoisonError::into_inner).stamp(name).cloned()
    }

    /// Has the account the password that it had when the token was made?
    fn has_stamp(&self, name: &str, claims: &Claims) -> bool {
        let accounts = self.0.accounts.read().unwrap_or_else(PoisonError::into_inner);
        claims.stamp.is_some() && claims.stamp.as_deref() == accounts.stamp(name).map(AsRef::as_ref)
    }

    fn mark_of(&self, name: &str, password: &str) -> [u8; 32] {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0.process) else { return [0; 32] };
        let mac = mac.chain_update(name.as_bytes()).chain_update(b"\n").chain_update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn is_robots(secret: &str) -> bool {
    secret.starts_with(robots::PREFIX)
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Auth")
    }
}
