//! Who asks, and may they: over HTTP, against the server with rules.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]
#![expect(clippy::print_stdout, reason = "how much was done is worth reading")]

/// As the tests of that room call it, whose pebble is used here.
extern crate certs as roadstead_certs;

mod audit;
#[path = "../support/binary.rs"]
mod binary;
mod bounds;
mod cached;
mod harness;
mod issuing;
mod listings;
mod login;
mod operators;
#[path = "../../certs/tests/acme/pebble.rs"]
mod pebble;
#[path = "../support/ports.rs"]
mod ports;
mod reloading;
