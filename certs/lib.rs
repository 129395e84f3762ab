//! Certificates in, rustls configurations out.
//!
//! One cryptographic provider, aws-lc-rs, is named in every builder: nothing here depends on, or installs, a process default.
//! Reading is done anew by each call, so a reload is another call; development authorities, client verification and ACME join
//! these two functions as further modules.

mod client;
mod error;
mod pem;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{client_config, client_config_without_roots};
pub use error::Error;
/// What [`server_config`] makes; its users need not depend on rustls to name it.
pub use rustls::ServerConfig;
pub use server::server_config;

/// What both sides offer in the handshake, most wanted first. Without it a connection stays at HTTP/1.1.
fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// The one provider of the house.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
