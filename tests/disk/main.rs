//! A disk that is full: an error that says so, nothing half visible, and recovery without a restart.
//!
//! The server runs in a mount namespace of its own, where its folder is a small file system in memory.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use oci::{Algorithm, Digest, Hasher};
use reqwest::{Client, Method, Response};

#[path = "../support/binary.rs"]
mod binary;

use crate::binary::Binary;

/// The server in its namespace.
struct Server {
    binary: Binary,
    client: Client,
}

impl Server {
    /// Starts the binary on a file system of 2 MiB.
    fn start(folder: &Path) -> Self {
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        let file = folder.join("roadstead.toml");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n",
            data.display()
        );
        std::fs::write(&file, config).unwrap();
        let script = format!(
            "mount -t tmpfs -o size=2m tmpfs {} && exec {} serve --config {}",
            data.display(),
            env!("CARGO_BIN_EXE_roadstead"),
            file.display()
        );
        let mut command = Command::new("unshare");
        let binary = Binary::start(command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]));
        let client = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap();
        Self { binary, client }
    }

    async fn send(&self, method: &str, path: &str) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("{}{path}", self.binary.url)).send().await.unwrap()
    }

    /// Sends all of a body whatever the server says meanwhile, then reads the whole answer. An HTTP library may drop an answer that
    /// comes before its body is sent.
    fn upload(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.binary.url.trim_start_matches("http://")).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn push(&self, content: &[u8]) -> String {
        self.upload("POST", &format!("/v2/a/blobs/uploads/?digest={}", digest(content)), content)
    }
}

fn digest(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

fn assert_full(answer: &str) {
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("UNAVAILABLE") && answer.contains("the storage is full"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let small = vec![1; 100_000];
    assert!(server.push(&small).starts_with("HTTP/1.1 201 "));
    let large = vec![2; 3_000_000];
    assert_full(&server.push(&large));
    assert_eq!(server.send("GET", &format!("/v2/a/blobs/{}", digest(&large))).await.status(), 404);
    let started = server.send("POST", "/v2/a/blobs/uploads/").await;
    let location = started.headers()["location"].to_str().unwrap().to_owned();
    assert_full(&server.upload("PATCH", &location, &large));
    let read = server.send("GET", &format!("/v2/a/blobs/{}", digest(&small))).await;
    assert_eq!(read.bytes().await.unwrap(), small);
    // The cause goes: what the session took is given back, and writes work again.
    assert_eq!(server.send("DELETE", &location).await.status(), 204);
    let other = vec![3; 1_500_000];
    assert!(server.push(&other).starts_with("HTTP/1.1 201 "));
    let read = server.send("GET", &format!("/v2/a/blobs/{}", digest(&other))).await;
    assert_eq!(read.bytes().await.unwrap(), other);
}
