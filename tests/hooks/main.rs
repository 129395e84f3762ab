//! Webhooks of the whole server: those who listen are told of what happens, and forges start what they are to.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/door.rs"]
mod door;
mod inbound;
mod outbound;
#[path = "../promotion/server.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;
