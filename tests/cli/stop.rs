//! A stop: transfers finish, a second signal cuts them, and nothing is lost.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::Serving;
use crate::support::layout::sha256;
use crate::support::process::{Place, eventually};

/// More than the sockets between server and client hold, so that a client which does not read keeps a download running.
const SIZE: usize = 64 << 20;

#[test]
fn a_server_without_requests_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = TempDir::new().unwrap();
        let mut server = Serving::start(folder.path());
        server.send(signal);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        assert!(server.log().contains("stopped finished=true"), "{}", server.log());
    }
}

#[test]
fn a_running_download_finishes_before_the_server_ends() {
    let folder = TempDir::new().unwrap();
    let mut server = Serving::start(folder.path());
    let digest = push(folder.path(), &server);
    let mut download = Download::start(&server, &digest);
    server.send(Signal::TERM);
    assert!(eventually(|| server.log().contains("stopping; running transfers may finish")), "{}", server.log());
    assert!(eventually(|| refuses(&server)), "it takes new requests");
    assert!(server.runs(), "it did not wait: {}", server.log());
    assert_eq!(sha256(&download.rest()), digest);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("stopped finished=true"), "{}", server.log());

    let again = Serving::start(folder.path());
    let (status, _) = Place::default().request(&["--head", &blob(&again, &digest)]).unwrap();
    assert_eq!(status, 200, "what was pushed is there after a restart");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let folder = TempDir::new().unwrap();
    let mut server = Serving::start(folder.path());
    let digest = push(folder.path(), &server);
    let _download = Download::start(&server, &digest);
    server.send(Signal::TERM);
    assert!(eventually(|| server.log().contains("a second signal cuts them")), "{}", server.log());
    server.send(Signal::TERM);
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("stopped at once"), "{}", server.log());
}

#[test]
fn a_stop_that_has_to_cut_transfers_says_so() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("roadstead.toml"), "[server]\ndrain_timeout = \"1s\"\n").unwrap();
    let mut server = Serving::start_with(folder.path(), &["--config", "roadstead.toml"]);
    let digest = push(folder.path(), &server);
    let _download = Download::start(&server, &digest);
    server.send(Signal::TERM);
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("did not finish within server.drain_timeout"), "{}", server.log());
}

/// A download of which only the head was read.
struct Download(TcpStream);

impl Download {
    fn start(server: &Serving, digest: &str) -> Self {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request =
            format!("GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// All of its body.
    fn rest(&mut self) -> Vec<u8> {
        let mut body = Vec::with_capacity(SIZE);
        self.0.read_to_end(&mut body).unwrap();
        assert_eq!(body.len(), SIZE);
        body
    }
}

/// Pushes a large blob and gives its digest.
fn push(folder: &Path, server: &Serving) -> String {
    let content = vec![7; SIZE];
    let digest = sha256(&content);
    let file = folder.join("content");
    std::fs::write(&file, content).unwrap();
    let url = format!("http://{}/v2/team/app/blobs/uploads/?digest={digest}", server.address);
    let data = format!("@{}", file.display());
    let answer = Place::default().request(&["--request", "POST", "--data-binary", &data, &url]);
    assert_eq!(answer.map(|(status, _)| status), Some(201), "{}", server.log());
    digest
}

fn blob(server: &Serving, digest: &str) -> String {
    format!("http://{}/v2/team/app/blobs/{digest}", server.address)
}

/// Does it send nobody new any content?
fn refuses(server: &Serving) -> bool {
    let ready = Place::default().request(&[&format!("http://{}/readyz", server.address)]);
    ready.is_none_or(|(status, _)| status == 503)
}
