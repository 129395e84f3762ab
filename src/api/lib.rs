//! `/v2/`: the OCI distribution API over HTTP. The straight line of a request: one typed `Route` is parsed from method and path,
//! its name resolved, the guard asked, and a thin handler calls one method of the core.
//!
//! Beside it stand the three endpoints that an operator's machinery asks for: `/livez`, `/readyz` and `/metrics`.

mod body;
mod caller;
mod challenge;
mod change;
mod error;
mod guard;
mod limits;
mod listing;
mod names;
mod notes;
mod pull;
mod push;
mod query;
mod respond;
// Not part of what this room offers: the fuzz target and the benchmarks parse requests as the service does.
#[doc(hidden)]
pub mod route;
mod service;
mod token;
mod uploads;

pub use guard::{Guard, Rules};
pub use limits::{Limit, Limits, Per};
pub use names::{Names, Resolved, Resolving};
pub use service::{Api, Parts, Readiness};
