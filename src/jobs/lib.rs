//! Durable work: a job is a record with a lease, retries, progress and a history.
//!
//! What happens later (a mirror run, a promotion, a delivery, a build) is a job. Its record lies in a [`State`] that all replicas
//! share and that changes by compare-and-swap alone, so that a crash loses nothing and no job is done twice at once. This room knows
//! neither the store nor what the works do: the root gives it a [`State`], and a [`Work`] for each kind.

mod address;
mod board;
mod claim;
mod error;
mod history;
mod holder;
mod jobs;
mod keeper;
mod look;
mod options;
mod random;
mod record;
mod runner;
mod running;
mod state;
mod submit;
mod watch;
mod work;

pub use error::Error;
pub use jobs::Jobs;
pub use options::{Kind, Options};
pub use random::Random;
pub use record::{JobId, JobState, Lease, Level, Line, Record};
pub use running::{LeaseLost, Running};
pub use state::{Changed, State, StateError, Version};
pub use submit::{NewJob, Submitted};
pub use watch::Watch;
pub use work::{Outcome, Work};
