//! What the small Argo CD deploys to: a branch that is looked at when somebody says so, and a sync that takes its time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use telemetry::Clock;
use testing::ManualClock;

/// The sync begins so long after the look at the repository.
pub(crate) const BEGINS: Duration = Duration::from_secs(2);
/// And is done by then.
pub(crate) const DONE: Duration = Duration::from_secs(5);
/// The new pods are up by then.
pub(crate) const UP: Duration = Duration::from_secs(10);
/// Those that fall over have done so by then.
pub(crate) const OVER: Duration = Duration::from_secs(20);

pub(crate) const OLD: &str = "0000000000000000000000000000000000000a1d";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// After the sync nobody looks at the health until the next refresh.
    OldHealth,
    /// The summary has no images.
    NoImages,
    /// The pods are up, and then they are not.
    FallsOver,
    /// The sync does not work.
    SyncFails,
}

pub(crate) struct Cluster {
    pub(crate) repo_url: String,
    pub(crate) target_revision: String,
    /// What the branch has.
    pub(crate) tip: String,
    /// What its manifests say.
    pub(crate) image: String,
    pub(crate) trouble: Trouble,
    pub(crate) refreshes: usize,
    old_image: String,
    clock: Arc<ManualClock>,
    /// The commit that is deployed, and since when it is known.
    known: Option<(String, Duration)>,
    /// The last look.
    looked: Duration,
}

impl Cluster {
    pub(crate) fn new(clock: &Arc<ManualClock>) -> Self {
        Self {
            repo_url: "https://git.example.org/micro/tinybird".to_owned(),
            target_revision: "main".to_owned(),
            tip: OLD.to_owned(),
            image: String::new(),
            trouble: Trouble::None,
            refreshes: 0,
            old_image: format!("registry.example.org/micro/tinybird-local:latest@sha256:{}", "0".repeat(64)),
            clock: Arc::clone(clock),
            known: None,
            looked: clock.monotonic(),
        }
    }

    /// Looks at the branch, and at the health.
    pub(crate) fn refresh(&mut self) {
        self.refreshes += 1;
        self.looked = self.clock.monotonic();
        if self.tip != OLD && self.known.as_ref().is_none_or(|(commit, _)| *commit != self.tip) {
            self.known = Some((self.tip.clone(), self.looked));
        }
    }

    pub(crate) fn application(&self, name: &str) -> Value {
        let Some((commit, since)) = &self.known else {
            return self.is(
                name,
                OLD,
                "Synced",
                "Healthy",
                self.looked,
                &operation("Succeeded", OLD, Some(&self.at(Duration::ZERO))),
            );
        };
        let passed = self.clock.monotonic().saturating_sub(*since);
        let old = operation("Succeeded", OLD, Some(&self.at(Duration::ZERO)));
        let done = *since + DONE;
        if passed < BEGINS {
            return self.is(name, commit, "OutOfSync", "Healthy", *since, &old);
        }
        if passed < DONE {
            return self.is(name, commit, "OutOfSync", "Progressing", *since, &operation("Running", commit, None));
        }
        if self.trouble == Trouble::SyncFails {
            let failed = operation("Failed", commit, Some(&self.at(done)));
            return self.is(name, commit, "OutOfSync", "Healthy", done, &failed);
        }
        let succeeded = operation("Succeeded", commit, Some(&self.at(done)));
        if self.trouble == Trouble::OldHealth && self.looked < done {
            return self.is(name, commit, "Synced", "Healthy", *since, &succeeded);
        }
        let (health, seen) = match passed {
            _ if passed < UP => ("Progressing", done),
            _ if passed >= OVER && self.trouble == Trouble::FallsOver => ("Degraded", *since + OVER),
            _ => ("Healthy", *since + UP),
        };
        self.is(name, commit, "Synced", health, seen.max(self.looked), &succeeded)
    }

    fn is(&self, name: &str, commit: &str, sync: &str, health: &str, seen: Duration, operation: &Value) -> Value {
        let is_new = operation["phase"] == "Succeeded" && operation["syncResult"]["revision"] != OLD;
        let images = match (self.trouble, is_new) {
            (Trouble::NoImages, _) => Value::Null,
            (_, true) => json!(["docker.io/library/redis:7", self.image]),
            (_, false) => json!(["docker.io/library/redis:7", self.old_image]),
        };
        let deployment =
            json!({ "kind": "Deployment", "name": "tinybird", "health": { "status": health, "message": "0 of 1 pods" } });
        json!({
            "metadata": { "name": name, "namespace": "argocd" },
            "spec": { "source": { "repoURL": self.repo_url, "targetRevision": self.target_revision } },
            "status": {
                "sync": { "status": sync, "revision": commit },
                "health": { "status": health },
                "operationState": operation,
                "reconciledAt": self.at(seen),
                "summary": { "images": images },
                "resources": [deployment, { "kind": "Service", "name": "tinybird", "status": "Synced" }],
            },
        })
    }

    /// A moment of the clock, as Go writes it.
    fn at(&self, moment: Duration) -> String {
        let since_start = self.clock.now() - self.clock.monotonic().abs_diff(moment);
        Timestamp::try_from(since_start).unwrap().to_string()
    }
}

fn operation(phase: &str, commit: &str, finished: Option<&str>) -> Value {
    json!({
        "operation": { "sync": { "revision": commit } },
        "phase": phase,
        "message": if phase == "Failed" { "one or more objects failed to apply" } else { "successfully synced" },
        "syncResult": { "revision": commit },
        "finishedAt": finished,
    })
}
