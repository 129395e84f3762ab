//! Webhooks: who is told of changes here, and what deliveries of forges start.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hooks::{Action, Delivery, Event, ForgeEvent, Hooks, Inbound, InboundError, RefKind, Repository, Seen};
use http::{HeaderMap, Method, StatusCode};
use jobs::{JobState, Jobs, NewJob, State, Submitted};
use oci::{Pull, Reference};
use promotion::Promotions;
use registry::{Registry, TagEvent};
use telemetry::Clock;
use url::Url;

use crate::config::{Config, Starts, Trigger};

/// Those who are told of changes here.
pub(crate) fn hooks(config: &Config, state: Arc<dyn State>, clock: &Arc<dyn Clock>) -> anyhow::Result<Hooks> {
    let here = format!("http://{}", config.server.listen);
    let here = config.server.external_url.clone().map_or_else(|| Url::parse(&here), Ok)?;
    let registry = hooks::Registry::new(&here)?;
    Ok(Hooks::new(config.hooks.clone(), registry, state, Arc::clone(clock), hooks::Options::default())?)
}

/// Can these be listened to and told?
pub(crate) fn rehearse(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    hooks(config, Arc::new(NoState), clock)?;
    for trigger in &config.triggers {
        inbound(trigger, clock)?;
    }
    Ok(())
}

fn inbound(trigger: &Trigger, clock: &Arc<dyn Clock>) -> Result<Inbound, InboundError> {
    Inbound::new(&trigger.name, trigger.forge, trigger.secret.clone(), Arc::clone(clock))
}

/// A change of a tag, as those who listen are told of it.
pub(crate) async fn told(event: &TagEvent, registry: &Registry) -> Result<Event, oci::Error> {
    let (mut media_type, mut size) = (None, None);
    if let Some(digest) = &event.digest {
        match registry.resolve(&event.repository, &Reference::Digest(digest.clone())).await {
            Ok(found) => (media_type, size) = (Some(found.media_type), Some(found.size)),
            Err(error) if error.is_unknown() => {}
            Err(error) => return Err(error),
        }
    }
    let from = event.from.clone();
    let is_address = from.as_deref().is_some_and(|from| from.parse::<std::net::IpAddr>().is_ok());
    let (from, source_address) = if is_address { (None, from) } else { (from, None) };
    Ok(Event {
        id: event.id.clone(),
        action: if event.digest.is_some() { Action::Push } else { Action::Delete },
        repository: event.repository.clone(),
        tag: Some(event.tag.clone()),
        digest: event.digest.clone(),
        media_type,
        size,
        at: event.at,
        actor: event.by.clone(),
        from,
        source_address,
        user_agent: None,
    })
}

/// What deliveries of forges start.
pub(crate) struct Triggers {
    known: Vec<(Trigger, Inbound)>,
    seen: Seen,
    jobs: Jobs,
    promotions: Promotions,
    clock: Arc<dyn Clock>,
}

impl Triggers {
    pub(crate) fn new(
        triggers: &[Trigger],
        state: Arc<dyn State>,
        jobs: Jobs,
        promotions: Promotions,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, InboundError> {
        let seen = Seen::new(state, Arc::clone(clock), hooks::SeenLimits::default());
        let bound = triggers.iter().map(|trigger| Ok((trigger.clone(), inbound(trigger, clock)?)));
        Ok(Self { known: bound.collect::<Result<_, InboundError>>()?, seen, jobs, promotions, clock: Arc::clone(clock) })
    }

    /// Starts what the delivery is for. What it says is for the sender's log.
    async fn act(&self, trigger: &Trigger, delivery: &Delivery) -> Result<&'static str, String> {
        let happened = match happened(trigger, &delivery.event) {
            Ok(happened) => happened,
            Err(why) => {
                tracing::info!(trigger = trigger.name, delivery = delivery.id, why, "a delivery starts nothing");
                return Ok("nothing to do");
            }
        };
        let mut has_started = false;
        for starts in &trigger.starts {
            let rule = |name: &str| self.promotions.rule(name);
            match starts {
                Starts::Mirror(name) if happened.is_others => self.run_mirror(trigger, name).await?,
                Starts::Promotion(name) if happened.is_others => {
                    if let Some(rule) = rule(name) {
                        self.promotions.hasten(rule).await.map_err(|error| telemetry::chain(&error))?;
                    }
                }
                Starts::Check(name) => {
                    if let Some(rule) = rule(name) {
                        let noted = self.promotions.validate_later(rule, &happened.commit).await;
                        noted.map_err(|error| telemetry::chain(&error))?;
                    }
                }
                Starts::Mirror(_) | Starts::Promotion(_) => continue,
            }
            has_started = true;
        }
        tracing::info!(trigger = trigger.name, delivery = delivery.id, has_started, "a delivery was acted on");
        Ok(if has_started { "started" } else { "nothing to do" })
    }

