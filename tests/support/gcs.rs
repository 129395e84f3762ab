//! Google Cloud Storage, as far as we use it, in memory and on loopback. There is one here because no emulator that can be had takes a
//! PUT of an object over the XML API, which is what the client sends.
//!
//! It implements one bucket: objects that are read (whole, in ranges, on conditions of their entity tag), written, copied and deleted,
//! with generations and the conditions on them; listings in pages; uploads in parts. Where Google leaves a choice it takes the harder
//! one: an entity tag says what the bytes are and not when they were written, as that of an object sent whole does, and pages are
//! short. What it does not know is answered with 501 and fails the test in the end. Credentials are not looked at.
//! [Cloud Storage, XML API]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Error, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;
use oci::{Algorithm, Hasher};
use telemetry::{Clock, SystemClock};

use crate::buckets::BUCKET;

/// Entries in a page of a listing. Google allows itself any number up to 1000.
const PAGE: usize = 3;
/// Every part but the last has at least this size. [XML API, multipart uploads]
const SMALLEST_PART: usize = 5 * 1024 * 1024;
const MOST_PARTS: usize = 10_000;
/// How a listing may be asked for. Where one begins that joins keys and has an offset among them is nowhere said clearly.
const LISTINGS: [&[&str]; 2] =
    [&["continuation-token", "delimiter", "list-type", "prefix"], &["continuation-token", "list-type", "prefix", "start-after"]];
/// Headers that change what a request means.
const CONDITIONS: &[&str] = &["if-", "x-goog-", "range"];

/// A running server.
pub(crate) struct Gcs {
    pub(crate) endpoint: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    bucket: Mutex<Contents>,
    unknown: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// What is in the bucket.
#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Grows with every object and upload.
    last: u64,
}

struct Object {
    bytes: Bytes,
    etag: String,
    generation: u64,
    written: SystemTime,
}

struct Upload {
    key: String,
    parts: BTreeMap<usize, (String, Bytes)>,
}

struct Request {
    line: String,
    method: String,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

struct Reply {
    status: u16,
    headers: String,
    body: Bytes,
}

impl Gcs {
    /// Starts one, with an empty bucket.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let listening = std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if serving.ended.load(Ordering::Acquire) {
                    break;
                }
                let shared = Arc::clone(&serving);
                // Ends with its connection.
                std::thread::spawn(move || shared.serve(socket));
            }
        });
        Self { endpoint: format!("http://{address}"), address, shared, listening: Some(listening) }
    }

    /// What was asked and is not known here. Whoever takes it has expected it.
    pub(crate) fn take_unknown(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.unknown.lock().unwrap())
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let _ = self.listening.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert_eq!(self.take_unknown(), [""; 0], "requests that tests/support/gcs.rs does not know");
            assert!(!self.shared.bucket.is_poisoned(), "tests/support/gcs.rs has failed");
        }
    }
}

impl Shared {
    fn serve(&self, mut socket: TcpStream) {
        let Ok(copy) = socket.try_clone().and_then(|copy| socket.set_nodelay(true).map(|()| copy)) else { return };
        let mut reader = BufReader::new(copy);
        loop {
            let (reply, is_head, last) = match Request::read(&mut reader) {
                Ok(Some(request)) => (self.answer(&request), request.method == "HEAD", false),
                Err(error) if error.kind() == ErrorKind::InvalidData => (self.unknown(error.to_string()), false, true),
                // The client is gone.
                Ok(None) | Err(_) => return,
            };
            if reply.send(&mut socket, is_head).is_err() || last {
                return;
            }
        }
    }

    fn unknown(&self, what: String) -> Reply {
        self.unknown.lock().unwrap().push(what);
        Reply::error(501, "NotImplemented")
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.bucket != BUCKET {
            return Reply::error(404, "NoSuchBucket");
        }
        let mut contents = self.bucket.lock().unwrap();
        let parameters: Vec<&str> = request.query.keys().map(String::as_str).collect();
        let is_condition = |name: &&str| CONDITIONS.iter().any(|start| name.starts_with(start));
        let conditions: Vec<&str> = request.headers.keys().map(String::as_str).filter(is_condition).collect();
        let all = |names: &[&str], known: &[&str]| names.iter().all(|name| known.contains(name));
        let method = (request.method.as_str(), !request.key.is_empty());
        match (method, &parameters[..], &conditions[..]) {
            (("GET", false), names, []) if LISTINGS.iter().any(|known| all(names, known)) => contents.list(request),
            (("GET" | "HEAD", true), [], names) if all(names, &["if-match", "if-none-match", "range"]) => contents.read(request),
            (("PUT", true), [], [] | ["x-goog-if-generation-match"]) => contents.put(request),
            (("PUT", true), [], ["x-goog-copy-source", rest @ ..]) if all(rest, &["x-goog-if-generation-match"]) => {
                contents.copy(request)
            }
            (("PUT", true), ["partNumber", "uploadId"], []) => contents.put_part(request),
            (("POST", true), ["uploads"], []) => contents.begin(request),
            (("POST", true), ["uploadId"], []) => contents.complete(request),
            (("DELETE", true), ["uploadId"], []) => {
                let aborted = contents.uploads.remove(&request.query["uploadId"]);
                aborted.map_or_else(|| Reply::error(404, "NoSuchUpload"), |_| Reply::new(204))
            }
            (("DELETE", true), [], []) => {
                let deleted = contents.objects.remove(&request.key);
                deleted.map_or_else(|| Reply::error(404, "NoSuchKey"), |_| Reply::new(204))
            }
            _ => self.unknown(format!("{} {conditions:?}", request.line)),
        }
    }
}

