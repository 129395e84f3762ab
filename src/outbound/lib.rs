//! The one way out over HTTP: roots, proxies, which addresses may be reached, idle limits.
//!
//! A [`Client`] belongs to one origin, the address that an operator configured. It follows no redirect and decodes nothing:
//! both change what the caller must decide about (credentials, bytes). Time limits are on connecting and on silence, never on
//! the length of a transfer. Where a *remote* names an address, by a redirect or a token realm, the caller asks [`Reach`]
//! first; names are checked again where they are resolved, so that a name cannot point elsewhere between the two.

mod acme;
mod body;
mod client;
mod error;
mod reach;
mod resolver;
mod response;

pub use body::{Body, BodyError, BodyStream};
pub use client::{Client, Config, SetupError};
pub use error::{Error, ErrorKind, redacted};
pub use reach::Reach;
pub use response::Response;
