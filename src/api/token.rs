//! `/token`: this server as its own token server. [distribution, spec/auth/token and spec/auth/oauth]

use std::net::IpAddr;

use auth::{Failure, Identity, Scope, TokenRequest};
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use oci::Error;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use server::{Body, Peer, RequestBody};
use url::form_urlencoded;

use crate::caller::address_of;
use crate::guard::{Denial, Rules};
use crate::respond;
use crate::route::Route;
use crate::service::Api;

/// A form has a password, a few scopes, perhaps a token in the place of the password.
const LARGEST_FORM: usize = 64 * 1024;

/// What is asked for, as it comes in a query or a form.
struct Asked(Vec<(String, String)>);

impl Asked {
    fn read(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// What the token is to be for.
    fn request(&self, is_offline: bool) -> Result<TokenRequest, Error> {
        let scopes = self.0.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value.as_str());
        let scopes = Scope::parse_all(scopes).map_err(|error| Error::NameInvalid { reason: error.to_string() })?;
        Ok(TokenRequest { scopes, is_offline })
    }
}

impl Api {
    /// A token, or why there is none.
    pub(crate) async fn token_or_denial(
        &self,
        query: Option<&str>,
        by_form: bool,
        headers: &HeaderMap,
        body: RequestBody,
        request_id: &str,
    ) -> Response<Body> {
        let peer = body.peer().cloned();
        let made = if by_form { self.token_by_form(body).await } else { self.token(query, headers, peer.as_ref()).await };
        made.unwrap_or_else(|denial| {
            let route = Route::Token { query: None, by_form };
            self.deny(&denial, &route, None, headers, peer.as_ref(), request_id)
        })
    }

    /// A token, by a name and a password in `Authorization`, or for nobody in particular without.
    async fn token(&self, query: Option<&str>, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Response<Body>, Denial> {
        let rules = self.token_rules()?;
        let caller = self.parts().guard.identify(headers, peer).await?;
        let identity = caller.identity().ok_or_else(no_tokens)?;
        if identity.has_token() {
            return Err(wrong());
        }
        let asked = Asked::read(query.unwrap_or_default().as_bytes());
        is_for_us(rules, &asked)?;
        let request = asked.request(asked.first("offline_token") == Some("true")).map_err(Denial::Error)?;
        let request = self.as_stored(request).await;
        made(rules, identity, &request, |token| json!({ "token": token, "access_token": token }))
    }

    /// A token, by what a form says. [OAuth 2, RFC 6749 sections 4.3 and 6]
    async fn token_by_form(&self, body: RequestBody) -> Result<Response<Body>, Denial> {
        let rules = self.token_rules()?;
        let address = address_of(body.peer());
        let bytes = Limited::new(body, LARGEST_FORM).collect().await.map_err(|_| {
            let reason = format!("the form does not come to its end, or has more than {LARGEST_FORM} bytes");
            Denial::Error(Error::SizeInvalid { reason })
        })?;
        let asked = Asked::read(&bytes.to_bytes());
        is_for_us(rules, &asked)?;
        let identity = by_form(rules, &asked, address).await?;
        let request = asked.request(asked.first("access_type") == Some("offline")).map_err(Denial::Error)?;
        let request = self.as_stored(request).await;
        made(rules, &identity, &request, |token| json!({ "access_token": token, "token_type": "Bearer" }))
    }

    fn token_rules(&self) -> Result<&Rules, Denial> {
        self.parts().guard.rules().filter(|rules| rules.has_tokens).ok_or_else(no_tokens)
    }

    /// Clients ask for repositories by the names that they know; what they are granted goes by the names that are stored.
    async fn as_stored(&self, mut request: TokenRequest) -> TokenRequest {
        let mut more = Vec::new();
        for scope in request.scopes.iter().filter(|scope| scope.kind == "repository") {
            let Ok(name) = oci::RepositoryName::parse(&scope.name) else { continue };
            if let Ok(crate::Resolved::Cached { repository, .. }) = self.parts().names.resolve(&name, None).await
                && repository != name
            {
                more.push(Scope { name: repository.to_string(), ..scope.clone() });
            }
        }
        request.scopes.extend(more);
        request
    }
}

fn no_tokens() -> Denial {
    Denial::Error(Error::NameUnknown { name: "token: this server makes no tokens".to_owned() })
}

fn wrong() -> Denial {
    Denial::Challenge { scope: None, error: None }
}

/// A token for another server would be of no use here.
fn is_for_us(rules: &Rules, asked: &Asked) -> Result<(), Denial> {
    match asked.first("service") {
        Some(service) if service != rules.auth.service() => {
            let reason = format!("this is the token server of {:?} alone", rules.auth.service());
            Err(Denial::Error(Error::NameInvalid { reason }))
        }
        _ => Ok(()),
    }
}

async fn by_form(rules: &Rules, asked: &Asked, address: IpAddr) -> Result<Identity, Denial> {
    let found = match asked.first("grant_type") {
        Some("password") => {
            let password = SecretString::from(asked.first("password").unwrap_or_default());
            let name = asked.first("username").unwrap_or_default();
            if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                return Err(wrong());
            }
            rules.auth.by_password(name, password, address).await
        }
        Some("refresh_token") => rules.auth.by_refresh_token(asked.first("refresh_token").unwrap_or_default(), address).await,
        _ => {
            let reason = "grant_type is neither password nor refresh_token".to_owned();
            return Err(Denial::Error(Error::Unsupported { reason }));
        }
    };
    found.map_err(|failure| match failure {
        Failure::Wait(wait) => Denial::Wait(wait),
        Failure::Wrong(reason) => {
            tracing::warn!(peer = %address, reason, "credentials were refused");
            wrong()
        }
    })
}

/// Seconds since 1970, as RFC 3339 has it.
fn moment(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

fn made(
    rules: &Rules,
    identity: &Identity,
    request: &TokenRequest,
    as_json: impl FnOnce(&str) -> Value,
) -> Result<Response<Body>, Denial> {
    let failed = || Denial::Error(Error::internal("making a token", "there is no key to sign with"));
    let made = rules.auth.grant(identity, request).ok_or_else(failed)?;
    let mut answer = as_json(made.token.expose_secret());
    answer["expires_in"] = json!(made.expires_in.as_secs());
    // A text by the specification of tokens, and clients refuse everything else.
    answer["issued_at"] = json!(moment(made.issued_at));
    if let Some(refresh) = &made.refresh_token {
        answer["refresh_token"] = json!(refresh.expose_secret());
    }
    let mut response = respond::json("application/json", &answer).map_err(Denial::Error)?;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
