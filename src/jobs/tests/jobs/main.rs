//! Jobs as the rooms above use them, over a state that fails as networks do, on a clock that is moved by hand.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cancelling;
mod finding;
mod harness;
mod kept;
mod leases;
mod outcomes;
mod state;
mod storm;
mod submitting;
