//! The README, tried: its commands and the example of every client are run as a reader would run them, its configuration is checked,
//! and what its picture names is looked for.
//!
//! The reader's machine is a network namespace in which only loopback is up, with a real registry standing in for Docker Hub. What is
//! changed in the text before it runs is in `stage`, and it is little.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

#[path = "../support/hub.rs"]
mod hub;
#[path = "../support/netns.rs"]
mod netns;
#[expect(dead_code, reason = "shared with the tests of other programs, which need more of it")]
#[path = "../support/mod.rs"]
mod support;

mod configuration;
mod document;
mod examples;
mod picture;
mod stage;
