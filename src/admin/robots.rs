//! Robots: accounts of programs, and their tokens.

use std::time::Duration;

use auth::{Auth, NewToken, RobotError, RobotToken};
use http::{Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use server::Body;

use crate::answer::{Refusal, json};
use crate::gate::Operator;
use crate::service::Admin;
use crate::view::time;

/// The body of a request for a token; none is the same as `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Seconds; without end where nothing is said.
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    groups: Vec<String>,
}

impl From<RobotError> for Refusal {
    fn from(error: RobotError) -> Self {
        match error {
            RobotError::Unknown { .. } => Self::Unknown(error.to_string()),
            RobotError::Name(_) => Self::Invalid(error.to_string()),
            RobotError::Enough(_) => Self::Conflict(error.to_string()),
            other => Self::failed(&other),
        }
    }
}

impl Admin {
    fn auth(&self) -> Result<&Auth, Refusal> {
        let none = "the configuration has no [[access]]: everyone may do everything, and nobody is asked for a token";
        self.parts().auth.as_ref().ok_or_else(|| Refusal::Conflict(none.to_owned()))
    }

    pub(crate) async fn robots(&self) -> Result<Response<Body>, Refusal> {
        let robots = self.auth()?.robots().await?;
        let shown = |(name, tokens): (&String, &Vec<RobotToken>)| json!({ "name": name, "tokens": tokens.iter().map(shown).collect::<Vec<_>>() });
        json(StatusCode::OK, &json!({ "robots": robots.iter().map(shown).collect::<Vec<_>>() }))
    }

    pub(crate) async fn make_robot(&self, name: &str, operator: &Operator, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let asked: Asked = if body.is_empty() {
            Asked::default()
        } else {
            serde_json::from_slice(body).map_err(|error| Refusal::Invalid(format!("the body is not as it should be: {error}")))?
        };
        let is_fine = |group: &String| !group.is_empty() && group.len() <= 100 && !group.chars().any(char::is_control);
        if asked.groups.len() > 20 || !asked.groups.iter().all(is_fine) {
            return Err(Refusal::Invalid("there are more than 20 groups, or one of them is no name".to_owned()));
        }
        let new =
            NewToken { lifetime: asked.expires_in.map(Duration::from_secs), groups: asked.groups, by: operator.name.clone() };
        let (made, token) = self.auth()?.create_robot_token(name, &new).await?;
        self.note(operator, "token", format!("made {} for robot:{name}", made.id));
        tracing::info!(robot = name, token = made.id, by = operator.name, "a token was made for a robot");
        let mut answer = shown(&made);
        answer["name"] = json!(name);
        answer["token"] = json!(token.expose_secret());
        json(StatusCode::CREATED, &answer)
    }

    pub(crate) async fn remove_robot(
        &self,
        name: &str,
        id: Option<&str>,
        operator: &Operator,
    ) -> Result<Response<Body>, Refusal> {
        self.auth()?.revoke_robot_token(name, id).await?;
        self.note(operator, "token", format!("revoked {} of robot:{name}", id.unwrap_or("all")));
        tracing::info!(robot = name, token = id, by = operator.name, "tokens of a robot were revoked");
        json(StatusCode::OK, &json!({ "name": name, "revoked": id.unwrap_or("all") }))
    }
}

fn shown(token: &RobotToken) -> Value {
    json!({
        "id": token.id,
        "made": time(token.made.saturating_mul(1000)),
        "expires": token.expires.map(|at| time(at.saturating_mul(1000))),
        "by": token.by,
        "groups": token.groups,
    })
}
