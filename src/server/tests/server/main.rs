//! The server on real sockets. Limits are short here, and whoever waits for something waits long: a busy machine makes these
//! tests slower, not red.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bodies;
mod drain;
mod files;
mod growing;
mod harness;
mod limits;
mod protocols;
