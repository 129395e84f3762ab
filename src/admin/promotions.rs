//! Promotions: what is configured, what became of what arrived, and what people do about it.

use http::{Response, StatusCode};
use oci::{Digest, Selector, Tag};
use promotion::{Ledger, Note, OperateError, Order, Plan, Promotion, Rule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use server::Body;

use crate::answer::{Refusal, json};
use crate::gate::Operator;
use crate::route::Verb;
use crate::service::Admin;
use crate::view::time;

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;

/// A rule as it is shown.
#[derive(Serialize)]
struct Shown {
    name: String,
    repository: String,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<String>,
    order: &'static str,
    git: String,
    branch: String,
    path: String,
    approval: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// Why nothing is written now.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Value>,
    /// What stands in Git because we wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<Value>,
    /// How many wait.
    waiting: usize,
    /// The latest promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Value>,
}

/// The body of a request; none is the same as `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    tag: Option<Tag>,
    #[serde(default)]
    digest: Option<Digest>,
    #[serde(default)]
    why: Option<String>,
}

impl From<OperateError> for Refusal {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::Unknown(_) => Self::Unknown(error.to_string()),
            OperateError::Conflict(_) => Self::Conflict(error.to_string()),
            // The repository is not ours: what it says is for whoever asks.
            OperateError::Git(_) => Self::Conflict(telemetry::chain(&error)),
            other => Self::failed(&other),
        }
    }
}

impl Admin {
    pub(crate) async fn promotions(&self, operator: &Operator) -> Result<Response<Body>, Refusal> {
        let mut shown = Vec::new();
        for rule in self.parts().promotions.all().filter(|rule| operator.may_promote(rule)) {
            let ledger = self.ledger(&rule.name).await?;
            shown.push(self.shown_rule(rule, &ledger));
        }
        json(StatusCode::OK, &json!({ "promotions": shown }))
    }

    pub(crate) async fn promotion(&self, name: &str) -> Result<Response<Body>, Refusal> {
        let rule = self.known_rule(name)?;
        let ledger = self.ledger(name).await?;
        self.whole_rule(rule, &ledger)
    }

    fn whole_rule(&self, rule: &Rule, ledger: &Ledger) -> Result<Response<Body>, Refusal> {
        let mut shown = serde_json::to_value(self.shown_rule(rule, ledger)).map_err(|error| Refusal::failed(&error))?;
        let promotions: Vec<Value> = ledger.promotions.iter().rev().map(|promotion| one(rule, promotion)).collect();
        let refused: Vec<Value> = ledger.refused.iter().map(|(digest, why)| digest_note(digest, why)).collect();
        let approved: Vec<Value> = ledger.approved.iter().map(|(digest, why)| digest_note(digest, why)).collect();
        if let Some(object) = shown.as_object_mut() {
            object.insert("promotions".to_owned(), Value::Array(promotions));
            object.insert("refused".to_owned(), Value::Array(refused));
            object.insert("approved".to_owned(), Value::Array(approved));
        }
        json(StatusCode::OK, &shown)
    }

    pub(crate) async fn diff(&self, name: &str, tag: Option<&str>) -> Result<Response<Body>, Refusal> {
        let tag = tag.map(Tag::parse).transpose().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let Plan { image, says, diff } = self.parts().promotions.plan(name, tag.as_ref()).await?;
        let image = image.map(|image| json!({ "tag": image.tag, "digest": image.digest }));
        json(StatusCode::OK, &json!({ "image": image, "says": says, "diff": diff }))
    }

    pub(crate) async fn check(&self, name: &str) -> Result<Response<Body>, Refusal> {
        let check = self.parts().promotions.check(name, &self.parts().names).await?;
        let shown = json!({
            "promotion": name,
            "commit": check.commit,
            "path": check.path,
            "values": check.stands,
            "matched": check.matched,
            "kustomizations": check.report.kustomizations,
            "manifests": check.report.manifests,
            "findings": check.report.findings,
            "more": check.report.more,
        });
        json(StatusCode::OK, &shown)
    }

    pub(crate) async fn operate(
        &self,
        name: &str,
        verb: Verb,
        operator: &Operator,
        body: &[u8],
    ) -> Result<Response<Body>, Refusal> {
        let by = operator.name.as_str();
        let rule = self.known_rule(name)?;
        let asked = asked(body)?;
        let promotions = &self.parts().promotions;
        let event = format!("request-{}", uuid_of(self.parts().clock.now()));
        let number = match verb {
            Verb::Run => Some(promotions.promote(name, asked.tag.as_ref(), by, &event).await?),
            Verb::Rollback => Some(promotions.rollback(name, asked.digest.as_ref(), by, &event).await?),
            Verb::Hold => {
                let why: String = asked.why.unwrap_or_default().chars().take(LONGEST_REASON).collect();
                let why = if why.trim().is_empty() { "held by hand".to_owned() } else { why };
                promotions.hold(name, by, &why).await?;
                None
            }
            Verb::Release => {
                promotions.release(name, asked.digest.as_ref()).await?;
                None
            }
            Verb::Approve => {
                let digest =
                    asked.digest.ok_or_else(|| Refusal::Invalid("write which: {\"digest\": \"sha256:…\"}".to_owned()))?;
                promotions.approve(name, &digest, by).await?;
                None
            }
        };
        self.note(operator, "promotion", format!("{verb:?} {name}").to_lowercase());
        tracing::info!(promotion = name, ?verb, by, "an operator acted on a promotion");
        if !matches!(verb, Verb::Hold) {
            promotions.wake(rule);
        }
        match number {
            Some(number) => json(StatusCode::ACCEPTED, &json!({ "promotion": name, "number": number })),
            None => self.whole_rule(rule, &self.ledger(name).await?),
        }
    }

