//! Taking the address.

use std::io;
use std::net::SocketAddr;

use telemetry::Metrics;
use tokio::net::{TcpListener, TcpSocket};

use crate::limits::Limits;
use crate::tls::Tls;

/// Connections that may wait to be accepted; the system may allow less. Where they overflow, a client's connection stands for it alone:
/// it waits for a second and more, and who says nothing is never heard of.
const BACKLOG: u32 = 4096;

/// A server that has its address and queues connections, but answers none before [`Server::serve`].
pub struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
}

/// Why the server did not get its address. The texts are for whoever starts it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Someone listens there already.
    #[error("{listen} is in use: stop the other server, or give this one another address in `server.listen`")]
    InUse {
        /// What was asked for.
        listen: String,
    },
    /// This process may not.
    #[error(
        "no permission to listen on {listen}: ports below 1024 need the capability CAP_NET_BIND_SERVICE; \
         allow it, or give a higher port in `server.listen`"
    )]
    Denied {
        /// What was asked for.
        listen: String,
    },
    /// No interface has it.
    #[error("this machine has no address {listen}: 0.0.0.0 or [::] in `server.listen` mean all that it has")]
    NotHere {
        /// What was asked for.
        listen: String,
    },
    /// Not something to listen on.
    #[error(
        "`{listen}` is not an address to listen on: `server.listen` is an address and a port, as 127.0.0.1:5000 or [::]:5000"
    )]
    NotAnAddress {
        /// What was asked for.
        listen: String,
    },
    /// Anything else.
    #[error("cannot listen on {listen}")]
    Other {
        /// What was asked for.
        listen: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Server {
    /// Takes `listen`: an IP address or host name, and a port; port 0 takes a free one. With `tls`, every connection is
    /// encrypted.
    pub async fn bind(listen: &str, tls: Option<Tls>, limits: Limits, metrics: Metrics) -> Result<Self, BindError> {
        // A name that does not resolve has a kind of its own per platform, so names are told apart here.
        let addresses: Vec<SocketAddr> = match tokio::net::lookup_host(listen).await {
            Ok(addresses) => addresses.collect(),
            Err(_) => return Err(BindError::NotAnAddress { listen: listen.to_owned() }),
        };
        let listener = listen_on(&addresses).map_err(|source| bind_error(listen, source))?;
        let address = listener.local_addr().map_err(|source| bind_error(listen, source))?;
        Ok(Self { listener, address, tls, limits, metrics })
    }

    /// The same, encrypted as `tls` says: for what is only known once the address is taken.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Listens on the first address that can be had.
fn listen_on(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen_at(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again does not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_error(listen: &str, source: io::Error) -> BindError {
    let listen = listen.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { listen },
        io::ErrorKind::PermissionDenied => BindError::Denied { listen },
        io::ErrorKind::AddrNotAvailable => BindError::NotHere { listen },
        _ => BindError::Other { listen, source },
    }
}
