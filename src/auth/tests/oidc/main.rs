//! Tokens of other issuers, against an issuer that signs with real keys, publishes them over real HTTP, and can misbehave.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bearing;
mod harness;
mod issuer;
mod keys;
mod real;
mod tokens;
