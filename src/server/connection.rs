//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use telemetry::Metrics;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::activity::Activity;
use crate::again::Again;
use crate::body::Body;
use crate::dispatch::Dispatch;
use crate::drain::Drain;
use crate::entry::{Entry, Heads, Prefix, Protocol, sniff};
use crate::gather::{self, Gather};
use crate::limits::Limits;
use crate::peer::Peer;
use crate::regions::Regions;
use crate::request::RequestBody;
use crate::socket::{Socket, Watch};
use crate::tls::Tls;

/// The largest head of a request; more is answered with 431.
const MAX_HEAD: u32 = 32 * 1024;

/// hyper's buffers per direction. What waits to be sent in that of a plain connection is a file's pages, which cost nothing; what
/// arrives is memory, of which a push may hold twice as much. A large one spares acknowledgements and system calls where connections
/// are few. So that a crowd of pushes is bounded as well, its later ones have smaller ones.
const PLAIN_BUFFERS: [(usize, usize); 3] = [(16, 512 * 1024), (64, 256 * 1024), (usize::MAX, 64 * 1024)];
/// Under TLS a stalled connection may hold three chunks of a file: more gains nothing.
const TLS_BUFFER: usize = 192 * 1024;

/// What a client may send on a stream before we have read it, and on all of its streams together.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Streams of one connection at the same time. Each may hold a chunk or two of what it is sending.
const MAX_STREAMS: u32 = 100;

/// A stream reads its next chunk once less than this waits to be sent, so that a stalled one holds little more than a chunk.
const STREAM_BUFFER: usize = 64 * 1024;

/// How long a peer may take to see our end of the connection before the rest of what it sends is refused.
const LINGER: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
    /// End now.
    pub(crate) abort: CancellationToken,
    /// The tasks of HTTP/2 streams.
    pub(crate) streams: TaskTracker,
}

struct Connection {
    shared: Shared,
    peer: Peer,
    activity: Arc<Activity>,
    regions: Arc<Regions>,
    again: Again,
    /// Bytes of a buffer.
    buffer: usize,
    /// Until here the peer must have shown what it wants.
    deadline: Instant,
}

/// Serves one connection to its end, when there are so many `others`. Never panics for what a peer does; a panic of the service ends this connection only.
pub(crate) async fn run<S>(stream: TcpStream, addr: SocketAddr, others: usize, shared: Shared, service: S)
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
    S::Future: Unpin + Send,
{
    let activity = Activity::new(shared.metrics.clone());
    let regions = Arc::new(Regions::default());
    let deadline = Instant::now() + shared.limits.header_timeout;
    let idle_timeout = shared.limits.idle_timeout;
    let again = Again::new();
    let watch = Watch {
        activity: Arc::clone(&activity),
        yields: again.yields(),
        puts_off: shared.tls.is_none(),
        abort: shared.abort.clone(),
        metrics: shared.metrics.clone(),
    };
    let socket = Socket::new(stream, watch, Arc::clone(&regions), idle_timeout);
    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let plain = PLAIN_BUFFERS.iter().find(|(below, _)| others < *below).map_or(TLS_BUFFER, |(_, size)| *size);
    let buffer = if shared.tls.is_some() { TLS_BUFFER.min(plain) } else { plain };
    let peer = Peer::new(addr, shared.tls.is_some());
    let ended = Connection { shared, peer, activity, regions, again, buffer, deadline }.open(socket, service).await;
    if let Err(error) = ended {
        tracing::debug!(peer = %addr, error = &*error as &dyn Error, "a connection ended");
    }
}

/// The handshake; `None` after one that was an authority's question, and is answered.
async fn shake_hands(tls: &Tls, socket: Socket) -> io::Result<Option<TlsStream<Socket>>> {
    let Some(challenges) = tls.challenges() else {
        return TlsAcceptor::from(tls.config()).accept(socket).await.map(Some);
    };
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let challenge = challenges.answer(&start.client_hello());
    if let Some(config) = challenge.await {
        start.into_stream(config).await?.shutdown().await?;
        return Ok(None);
    }
    start.into_stream(tls.config()).await.map(Some)
}

impl Connection {
    async fn open<S>(self, mut socket: Socket, service: S) -> Result<(), crate::BoxError>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send,
    {
        // In a box of its own, because the state of a handshake is large and most connections have none or are past it.
        if let Some(tls) = self.shared.tls.clone() {
            return Box::pin(self.open_tls(tls, socket, service)).await;
        }
        let Some((protocol, prefix)) = self.before_requests(sniff(&mut socket)).await? else { return Ok(()) };
        self.serve(protocol, socket, prefix, service).await
    }

    async fn open_tls<S>(mut self, tls: Tls, socket: Socket, service: S) -> Result<(), crate::BoxError>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send,
    {
        let Some(mut stream) = self.before_requests(Box::pin(shake_hands(&tls, socket))).await? else { return Ok(()) };
        let (_, session) = stream.get_ref();
        if let Some(name) = session.peer_certificates().and_then(|chain| tls.name_of(chain)) {
            self.peer = self.peer.with_certificate(name);
        }
        if session.alpn_protocol() != Some(b"h2") {
            return self.serve(Protocol::Http1, stream, Prefix::default(), service).await;
        }
        // What was gathered goes out at once.
        stream.get_mut().1.set_buffer_limit(Some(gather::MOST));
        // hyper would wait without end for a preface that does not come.
        match self.before_requests(sniff(&mut stream)).await? {
            Some((Protocol::Http2, prefix)) => self.serve(Protocol::Http2, stream, prefix, service).await,
            Some((Protocol::Http1, _)) => Err("the peer chose HTTP/2 and does not speak it".into()),
            None => Ok(()),
        }
    }

