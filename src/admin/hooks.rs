//! Webhooks out: who is told, what waits, and what was given up.

use hooks::{Attempt, Dead, Endpoint, HookError};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use server::Body;

use crate::answer::{Refusal, json};
use crate::service::Admin;
use crate::view::time;

impl From<HookError> for Refusal {
    fn from(error: HookError) -> Self {
        match error {
            HookError::Unknown { .. } | HookError::NotDead { .. } => Self::Unknown(error.to_string()),
            HookError::Queue(error) => Self::failed(&error),
        }
    }
}

impl Admin {
    pub(crate) async fn hooks(&self) -> Result<Response<Body>, Refusal> {
        let mut shown = Vec::new();
        for endpoint in self.parts().hooks.endpoints() {
            shown.push(self.shown_hook(endpoint).await?);
        }
        json(StatusCode::OK, &json!({ "hooks": shown }))
    }

    pub(crate) async fn hook(&self, name: &str) -> Result<Response<Body>, Refusal> {
        let unknown = || HookError::Unknown { endpoint: name.chars().take(80).collect() };
        let endpoint = self.parts().hooks.endpoints().find(|endpoint| endpoint.name == name).ok_or_else(unknown)?;
        let mut shown = self.shown_hook(endpoint).await?;
        let dead = self.parts().hooks.dead(name).await?;
        if let Some(object) = shown.as_object_mut() {
            object.insert("dead".to_owned(), dead.iter().map(one_dead).collect());
        }
        json(StatusCode::OK, &shown)
    }

    pub(crate) async fn redeliver(&self, name: &str, id: &str) -> Result<Response<Body>, Refusal> {
        let lane = self.parts().hooks.redeliver(name, id).await?;
        self.parts().jobs.submit(lane.job(self.parts().clock.now(), "operator")).await?;
        json(StatusCode::ACCEPTED, &json!({ "hook": name, "id": id }))
    }

    async fn shown_hook(&self, endpoint: &Endpoint) -> Result<Value, Refusal> {
        let hooks = &self.parts().hooks;
        let attempts = hooks.recent(&endpoint.name).await?;
        Ok(json!({
            "name": endpoint.name,
            // A path or a query may hold what lets one in.
            "to": endpoint.url.host_str(),
            "dialect": endpoint.dialect.as_str(),
            "waiting": hooks.pending(&endpoint.name).await?,
            "given_up": hooks.dead(&endpoint.name).await?.len(),
            "attempts": attempts.iter().map(attempt).collect::<Vec<_>>(),
        }))
    }
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "id": attempt.id,
        "repository": attempt.repository,
        "tag": attempt.tag,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "reason": attempt.reason,
        "at": time(attempt.at),
        "duration_ms": attempt.duration_ms,
    })
}

fn one_dead(dead: &Dead) -> Value {
    json!({
        "id": dead.id,
        "event": dead.event,
        "reason": dead.reason,
        "attempts": dead.attempts,
        "since": time(dead.since),
        "given_up": time(dead.at),
    })
}
