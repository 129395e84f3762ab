//! Certificates in, rustls configurations out.
//!
//! One cryptographic provider, aws-lc-rs, is named in every builder: nothing here depends on, or installs, a process default.
//! [`Tls`] is the server's side, which reads its files again when it is told to; [`client_config`] is the other side.
//! [`acme`] has certificates issued and puts them into a [`Tls`] that runs. [`identity()`] says who a client's certificate says it is, [`dev`] makes certificates to begin with.

pub mod acme;
mod chain;
mod choice;
mod client;
mod clients;
pub mod dev;
mod error;
mod facts;
mod identity;
mod names;
mod pem;
mod server;
mod tls;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use client::{client_config, client_config_without_roots};
pub use error::Error;
pub use facts::{Facts, Origin, Problem};
pub use identity::{ClientIdentity, identity};
/// What [`Tls::config`] gives; its users need not depend on rustls to name it.
pub use rustls::ServerConfig;
/// What [`identity()`] takes, as rustls gives it of a connection.
pub use rustls::pki_types::CertificateDer;
/// What a client says first, by which a server room chooses a configuration.
pub use rustls::server::ClientHello;
pub use tls::{Pair, Reloaded, Settings, Tls};

/// What both sides offer in the handshake, most wanted first. Without it a connection stays at HTTP/1.1.
fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// The one provider of the house. Each of its suites encrypts with authentication and has keys of its own for each session, so
/// that a stolen certificate opens no record of the past.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite as suite;
    Arc::new(CryptoProvider {
        // Named one by one, so that a new version of the library adds none unseen.
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
}
