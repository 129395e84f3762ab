//! Mirrors: the whole server with a clock that is moved by hand, and the real program where it is killed.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

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
#[expect(dead_code, reason = "shared with the tests of other programs, which need more of it")]
#[path = "../support/process.rs"]
mod process;
mod quiet;
mod quota;
mod rules;
mod stage;
