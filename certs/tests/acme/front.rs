//! The server whose certificate it is about: its two ports, as clients and ACME servers meet them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use roadstead_certs::Tls;
use roadstead_certs::acme::Acme;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

/// One replica.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) acme: Arc<Acme>,
    pub(crate) tls: Arc<Tls>,
}

pub(crate) struct Front {
    pub(crate) tls_port: u16,
    pub(crate) http_port: u16,
    /// To which replica connections are led.
    serving: Mutex<Option<Replica>>,
    /// Whether HTTP is answered with something else.
    pub(crate) lies: AtomicBool,
    /// Whether TLS is not answered at all.
    pub(crate) is_deaf: AtomicBool,
}

impl Front {
    pub(crate) async fn open() -> Arc<Self> {
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Arc::new(Self {
            tls_port: tls.local_addr().unwrap().port(),
            http_port: http.local_addr().unwrap().port(),
            serving: Mutex::default(),
            lies: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
        });
        tokio::spawn(Arc::clone(&front).listen(tls, true));
        tokio::spawn(Arc::clone(&front).listen(http, false));
        front
    }

    pub(crate) fn lead_to(&self, replica: &Replica) {
        *self.serving.lock().unwrap() = Some(replica.clone());
    }

    async fn listen(self: Arc<Self>, listener: TcpListener, is_tls: bool) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let serving = self.serving.lock().unwrap().clone();
            let front = Arc::clone(&self);
            let Some(replica) = serving else { continue };
            tokio::spawn(async move {
                // What a client does wrong is its own affair.
                let _ = if is_tls { front.tls(replica, socket).await } else { front.http(replica, socket).await };
            });
        }
    }

    async fn tls(&self, replica: Replica, socket: TcpStream) -> io::Result<()> {
        if self.is_deaf.load(Ordering::Relaxed) {
            return Ok(());
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        if let Some(challenge) = { replica.acme.challenge(&start.client_hello()) }.await {
            return start.into_stream(challenge).await?.shutdown().await;
        }
        let mut stream = start.into_stream(replica.tls.config()).await?;
        // An echo stands for HTTP.
        let mut byte = [0];
        while stream.read(&mut byte).await? == 1 {
            stream.write_all(&byte).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    async fn http(&self, replica: Replica, mut socket: TcpStream) -> io::Result<()> {
        let (reader, mut writer) = socket.split();
        let mut lines = BufReader::new(reader).lines();
        let first = lines.next_line().await?.unwrap_or_default();
        while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
        let path = first.split(' ').nth(1).unwrap_or_default();
        let answer = match replica.acme.answer(path).await {
            Some(_) if self.lies.load(Ordering::Relaxed) => "something else".to_owned(),
            Some(answer) => answer,
            None => String::new(),
        };
        let status = if answer.is_empty() { "404 Not Found" } else { "200 OK" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        writer.write_all(format!("{head}{answer}").as_bytes()).await
    }

    /// Shakes hands as a client of `config` that asks for `name`.
    pub(crate) async fn connect(&self, config: &rustls::ClientConfig, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(("127.0.0.1", self.tls_port)).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config.clone())).connect(name, socket).await
    }
}

/// What is said comes back.
pub(crate) async fn echoes(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok() && byte == *b"x"
}

/// The certificate that the server has shown.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}
