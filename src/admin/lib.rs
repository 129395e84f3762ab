//! `/api/v1/`: what operators see and do, as JSON. The command line uses nothing else, and neither will the web page.
//!
//! Every request carries the token of the server's file, `Authorization: Bearer TOKEN`, or what somebody logs in with whom the rules
//! give it. Answers are JSON objects; errors are
//! `{"error": {"code": "…", "message": "…"}}`. Times are RFC 3339 in UTC. Docs: docs/admin-api.md.

mod answer;
mod deliveries;
mod events;
mod gate;
mod hooks;
mod mirrors;
mod promotions;
mod robots;
mod route;
mod runs;
mod service;
mod token;
mod view;

pub use deliveries::Deliveries;
pub use service::{Admin, Parts};
pub use token::{Token, TokenError};
