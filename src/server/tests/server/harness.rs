//! A running server and the clients that poke it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roadstead_server::{Body, Drained, Limits, RequestBody, Server};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use telemetry::Metrics;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Longer than anything here takes on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A limit that a test waits out.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Drained>,
}

/// The limits of production, which no test here reaches.
pub(crate) fn limits() -> Limits {
    Limits::default()
}

pub(crate) async fn start<H, F>(limits: Limits, handler: H) -> Running
where
    H: Fn(Request<RequestBody>) -> F + Clone + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    start_with(limits, None, handler).await
}

pub(crate) async fn start_with<H, F>(limits: Limits, tls: Option<Arc<rustls::ServerConfig>>, handler: H) -> Running
where
    H: Fn(Request<RequestBody>) -> F + Clone + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let metrics = Metrics::new();
    let tls = tls.map(roadstead_server::Tls::fixed);
    let server = Server::bind("127.0.0.1:0", tls, limits, metrics.clone()).await.unwrap();
    let addr = server.local_addr();
    let (stop, stopped) = oneshot::channel();
    let service = tower::service_fn(move |request| {
        let answer = handler(request);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let server = tokio::spawn(async move { server.serve(service, async { drop(stopped.await) }).await });
    Running { addr, metrics, stop: Some(stop), server }
}

impl Running {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    pub(crate) async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        http1_over(self.connect().await).await
    }

    pub(crate) async fn http2(&self) -> http2::SendRequest<Full<Bytes>> {
        http2_over(self.connect().await).await
    }

    /// Sends `text` on a connection of its own and returns all that comes back until the server closes.
    pub(crate) async fn exchange(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        String::from_utf8(until_closed(&mut stream).await).unwrap()
    }

    /// Begins to stop.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the server to have stopped.
    pub(crate) async fn stopped(mut self) -> Drained {
        self.stop();
        soon(&mut self.server).await.unwrap()
    }

    /// Waits for the server to have so many connections.
    pub(crate) async fn has_connections(&self, count: usize) {
        let line = format!("roadstead_connections {count}\n");
        soon(async {
            while !self.metrics.encode().contains(&line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// What must happen, and soon.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// What comes until the server closes, cleanly or not.
pub(crate) async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    drop(soon(stream.read_to_end(&mut all)).await);
    all
}

pub(crate) async fn http1_over<T>(io: T) -> http1::SendRequest<Full<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn http2_over<T>(io: T) -> http2::SendRequest<Full<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "localhost").body(Full::default()).unwrap()
}

/// For HTTP/2, which wants the authority in the address.
pub(crate) fn get2(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://localhost{path}")).body(Full::default()).unwrap()
}

pub(crate) async fn read(response: Response<Incoming>) -> Result<Bytes, hyper::Error> {
    Ok(soon(response.into_body().collect()).await?.to_bytes())
}

pub(crate) struct Tls {
    server: Arc<rustls::ServerConfig>,
    roots: rustls::RootCertStore,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self { server: Arc::new(server), roots }
    }

    pub(crate) fn server(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.server)
    }

    pub(crate) async fn connect(&self, running: &Running, alpn: &[&str]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut client = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, running.connect().await).await.unwrap()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
