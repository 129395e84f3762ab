//! Who is on the other end.

use std::net::SocketAddr;
use std::sync::Arc;

/// Who is on the other end of the connection. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(Arc<Known>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    addr: SocketAddr,
    /// Written once for a connection, since every request logs it.
    text: String,
    tls: bool,
    /// Whose certificate it has shown.
    certificate: Option<String>,
}

impl Peer {
    pub(crate) fn new(addr: SocketAddr, tls: bool) -> Self {
        Self(Arc::new(Known { addr, text: addr.to_string(), tls, certificate: None }))
    }

    /// The same, with whose certificate it has shown.
    pub(crate) fn with_certificate(&self, name: String) -> Self {
        let Known { addr, text, tls, .. } = &*self.0;
        Self(Arc::new(Known { addr: *addr, text: text.clone(), tls: *tls, certificate: Some(name) }))
    }

    /// Whose certificate it has shown, where it has shown one and it was verified.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.0.certificate.as_deref()
    }

    /// Its address as the socket has it, an IPv4 address as such even where the listener speaks IPv6.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether the connection is encrypted by this server.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.tls
    }
}
