//! Those who deploy are told, and looked at: against a small Argo CD, and against the code of the real one.
#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod argo;
mod cluster;
mod judges;
mod judging;
mod notify;
mod properties;
mod stage;
