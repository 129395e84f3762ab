//! Asking an upstream, with the authorization that it wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use moka::sync::Cache as Memory;
use oci::{Digest, RepositoryName};
use outbound::{Client, Response};
use telemetry::{Clock, Metrics};
use url::Url;

use crate::budget::{Budget, Caller, Cost};
use crate::challenge::{self, Challenge};
use crate::config::{Config, ConfigError, base};
use crate::outcome::Refusal;
use crate::payload::Payload;
use crate::quota::Quota;
use crate::token::Tokens;
use crate::wire::{Method, Reply, Request, Wire};

/// Upload sessions that a registry opened where it was asked to mount, and for how long they are kept for the push that follows.
const SESSIONS: u64 = 1000;
const SESSION_LIFETIME: Duration = Duration::from_mins(5);

/// An upstream as one kind of caller asks it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Remote {
    shared: Arc<Shared>,
    caller: Caller,
}

/// An upstream and what has been learned of it.
struct Shared {
    host: String,
    base: Url,
    wire: Wire,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    budget: Budget,
    /// The challenge that was met last, so that later requests carry their token from the start.
    learned: Mutex<Option<Challenge>>,
    sessions: Memory<(RepositoryName, Digest), Url>,
    /// Held while the index of somebody's referrers is read, changed and written.
    referring: futures_util::lock::Mutex<()>,
}

/// One request for content of a repository.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) name: &'a RepositoryName,
    pub(crate) cost: Cost,
    pub(crate) access: Access<'a>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
}

/// What a request wants to be allowed. [distribution, spec/auth/scope]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access<'a> {
    Pull,
    Push,
    /// To push, and to pull from there.
    Mount(&'a RepositoryName),
}

impl<'a> Call<'a> {
    /// A request without a body.
    pub(crate) fn new(method: Method, url: &'a Url, name: &'a RepositoryName, access: Access<'a>, cost: Cost) -> Self {
        Self { method, url, name, cost, access, headers: HeaderMap::new(), payload: Payload::Empty }
    }

    pub(crate) fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    pub(crate) fn with_payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    fn scopes(&self) -> Vec<String> {
        let name = self.name;
        match self.access {
            Access::Pull => vec![format!("repository:{name}:pull")],
            Access::Push => vec![format!("repository:{name}:pull,push")],
            Access::Mount(from) => vec![format!("repository:{name}:pull,push"), format!("repository:{from}:pull")],
        }
    }
}

impl Remote {
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, ConfigError> {
        let base = base(&config)?;
        let settings = outbound::Config {
            ca: config.ca.into_iter().collect(),
            idle_timeout: config.idle_timeout,
            ..outbound::Config::new(&base)
        };
        let host = config.host;
        let client = Client::new(&settings).map_err(|source| ConfigError::Client { host: host.clone(), source })?;
        let wire = Wire::new(host.clone(), client, config.idle_timeout, Arc::clone(&clock), metrics.clone());
        let tokens = Tokens::new(base.clone(), config.credentials, config.realms, Arc::clone(&clock));
        let budget = Budget::new(host.clone(), config.reserve, config.requests_per_second, metrics);
        let sessions = Memory::builder().max_capacity(SESSIONS).time_to_live(SESSION_LIFETIME).build();
        let (learned, referring) = (Mutex::default(), futures_util::lock::Mutex::default());
        let shared = Shared { host, base, wire, tokens, clock, budget, learned, sessions, referring };
        Ok(Self { shared: Arc::new(shared), caller: Caller::Person })
    }

