//! The program `roadstead` as its operator meets it: what it says and how it ends when something is wrong, and how it stops.
//!
//! Every message must say what to do, so the tests hold the remedies too.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

#[expect(dead_code, reason = "shared with the tests of other programs, which need more of it")]
#[path = "../support/mod.rs"]
mod support;

mod configuration;
mod program;
mod start;
mod stop;
mod usage;
