//! A notification of Argo CD's, so that a promotion can be closed without asking all the time.

use serde::Deserialize;

use crate::rollout::error::ReportError;
use crate::rollout::observed::{HealthStatus, Observed, Operation, Phase, SyncStatus, text, time};

/// What a notification says. The first five are always there; the others make it as good as a look.
#[derive(Deserialize)]
struct Report {
    application: Option<String>,
    revision: Option<String>,
    health: Option<HealthStatus>,
    sync: Option<SyncStatus>,
    phase: Option<Phase>,
    revisions: Option<Vec<String>>,
    operation_revision: Option<String>,
    finished_at: Option<String>,
    reconciled_at: Option<String>,
    message: Option<String>,
    health_message: Option<String>,
    images: Option<Vec<String>>,
}

impl Observed {
    /// What a notification of argocd-notifications says, whose template makes this JSON of it:
    ///
    /// ```json
    /// {"application": "…", "revision": "…", "health": "Healthy", "sync": "Synced", "phase": "Succeeded"}
    /// ```
    ///
    /// From `.app.metadata.name`, `.app.status.sync.revision`, `.app.status.health.status`, `.app.status.sync.status` and
    /// `.app.status.operationState.phase`. That is enough to know that something has happened, but not that the health is not the one
    /// from before the operation: [`crate::rollout::judge()`] then wants a refresh, or a look. With `reconciled_at`, `finished_at`, `images`,
    /// `operation_revision`, `message`, `health_message` and `revisions`, each as in the application, it can say the last word.
    pub fn from_report(bytes: &[u8]) -> Result<Self, ReportError> {
        let report: Report = serde_json::from_slice(bytes)?;
        let application = report.application.filter(|name| !name.is_empty()).ok_or(ReportError::Missing("application"))?;
        let revisions = report.revision.into_iter().chain(report.revisions.unwrap_or_default());
        let revisions: Vec<String> = revisions.filter(|revision| !revision.is_empty()).collect();
        if revisions.is_empty() {
            return Err(ReportError::Missing("revision"));
        }
        let operation = Operation {
            phase: report.phase.ok_or(ReportError::Missing("phase"))?,
            revisions: report.operation_revision.into_iter().filter(|revision| !revision.is_empty()).collect(),
            finished_at: time(report.finished_at.as_deref()),
            message: text(report.message),
        };
        Ok(Self {
            application,
            sync: report.sync.ok_or(ReportError::Missing("sync"))?,
            revisions,
            operation: Some(operation),
            health: report.health.ok_or(ReportError::Missing("health"))?,
            health_message: text(report.health_message),
            reconciled_at: time(report.reconciled_at.as_deref()),
            images: report.images.unwrap_or_default(),
            ..Self::default()
        })
    }
}
