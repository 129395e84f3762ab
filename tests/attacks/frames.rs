//! HTTP/2 by hand, so that it can be spoken wrongly. [RFC 9113, RFC 7541]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::raw;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered; 0 stands for a status that the static table does not have.
    Answered(u16),
    /// It was reset, with this error code.
    Reset(u32),
    /// The connection was ended with this error code.
    Away(u32),
    /// The connection was closed without a word.
    Closed,
}

/// A connection.
pub(crate) struct Connection(pub(crate) TcpStream);

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as literals that go into no table. [RFC 7541, 6.2.2]
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value.as_bytes());
    }
    block
}

/// A text as it stands, behind its length. [RFC 7541, 5.1, 5.2]
pub(crate) fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        block.push(u8::try_from(bytes.len()).unwrap());
    } else {
        block.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend_from_slice(bytes);
}

/// The head of a request for a path.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)];
    fields(&[&pseudo, more].concat())
}

impl Connection {
    /// A connection with its preface and settings sent.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut stream = raw::connect(address);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self(stream)
    }

    /// Sends a frame; `false` where the server takes no more.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.0.write_all(&frame(kind, flags, stream, payload)).is_ok()
    }

    /// Sends a request without a body.
    pub(crate) fn ask(&mut self, stream: u32, block: &[u8]) -> bool {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, block)
    }

    /// Sends a request without a body, whose head needs more than one frame.
    pub(crate) fn head_in_pieces(&mut self, stream: u32, block: &[u8]) {
        let pieces: Vec<&[u8]> = block.chunks(16 * 1024).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let (kind, begin) = if index == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
            let end = if index + 1 == pieces.len() { END_HEADERS } else { 0 };
            self.send(kind, begin | end, stream, piece);
        }
    }

    /// Reads until it is clear what became of a stream.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.next() {
            let code = || u32::from_be_bytes(frame.payload[frame.payload.len().min(8) - 4..][..4].try_into().unwrap());
            match frame.kind {
                HEADERS if frame.stream == stream => return Outcome::Answered(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(code()),
                GOAWAY if code() != 0 => return Outcome::Away(code()),
                _ => {}
            }
        }
        Outcome::Closed
    }

    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        // A connection that was reset is closed too; one that is open and silent fails the test by its time limit.
        if let Err(error) = self.0.read_exact(&mut head) {
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "no answer came");
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], stream, payload })
    }
}

/// The status, which comes first. [RFC 7541, Appendix A]
fn status(block: &[u8]) -> u16 {
    // Before it the size of the table may be changed.
    let first = block.iter().find(|byte| **byte & 0xe0 != 0x20).copied().unwrap_or_default();
    match first {
        0x88 => 200,
        0x89 => 204,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => 0,
    }
}