    async fn ledger(&self, name: &str) -> Result<Ledger, Refusal> {
        self.parts().promotions.ledger(name).await.map_err(|error| Refusal::failed(&error))
    }

    fn known_rule(&self, name: &str) -> Result<&Rule, Refusal> {
        self.parts().promotions.rule(name).ok_or_else(|| {
            let all: Vec<&str> = self.parts().promotions.all().map(|rule| rule.name.as_str()).collect();
            let all =
                if all.is_empty() { "the configuration has none".to_owned() } else { format!("there are {}", all.join(", ")) };
            Refusal::Unknown(format!("there is no promotion {:?}; {all}", name.chars().take(80).collect::<String>()))
        })
    }

    fn shown_rule(&self, rule: &Rule, ledger: &Ledger) -> Shown {
        let remote = self.parts().promotions.place(rule).map(promotion::Place::remote);
        let written = ledger.written.as_ref().map(|written| {
            let image = &written.image;
            json!({ "tag": image.tag, "digest": image.digest, "commit": written.commit, "number": written.number })
        });
        Shown {
            name: rule.name.clone(),
            repository: rule.repository.to_string(),
            tags: rule.tags.iter().map(Selector::to_string).collect(),
            exclude: rule.exclude.iter().map(Selector::to_string).collect(),
            order: match rule.order {
                Order::Push => "push",
                Order::Version => "version",
                Order::Number => "number",
                Order::Date => "date",
                Order::Name => "name",
                Order::Created => "created",
            },
            git: remote.map(|remote| remote.url().to_owned()).unwrap_or_default(),
            branch: remote.map(|remote| remote.branch().to_owned()).unwrap_or_default(),
            path: rule.path.clone(),
            approval: rule.gate.approval,
            after: rule.gate.after.as_ref().map(|(stage, _)| stage.clone()),
            hold: ledger.hold.as_ref().map(note),
            written,
            waiting: ledger.open().count(),
            last: ledger.promotions.last().map(|promotion| one(rule, promotion)),
        }
    }
}

fn note(note: &Note) -> Value {
    json!({ "by": note.by, "at": time(note.at), "why": note.why })
}

fn digest_note(digest: &Digest, why: &Note) -> Value {
    let mut shown = note(why);
    if let Some(object) = shown.as_object_mut() {
        object.insert("digest".to_owned(), json!(digest));
    }
    shown
}

/// A promotion with all that is known of it.
fn one(rule: &Rule, promotion: &Promotion) -> Value {
    let image = &promotion.image;
    let mut shown = json!({
        "name": format!("{}/{}", rule.name, promotion.number),
        "number": promotion.number,
        "event": promotion.event,
        "repository": rule.repository,
        "tag": image.tag,
        "digest": image.digest,
        "phase": promotion.phase,
        "pushed": time(image.at),
        "offered": time(promotion.offered),
        "changed": time(promotion.changed),
    });
    let more = [
        ("why", json!(promotion.why)),
        ("by", json!(promotion.by)),
        ("from", json!(promotion.from)),
        ("rollback", json!(promotion.is_rollback.then_some(true))),
        ("pull_request", json!(promotion.pull.as_ref().map(|pull| json!({ "number": pull.number, "url": pull.url })))),
        ("path", json!(promotion.path)),
        ("before", json!(promotion.before)),
        ("commit", json!(promotion.commit)),
        ("committed", json!(promotion.committed.map(time))),
        ("healthy", json!(promotion.healthy.map(time))),
        ("duration_ms", json!(promotion.committed.map(|committed| committed.saturating_sub(image.at)))),
    ];
    if let Some(object) = shown.as_object_mut() {
        object.extend(more.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)));
    }
    shown
}

fn asked(body: &[u8]) -> Result<Asked, Refusal> {
    const EXAMPLE: &str = "{\"tag\": \"v1\"}, {\"digest\": \"sha256:…\"} or {\"why\": \"…\"}";
    let body = body.trim_ascii();
    match body.first() {
        None => Ok(Asked::default()),
        Some(b'{') => {
            serde_json::from_slice(body).map_err(|error| Refusal::Invalid(format!("the body is not {EXAMPLE}: {error}")))
        }
        Some(_) => Err(Refusal::Invalid(format!("the body is not {EXAMPLE}"))),
    }
}

/// What tells one request from others.
fn uuid_of(now: std::time::SystemTime) -> u128 {
    now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros()
}
