//! Tokens: where they come from, who may see the credentials for them, how long they live.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};
use moka::future::Cache;
use outbound::redacted;
use secrecy::ExposeSecret;
use serde::Deserialize;
use telemetry::Clock;
use url::Url;

use crate::config::Credentials;
use crate::outcome::{Refusal, retry_after};
use crate::payload::Payload;
use crate::wire::{Method, Reply, Request, Wire};

/// What a token may not live less than, and lives if the realm does not say. [distribution, spec/auth/token]
const MIN_LIFETIME: u64 = 60;

/// Longer promises are not believed.
const MAX_LIFETIME: u64 = 24 * 60 * 60;

/// The most of a realm's answer that is read.
const TOKEN_LIMIT: usize = 64 << 10;

/// Bytes of tokens that are kept, one token per repository in use, with the names that they are kept under.
const CAPACITY: u64 = 16 << 20;

/// Docker Hub's registry and its realm are two hosts of one owner.
const DOCKER_HUB: (&str, &str) = ("registry-1.docker.io", "auth.docker.io");

/// Tokens of one upstream.
pub(crate) struct Tokens {
    cache: Cache<Key, Fetched>,
    origin: Url,
    credentials: Option<Credentials>,
    realms: Vec<String>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    realm: String,
    service: Option<String>,
    scope: String,
    credentials: bool,
}

/// The result of a fetch. Failures are shared with those who waited for the same fetch, and replaced by whoever comes later.
type Fetched = Result<Token, Refusal>;

#[derive(Clone, Debug)]
struct Token {
    /// `Bearer …`, marked as sensitive.
    authorization: HeaderValue,
    expires: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(crate) fn new(origin: Url, credentials: Option<Credentials>, realms: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        let weigh = |key: &Key, fetched: &Fetched| {
            let names = key.realm.len() + key.service.as_ref().map_or(0, String::len) + key.scope.len();
            let token = fetched.as_ref().map_or(0, |token| token.authorization.len());
            u32::try_from(names + token + 256).unwrap_or(u32::MAX)
        };
        let cache =
            Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_live(Duration::from_secs(MAX_LIFETIME)).build();
        Self { cache, origin, credentials, realms, clock }
    }

    /// `Basic …`, for the upstream itself and allowed realms; `None` without credentials.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let Credentials { username, password } = self.credentials.as_ref()?;
        let encoded = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        sensitive(&format!("Basic {encoded}"))
    }

    /// A token of `realm` for all of `scopes`, kept or fetched. Concurrent calls share one fetch. `rejected` is a token that the
    /// registry has just refused: it is not given again.
    pub(crate) async fn bearer(
        &self,
        wire: &Wire,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        rejected: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Refusal> {
        let realm = self.realm(wire, realm)?;
        let credentials = self.credentials.is_some() && self.may_have_credentials(&realm);
        let key = Key { realm: realm.to_string(), service: service.map(str::to_owned), scope: scopes.join(" "), credentials };
        let url = token_url(&realm, service, scopes);
        let now = self.clock.monotonic();
        let stale = |fetched: &Fetched| match fetched {
            Ok(token) => token.expires <= now || Some(&token.authorization) == rejected,
            Err(_) => true,
        };
        let entry = self.cache.entry(key).or_insert_with_if(self.fetch(wire, &url, credentials), stale).await;
        entry.into_value().map(|token| token.authorization)
    }

    /// The realm as a URL that we may ask.
    fn realm(&self, wire: &Wire, text: &str) -> Result<Url, Refusal> {
        let mut realm = self.origin.join(text).map_err(|_| Refusal::Failed("the token realm is not a URL".to_owned()))?;
        // A name in the realm's URL is none of ours. Cannot fail for URLs with a host.
        let _ = realm.set_username("");
        let _ = realm.set_password(None);
        realm.set_fragment(None);
        wire.check(&self.origin, &realm)?;
        Ok(realm)
    }

    /// A hostile upstream can name any realm, and would so collect credentials. They go to the upstream's own origin, to
    /// Docker Hub's realm from Docker Hub, and to hosts that the operator has named.
    fn may_have_credentials(&self, realm: &Url) -> bool {
        if realm.origin() == self.origin.origin() {
            return true;
        }
        if realm.scheme() != "https" && self.origin.scheme() == "https" {
            return false;
        }
        let host = realm.host_str().unwrap_or_default();
        let is_hub = self.origin.host_str() == Some(DOCKER_HUB.0) && host == DOCKER_HUB.1;
        if is_hub && realm.scheme() == "https" && realm.port().is_none() {
            return true;
        }
        let bare = realm.port().is_none().then(|| host.to_owned());
        let full = realm.port_or_known_default().map(|port| format!("{host}:{port}"));
        let names = [bare, full];
        self.realms.iter().any(|allowed| names.iter().flatten().any(|name| allowed.eq_ignore_ascii_case(name)))
    }

    async fn fetch(&self, wire: &Wire, url: &Url, credentials: bool) -> Fetched {
        if self.credentials.is_some() && !credentials {
            tracing::warn!(
                upstream = %redacted(&self.origin),
                realm = %redacted(url),
                "the upstream names a token realm elsewhere; it is asked without credentials, add its host to realms if it \
                 may have them"
            );
        }
        let began = self.clock.monotonic();
        let authorization = if credentials { self.basic() } else { None };
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let reply = wire.send(Request { method: Method::Get, url, headers, authorization, payload: Payload::Empty }).await?;
        let answer = self.read(reply, credentials).await?;
        let lifetime = answer.expires_in.unwrap_or(MIN_LIFETIME).clamp(MIN_LIFETIME, MAX_LIFETIME);
        // A tenth is kept back for slow clocks and requests under way, and at most half a minute.
        let usable = lifetime - (lifetime / 10).min(30);
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        let token = token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| Refusal::Failed("the token realm's answer holds no token".to_owned()))?;
        let authorization = sensitive(&format!("Bearer {token}"))
            .ok_or_else(|| Refusal::Failed("the token realm's token cannot stand in a header".to_owned()))?;
        Ok(Token { authorization, expires: began + Duration::from_secs(usable) })
    }

    async fn read(&self, reply: Reply, credentials: bool) -> Result<Answer, Refusal> {
        let response = reply.response;
        let realm = redacted(&response.url);
        match response.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED if credentials => {
                let text = format!("{realm} does not accept the credentials: check username and password_file");
                return Err(Refusal::Failed(text));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::Denied),
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(Refusal::TooMany { retry_after: retry_after(&response, self.clock.now()) });
            }
            status => return Err(Refusal::Failed(format!("{status} from the token realm {realm}"))),
        }
        let bytes = response.bytes(TOKEN_LIMIT).await.map_err(|cause| Refusal::Failed(cause.to_string()))?;
        // The parser's error could quote the token.
        serde_json::from_slice(&bytes).map_err(|_| Refusal::Failed(format!("the answer of the token realm {realm} is no token")))
    }
}

