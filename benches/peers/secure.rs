//! Encrypted connections: the certificate that all servers show, and a client that knows as much HTTP/2 as a download needs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite};
use sha2::{Digest as _, Sha256};

use crate::client::{address, request_with};
use crate::content::hex;
use crate::http::{Head, Length};

/// What the certificate and its key are called, in the folder of a run.
pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const KEY: &str = "key.pem";

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_mins(1);
/// What a client of HTTP/2 lets a server send on each stream, and on all of a connection beyond what it has at its start: a server
/// never waits for more.
const STREAM_WINDOW: u32 = (1 << 31) - 1;
const MORE_WINDOW: u32 = 1 << 30;
/// The largest frame unless a client says otherwise, which hardly any does. [RFC 9113 section 6.5.2]
const FRAME: usize = 16 * 1024;

/// How bytes are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Aes128,
    Aes256,
}

impl Suite {
    /// What it is called in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Aes128 => "AES-128-GCM",
            Self::Aes256 => "AES-256-GCM",
        }
    }

    fn suite(self) -> SupportedCipherSuite {
        match self {
            Self::Aes128 => cipher_suite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256 => cipher_suite::TLS13_AES_256_GCM_SHA384,
        }
    }
}

/// What is spoken over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What it is called in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    /// What a client says before its first request.
    pub(crate) fn opening(self) -> Vec<u8> {
        match self {
            Self::Http1 => Vec::new(),
            Self::Http2 => {
                let settings = [[0, 4].as_slice(), &STREAM_WINDOW.to_be_bytes()].concat();
                [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &settings), window(MORE_WINDOW)].concat()
            }
        }
    }

    /// The bytes of a connection's request of this number, counted from 0. It gives back what the one before it has used of the window.
    pub(crate) fn request(self, number: u32, port: u16, path: &str, used: u32) -> Result<Vec<u8>> {
        if self == Self::Http1 {
            return Ok(request_with("GET", port, path, ""));
        }
        // Fields that need no table of their own. [RFC 7541 appendix A]
        let mut block = vec![0x82, 0x87];
        for (name, value) in [(4, path), (1, &format!("127.0.0.1:{port}"))] {
            block.extend([name, u8::try_from(value.len())?]);
            ensure!(value.len() < 127, "{value} is too long for one byte of length");
            block.extend_from_slice(value.as_bytes());
        }
        let before = if number == 0 { Vec::new() } else { window(used) };
        // The whole head, and no body.
        Ok([before, frame(1, 0x5, 1 + 2 * number, &block)].concat())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn window(more: u32) -> Vec<u8> {
    frame(8, 0, 0, &more.to_be_bytes())
}

/// Makes the certificate, an ECDSA one on P-256 as most have now, and its key.
pub(crate) fn issue(folder: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
    fs::write(folder.join(CERTIFICATE), certificate.pem())?;
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(folder.join(KEY))?;
    Ok(file.write_all(key.serialize_pem().as_bytes())?)
}

/// What a client offers: this alone, and never a session of before. All servers have X25519; the hybrid with ML-KEM that ours has as well
/// would be another piece of work than theirs.
pub(crate) fn offer(certificate: &Path, suite: Suite, protocol: Protocol) -> Result<Arc<ClientConfig>> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite.suite()];
    provider.kx_groups = vec![kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.name().to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A connection whose handshake is done.
pub(crate) fn connect(offer: &Arc<ClientConfig>, port: u16) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut stream = TcpStream::connect(address(port)).with_context(|| format!("cannot connect to port {port}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut session = ClientConnection::new(Arc::clone(offer), ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()))?;
    while session.is_handshaking() {
        session.complete_io(&mut stream).with_context(|| format!("the handshake with port {port}"))?;
    }
    let (wanted, got) = (offer.alpn_protocols.first().map(Vec::as_slice), session.alpn_protocol());
    ensure!(got == wanted || got.is_none() && wanted == Some(b"http/1.1"), "port {port} chose another protocol than was offered");
    Ok(StreamOwned::new(session, stream))
}

/// What a server answers.
pub(crate) fn status(certificate: &Path, port: u16, path: &str) -> Result<u16> {
    let mut stream = connect(&offer(certificate, Suite::Aes128, Protocol::Http1)?, port)?;
    stream.write_all(&request_with("GET", port, path, "Connection: close\r\n"))?;
    let (head, _) = head(&mut stream)?;
    Ok(head.status)
}

/// The sha256 of what a server gives, all of it read as a client does that wants it.
pub(crate) fn digest(offer: &Arc<ClientConfig>, protocol: Protocol, port: u16, path: &str) -> Result<String> {
    let mut stream = connect(offer, port)?;
    stream.write_all(&[protocol.opening(), protocol.request(0, port, path, 0)?].concat())?;
    let mut hash = Sha256::new();
    match protocol {
        Protocol::Http1 => {
            let (head, first) = head(&mut stream)?;
            let Length::Exactly(size) = head.length else { bail!("port {port}: an answer without a length") };
            ensure!(head.status == 200, "port {port} answers {}", head.status);
            hash.update(&first);
            let mut left = usize::try_from(size)?.checked_sub(first.len()).context("more bytes than the answer says")?;
            let mut buffer = vec![0; FRAME];
            while left > 0 {
                let room = left.min(FRAME);
                let count = stream.read(&mut buffer[..room])?;
                ensure!(count > 0, "port {port} ended a body {left} bytes too early");
                hash.update(&buffer[..count]);
                left -= count;
            }
        }
        Protocol::Http2 => frames(&mut stream, &mut hash)?,
    }
    Ok(hex(&hash.finalize()))
}

/// The next head, and what came behind it.
fn head(stream: &mut impl std::io::Read) -> Result<(Head, Vec<u8>)> {
    let (mut text, mut buffer) = (Vec::new(), vec![0; FRAME]);
    loop {
        if let Some(head) = Head::parse(&text)? {
            let rest = text.split_off(head.size);
            return Ok((head, rest));
        }
        match stream.read(&mut buffer) {
            Ok(0) => bail!("the connection ended before the answer"),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hashes the data of the first stream, to its end.
fn frames(stream: &mut impl std::io::Read, hash: &mut Sha256) -> Result<()> {
    loop {
        let mut about = [0; 9];
        stream.read_exact(&mut about)?;
        let length = usize::try_from(u32::from_be_bytes([0, about[0], about[1], about[2]]))?;
        let (kind, flags) = (about[3], about[4]);
        ensure!(length <= FRAME, "a frame of {length} bytes, which nobody asked for");
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match kind {
            0 => {
                ensure!(flags & 0x8 == 0, "data with padding, which no server here sends");
                hash.update(&payload);
            }
            // Its first field is the status: 200 has a place of its own in the table.
            1 => ensure!(payload.contains(&0x88), "an answer of another status than 200"),
            3 | 7 => bail!("the server ended the stream or the connection"),
            _ => continue,
        }
        if flags & 0x1 != 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_protocol_says() {
        let bytes = Protocol::Http2.request(1, 80, "/a", 5).unwrap();
        // What was used of the window, then the head of the second stream of a client.
        let expected = [
            [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 5].as_slice(),
            &[0, 0, 20, 1, 5, 0, 0, 0, 3, 0x82, 0x87, 4, 2, b'/', b'a', 1, 12],
            b"127.0.0.1:80",
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert!(Protocol::Http2.request(0, 80, &"a".repeat(127), 0).is_err());
        assert!(Protocol::Http1.request(0, 80, "/a", 0).unwrap().starts_with(b"GET /a HTTP/1.1\r\n"));
    }

    #[test]
    fn data_is_hashed_to_the_end_of_its_stream_and_a_refusal_is_an_error() {
        let answer = [
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &[0x88]),
            frame(0, 0, 1, b"hel"),
            frame(8, 0, 0, &[0; 4]),
            frame(0, 1, 1, b"lo"),
        ];
        let mut hash = Sha256::new();
        frames(&mut answer.concat().as_slice(), &mut hash).unwrap();
        assert_eq!(hash.finalize(), Sha256::digest(b"hello"));
        for wrong in [frame(1, 5, 1, &[0x8d]), frame(3, 0, 1, &[0; 4]), frame(0, 9, 1, b"x"), Vec::new()] {
            assert!(frames(&mut wrong.as_slice(), &mut Sha256::new()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_certificate_is_one_that_its_own_clients_take() {
        let folder = std::env::temp_dir().join(format!("roadstead-peers-secure-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        issue(&folder).unwrap();
        for suite in [Suite::Aes128, Suite::Aes256] {
            let offer = offer(&folder.join(CERTIFICATE), suite, Protocol::Http2).unwrap();
            assert_eq!(offer.crypto_provider().cipher_suites, [suite.suite()]);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
