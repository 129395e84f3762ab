//! Requests to a server in memory, and what the specification asks of every answer.

use std::cell::Cell;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256, Sha512};
use tempfile::TempDir;

use crate::support::layout::{INDEX, MANIFEST};
use crate::support::process::{Place, output, tool};
use crate::support::server::Server;

/// A server of the test's own.
pub(crate) struct Registry {
    server: Server,
    directory: TempDir,
    bodies: Cell<u32>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    head: String,
}

/// The algorithms of digests.
pub(crate) const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

impl Registry {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// A server with more settings than its address.
    pub(crate) fn with(settings: &str) -> Self {
        let directory = TempDir::new().expect("a directory can be made");
        let settings = format!("{settings}\n[storage]\nurl = \"memory:\"\n");
        let server = Server::start(&Place::default(), &directory.path().join("server"), &settings);
        Self { server, directory, bodies: Cell::new(0) }
    }

    /// A request without a body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], None)
    }

    /// A request, to a path or to the whole URL that a `Location` gave.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[&str], body: Option<&[u8]>) -> Answer {
        let mut curl = Place::default().program(&tool("curl"));
        curl.args(["--silent", "--show-error", "--include", "--max-time", "60", "--header", "Expect:"]);
        for header in headers {
            curl.args(["--header", header]);
        }
        if path.contains("/manifests/") {
            // In two lines, as some clients do.
            curl.args(["--header", &format!("Accept: {INDEX}"), "--header", &format!("Accept: {MANIFEST}")]);
        }
        match (method, body) {
            ("HEAD", _) => {
                curl.arg("--head");
            }
            (_, None) => {
                curl.args(["--request", method]);
            }
            (_, Some(body)) => {
                let file = self.directory.path().join(format!("body-{}", self.bodies.replace(self.bodies.get() + 1)));
                std::fs::write(&file, body).expect("a body can be written");
                curl.args(["--request", method, "--data-binary", &format!("@{}", file.display())]);
            }
        }
        if body.is_none() && matches!(method, "POST" | "PUT" | "PATCH") {
            curl.args(["--header", "Content-Length: 0"]);
        }
        let url = if path.starts_with("http") { path.to_owned() } else { self.server.url(path) };
        let output = output(curl.arg(&url));
        assert!(output.status.success(), "{method} {url}: {}", String::from_utf8_lossy(&output.stderr));
        Answer::parse(&output.stdout)
    }

    /// Pushes a blob in one request.
    pub(crate) fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = digest("sha256", content);
        let answer = self.send("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"), &[OCTETS], Some(content));
        answer.expect(201);
        digest
    }

    /// Pushes a manifest under a tag or digest.
    pub(crate) fn push_manifest(&self, repository: &str, reference: &str, media_type: &str, content: &[u8]) -> Answer {
        let headers = [format!("Content-Type: {media_type}"), "Transfer-Encoding: chunked".to_owned()];
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send("PUT", &path, &headers.each_ref().map(String::as_str), Some(content))
    }

    /// Deletes what is at a path, which must be gone at once.
    pub(crate) fn delete(&self, path: &str) {
        self.ask("DELETE", path).expect(202);
        self.ask("HEAD", path).expect(404);
    }
}

/// The content type of blobs.
pub(crate) const OCTETS: &str = "Content-Type: application/octet-stream";

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        Self { status, body: bytes[end + 4..].to_vec(), head }
    }

    /// Expects a status, and returns the answer for more.
    pub(crate) fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }

    /// Expects a header's value.
    pub(crate) fn expect_header(&self, name: &str, value: &str) -> &Self {
        assert_eq!(self.header(name).as_deref(), Some(value), "{name} in\n{}", self.head);
        self
    }

    /// Expects a body.
    pub(crate) fn expect_body(&self, body: &[u8]) -> &Self {
        assert!(self.body == body, "not the bytes that were pushed:\n{}\n{} bytes", self.head, self.body.len());
        self
    }

    /// The values of a header, comma by comma if it comes more than once.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let values: Vec<_> = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Where the answer points to.
    pub(crate) fn location(&self) -> String {
        self.header("Location").unwrap_or_else(|| panic!("no Location in\n{}", self.head))
    }

    /// Where an upload goes on, with the digest that ends it.
    pub(crate) fn ending(&self, digest: &str) -> String {
        let location = self.location();
        let sign = if location.contains('?') { '&' } else { '?' };
        format!("{location}{sign}digest={digest}")
    }
}

/// The digest of bytes by an algorithm.
pub(crate) fn digest(algorithm: &str, content: &[u8]) -> String {
    let bytes = if algorithm == "sha512" { Sha512::digest(content).to_vec() } else { Sha256::digest(content).to_vec() };
    bytes.iter().fold(format!("{algorithm}:"), |mut digest, byte| {
        write!(digest, "{byte:02x}").expect("a string takes text");
        digest
    })
}

/// Bytes that differ by their seed.
pub(crate) fn content(seed: &str, length: usize) -> Vec<u8> {
    seed.bytes().cycle().zip(0_u8..=255).cycle().take(length).map(|(letter, count)| letter ^ count).collect()
}
