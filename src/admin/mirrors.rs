//! Mirrors: what is configured, when it runs next, and how its last run went.

use http::{Response, StatusCode};
use jobs::{NewJob, Submitted};
use mirror::{Input, Mirror, Template};
use oci::Selector;
use serde::{Deserialize, Serialize};
use serde_json::json;
use server::Body;

use crate::answer::{Refusal, json};
use crate::service::Admin;
use crate::view::{Summary, time};

/// A mirror as it is shown.
#[derive(Serialize)]
struct Shown {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// The schedule in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_description: Option<String>,
    from: String,
    to: String,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exclude: Vec<String>,
    tag_as: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<String>,
    /// The run that has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<Summary>,
    /// The last run that has.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Summary>,
}

/// The body of a request for a run; none is the same as `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    dry_run: bool,
}

impl Admin {
    pub(crate) async fn mirrors(&self) -> Result<Response<Body>, Refusal> {
        let mut shown = Vec::new();
        for mirror in self.parts().mirrors.all() {
            shown.push(self.shown(mirror).await?);
        }
        json(StatusCode::OK, &json!({ "mirrors": shown }))
    }

    pub(crate) async fn mirror(&self, name: &str) -> Result<Response<Body>, Refusal> {
        json(StatusCode::OK, &self.shown(self.known(name)?).await?)
    }

    pub(crate) async fn runs(&self, name: &str, count: usize) -> Result<Response<Body>, Refusal> {
        let mirror = self.known(name)?;
        let jobs = &self.parts().jobs;
        let mut runs: Vec<Summary> = jobs.open_at(mirror::KIND, &mirror.name).await?.iter().map(Summary::new).collect();
        let ended = jobs.history(mirror::KIND, &mirror.name, count.saturating_sub(runs.len())).await?;
        runs.extend(ended.iter().map(Summary::new));
        json(StatusCode::OK, &json!({ "runs": runs }))
    }

    /// Submits a run that begins at once. One that is open already is the answer, with 200 instead of 202.
    pub(crate) async fn run_mirror(&self, name: &str, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let mirror = self.known(name)?;
        if body.trim_ascii().first().is_some_and(|first| *first != b'{') {
            return Err(Refusal::Invalid("the body is not {\"dry_run\": true}".to_owned()));
        }
        let asked: Asked = if body.trim_ascii().is_empty() {
            Asked::default()
        } else {
            serde_json::from_slice(body)
                .map_err(|error| Refusal::Invalid(format!("the body is not {{\"dry_run\": true}}: {error}")))?
        };
        let now = self.parts().clock.now();
        let input = serde_json::to_value(Input { dry_run: asked.dry_run }).map_err(|error| Refusal::failed(&error))?;
        let job = NewJob {
            kind: mirror::KIND.to_owned(),
            key: mirror.name.clone(),
            input,
            due: now,
            stamp: None,
            by: Some("operator".to_owned()),
        };
        match self.parts().jobs.submit(job).await? {
            Submitted::New(id) => json(StatusCode::ACCEPTED, &json!({ "id": id, "new": true })),
            Submitted::Open(id) => {
                let open = self.record(id).await?;
                let other = serde_json::from_value::<Input>(open.input).unwrap_or_default();
                if other.dry_run != asked.dry_run {
                    let what = if other.dry_run { "a dry run" } else { "a run" };
                    return Err(Refusal::Conflict(format!(
                        "{what} of this mirror has not ended: {id}; wait for it, or cancel it"
                    )));
                }
                json(StatusCode::OK, &json!({ "id": id, "new": false }))
            }
            Submitted::Past => Err(Refusal::Conflict("a later run was submitted; ask again".to_owned())),
        }
    }

    fn known(&self, name: &str) -> Result<&Mirror, Refusal> {
        let known = self.parts().mirrors.settings(name);
        known.map(AsRef::as_ref).ok_or_else(|| {
            let all: Vec<&str> = self.parts().mirrors.all().map(|mirror| mirror.name.as_str()).collect();
            let all =
                if all.is_empty() { "the configuration has none".to_owned() } else { format!("there are {}", all.join(", ")) };
            Refusal::Unknown(format!("there is no mirror {:?}; {all}", name.chars().take(80).collect::<String>()))
        })
    }

    async fn shown(&self, mirror: &Mirror) -> Result<Shown, Refusal> {
        let jobs = &self.parts().jobs;
        let open = jobs.open_at(mirror::KIND, &mirror.name).await?;
        let last = jobs.history(mirror::KIND, &mirror.name, 1).await?;
        let memory = self.parts().mirrors.memories().of(&mirror.name).await.map_err(|error| Refusal::failed(&error))?;
        let now = self.parts().clock.now();
        let next = mirror.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
        Ok(Shown {
            name: mirror.name.clone(),
            schedule: mirror.schedule.as_ref().map(|schedule| schedule.as_str().to_owned()),
            schedule_description: mirror.schedule.as_ref().map(mirror::Schedule::describe),
            from: format!("{}/{}", mirror.upstream, mirror.from),
            to: mirror.registry.as_ref().map_or_else(|| mirror.to.to_string(), |host| format!("{host}/{}", mirror.to)),
            tags: mirror.tags.iter().map(Selector::to_string).collect(),
            exclude: mirror.exclude.iter().map(Selector::to_string).collect(),
            tag_as: mirror.tag_as.iter().map(Template::to_string).collect(),
            platforms: mirror.platforms.iter().map(ToString::to_string).collect(),
            keep: mirror.keep,
            next_run: next.map(|next| time(mirror::millis(next))),
            last_success: memory.and_then(|memory| memory.last_success).map(time),
            open: open.as_ref().map(Summary::new),
            last: last.first().map(Summary::new),
        })
    }
}
