//! The fake takes pushes and counts pulls as a registry does.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use oci::{Algorithm, Hasher, media_type};
use roadstead_testing::{Auth, FakeUpstream, Fault, ManualClock, TokenAuth};

/// One request over a socket of its own; the status and the text of the answer.
fn ask(fake: &FakeUpstream, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let mut stream = begin_request(fake, method, path, &format!("content-length: {}\r\n{headers}", body.len()), body);
    answer(&mut stream)
}

fn begin_request(fake: &FakeUpstream, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(fake.address()).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n{headers}\r\n");
    // Who does not listen may have closed already.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    stream
}

fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_default().to_owned()
}

fn begin(fake: &FakeUpstream) -> String {
    let (status, head) = ask(fake, "POST", "/v2/a/b/blobs/uploads/", "", b"");
    assert_eq!((status, header(&head, "range")), (202, "0-0".to_owned()));
    header(&head, "location")
}

#[test]
fn a_blob_comes_in_chunks_at_the_addresses_that_were_given_and_nowhere_else() {
    let fake = FakeUpstream::start_on_thread();
    let digest = Hasher::digest(Algorithm::Sha256, b"hello world");
    let first = begin(&fake);
    let (status, head) = ask(&fake, "PATCH", &first, "content-range: 0-5\r\n", b"hello ");
    assert_eq!((status, header(&head, "range")), (202, "0-5".to_owned()));
    let second = header(&head, "location");
    assert_eq!(ask(&fake, "PATCH", &first, "", b"again").0, 400);
    let (status, head) = ask(&fake, "PATCH", &second, "content-range: 7-8\r\n", b"xx");
    assert_eq!((status, header(&head, "range")), (416, "0-5".to_owned()));
    let (status, head) = ask(&fake, "GET", &first, "", b"");
    assert_eq!((status, header(&head, "location")), (204, second.clone()));
    assert_eq!(ask(&fake, "PUT", &format!("{second}&digest={digest}"), "", b"world").0, 201);
    assert_eq!(fake.blob("a/b", &digest).unwrap(), "hello world");
    assert_eq!((fake.sessions(), ask(&fake, "GET", &second, "", b"").0), (0, 404));
}

#[test]
fn a_blob_comes_in_one_request_and_a_wrong_one_is_not_kept() {
    let fake = FakeUpstream::start_on_thread();
    let digest = Hasher::digest(Algorithm::Sha512, b"hello");
    let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    assert_eq!(ask(&fake, "POST", &path, "", b"other").0, 400);
    assert_eq!(fake.blob("a/b", &digest), None);
    assert_eq!(ask(&fake, "POST", &path, "", b"hello").0, 201);
    let location = begin(&fake);
    assert_eq!(ask(&fake, "PUT", &format!("{location}&digest={digest}"), "", b"other").0, 400);
    let location = begin(&fake);
    assert_eq!((ask(&fake, "DELETE", &location, "", b"").0, fake.sessions()), (204, 0));
    fake.pushes(false);
    assert_eq!(ask(&fake, "POST", &path, "", b"hello").0, 405);
}

#[test]
fn a_body_that_breaks_off_leaves_its_beginning_or_takes_the_session_with_it() {
    let fake = FakeUpstream::start_on_thread();
    for (survives, status) in [(true, 204), (false, 404)] {
        fake.sessions_survive(survives);
        let location = begin(&fake);
        fake.fault_times("/uploads/upload-", 1, Fault::Cut { after: 4 });
        assert_eq!(ask(&fake, "PATCH", &location, "content-range: 0-9\r\n", b"0123456789").0, 0);
        let (found, head) = ask(&fake, "GET", &location, "", b"");
        assert_eq!(found, status);
        assert!(!survives || header(&head, "range") == "0-3", "{head}");
    }
    fake.sessions_survive(true);
    let location = begin(&fake);
    let mut broken = begin_request(&fake, "PATCH", &location, "content-length: 10\r\n", b"0123");
    broken.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut broken).0, 0);
    assert_eq!(header(&ask(&fake, "GET", &location, "", b"").1, "range"), "0-3");
    fake.fault_times("/uploads/upload-", 1, Fault::LoseAnswer);
    let location = begin(&fake);
    assert_eq!(ask(&fake, "PATCH", &location, "", b"0123456789").0, 0);
    assert_eq!(header(&ask(&fake, "GET", &location, "", b"").1, "range"), "0-9");
}

#[test]
fn long_bodies_and_small_chunks_are_refused_where_they_are_not_liked() {
    let fake = FakeUpstream::start_on_thread();
    fake.body_limit(8);
    fake.smallest_chunk(4);
    let location = begin(&fake);
    assert_eq!(ask(&fake, "PATCH", &location, "", b"0123456789").0, 413);
    let (status, head) = ask(&fake, "PATCH", &location, "", b"01");
    assert_eq!(status, 202);
    let location = header(&head, "location");
    assert_eq!(ask(&fake, "PATCH", &location, "", b"2345").0, 400);
    let digest = Hasher::digest(Algorithm::Sha256, b"012345");
    assert_eq!(ask(&fake, "PUT", &format!("{location}&digest={digest}"), "", b"2345").0, 201);
}

