//! How connections are encrypted.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;

type Configure = dyn Fn() -> Arc<ServerConfig> + Send + Sync;
type NameOf = dyn Fn(&[CertificateDer<'_>]) -> Option<String> + Send + Sync;

/// Answers handshakes by which an authority verifies that a name leads here. [RFC 8737]
pub trait Challenges: Send + Sync {
    /// How to answer one that begins so; `None` for one that is a client's. After the handshake such a connection is closed.
    fn answer(&self, hello: &ClientHello<'_>) -> BoxFuture<'_, Option<Arc<ServerConfig>>>;
}

/// How connections are encrypted, and who is on the other end. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    configure: Arc<Configure>,
    name_of: Arc<NameOf>,
    challenges: Option<Arc<dyn Challenges>>,
}

impl Tls {
    /// `configure` is asked for every connection, so that certificates can change without ending any; its ALPN protocols decide
    /// between HTTP/1.1 and HTTP/2. `name_of` says whose the chain is that a client has shown and rustls has verified.
    #[must_use]
    pub fn new(
        configure: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        name_of: impl Fn(&[CertificateDer<'_>]) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { configure: Arc::new(configure), name_of: Arc::new(name_of), challenges: None }
    }

    /// The same, with handshakes that are challenges.
    #[must_use]
    pub fn with_challenges(self, challenges: Arc<dyn Challenges>) -> Self {
        Self { challenges: Some(challenges), ..self }
    }

    /// One configuration for all connections, and clients without certificates.
    #[must_use]
    pub fn fixed(config: Arc<ServerConfig>) -> Self {
        Self::new(move || Arc::clone(&config), |_| None)
    }

    pub(crate) fn challenges(&self) -> Option<&Arc<dyn Challenges>> {
        self.challenges.as_ref()
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        (self.configure)()
    }

    pub(crate) fn name_of(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        (self.name_of)(chain)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}
