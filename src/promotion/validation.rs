//! Looking over what others commit, and telling their forge.

use async_trait::async_trait;
use jobs::{Level, Outcome as Ended, Running, Work};
use serde_json::{Value, json};

use crate::follow::Deployer;
use crate::forge::{ForgeError, State};
use crate::ledger::{Ledger, LedgerError};
use crate::operate::OperateError;
use crate::promotions::{Poke, Promotions};
use crate::rule::Rule;
use crate::validate::{Names, Report};

/// The kind of the jobs.
pub const VALIDATION_KIND: &str = "validation";

/// What the forge shows the verdict as.
const CONTEXT: &str = "roadstead/validate";
/// Commits that wait to be looked over; beyond that the oldest are passed over.
const WAITING: usize = 20;

/// Looking over commits, as jobs.
#[derive(Clone, Debug)]
pub struct Validations {
    /// Whose branches.
    pub promotions: Promotions,
    /// By which names this server is known in manifests.
    pub names: Names,
}

impl Promotions {
    /// Looks a commit of the repository of a rule over, soon. What is asked is durable when this returns.
    pub async fn validate_later(&self, rule: &Rule, commit: &str) -> Result<(), LedgerError> {
        let note = |ledger: &mut Ledger| {
            if !ledger.unvalidated.iter().any(|known| known == commit) {
                ledger.unvalidated.push(commit.to_owned());
            }
            let surplus = ledger.unvalidated.len().saturating_sub(WAITING);
            ledger.unvalidated.drain(..surplus);
        };
        self.0.ledgers.update(&rule.name, note).await?;
        self.poke(Poke::Validation(rule.name.clone()));
        Ok(())
    }

    /// Tells the forge of a rule what is thought of a commit.
    async fn say(&self, rule: &Rule, commit: &str, state: State, description: &str) -> Result<(), ForgeError> {
        match self.0.deployers.get(&rule.name).and_then(|deployer: &Deployer| deployer.forge.as_ref()) {
            Some(forge) => forge.say(commit, state, CONTEXT, description).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Work for Validations {
    async fn run(&self, job: Running) -> Ended {
        let Some(rule) = self.promotions.rule(job.key()) else {
            return Ended::Failed { reason: "there is no such promotion in the configuration".to_owned(), result: Value::Null };
        };
        let mut results = Vec::new();
        loop {
            let commit = match self.promotions.ledger(&rule.name).await {
                Ok(ledger) => ledger.unvalidated.last().cloned(),
                Err(error) => return Ended::Retry { reason: telemetry::chain(&error), after: None },
            };
            let Some(commit) = commit else { return Ended::Done(json!({ "commits": results })) };
            match self.one(&job, rule, &commit).await {
                Ok(result) => results.push(result),
                Err(reason) => return Ended::Retry { reason, after: None },
            }
            if job.cancelled().is_cancelled() {
                return Ended::Yield(Value::Null);
            }
        }
    }
}

impl Validations {
    async fn one(&self, job: &Running, rule: &Rule, commit: &str) -> Result<Value, String> {
        let report = match self.promotions.look_over(rule, commit, &self.names).await {
            Ok(report) => report,
            // One that is not there any more, such as the head of a pull request that has moved on, is nobody's concern.
            Err(OperateError::Git(error)) if job.attempt() >= 3 => {
                job.log(Level::Warn, format!("{commit}: {}", telemetry::chain(&error)));
                self.done(rule, commit).await?;
                return Ok(json!({ "commit": commit, "error": telemetry::chain(&error) }));
            }
            // Without git it will never be possible.
            Err(error @ OperateError::Conflict(_)) => {
                job.log(Level::Error, telemetry::chain(&error));
                self.done(rule, commit).await?;
                return Ok(json!({ "commit": commit, "error": telemetry::chain(&error) }));
            }
            Err(error) => return Err(telemetry::chain(&error)),
        };
        let (state, description) = verdict(&report);
        for finding in &report.findings {
            job.log(Level::Error, finding.to_string());
        }
        tracing::info!(promotion = rule.name, commit, findings = report.findings.len() + report.more, "a commit was looked over");
        match self.promotions.say(rule, commit, state, &description).await {
            Ok(()) => {}
            Err(error) if error.may_pass() => return Err(telemetry::chain(&error)),
            Err(error) => job.log(Level::Error, telemetry::chain(&error)),
        }
        self.done(rule, commit).await?;
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        Ok(json!({ "commit": commit, "findings": findings }))
    }

    async fn done(&self, rule: &Rule, commit: &str) -> Result<(), String> {
        let note = |ledger: &mut Ledger| ledger.unvalidated.retain(|known| known != commit);
        let done = self.promotions.0.ledgers.update(&rule.name, note).await;
        done.map(|_| ()).map_err(|error| telemetry::chain(&error))
    }
}

fn verdict(report: &Report) -> (State, String) {
    match report.findings.first() {
        None => {
            let looked = report.kustomizations + report.manifests;
            (State::Success, format!("{looked} files looked at, nothing wrong"))
        }
        Some(first) => {
            let more = report.findings.len() - 1 + report.more;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            (State::Failure, format!("{first}{more}"))
        }
    }
}
