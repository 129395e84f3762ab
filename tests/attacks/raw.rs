//! Bytes as they are sent, and answers as they come.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any limit of the servers here.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer of HTTP/1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes on a connection of its own, and gives all that comes until the server ends it.
///
/// # Panics
///
/// When the server leaves it open.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<Answer> {
    answers(&until_closed(address, bytes))
}

/// As [`exchange`], without reading it as HTTP/1.
pub(crate) fn until_closed(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // Who is refused in the middle may be cut off there; what was answered is still to be read.
    let _ = stream.write_all(bytes);
    rest(&mut stream)
}

/// All that comes until the server ends the connection.
pub(crate) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&piece[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server leaves the connection open after {}", String::from_utf8_lossy(&all))
            }
            // A reset is an end as well.
            Err(_) => return all,
        }
    }
}

/// What was answered, one after the other. Interim answers are left out.
fn answers(bytes: &[u8]) -> Vec<Answer> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8(rest[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())).unwrap();
        let headers: Vec<(String, String)> = lines.map(header).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let body = &rest[end + 4..];
        let length = usize::min(length, body.len());
        rest = &body[length..];
        if status >= 200 {
            found.push(Answer { status, headers, body: String::from_utf8_lossy(&body[..length]).into_owned() });
        }
    }
    assert!(rest.is_empty(), "no answer: {}", String::from_utf8_lossy(rest));
    found
}
