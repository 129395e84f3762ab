//! Who asks, and may they: over HTTP, against the server with rules.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]
#![expect(clippy::print_stdout, reason = "how much was done is worth reading")]

mod audit;
#[path = "../support/binary.rs"]
mod binary;
mod bounds;
mod harness;
mod listings;
mod login;
mod mounts;
mod operators;
mod reloading;
