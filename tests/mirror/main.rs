//! Mirrors: the whole server with a clock that is moved by hand, and the real program where it is killed.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/buckets.rs"]
mod buckets;
mod bundle;
mod calendar;
mod cli;
mod crash;
mod elsewhere;
mod pipeline;
mod quiet;
mod quota;
mod stage;
#[path = "../support/process.rs"]
mod process;
