//! Sockets: accept, TLS, limits, drain; the response body and the request log.
//!
//! [`Server`] takes any tower `Service` and knows nothing of registries. Every limit is on silence or on an amount, never on the
//! length of a transfer. A response that cannot be finished as promised breaks its connection (HTTP/1) or its stream (HTTP/2),
//! so that no client takes a part for the whole.

mod activity;
mod again;
mod bind;
mod body;
mod connection;
mod dispatch;
mod drain;
mod entry;
mod framing;
mod gather;
mod limits;
mod pages;
mod peer;
mod regions;
mod request;
mod request_log;
mod serve;
mod socket;
mod tls;
mod wire;

pub use bind::{BindError, Server};
pub use body::Body;
pub use limits::{Limits, keep_from_others, raise_file_limit};
pub use peer::Peer;
pub use request::{BodyError, RequestBody};
pub use request_log::{Pending, RequestId, RequestLog};
pub use serve::Drained;
pub use tls::{Challenges, Tls};

/// Any error that a response body can end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
