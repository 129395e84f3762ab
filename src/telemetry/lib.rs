//! Logs, metrics, the clock and build information.
//!
//! Every room may use this one, and it knows none of them. Nothing here is global but the log subscriber, which a process can
//! have only once: a [`Metrics`] and a [`Clock`] are values that the root makes and hands on.

mod audit;
pub mod build;
mod chain;
mod clock;
pub mod log;
mod metrics;

pub use audit::{Audit, AuditError, Entry as AuditEntry, Place as AuditPlace};
pub use chain::chain;
pub use clock::{Clock, SystemClock};
pub use metrics::{CONTENT_TYPE, CacheKind, CacheResult, FillOutcome, JobOutcome, Metrics, MirrorRun};
