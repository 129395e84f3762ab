//! A client that does one thing after another on a kept connection: to fill registries, to push, and to time single downloads.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{RecvFlags, recv};
use sha2::{Digest as _, Sha256};

use crate::content::{Blob, MANIFEST, hex};
use crate::http::{Head, Length, header};
use crate::machine::{now, since};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_mins(3);
const BUFFER: usize = 256 * 1024;

/// A connection to a server on loopback.
pub(crate) struct Client {
    stream: TcpStream,
    port: u16,
    buffer: Vec<u8>,
    /// Which part of the buffer is not used up.
    from: usize,
    to: usize,
}

/// An answer with its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where it points, as a path.
    pub(crate) location: Option<String>,
    /// Where the next page of a list is, as a path.
    pub(crate) next: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// What becomes of the bytes of a download.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    /// They are copied to this process and forgotten.
    Copy,
    /// They are thrown away by the kernel.
    Discard,
    /// They are hashed.
    Hash,
}

/// A download that is done.
pub(crate) struct Download {
    /// From the request to the first byte of the body.
    pub(crate) first_byte: Duration,
    /// From the request to the last byte.
    pub(crate) total: Duration,
    pub(crate) size: u64,
    /// The sha256 of what came, if it was hashed.
    pub(crate) digest: Option<String>,
}

/// The address of a port on loopback.
pub(crate) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The bytes of a request without a body.
pub(crate) fn request(method: &str, port: u16, path: &str) -> Vec<u8> {
    request_with(method, port, path, "")
}

/// The same with more lines in its head.
pub(crate) fn request_with(method: &str, port: u16, path: &str, more: &str) -> Vec<u8> {
    let accept = if path.contains("/manifests/") { format!("Accept: {MANIFEST}\r\n") } else { String::new() };
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{accept}{more}\r\n").into_bytes()
}

impl Client {
    /// Connects.
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(address(port)).with_context(|| format!("cannot connect to port {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { stream, port, buffer: vec![0; BUFFER], from: 0, to: 0 })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[&[u8]]) -> Result<Answer> {
        let size: usize = body.iter().map(|piece| piece.len()).sum();
        let mut head = request(method, self.port, path);
        head.truncate(head.len() - 2);
        write!(head, "Content-Length: {size}\r\n")?;
        if !kind.is_empty() {
            write!(head, "Content-Type: {kind}\r\n")?;
        }
        head.extend_from_slice(b"\r\n");
        // A small body goes out with the head.
        if size <= BUFFER {
            for piece in body {
                head.extend_from_slice(piece);
            }
            self.stream.write_all(&head)?;
        } else {
            self.stream.write_all(&head)?;
            for piece in body {
                self.stream.write_all(piece)?;
            }
        }
        self.answer(method).with_context(|| format!("{method} {path}"))
    }

    /// Asks for something with more lines in the head.
    pub(crate) fn fetch_with(&mut self, path: &str, more: &str) -> Result<Answer> {
        self.stream.write_all(&request_with("GET", self.port, path, more))?;
        self.answer("GET").with_context(|| format!("GET {path}"))
    }

    /// Asks as `ask` does, and fails unless the answer has the status.
    pub(crate) fn expect(&mut self, status: u16, method: &str, path: &str, kind: &str, body: &[&[u8]]) -> Result<Answer> {
        let answer = self.ask(method, path, kind, body)?;
        ensure!(
            answer.status == status,
            "{method} {path}: {} instead of {status}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body[..answer.body.len().min(500)])
        );
        Ok(answer)
    }

    /// Asks for something and reads it without keeping it.
    pub(crate) fn download(&mut self, path: &str, sink: Sink) -> Result<Download> {
        let begin = now();
        self.stream.write_all(&request("GET", self.port, path))?;
        let (head, _) = self.head()?;
        let Length::Exactly(size) = head.length else { bail!("GET {path}: an answer without a length") };
        ensure!(head.status == 200, "GET {path}: {}", head.status);
        let mut hash = (sink == Sink::Hash).then(Sha256::new);
        let mut left = size;
        let mut first_byte = None;
        while left > 0 {
            let waiting = self.to > self.from;
            let count = if sink == Sink::Discard && !waiting { self.discard(left)? } else { self.take(left, hash.as_mut())? };
            first_byte.get_or_insert_with(|| since(begin));
            ensure!(count > 0, "GET {path}: the connection ended {left} bytes too early");
            left -= count;
        }
        let total = since(begin);
        let digest = hash.map(|hash| hex(&hash.finalize()));
        Ok(Download { first_byte: first_byte.unwrap_or(total), total, size, digest })
    }

    /// Pushes a blob as clients do: a session, its bytes in one go, and the end of it.
    pub(crate) fn push(&mut self, repository: &str, blob: &Blob) -> Result<()> {
        self.push_bytes(repository, &blob.digest, &blob.pieces())
    }

    /// The same with bytes and their hexadecimal sha256.
    pub(crate) fn push_bytes(&mut self, repository: &str, digest: &str, pieces: &[&[u8]]) -> Result<()> {
        let open = self.expect(202, "POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        let location = open.location.context("an upload without a location")?;
        let sent = self.expect(202, "PATCH", &location, "application/octet-stream", pieces)?;
        let location = sent.location.unwrap_or(location);
        let joint = if location.contains('?') { '&' } else { '?' };
        self.expect(201, "PUT", &format!("{location}{joint}digest=sha256:{digest}"), "", &[])?;
        Ok(())
    }

    /// Pushes a manifest.
    pub(crate) fn push_manifest(&mut self, repository: &str, tag: &str, manifest: &str) -> Result<()> {
        self.expect(201, "PUT", &format!("/v2/{repository}/manifests/{tag}"), MANIFEST, &[manifest.as_bytes()])?;
        Ok(())
    }

    /// Writes a request and does not read its answer. What is returned keeps the connection open.
    pub(crate) fn stall(self, path: &str) -> Result<TcpStream> {
        (&self.stream).write_all(&request("GET", self.port, path))?;
        Ok(self.stream)
    }

    fn answer(&mut self, method: &str) -> Result<Answer> {
        let (head, text) = self.head()?;
        let location = header(&text, "location").map(path_of);
        let next = header(&text, "link").and_then(next_of);
        let body = match head.length {
            _ if method == "HEAD" || head.status == 204 => Vec::new(),
            Length::Exactly(size) => self.exactly(size)?,
            Length::Chunked => self.chunks()?,
            Length::UntilClosed => bail!("an answer without a length"),
        };
        Ok(Answer { status: head.status, location, next, body })
    }

    /// The next head and its text.
    fn head(&mut self) -> Result<(Head, Vec<u8>)> {
        loop {
            if let Some(head) = Head::parse(&self.buffer[self.from..self.to])? {
                let text = self.buffer[self.from..self.from + head.size].to_vec();
                self.from += head.size;
                return Ok((head, text));
            }
            ensure!(self.fill()? > 0, "the connection ended before the answer");
        }
    }

    fn exactly(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let size = usize::try_from(size)?;
        while body.len() < size {
            if self.from == self.to {
                ensure!(self.fill()? > 0, "the connection ended in a body");
            }
            let count = (self.to - self.from).min(size - body.len());
            body.extend_from_slice(&self.buffer[self.from..self.from + count]);
            self.from += count;
        }
        Ok(body)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            body.extend(self.exactly(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.exactly(1)?);
        }
        Ok(String::from_utf8(line)?.trim_end().to_owned())
    }

    /// Reads more behind what is not used up.
    fn fill(&mut self) -> Result<usize> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let count = self.stream.read(&mut self.buffer[self.to..])?;
        self.to += count;
        Ok(count)
    }

    /// Uses up at most `left` bytes of a body.
    fn take(&mut self, left: u64, hash: Option<&mut Sha256>) -> Result<u64> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.fill()?;
        }
        let count = (self.to - self.from).min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(hash) = hash {
            hash.update(&self.buffer[self.from..self.from + count]);
        }
        self.from += count;
        Ok(count as u64)
    }

    /// Has the kernel throw away at most `left` bytes of a body.
    fn discard(&mut self, left: u64) -> Result<u64> {
        let room = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (_, count) = recv(&self.stream, &mut self.buffer[..room], RecvFlags::TRUNC)?;
        Ok(count as u64)
    }
}

