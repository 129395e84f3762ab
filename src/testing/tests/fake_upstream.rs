//! The fake must be right before anything is measured by it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use oci::media_type;
use roadstead_testing::{Auth, FakeUpstream, Fault, TokenAuth, deterministic_bytes};
use telemetry::{Clock, SystemClock};

/// One request over a socket of its own: no client library between the test and the bytes.
fn ask(fake: &FakeUpstream, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n{headers}\r\n");
    let mut answer = Vec::new();
    // A connection may be cut at any moment, before the request was written too; what came until then counts.
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return (0, String::new(), answer);
    };
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

#[test]
fn content_is_served_with_the_headers_of_the_specification() {
    let fake = FakeUpstream::start_on_thread();
    let image = fake.put_image("a/b", "v1");
    let (status, head, body) = ask(&fake, "GET", "/v2/a/b/manifests/v1", "");
    assert_eq!((status, body.as_slice()), (200, &image.bytes[..]));
    for header in [
        format!("content-type: {}", media_type::OCI_MANIFEST),
        format!("docker-content-digest: {}", image.digest),
        format!("content-length: {}", image.bytes.len()),
    ] {
        assert!(head.contains(&header), "{header} in {head}");
    }
    let (status, head, body) = ask(&fake, "HEAD", &format!("/v2/a/b/blobs/{}", image.layers[0]), "");
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains("content-length: 2048"), "{head}");
    fake.remove_tag("a/b", "v1");
    assert_eq!(ask(&fake, "GET", "/v2/a/b/manifests/v1", "").0, 404);
    assert_eq!(ask(&fake, "GET", &format!("/v2/a/b/manifests/{}", image.digest), "").0, 200);
    assert_eq!((fake.count("GET", "/manifests/"), fake.count("HEAD", "/blobs/")), (3, 1));
    let last = fake.requests().pop().unwrap();
    assert_eq!((last.status, last.header("host")), (200, Some("fake")));
}

#[test]
fn ranges_are_honoured_until_they_are_switched_off() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("a", 1000, 7);
    let path = format!("/v2/a/blobs/{digest}");
    let expected = deterministic_bytes(1000, 7);
    let (status, head, body) = ask(&fake, "GET", &path, "range: bytes=100-199\r\n");
    assert_eq!((status, body.as_slice()), (206, &expected[100..200]));
    assert!(head.contains("content-range: bytes 100-199/1000") && !head.contains("x-offset"), "{head}");
    assert_eq!(ask(&fake, "GET", &path, "range: bytes=1000-\r\n").0, 416);
    assert_eq!(ask(&fake, "GET", &path, "range: bytes=100-\r\nif-range: \"other\"\r\n").0, 200);
    fake.fault("", Fault::Corrupt { at: 150 });
    let (_, _, body) = ask(&fake, "GET", &path, "range: bytes=100-199\r\n");
    assert!(body[50] != expected[150] && body[51..] == expected[151..200]);
    fake.ranges(false);
    assert_eq!(ask(&fake, "GET", &path, "range: bytes=100-199\r\n").0, 200);
}

#[test]
fn a_body_is_cut_stalled_and_slowed_as_often_as_asked() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("a", 200_000, 7);
    let path = format!("/v2/a/blobs/{digest}");
    fake.fault_times("/blobs/", 2, Fault::Cut { after: 70_000 });
    assert_eq!(ask(&fake, "GET", &path, "").2.len(), 70_000);
    assert_eq!(ask(&fake, "HEAD", &path, "").0, 200);
    assert_eq!(ask(&fake, "GET", &path, "").2.len(), 70_000);
    assert_eq!(ask(&fake, "GET", &path, "").2.len(), 200_000);
    fake.fault_times("/blobs/", 1, Fault::Rate { bytes_per_second: 1_000_000 });
    let clock = SystemClock::default();
    assert_eq!(ask(&fake, "GET", &path, "").2.len(), 200_000);
    assert!(clock.monotonic() >= Duration::from_millis(190));
    fake.fault_times("/blobs/", 1, Fault::Chunked);
    let (_, head, _) = ask(&fake, "GET", &path, "");
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
}

#[test]
fn a_stalled_body_ends_when_the_fake_goes_down() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("a", 1000, 7);
    fake.fault("/blobs/", Fault::Stall { after: 10 });
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    write!(stream, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: fake\r\n\r\n").unwrap();
    let mut some = [0; 16];
    stream.read_exact(&mut some).unwrap();
    fake.down(true);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(ask(&fake, "GET", "/v2/", "").0, 0);
    fake.down(false);
    assert_eq!(ask(&fake, "GET", "/v2/", "").0, 200);
}

#[test]
fn tokens_are_wanted_and_given() {
    let fake = FakeUpstream::start_on_thread();
    fake.put_image("a/b", "v1");
    fake.auth(Auth::Bearer(TokenAuth { expires_in: Some(300), ..TokenAuth::default() }));
    let (status, head, _) = ask(&fake, "GET", "/v2/a/b/manifests/v1", "");
    assert_eq!(status, 401);
    assert!(head.contains(r#"scope="repository:a/b:pull""#), "{head}");
    let (status, _, body) = ask(&fake, "GET", "/token?kept=yes&service=fake&scope=repository:a/b:pull", "");
    assert_eq!((status, body.as_slice()), (200, br#"{"expires_in":300,"token":"token-1"}"#.as_slice()));
    assert_eq!(ask(&fake, "GET", "/v2/a/b/manifests/v1", "authorization: Bearer token-1\r\n").0, 200);
    assert_eq!(ask(&fake, "GET", "/v2/a/c/manifests/v1", "authorization: Bearer token-1\r\n").0, 401);
    fake.revoke_tokens();
    assert_eq!(ask(&fake, "GET", "/v2/a/b/manifests/v1", "authorization: Bearer token-1\r\n").0, 401);
    assert_eq!(fake.token_requests(), 1);
}

#[test]
fn tags_come_in_pages() {
    let fake = FakeUpstream::start_on_thread();
    for tag in ["a", "b", "c"] {
        fake.put_image("x", tag);
    }
    let (_, head, body) = ask(&fake, "GET", "/v2/x/tags/list?n=2", "");
    assert_eq!(body, br#"{"name":"x","tags":["a","b"]}"#);
    assert!(head.contains(r#"link: </v2/x/tags/list?n=2&last=b>; rel="next""#), "{head}");
    let (_, head, body) = ask(&fake, "GET", "/v2/x/tags/list?n=2&last=b", "");
    assert_eq!(body, br#"{"name":"x","tags":["c"]}"#);
    assert!(!head.contains("link:"), "{head}");
}