impl Contents {
    fn read(&self, request: &Request) -> Reply {
        let Some(object) = self.objects.get(&request.key) else { return Reply::error(404, "NoSuchKey") };
        let names = |header: &str| request.headers.get(header).map(|value| value == "*" || *value == object.etag);
        if names("if-match") == Some(false) {
            return Reply::error(412, "PreconditionFailed");
        }
        if names("if-none-match") == Some(true) {
            return object.describe(Reply::new(304));
        }
        let size = object.bytes.len();
        let Some(range) = request.headers.get("range") else {
            return object.describe(Reply { body: object.bytes.clone(), ..Reply::new(200) });
        };
        let Some(range) = range_of(range, size) else {
            return Reply::error(416, "InvalidRange").with("content-range", format_args!("bytes */{size}"));
        };
        let reply = Reply { body: object.bytes.slice(range.clone()), ..Reply::new(206) };
        object.describe(reply).with("content-range", format_args!("bytes {}-{}/{size}", range.start, range.end - 1))
    }

    fn put(&mut self, request: &Request) -> Reply {
        if !self.is_as_expected(request) {
            return Reply::error(412, "PreconditionFailed");
        }
        let object = self.write(&request.key, request.body.clone(), etag(&request.body));
        object.describe(Reply::new(200))
    }

    fn copy(&mut self, request: &Request) -> Reply {
        let source = request.headers["x-goog-copy-source"].split_once('/').filter(|(bucket, _)| decode(bucket) == BUCKET);
        let source = source.and_then(|(_, key)| self.objects.get(&decode(key)));
        let Some((bytes, tag)) = source.map(|object| (object.bytes.clone(), object.etag.clone())) else {
            return Reply::error(404, "NoSuchKey");
        };
        if !self.is_as_expected(request) {
            return Reply::error(412, "PreconditionFailed");
        }
        let body = format!("<CopyObjectResult><ETag>{tag}</ETag></CopyObjectResult>");
        self.write(&request.key, bytes, tag).describe(Reply::xml(&body))
    }

    /// Has the object the generation that the request wants to replace? 0 is that of one that is not there.
    fn is_as_expected(&self, request: &Request) -> bool {
        let generation = self.objects.get(&request.key).map_or(0, |object| object.generation);
        request.headers.get("x-goog-if-generation-match").is_none_or(|expected| *expected == generation.to_string())
    }

    fn write(&mut self, key: &str, bytes: Bytes, etag: String) -> &Object {
        self.last += 1;
        let object = Object { bytes, etag, generation: self.last, written: SystemClock::default().now() };
        self.objects.insert(key.to_owned(), object);
        &self.objects[key]
    }

