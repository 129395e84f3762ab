//! What an attacker sends, to the real server in a process of its own. Each test asks that nothing is believed, forged or read that
//! should not be, and that the server goes on serving others.
//!
//! `ROADSTEAD_SLOW` says how many slow clients there are (500 if unset); `tests/full` has 5,000.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bombs;
mod frames;
#[path = "../access/harness.rs"]
mod harness;
mod hostile;
mod http2;
mod identity;
mod injection;
mod raw;
mod realms;
mod sizes;
mod slow;
mod smuggling;
mod stage;