    /// Waits for a step that comes before any request, so that a server that is told to stop need not wait for it.
    async fn before_requests<T>(&self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            biased;
            () = self.shared.drain.begun() => Err(io::Error::other("the server stops")),
            result = tokio::time::timeout_at(self.deadline, step) => result?,
        }
    }

    async fn serve<S, T>(self, protocol: Protocol, io: T, prefix: Prefix, service: S) -> Result<(), crate::BoxError>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send,
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match protocol {
            Protocol::Http1 => Box::pin(self.http1(io, prefix, service)).await,
            Protocol::Http2 => Box::pin(self.http2(io, prefix, service)).await,
        }
    }

    fn dispatch<S>(&self, protocol: Protocol, service: S) -> Dispatch<S> {
        // What is encrypted or framed has to be read first.
        let sends_files = cfg!(target_os = "linux") && protocol == Protocol::Http1 && !self.peer.is_tls();
        Dispatch {
            service: Box::new(service),
            peer: self.peer.clone(),
            protocol,
            idle_timeout: self.shared.limits.idle_timeout,
            activity: Arc::clone(&self.activity),
            regions: sends_files.then(|| Arc::clone(&self.regions)),
        }
    }

    async fn http1<S, T>(self, io: T, prefix: Prefix, service: S) -> Result<(), crate::BoxError>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send,
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let limits = &self.shared.limits;
        let heads = Heads::new(Arc::clone(&self.activity), self.deadline, limits.header_timeout, limits.keep_alive());
        let io = TokioIo::new(Entry::new(io, prefix, Some(heads)));
        let mut connection = http1::Builder::new()
            // Its timer is one number for heads and for the time between requests, and is set anew for every request.
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD as usize)
            .max_buf_size(self.buffer)
            .half_close(false)
            .serve_connection(io, self.dispatch(Protocol::Http1, service));
        let serve = std::future::poll_fn(|cx| self.again.poll(cx, |cx| connection.poll_without_shutdown(cx)));
        let drained = tokio::select! {
            biased;
            result = serve => Some(result),
            () = self.shared.drain.begun() => None,
        };
        let result = match drained {
            Some(result) => result,
            None if self.activity.begun() == 0 => return Ok(()),
            None => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                // Nothing is aborted that was not to be drained before.
                tokio::select! {
                    biased;
                    () = self.shared.abort.cancelled() => return Ok(()),
                    result = std::future::poll_fn(|cx| self.again.poll(cx, |cx| connection.poll_without_shutdown(cx))) => result,
                }
            }
        };
        match result {
            Err(error) if !error.is_parse() => return Err(error.into()),
            // What could not be parsed was answered, and the answer has to arrive.
            Ok(()) | Err(_) => {}
        }
        let entry = connection.into_parts().io.into_inner();
        Ok(linger(entry).await?)
    }

    async fn http2<S, T>(self, io: T, prefix: Prefix, service: S) -> Result<(), crate::BoxError>
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + Clone + Unpin + Send + 'static,
        S::Future: Unpin + Send,
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let idle_timeout = self.shared.limits.idle_timeout;
        let keep_alive = self.shared.limits.keep_alive();
        self.activity.time();
        let io = TokioIo::new(Entry::new(Gather::new(io, self.peer.is_tls()), prefix, None));
        let executor = Streams { tracker: self.shared.streams.clone(), abort: self.shared.abort.clone() };
        let connection = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .keep_alive_interval(idle_timeout)
            .keep_alive_timeout(idle_timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_BUFFER)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD)
            .serve_connection(io, self.dispatch(Protocol::Http2, service));
        let mut connection = pin!(connection);
        let mut ticks = tokio::time::interval((idle_timeout / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                () = self.shared.abort.cancelled() => return Ok(()),
                result = std::future::poll_fn(|cx| self.again.poll(cx, |cx| connection.as_mut().poll(cx))) => return Ok(result?),
                () = self.shared.drain.begun(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => match self.verdict(idle_timeout, keep_alive) {
                    Verdict::Fine => {}
                    Verdict::Unused if draining => {}
                    Verdict::Unused => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Stalled => {
                        self.activity.break_off();
                        return Err(format!("the peer took no bytes of its streams for {idle_timeout:?}").into());
                    }
                }
            }
        }
    }

    /// HTTP/2 has its own windows, so a peer can stall all of its streams while the socket looks well. Streams are judged
    /// together: one that waits while others move is a client that uses flow control as it is meant.
    fn verdict(&self, idle_timeout: Duration, keep_alive: Duration) -> Verdict {
        let silence = self.activity.silence();
        let running = self.activity.is_running();
        if running && !self.activity.is_ours() && silence > idle_timeout {
            Verdict::Stalled
        } else if running || silence <= keep_alive {
            Verdict::Fine
        } else if silence <= keep_alive + idle_timeout {
            Verdict::Unused
        } else {
            Verdict::Stalled
        }
    }
}

enum Verdict {
    Fine,
    Unused,
    Stalled,
}

/// Says goodbye and waits for the peer to do so. Closing a socket with unread bytes in it is a reset, which takes our last answer
/// from the peer's hands: a push that is refused before its body was read would see a broken pipe and not why.
async fn linger<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) -> io::Result<()> {
    io.shutdown().await?;
    let mut scrap = vec![0; 16 * 1024];
    let drained = async {
        while io.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::time::timeout(LINGER, drained).await.unwrap_or(Ok(()))
}

/// Runs the streams of HTTP/2 where the server can wait for them and end them.
#[derive(Clone)]
struct Streams {
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let abort = self.abort.clone();
        drop(self.tracker.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                () = stream => {}
            }
        }));
    }
}
