//! Accepting, and stopping.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::bind::Server;
use crate::body::Body;
use crate::connection::{self, Shared};
use crate::drain::Drain;
use crate::request::RequestBody;

/// How long connections that are told to end at once may take for it.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after an accept that failed for want of something, and what it grows to.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How the server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Every request that was running could finish.
    pub finished: bool,
    /// Connections that were cut because [`crate::Limits::drain_timeout`] had passed.
    pub aborted_connections: usize,
}

impl Server {
    /// Answers requests with `service` until `shutdown` resolves. Then closes the listener, lets running requests finish within
    /// [`crate::Limits::drain_timeout`], cuts the rest and returns.
    ///
    /// Every request's body knows its [`crate::Peer`]. A panic in `service` ends the connection (HTTP/1) or the stream
    /// (HTTP/2) that it happened in, and nothing else. A client that goes away drops the future that answers it: what must be
    /// finished belongs into a task of its own.
    pub async fn serve<S>(self, service: S, shutdown: impl Future<Output = ()>) -> Drained
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send,
    {
        let Self { listener, tls, limits, metrics, .. } = self;
        let seats = Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let drain_timeout = limits.drain_timeout;
        let shared = Shared {
            tls,
            limits: Arc::new(limits),
            metrics,
            drain: Drain::default(),
            abort: CancellationToken::new(),
            streams: TaskTracker::new(),
        };
        let connections = TaskTracker::new();
        let mut shutdown = pin!(shutdown);
        while let Some((stream, addr, seat)) = next(&listener, &seats, shutdown.as_mut()).await {
            let connection = connection::run(stream, addr, connections.len(), shared.clone(), service.clone());
            drop(connections.spawn(async move {
                connection.await;
                drop(seat);
            }));
        }
        drop(listener);
        drain(&shared, &connections, drain_timeout).await
    }
}

/// The next connection and its seat, or `None` once the server is to stop.
async fn next<F: Future<Output = ()>>(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
    mut shutdown: Pin<&mut F>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let seat = Arc::clone(seats).acquire_owned().await.ok()?;
        let (stream, addr) = accept(listener).await;
        Some((stream, addr, seat))
    };
    tokio::select! {
        biased;
        () = &mut shutdown => None,
        accepted = accepted => accepted,
    }
}

/// The next connection, whatever happens before it comes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if belongs_to_peer(&error) => {}
            Err(error) => {
                // Out of files or memory: the connection stays queued, and trying again at once would only burn the processor.
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// The peer left before it was accepted.
fn belongs_to_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

async fn drain(shared: &Shared, connections: &TaskTracker, timeout: Duration) -> Drained {
    connections.close();
    shared.streams.close();
    shared.drain.begin();
    tracing::info!(connections = connections.len(), "stopping: no new connections, running requests may finish");
    let all = async {
        connections.wait().await;
        shared.streams.wait().await;
    };
    if tokio::time::timeout(timeout, all).await.is_ok() {
        return Drained { finished: true, aborted_connections: 0 };
    }
    let aborted_connections = connections.len();
    tracing::warn!(connections = aborted_connections, "requests did not finish in time and are cut");
    shared.abort.cancel();
    if tokio::time::timeout(ABORT_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections do not end; leaving them to the end of the process");
    }
    Drained { finished: false, aborted_connections }
}