    async fn run_mirror(&self, trigger: &Trigger, name: &str) -> Result<(), String> {
        let job = NewJob {
            kind: mirror::KIND.to_owned(),
            key: name.to_owned(),
            input: serde_json::to_value(mirror::Input::default()).unwrap_or_default(),
            due: self.clock.now(),
            stamp: None,
            by: Some(format!("trigger:{}", trigger.name)),
        };
        match self.jobs.submit(job).await.map_err(|error| telemetry::chain(&error))? {
            Submitted::New(_) | Submitted::Past => Ok(()),
            // One that waits will see what is there by then; one that runs may have looked already.
            Submitted::Open(_) => match self.jobs.open_at(mirror::KIND, name).await.map_err(|error| telemetry::chain(&error))? {
                Some(open) if open.state != JobState::Waiting => {
                    Err(format!("the mirror {name} is running, and may have looked already; deliver it again when it has ended"))
                }
                _ => Ok(()),
            },
        }
    }
}

/// What an event is about.
struct Happened {
    /// The commit.
    commit: String,
    /// It is a push, and not of our own commits alone: what we wrote must not start what makes us write again, and a pull request is
    /// a stranger's wish.
    is_others: bool,
}

/// What an event is about; `Err`: why it starts nothing.
fn happened(trigger: &Trigger, event: &ForgeEvent) -> Result<Happened, &'static str> {
    let is_other = |repository: &Repository| trigger.repository.as_ref().is_some_and(|wanted| *wanted != repository.full_name);
    match event {
        ForgeEvent::Push(push) if is_other(&push.repository) => Err("another repository"),
        ForgeEvent::Push(push) if push.kind == RefKind::Tag && !trigger.on_tags => Err("a tag"),
        ForgeEvent::Push(push) if push.kind == RefKind::Branch && !trigger.branches.matches(Some(&push.name)) => {
            Err("another branch")
        }
        ForgeEvent::Push(push) => {
            let all_told = !push.is_truncated && !push.commits.is_empty();
            let mut changes = push.commits.iter().flat_map(|commit| &commit.changes);
            if all_told && push.kind == RefKind::Branch && !changes.any(|change| trigger.paths.matches(Some(change.path()))) {
                return Err("other paths");
            }
            let is_ours = all_told && push.commits.iter().all(|commit| promotion::is_ours(&commit.message));
            Ok(Happened { commit: push.after.clone(), is_others: !is_ours })
        }
        ForgeEvent::PullRequest(pull) if is_other(&pull.repository) => Err("another repository"),
        ForgeEvent::PullRequest(pull) if !trigger.branches.matches(Some(&pull.base)) => Err("another branch"),
        ForgeEvent::PullRequest(pull) if matches!(pull.action.as_str(), "closed" | "close" | "merge") => {
            Err("a pull request that is over")
        }
        ForgeEvent::PullRequest(pull) => Ok(Happened { commit: pull.head.sha.clone(), is_others: false }),
        ForgeEvent::Deleted(_) => Err("a branch or tag that is gone"),
        ForgeEvent::Ping => Err("a ping"),
        _ => Err("another kind of event"),
    }
}

#[async_trait]
impl admin::Deliveries for Triggers {
    async fn take(
        &self,
        name: &str,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: Bytes,
    ) -> (StatusCode, &'static str) {
        // Whether there is such a trigger is for those who know its secret.
        let unknown = (StatusCode::UNAUTHORIZED, "unauthorized");
        let Some((trigger, inbound)) = self.known.iter().find(|(trigger, _)| trigger.name == name) else {
            tracing::warn!(trigger = name.chars().take(40).collect::<String>(), "a delivery for a trigger that is not there");
            return unknown;
        };
        let delivery = match inbound.read(method, headers, query, &body) {
            Ok(delivery) => delivery,
            Err(refusal) => {
                tracing::warn!(trigger = name, %refusal, "a delivery was refused");
                return (refusal.status(), refusal.answer());
            }
        };
        let done = async {
            if self.seen.is_done(inbound, &delivery).await.map_err(|error| telemetry::chain(&error))? {
                return Ok("done already");
            }
            let said = self.act(trigger, &delivery).await?;
            self.seen.done(inbound, &delivery).await.map_err(|error| telemetry::chain(&error))?;
            Ok::<_, String>(said)
        };
        match done.await {
            Ok(said) => (StatusCode::OK, said),
            Err(error) => {
                tracing::error!(trigger = name, delivery = delivery.id, error, "a delivery could not be acted on");
                (StatusCode::INTERNAL_SERVER_ERROR, "failed; send it again")
            }
        }
    }
}

/// A state that nothing is kept in: for a look at a configuration.
struct NoState;

#[async_trait]
impl State for NoState {
    async fn read(&self, _: &str) -> Result<Option<(Bytes, jobs::Version)>, jobs::StateError> {
        Ok(None)
    }

    async fn swap(&self, key: &str, _: Bytes, _: Option<&jobs::Version>) -> Result<Option<jobs::Version>, jobs::StateError> {
        Err(jobs::StateError::new(key, "nothing is kept here"))
    }

    async fn remove(&self, _: &str) -> Result<(), jobs::StateError> {
        Ok(())
    }

    async fn list(&self, _: &str) -> Result<Vec<String>, jobs::StateError> {
        Ok(Vec::new())
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}