#[test]
fn a_mount_takes_from_where_the_blob_is_and_else_opens_a_session() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob("team/base", "content");
    let path = |from: &str| format!("/v2/a/b/blobs/uploads/?mount={digest}{from}");
    assert_eq!(ask(&fake, "POST", &path("&from=team/other"), "", b"").0, 202);
    assert_eq!(ask(&fake, "POST", &path("&from=team/base"), "", b"").0, 201);
    assert!(fake.blob("a/b", &digest).is_some());
    fake.mounts(false);
    assert_eq!((ask(&fake, "POST", &path(""), "", b"").0, fake.sessions()), (202, 2));
}

#[test]
fn a_manifest_needs_its_blobs_and_sets_its_tags() {
    let fake = FakeUpstream::start_on_thread();
    let image = fake.put_image("elsewhere", "v1");
    let content_type = format!("content-type: {}\r\n", media_type::OCI_MANIFEST);
    let put = |reference: &str| ask(&fake, "PUT", &format!("/v2/a/b/manifests/{reference}"), &content_type, &image.bytes);
    let (status, answer) = put("v1");
    assert!(status == 404 && answer.contains(&image.config.to_string()), "{answer}");
    for digest in image.layers.iter().chain([&image.config]) {
        fake.put_blob("a/b", fake.blob("elsewhere", digest).unwrap());
    }
    let (status, head) = put(&format!("{}?tag=v2&tag=v3", image.digest));
    assert_eq!((status, head.matches("oci-tag: ").count()), (201, 2));
    assert_eq!(fake.tags("a/b"), ["v2", "v3"]);
    fake.tags_in_queries(false);
    assert!(!put(&format!("{}?tag=v4", image.digest)).1.contains("oci-tag"));
    assert_eq!((put("v1").0, fake.tag("a/b", "v1")), (201, Some(image.digest.clone())));
    assert_eq!(put(&Hasher::digest(Algorithm::Sha256, b"other").to_string()).0, 400);
    assert_eq!(ask(&fake, "PUT", "/v2/a/b/manifests/v1", &content_type, b"{}").0, 400);
}

#[test]
fn a_token_to_pull_is_none_to_push() {
    let fake = FakeUpstream::start_on_thread();
    for (pull_only, expected) in [(false, 202), (true, 401)] {
        fake.auth(Auth::Bearer(TokenAuth { pull_only, ..TokenAuth::default() }));
        let (status, head) = ask(&fake, "POST", "/v2/a/b/blobs/uploads/", "", b"");
        assert!(status == 401 && head.contains(r#"scope="repository:a/b:pull,push""#), "{head}");
        let token = |scope: &str| {
            let (_, answer) = ask(&fake, "GET", &format!("/token?kept=yes&service=fake&scope={scope}"), "", b"");
            let token = answer.split("token-").nth(1).unwrap().split('"').next().unwrap().to_owned();
            format!("authorization: Bearer token-{token}\r\n")
        };
        assert_eq!(ask(&fake, "POST", "/v2/a/b/blobs/uploads/", &token("repository:a/b:pull"), b"").0, 401);
        let both = token("repository:a/b:pull,push");
        assert_eq!(ask(&fake, "POST", "/v2/a/b/blobs/uploads/", &both, b"").0, expected);
        assert_eq!(ask(&fake, "POST", "/v2/a/other/blobs/uploads/", &both, b"").0, 401);
        assert_eq!(ask(&fake, "GET", "/v2/a/b/manifests/v1", &both, b"").0, 404);
    }
}

#[test]
fn manifests_count_against_the_quota_and_looks_do_not() {
    let fake = FakeUpstream::start_on_thread();
    let clock = Arc::new(ManualClock::new());
    fake.quota(2, Duration::from_mins(1), Arc::<ManualClock>::clone(&clock));
    fake.put_image("a", "v1");
    let get = |method: &str| {
        let (status, head) = ask(&fake, method, "/v2/a/manifests/v1", "", b"");
        assert_eq!(header(&head, "ratelimit-limit"), "2;w=60");
        (status, header(&head, "ratelimit-remaining"))
    };
    assert_eq!(get("HEAD"), (200, "2;w=60".to_owned()));
    assert_eq!(get("GET"), (200, "1;w=60".to_owned()));
    clock.advance(Duration::from_secs(59));
    assert_eq!(get("GET"), (200, "0;w=60".to_owned()));
    assert_eq!(get("GET"), (429, "0;w=60".to_owned()));
    assert_eq!((get("HEAD"), fake.quota_remaining()), ((200, "0;w=60".to_owned()), 0));
    clock.advance(Duration::from_secs(1));
    assert_eq!((fake.quota_remaining(), get("GET")), (2, (200, "1;w=60".to_owned())));
}
