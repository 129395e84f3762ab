//! Webhooks as the root uses them: jobs over a state that fails, a clock that is moved by hand, and receivers that misbehave. What is
//! sent is read by the receivers' own code, and what is received was signed by another program, where those can be had.
#![expect(clippy::unwrap_used, reason = "tests")]

mod delivering;
mod failing;
mod forges;
mod harness;
mod judge;
mod judged;
mod keeping;
mod operating;
mod properties;
mod receiver;
mod replays;
mod signed;
mod state;
