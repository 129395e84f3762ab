//! What is seen of an application.

use jiff::Timestamp;
use serde::Deserialize;

use crate::rollout::exchange::line;

/// What is kept of a foreign text.
const LONGEST_TEXT: usize = 500;

/// Whether the cluster is what the repository says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum SyncStatus {
    /// It is.
    Synced,
    /// It is not, or not yet.
    OutOfSync,
    /// Argo CD could not compare them, or says what we do not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How the application's resources are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum HealthStatus {
    /// All work.
    Healthy,
    /// One is on its way.
    Progressing,
    /// One waits for somebody.
    Suspended,
    /// One is not there.
    Missing,
    /// One has failed.
    Degraded,
    /// Argo CD could not tell, or says what we do not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum Phase {
    /// On its way, attempts after a failure included.
    Running,
    /// Being ended by somebody.
    Terminating,
    /// Done.
    Succeeded,
    /// A resource or a hook failed.
    Failed,
    /// It could not be done.
    Error,
    /// What we do not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The last operation, which brought revisions to the cluster or is about to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// How far it is.
    pub phase: Phase,
    /// Which revisions, one for each source; empty where that is not said.
    pub revisions: Vec<String>,
    /// Since when it is over.
    pub finished_at: Option<Timestamp>,
    /// What it says.
    pub message: String,
}

/// A resource that is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How it is.
    pub health: HealthStatus,
    /// Why.
    pub message: String,
}

/// An application, as Argo CD last knew it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub application: String,
    /// Whether the cluster is what `revisions` say.
    pub sync: SyncStatus,
    /// What the cluster was compared with, one for each source: commits, and versions of charts.
    pub revisions: Vec<String>,
    /// An operation is asked for and has not begun.
    pub is_requested: bool,
    /// The last operation.
    pub operation: Option<Operation>,
    /// How its resources are.
    pub health: HealthStatus,
    /// Why.
    pub health_message: String,
    /// When all this was seen.
    pub reconciled_at: Option<Timestamp>,
    /// The images that run. Empty is not the same as none: Argo CD does not always fill it in.
    pub images: Vec<String>,
    /// What Argo CD complains of.
    pub conditions: Vec<String>,
    /// The resources that are not healthy, where Argo CD says so in the application.
    pub resources: Vec<Resource>,
}

impl Observed {
    /// An application in the JSON of Argo CD's API. What is not said is unknown, and so is what we do not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let Application { metadata, status, operation } = serde_json::from_slice(bytes)?;
        let Summary { images } = status.summary.unwrap_or_default();
        let health = status.health.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default().into_iter();
        let conditions = conditions.map(|condition| text(Some(format!("{}: {}", condition.kind, condition.message))));
        let sync = status.sync.unwrap_or_default();
        Ok(Self {
            application: metadata.name,
            sync: sync.status.unwrap_or_default(),
            revisions: Revisions { revision: sync.revision, revisions: sync.revisions }.all(),
            is_requested: operation.is_some(),
            operation: status.operation_state.map(OperationState::operation),
            health: health.status.unwrap_or_default(),
            health_message: text(health.message),
            reconciled_at: time(status.reconciled_at.as_deref()),
            images: images.unwrap_or_default(),
            conditions: conditions.collect(),
            resources: status.resources.unwrap_or_default().into_iter().filter_map(Item::unhealthy).collect(),
        })
    }
}

/// A foreign text, fit to be kept.
pub(super) fn text(text: Option<String>) -> String {
    line(&text.unwrap_or_default(), LONGEST_TEXT)
}

/// A time, as Go writes it.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

// Go writes null for a list or a time that is not there, so nearly everything is an Option.

#[derive(Deserialize)]
struct Application {
    metadata: Metadata,
    status: Status,
    operation: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    sync: Option<Compared>,
    health: Option<Health>,
    operation_state: Option<OperationState>,
    reconciled_at: Option<String>,
    summary: Option<Summary>,
    conditions: Option<Vec<Condition>>,
    resources: Option<Vec<Item>>,
}

#[derive(Default, Deserialize)]
struct Compared {
    status: Option<SyncStatus>,
    revision: Option<String>,
    revisions: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Health {
    status: Option<HealthStatus>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
struct Summary {
    images: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
struct Revisions {
    revision: Option<String>,
    revisions: Option<Vec<String>>,
}

impl Revisions {
    fn all(self) -> Vec<String> {
        let all = self.revision.into_iter().chain(self.revisions.unwrap_or_default());
        all.filter(|revision| !revision.is_empty()).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperationState {
    phase: Option<Phase>,
    message: Option<String>,
    finished_at: Option<String>,
    /// What it brought.
    sync_result: Option<Revisions>,
    /// What it was asked for.
    operation: Option<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    sync: Option<Revisions>,
}

impl OperationState {
    fn operation(self) -> Operation {
        let result = self.sync_result.map(Revisions::all).filter(|revisions| !revisions.is_empty());
        let asked = || self.operation.and_then(|asked| asked.sync).map(Revisions::all).unwrap_or_default();
        Operation {
            phase: self.phase.unwrap_or_default(),
            revisions: result.unwrap_or_else(asked),
            finished_at: time(self.finished_at.as_deref()),
            message: text(self.message),
        }
    }
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    health: Option<Health>,
}

impl Item {
    /// Without those that are healthy, or have no health, as most have none.
    fn unhealthy(self) -> Option<Resource> {
        let Health { status, message } = self.health?;
        let health = status.filter(|health| *health != HealthStatus::Healthy)?;
        Some(Resource { kind: text(Some(self.kind)), name: text(Some(self.name)), health, message: text(message) })
    }
}
