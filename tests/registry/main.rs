//! The server as its clients see it: the real [`roadstead::build`] on a free port, spoken to over HTTP.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod delete;
mod discover;
mod fill;
mod harness;
mod manifests;
mod names;
mod pull;
mod restart;
mod stale;
mod uploads;
mod upstream;
