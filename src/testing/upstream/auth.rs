//! Who may pull from the fake, and push to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::serve::{Answer, failure};
use super::state::{Shared, State};

/// How the registry asks for credentials.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// By tokens of a realm.
    Bearer(TokenAuth),
    /// By name and password at the registry itself.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
}

/// The token flow's settings. By default the registry's own `/token` gives a token to everyone.
#[derive(Clone, Debug, Default)]
pub struct TokenAuth {
    /// Name and password that the realm wants by Basic.
    pub credentials: Option<(String, String)>,
    /// A realm elsewhere that is named in the challenge instead of the own one.
    pub realm: Option<String>,
    /// `expires_in` of the answer.
    pub expires_in: Option<u64>,
    /// Answer with `access_token` instead of `token`.
    pub access_token: bool,
    /// No token lets anybody push, whatever it was asked for.
    pub pull_only: bool,
}

/// The service that the challenge names.
const SERVICE: &str = "fake";

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
}

/// `None` if the request may do this to `name`, else the refusal.
pub(crate) fn refuse(shared: &Shared, state: &State, headers: &HeaderMap, name: &str, action: Action) -> Option<Answer> {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match &state.settings.auth {
        Auth::None => None,
        Auth::Basic { username, password } => {
            let granted = authorization == Some(&basic(username, password));
            (!granted).then(|| unauthorized("Basic realm=\"fake\""))
        }
        Auth::Bearer(settings) => {
            let actions = if action == Action::Push { "pull,push" } else { "pull" };
            let realm = settings.realm.clone().unwrap_or_else(|| format!("{}/token?kept=yes", shared.registry_url()));
            let challenge = format!(r#"Bearer realm="{realm}",service="{SERVICE}",scope="repository:{name}:{actions}""#);
            (!may(state, headers, name, action)).then(|| unauthorized(&challenge))
        }
    }
}

/// Does the request's token allow this? Without tokens everything is allowed.
pub(crate) fn may(state: &State, headers: &HeaderMap, name: &str, action: Action) -> bool {
    if !matches!(state.settings.auth, Auth::Bearer(_)) {
        return true;
    }
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
    let wanted = if action == Action::Push { "push" } else { "pull" };
    let allows = |scope: &String| {
        let actions = scope.strip_prefix("repository:").and_then(|rest| rest.strip_prefix(name)?.strip_prefix(':'));
        actions.is_some_and(|actions| actions.split(',').any(|granted| granted == wanted))
    };
    token.and_then(|token| state.tokens.get(token)).is_some_and(|scopes| name.is_empty() || scopes.iter().any(allows))
}

fn unauthorized(challenge: &str) -> Answer {
    let mut answer = failure(401, "UNAUTHORIZED");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    answer
}

/// The realm's answer.
pub(crate) fn token(state: &mut State, headers: &HeaderMap, query: &str) -> Answer {
    let Auth::Bearer(settings) = state.settings.auth.clone() else {
        return failure(404, "UNSUPPORTED");
    };
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let expected = settings.credentials.map(|(username, password)| basic(&username, &password));
    if expected.is_some() && authorization != expected.as_deref() {
        return failure(401, "UNAUTHORIZED");
    }
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let asked = |key: &str, value: &str| pairs.iter().any(|(name, text)| name == key && text == value);
    if !asked("service", SERVICE) || !(asked("kept", "yes") || settings.realm.is_some()) {
        return failure(400, "UNSUPPORTED");
    }
    let granted = |scope: &String| if settings.pull_only { scope.replace(",push", "") } else { scope.clone() };
    let scopes = pairs.iter().filter(|(name, _)| name == "scope").map(|(_, scope)| granted(scope)).collect();
    state.issued += 1;
    let token = format!("token-{}", state.issued);
    state.tokens.insert(token.clone(), scopes);
    let field = if settings.access_token { "access_token" } else { "token" };
    let mut body = json!({ field: token });
    if let Some(seconds) = settings.expires_in {
        body["expires_in"] = seconds.into();
    }
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    answer
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}
