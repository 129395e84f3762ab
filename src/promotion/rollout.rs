//! What follows a commit: those who deploy are told that a branch has moved, and what came of it is looked at.
//!
//! A [`Notify`] tells one of them, [`tell`] all at once. [`ArgoCd`] looks at an application, and [`judge()`] says what is seen there:
//! whether it runs what was promoted, is on its way, or has failed. A notification of Argo CD's own is read by
//! [`Observed::from_report`], and judged in the same way.

mod argocd;
mod error;
pub(crate) mod exchange;
mod judge;
mod notify;
mod observed;
mod payload;
mod report;
mod settings;

pub use argocd::ArgoCd;
pub use error::{ReportError, RolloutError, SettingsError};
pub use judge::{Note, Verdict, Wanted, judge};
pub use notify::{Notify, Told, tell};
pub use observed::{HealthStatus, Observed, Operation, Phase, Resource, SyncStatus};
pub use payload::Moved;
pub use settings::{ArgoCdApi, ArgoCdWebhook, FluxReceiver, NotifySettings, RepoUrl, Webhook};