fn token_url(realm: &Url, service: Option<&str>, scopes: &[String]) -> Url {
    let mut url = realm.clone();
    {
        let mut pairs = url.query_pairs_mut();
        if let Some(service) = service {
            pairs.append_pair("service", service);
        }
        for scope in scopes {
            pairs.append_pair("scope", scope);
        }
    }
    url
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use telemetry::SystemClock;

    use super::*;

    fn allowed(origin: &str, realms: &[&str], realm: &str) -> bool {
        let realms = realms.iter().map(|host| (*host).to_owned()).collect();
        let tokens = Tokens::new(Url::parse(origin).unwrap(), None, realms, Arc::new(SystemClock::default()));
        tokens.may_have_credentials(&Url::parse(realm).unwrap())
    }

    #[test]
    fn credentials_go_to_the_same_origin_to_docker_hubs_realm_and_to_named_hosts_only() {
        assert!(allowed("https://r.example", &[], "https://r.example/token"));
        assert!(allowed("https://r.example", &[], "https://r.example:443/token"));
        assert!(!allowed("https://r.example", &[], "https://r.example:8443/token"));
        assert!(!allowed("https://r.example", &[], "http://r.example/token"));
        assert!(!allowed("https://r.example", &[], "https://auth.r.example/token"));
        assert!(allowed("https://r.example", &["Auth.example"], "https://auth.example/token"));
        assert!(!allowed("https://r.example", &["auth.example"], "https://auth.example:8443/token"));
        assert!(allowed("https://r.example", &["auth.example:8443"], "https://auth.example:8443/token"));
        assert!(!allowed("https://r.example", &["auth.example"], "http://auth.example/token"));
        assert!(allowed("https://registry-1.docker.io", &[], "https://auth.docker.io/token"));
        assert!(!allowed("https://registry-1.docker.io", &[], "https://auth.docker.io:8443/token"));
        assert!(!allowed("https://evil.example", &[], "https://auth.docker.io/token"));
    }

    #[test]
    fn a_realm_keeps_its_own_query() {
        let realm = Url::parse("https://auth.example/token?tenant=a").unwrap();
        let url = token_url(&realm, Some("a service"), &["repository:a/b:pull".to_owned()]);
        assert_eq!(url.as_str(), "https://auth.example/token?tenant=a&service=a+service&scope=repository%3Aa%2Fb%3Apull");
    }
}
