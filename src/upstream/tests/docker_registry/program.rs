//! The program, and a line to it that breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const PROGRAM: &str = "/usr/bin/docker-registry";

/// A registry with a folder of its own, until it is dropped.
pub(crate) struct DockerRegistry {
    pub(crate) port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl DockerRegistry {
    pub(crate) fn start() -> Self {
        assert!(Path::new(PROGRAM).is_file(), "docker-registry is missing: run tests/tools/install");
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = folder.path().join("registry.yml");
        let root = folder.path().join("content");
        let storage = format!("storage: {{filesystem: {{rootdirectory: {}}}}}", root.display());
        std::fs::write(&file, format!("version: 0.1\n{storage}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n")).unwrap();
        let mut command = Command::new(PROGRAM);
        // A certificate bundle meant for other programs stops its S3 driver, and with that all of it.
        command.env_remove("AWS_CA_BUNDLE").arg("serve").arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Self { port, child, _folder: folder };
        let ready = (0..400).any(|_| {
            TcpStream::connect(("127.0.0.1", port)).is_ok() || {
                thread::sleep(Duration::from_millis(50));
                false
            }
        });
        assert!(ready, "docker-registry does not listen");
        registry
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that leads to `target` and closes a connection, `times` in all, after so many bytes from the client.
pub(crate) fn breaking_proxy(target: u16, after: usize, times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicUsize::new(times));
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
            let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || copy(back, forth, usize::MAX, &AtomicUsize::new(0)));
            let left = Arc::clone(&left);
            thread::spawn(move || copy(client, server, after, &left));
        }
    });
    port
}

/// Copies until the end, or breaks off after so many bytes while there are breaks left.
fn copy(mut from: TcpStream, mut to: TcpStream, after: usize, left: &AtomicUsize) {
    let mut buffer = vec![0; 64 * 1024];
    let mut copied = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        copied += count;
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        if copied > after && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
