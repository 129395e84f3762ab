//! Asking an upstream, with the authorization that it wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::RepositoryName;
use outbound::{Client, Response};
use telemetry::{Clock, Metrics};
use url::Url;

use crate::challenge::{self, Challenge};
use crate::config::{Config, ConfigError, base};
use crate::outcome::Refusal;
use crate::token::Tokens;
use crate::wire::{Method, Reply, Request, Wire};

/// An upstream and what has been learned of it.
pub(crate) struct Remote {
    host: String,
    base: Url,
    wire: Wire,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    /// The challenge that was met last, so that later requests carry their token from the start.
    learned: Mutex<Option<Challenge>>,
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
        let wire = Wire::new(host.clone(), client, Arc::clone(&clock), metrics);
        let tokens = Tokens::new(base.clone(), config.credentials, config.realms, Arc::clone(&clock));
        Ok(Self { host, base, wire, tokens, clock, learned: Mutex::new(None) })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The URL of something in a repository: `manifests/latest`.
    pub(crate) fn url(&self, name: &RepositoryName, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/v2/{name}/{rest}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Where the `Link` header of a page leads, if there is a next one and it may be asked.
    pub(crate) fn next_page(&self, response: &Response) -> Option<Url> {
        let target = next_link(&response.headers)?;
        let url = response.url.join(target).ok()?;
        // Pages are pages of this registry. Elsewhere a token would have to stay behind.
        (url.origin() == self.base.origin()).then_some(url)
    }

    /// Sends a request for content of `name`. A 401 is answered once, with what its challenge asks for; the answer to that
    /// is returned whatever it is.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        name: &RepositoryName,
    ) -> Result<Reply, Refusal> {
        let authorization = self.known_authorization(name).await?;
        let request = Request { method, url, headers: headers.clone(), authorization: authorization.clone() };
        let reply = self.wire.send(request).await?;
        if reply.crossed || reply.response.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        let values = reply.response.headers.get_all(WWW_AUTHENTICATE);
        let Some(challenge) = challenge::pick(values.iter().filter_map(|value| value.to_str().ok())) else {
            return Ok(reply);
        };
        let better = self.authorization(&challenge, name, authorization.as_ref()).await?;
        if better.is_none() || better == authorization {
            return Ok(reply);
        }
        self.learn(Some(challenge));
        self.wire.send(Request { method, url, headers, authorization: better }).await
    }

    /// The authorization that the last challenge asked for, if there was one.
    async fn known_authorization(&self, name: &RepositoryName) -> Result<Option<HeaderValue>, Refusal> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(challenge) = learned else {
            return Ok(None);
        };
        match self.authorization(&challenge, name, None).await {
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
        name: &RepositoryName,
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        match challenge {
            Challenge::Basic => Ok(self.tokens.basic()),
            Challenge::Bearer { realm, service } => {
                let scope = format!("repository:{name}:pull");
                let bearer = self.tokens.bearer(&self.wire, realm, service.as_deref(), &scope, rejected);
                Ok(Some(bearer.await?))
            }
        }
    }

    fn learn(&self, challenge: Option<Challenge>) {
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = challenge;
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