    fn begin(&mut self, request: &Request) -> Reply {
        self.last += 1;
        let id = format!("upload-{}", self.last);
        let begun =
            Reply::xml(&format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"));
        self.uploads.insert(id, Upload { key: request.key.clone(), parts: BTreeMap::new() });
        begun
    }

    fn upload(&mut self, request: &Request) -> Option<&mut Upload> {
        self.uploads.get_mut(&request.query["uploadId"]).filter(|upload| upload.key == request.key)
    }

    fn put_part(&mut self, request: &Request) -> Reply {
        let Some(upload) = self.upload(request) else { return Reply::error(404, "NoSuchUpload") };
        let number = request.query["partNumber"].parse().ok().filter(|number| (1..=MOST_PARTS).contains(number));
        let Some(number) = number else { return Reply::error(400, "InvalidArgument") };
        let tag = etag(&request.body);
        upload.parts.insert(number, (tag.clone(), request.body.clone()));
        Reply::new(200).with("etag", tag)
    }

    fn complete(&mut self, request: &Request) -> Reply {
        let Some(upload) = self.upload(request) else { return Reply::error(404, "NoSuchUpload") };
        let text = String::from_utf8_lossy(&request.body);
        let wanted: Vec<&str> = text.split("<Part>").skip(1).collect();
        let (mut bytes, mut tags, mut before) = (Vec::new(), String::new(), 0);
        for (index, part) in wanted.iter().enumerate() {
            let number = element(part, "PartNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
            let sent = upload.parts.get(&number).filter(|(tag, _)| element(part, "ETag") == Some(tag));
            let Some((tag, sent)) = sent else { return Reply::error(400, "InvalidPart") };
            if number <= before {
                return Reply::error(400, "InvalidPartOrder");
            }
            if sent.len() < SMALLEST_PART && index + 1 < wanted.len() {
                return Reply::error(400, "EntityTooSmall");
            }
            before = number;
            tags.push_str(tag);
            bytes.extend_from_slice(sent);
        }
        if wanted.is_empty() {
            return Reply::error(400, "MalformedCompleteMultipartUploadRequest");
        }
        self.uploads.remove(&request.query["uploadId"]);
        let tag = etag(tags.as_bytes());
        let body = format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
        self.write(&request.key, bytes.into(), tag).describe(Reply::xml(&body))
    }

    fn list(&self, request: &Request) -> Reply {
        let asked = |name: &str| request.query.get(name).map_or("", String::as_str);
        let (prefix, delimiter) = (asked("prefix"), request.query.get("delimiter"));
        let after = request.query.get("continuation-token").map_or(asked("start-after"), String::as_str);
        let mut page: Vec<(&str, Option<&Object>)> = Vec::new();
        let mut token = None;
        for (key, object) in self.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)) {
            let end = delimiter.and_then(|mark| key[prefix.len()..].find(mark).map(|at| prefix.len() + at + mark.len()));
            let name = &key[..end.unwrap_or(key.len())];
            if name <= after || page.last().is_some_and(|(last, _)| *last == name) {
                continue;
            }
            if page.len() == PAGE {
                token = page.last().map(|(last, _)| *last);
                break;
            }
            page.push((name, end.is_none().then_some(object)));
        }
        let mut body = format!("<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{}</IsTruncated>", token.is_some());
        // All of a kind stand together.
        for (name, object) in page.iter().filter_map(|(name, object)| object.map(|object| (name, object))) {
            let (size, tag, at, key) = (object.bytes.len(), &object.etag, iso(object.written), escape(name));
            let _ = write!(body, "<Contents><Key>{key}</Key><Generation>{}</Generation>", object.generation);
            let _ = write!(body, "<LastModified>{at}</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>");
        }
        for (name, _) in page.iter().filter(|(_, object)| object.is_none()) {
            let _ = write!(body, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(name));
        }
        let next = token.map(|token| format!("<NextContinuationToken>{}</NextContinuationToken>", escape(token)));
        Reply::xml(&(body + &next.unwrap_or_default() + "</ListBucketResult>"))
    }
}

impl Object {
    fn describe(&self, reply: Reply) -> Reply {
        let reply = reply.with("etag", &self.etag).with("x-goog-generation", self.generation);
        reply.with("last-modified", httpdate::fmt_http_date(self.written))
    }
}

impl Request {
    /// Reads one. `None` where the client has no more of them; `InvalidData` for one that this server does not understand.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let strange = || Error::new(ErrorKind::InvalidData, line.trim_end().to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = header.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if headers.contains_key("transfer-encoding") || headers.contains_key("expect") {
            return Err(strange());
        }
        let length = headers.get("content-length").map_or(Ok(0), |length| length.parse()).map_err(|_| strange())?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let [method, target, "HTTP/1.1"] = line.split_whitespace().collect::<Vec<_>>()[..] else { return Err(strange()) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        Ok(Some(Self {
            method: method.to_owned(),
            bucket: decode(bucket),
            key: decode(key),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers,
            body: body.into(),
            line: line.trim_end().to_owned(),
        }))
    }
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: String::new(), body: Bytes::new() }
    }

    fn xml(body: &str) -> Self {
        let declared = format!("<?xml version='1.0' encoding='UTF-8'?>{body}");
        Self { body: declared.into(), ..Self::new(200) }.with("content-type", "application/xml; charset=UTF-8")
    }

    fn error(status: u16, code: &str) -> Self {
        Self { status, ..Self::xml(&format!("<Error><Code>{code}</Code></Error>")) }
    }

    fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    fn send(&self, socket: &mut TcpStream, is_head: bool) -> io::Result<()> {
        // An answer to HEAD tells the length of what it does not send; these have nothing to send. [RFC 9110, 8.6]
        let length = match self.status {
            204 | 304 => String::new(),
            _ => format!("content-length: {}\r\n", self.body.len()),
        };
        socket.write_all(format!("HTTP/1.1 {} -\r\n{}{length}\r\n", self.status, self.headers).as_bytes())?;
        if is_head { Ok(()) } else { socket.write_all(&self.body) }
    }
}

/// A range of one of the forms `bytes=1-2`, `bytes=1-` and `bytes=-2`, if anything of it is there.
fn range_of(text: &str, size: usize) -> Option<Range<usize>> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (start.parse::<usize>(), end.parse::<usize>()) {
        (Ok(start), Ok(end)) => start..size.min(end + 1),
        (Ok(start), Err(_)) if end.is_empty() => start..size,
        (Err(_), Ok(last)) if start.is_empty() => size.saturating_sub(last)..size,
        _ => return None,
    };
    (range.start < range.end).then_some(range)
}

/// Says what the bytes are, and nothing else.
fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &Hasher::digest(Algorithm::Sha256, bytes).hex()[..32])
}

/// A time as listings have it.
fn iso(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    let parts: Vec<&str> = date.split(' ').collect();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == parts[2]).unwrap() + 1;
    format!("{}-{month:02}-{}T{}.000Z", parts[3], parts[1], parts[4])
}

/// What is inside the first element of that name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