    pub(crate) fn in_background(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), caller: Caller::Background }
    }

    pub(crate) fn host(&self) -> &str {
        &self.shared.host
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.shared.clock.now()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.shared.clock.as_ref()
    }

    pub(crate) fn quota(&self) -> Option<Quota> {
        self.shared.budget.quota()
    }

    /// Is a manifest to be looked at before it is pulled, because it is not known what is left of the quota?
    pub(crate) fn wants_look(&self) -> bool {
        self.caller == Caller::Background && self.shared.budget.wants_look(self.shared.clock.monotonic())
    }

    /// Upload sessions that wait for their blob.
    pub(crate) fn sessions(&self) -> &Memory<(RepositoryName, Digest), Url> {
        &self.shared.sessions
    }

    /// Lets one caller at a time change an index of referrers.
    pub(crate) async fn referring(&self) -> futures_util::lock::MutexGuard<'_, ()> {
        self.shared.referring.lock().await
    }

    /// The URL of something in a repository: `manifests/latest`.
    pub(crate) fn url(&self, name: &RepositoryName, rest: &str) -> Url {
        let mut url = self.shared.base.clone();
        url.set_path(&format!("{}/v2/{name}/{rest}", self.shared.base.path().trim_end_matches('/')));
        url
    }

    /// Where the `Link` header of a page leads, if there is a next one and it may be asked.
    pub(crate) fn next_page(&self, response: &Response) -> Option<Url> {
        let target = next_link(&response.headers)?;
        let url = response.url.join(target).ok()?;
        // Pages are pages of this registry. Elsewhere a token would have to stay behind.
        self.is_ours(&url).then_some(url)
    }

    /// Is it a place at the registry itself, which may see its tokens?
    pub(crate) fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.shared.base.origin()
    }

    /// May the registry send us there?
    pub(crate) fn check_reach(&self, to: &Url) -> Result<(), Refusal> {
        self.shared.wire.check(&self.shared.base, to)
    }

    /// Sends a request when the budget lets it. A 401 is answered once, with what its challenge asks for, unless the body cannot be
    /// had again: then only the next request has it. The last answer is returned whatever it is.
    pub(crate) async fn ask(&self, call: Call<'_>) -> Result<Reply, Refusal> {
        let Shared { wire, clock, budget, .. } = self.shared.as_ref();
        let scopes = call.scopes();
        let Call { method, url, cost, headers, payload, .. } = call;
        let _under_way = budget.admit(self.caller, cost, clock.as_ref()).await?;
        let is_ours = self.is_ours(url);
        let send = async |headers, authorization, payload| {
            let mut reply = wire.send(Request { method, url, headers, authorization, payload }).await?;
            reply.crossed |= !is_ours;
            budget.note(cost, &reply, clock.as_ref());
            Ok(reply)
        };
        // Only the token realm still refuses so.
        let limited = |refusal: Refusal| {
            if let Refusal::TooMany { retry_after } = refusal {
                budget.limited(cost, retry_after, clock.as_ref());
            }
            refusal
        };
        if !is_ours {
            return send(headers, None, payload).await;
        }
        let authorization = self.known_authorization(&scopes).await.map_err(limited)?;
        let again = payload.again();
        let reply: Reply = send(headers.clone(), authorization.clone(), payload).await?;
        if reply.crossed || reply.response.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        let values = reply.response.headers.get_all(WWW_AUTHENTICATE);
        let Some(challenge) = challenge::pick(values.iter().filter_map(|value| value.to_str().ok())) else {
            return Ok(reply);
        };
        let better = self.authorization(&challenge, &scopes, authorization.as_ref()).await.map_err(limited)?;
        if better.is_none() || better == authorization {
            return Ok(reply);
        }
        self.learn(Some(challenge));
        match again {
            Some(payload) => send(headers, better, payload).await,
            None => Ok(Reply { renewed: true, ..reply }),
        }
    }

    /// The authorization that the last challenge asked for, if there was one.
    async fn known_authorization(&self, scopes: &[String]) -> Result<Option<HeaderValue>, Refusal> {
        let learned = self.shared.learned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(challenge) = learned else {
            return Ok(None);
        };
        match self.authorization(&challenge, scopes, None).await {
            // What was learned from one repository need not hold for another, and the realm may have moved: the registry is asked
            // without, and its own challenge decides.
            Err(Refusal::Denied) => {
                self.learn(None);
                Ok(None)
            }
            Err(failed @ Refusal::Failed(_)) => {
                self.learn(None);
                Err(failed)
            }
            other => other,
        }
    }

    async fn authorization(
        &self,
        challenge: &Challenge,
        scopes: &[String],
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let tokens = &self.shared.tokens;
        match challenge {
            Challenge::Basic => Ok(tokens.basic()),
            Challenge::Bearer { realm, service } => {
                let bearer = tokens.bearer(&self.shared.wire, realm, service.as_deref(), scopes, rejected);
                Ok(Some(bearer.await?))
            }
        }
    }

    fn learn(&self, challenge: Option<Challenge>) {
        *self.shared.learned.lock().unwrap_or_else(PoisonError::into_inner) = challenge;
    }
}

/// The target of `rel="next"`. [RFC 8288]
fn next_link(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(http::header::LINK).iter().filter_map(|value| value.to_str().ok());
    for value in values {
        let mut rest = value;
        while let Some((target, after)) = rest.split_once('<').and_then(|(_, text)| text.split_once('>')) {
            let parameters = after.split('<').next().unwrap_or_default();
            let is_next = parameters.split([';', ',']).any(|parameter| is_rel_next(parameter.trim()));
            if is_next {
                return Some(target);
            }
            rest = after;
        }
    }
    None
}

fn is_rel_next(parameter: &str) -> bool {
    let Some((key, value)) = parameter.split_once('=') else {
        return false;
    };
    key.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn next(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_str(value).unwrap())]);
        next_link(&headers).map(str::to_owned)
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        assert_eq!(next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#).unwrap(), "/v2/a/tags/list?n=2&last=b");
        assert_eq!(next(r#"<https://r.example/x>; title="y"; REL=next"#).unwrap(), "https://r.example/x");
        assert_eq!(next(r#"</first>; rel="first", </second>; rel="next""#).unwrap(), "/second");
        for value in ["", "<", "<>", "</x>", r#"</x>; rel="prev""#, "rel=next"] {
            assert_eq!(next(value), None, "{value:?}");
        }
    }
}
