//! Sockets and TLS of the fake.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::serve::serve;
use super::state::Shared;

/// Which of the two listeners a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Registry,
    Cdn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Up,
    Down,
    Stopped,
}

/// A socket that has its port already but no runtime yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    socket: std::net::TcpListener,
    role: Role,
}

impl Bound {
    pub(crate) fn new(role: Role) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { address: socket.local_addr().unwrap(), socket, role }
    }
}

pub(crate) async fn run(bound: Bound, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let listener = TcpListener::from_std(bound.socket).unwrap();
    let mut mode = shared.mode.subscribe();
    loop {
        tokio::select! {
            _ = mode.wait_for(|mode| *mode == Mode::Stopped) => return,
            accepted = listener.accept() => {
                let Ok((stream, _peer)) = accepted else { continue };
                if *shared.mode.borrow() == Mode::Up {
                    tokio::spawn(connection(stream, bound.role, Arc::clone(&shared), tls.clone()));
                }
            }
        }
    }
}

/// Serves one connection until it ends or the fake goes down, which ends it in the middle of whatever it does.
async fn connection(stream: TcpStream, role: Role, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let mut mode = shared.mode.subscribe();
    let served = async {
        match tls {
            None => http1(stream, role, shared).await,
            Some(acceptor) => {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2(stream, role, shared).await;
                } else {
                    http1(stream, role, shared).await;
                }
            }
        }
    };
    tokio::select! {
        _ = mode.wait_for(|mode| *mode != Mode::Up) => {}
        () = served => {}
    }
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, role: Role, shared: Arc<Shared>) {
    let service = service_fn(move |request| serve(role, Arc::clone(&shared), request));
    // A connection that fails is what faults are for.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, role: Role, shared: Arc<Shared>) {
    let service = service_fn(move |request| serve(role, Arc::clone(&shared), request));
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// An authority's certificate and an acceptor with a certificate of it for 127.0.0.1 and localhost.
pub(crate) fn authority() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "fake upstream authority");
    let key = KeyPair::generate().unwrap();
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);

    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (ca_pem, TlsAcceptor::from(Arc::new(config)))
}
