//! Certificates from a real ACME server, pebble, and from one that misbehaves on demand.
#![expect(clippy::unwrap_used, reason = "tests")]

mod damage;
mod failing;
mod front;
mod issuing;
mod limits;
mod pebble;
mod renewing;
mod replicas;
mod server;
mod shaking;
mod stage;
mod store;