/// The path and the query of a link that may be whole.
fn path_of(link: &str) -> String {
    match link.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned(),
        None => link.to_owned(),
    }
}

/// The path of a `Link` that leads to the next page.
fn next_of(link: &str) -> Option<String> {
    let (target, relation) = link.trim_start_matches('<').split_once('>')?;
    relation.contains("next").then(|| path_of(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_where_the_link_says() {
        assert_eq!(next_of("</v2/a/tags/list?n=1&last=b>; rel=\"next\"").as_deref(), Some("/v2/a/tags/list?n=1&last=b"));
        assert_eq!(next_of("<http://x:1/v2/_catalog?last=b>; rel=\"next\"").as_deref(), Some("/v2/_catalog?last=b"));
        assert_eq!(next_of("</v2/>; rel=\"first\""), None);
    }

    #[test]
    fn a_link_is_followed_on_the_same_connection() {
        assert_eq!(path_of("http://127.0.0.1:5000/v2/a/blobs/uploads/1?_state=x"), "/v2/a/blobs/uploads/1?_state=x");
        assert_eq!(path_of("/v2/a/blobs/uploads/1"), "/v2/a/blobs/uploads/1");
        assert_eq!(path_of("http://127.0.0.1:5000"), "/");
    }

    #[test]
    fn chunks_are_put_together_and_the_connection_is_kept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1000];
            for _ in 0..2 {
                assert!(stream.read(&mut asked).unwrap() > 0);
                let head = b"HTTP/1.1 202 Accepted\r\nLocation: http://x/y\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
                // In two pieces, which end in the middle of a chunk.
                stream.write_all(&[head, b"5;x=y\r\nhel"].concat()).unwrap();
                stream.write_all(b"lo\r\n1\r\n!\r\n0\r\n\r\n").unwrap();
            }
        });
        let mut client = Client::connect(port).unwrap();
        for _ in 0..2 {
            let answer = client.expect(202, "POST", "/", "", &[]).unwrap();
            assert_eq!((answer.body.as_slice(), answer.location.as_deref()), (b"hello!".as_slice(), Some("/y")));
        }
        server.join().unwrap();
        assert!(client.ask("GET", "/", "", &[]).is_err(), "the server is gone");
    }

    #[test]
    fn a_manifest_is_asked_for_by_its_type_and_a_blob_is_not() {
        assert!(String::from_utf8(request("GET", 1, "/v2/a/manifests/1")).unwrap().contains("\r\nAccept: application/vnd.oci"));
        assert_eq!(request("GET", 1, "/v2/"), b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
    }
}
