//! The server's side of TLS, met by clients that really shake hands with it, in memory.
#![expect(clippy::unwrap_used, reason = "tests")]

mod choosing;
mod clients;
mod development;
mod hostile;
mod people;
mod refusals;
mod reloading;
mod resuming;
mod stage;
mod suites;
mod validity;
