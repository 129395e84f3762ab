//! Real object stores, each started on this machine for a test and ended with it: here `SeaweedFS` for S3; azurite.rs and gcs.rs
//! are beside it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

mod ports;
mod tool;

pub(crate) use ports::port;
pub(crate) use tool::tool;

/// The name of the bucket that each of them has.
pub(crate) const BUCKET: &str = "images";
/// The account that `SeaweedFS` knows.
pub(crate) const KEY: (&str, &str) = ("AKIDEXAMPLE", "secretsecretsecret");
/// A running object store.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) endpoint: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a program whose output is of interest only if it fails.
pub(crate) fn start(command: &mut Command, folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let process = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
    process.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Sends one HTTP request. The status, or nothing while nobody answers.
pub(crate) fn request(port: u16, method: &str, path: &str, headers: &str, body: &str) -> Option<u16> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).ok()?;
    socket.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// Asks until the answer is one of success.
pub(crate) fn until(folder: &Path, mut ask: impl FnMut() -> Option<u16>) {
    let mut last = None;
    for _ in 0..300 {
        last = ask();
        if last.is_some_and(|status| (200..300).contains(&status)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    panic!("an object store did not start ({last:?}):\n{log}");
}

/// `SeaweedFS`, with its bucket.
pub(crate) fn seaweedfs() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("s3.json");
    let (id, secret) = KEY;
    let identity = format!(
        r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{id}","secretKey":"{secret}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    std::fs::write(&config, identity).unwrap();
    let [master, volume, filer, s3, metrics] = [port(), port(), port(), port(), port()];
    let mut command = Command::new(tool("weed"));
    command.current_dir(folder.path()).arg("server");
    command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.volumeSizeLimitMB=64"]);
    command.args(["-volume.max=200", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-dir=."]);
    command.arg(format!("-master.port={master}")).arg(format!("-volume.port={volume}")).arg(format!("-filer.port={filer}"));
    command.arg(format!("-s3.port={s3}")).arg(format!("-metricsPort={metrics}")).arg(format!("-s3.config={}", config.display()));
    let process = start(&mut command, folder.path());
    let server = Server { process, endpoint: format!("http://127.0.0.1:{s3}"), folder };
    let folder = server.folder.path();
    until(folder, || request(filer, "POST", &format!("/buckets/{BUCKET}/"), "", ""));
    // The S3 side is ready once it answers at all.
    until(folder, || request(s3, "GET", "/", "", "").map(|_| 200));
    server
}
