//! Requests within bodies: whatever a proxy before us may have taken for the end of a request, we never find another in its body.
//!
//! Each attack is one request with a second one in its body, and behind it on the same connection a victim's. [RFC 9112, 6, 11.2]

use crate::raw::{Answer, exchange};
use crate::stage::{Server, Settings};

const SMUGGLED: &str = "GET /v2/smuggled/tags/list HTTP/1.1\r\nhost: x\r\n\r\n";
const VICTIM: &str = "GET /v2/victim/tags/list HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// One that reads the body, one that has no use for it, and one that answers before it.
const TARGETS: [(&str, &str); 3] = [("PUT", "/v2/a/manifests/v1"), ("GET", "/livez"), ("POST", "/v2/a/blobs/uploads/")];

/// What may come of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is no request: it is answered with an error, and the connection ends.
    Refused,
    /// It is a request and the last of its connection.
    Last,
    /// It is a request whose end is known to all, and the victim's is the next.
    Framed,
}

/// A server that does not wait for long.
fn start() -> Server {
    Server::start(Settings { server: "header_timeout = \"1s\"\nidle_timeout = \"1s\"", ..Settings::default() })
}

/// Sends the request and the victim's behind it, and looks at what the server has answered.
fn attack(server: &Server, head: &str, path: &str, rest: &str, outcome: Outcome) {
    let before = server.answered().len();
    let bytes = format!("{head}\r\n\r\n{rest}{VICTIM}");
    let answers = exchange(server.address, bytes.as_bytes());
    let answered = server.answered()[before..].to_vec();
    let shown = format!("{bytes:?}\n{answered:?}\n{answers:?}");
    match outcome {
        Outcome::Refused => {
            assert!(answered.is_empty(), "{shown}");
            assert!(matches!(statuses(&answers)[..], [400 | 431 | 501]), "{shown}");
        }
        Outcome::Last => assert_eq!((answered, answers.len()), (vec![path.to_owned()], 1), "{shown}"),
        Outcome::Framed if answers.len() == 1 => {
            // Who does not read a body may end the connection instead.
            assert_eq!(answered, [path], "{shown}");
            assert_eq!(answers[0].header("connection"), Some("close"), "{shown}");
        }
        Outcome::Framed => {
            assert_eq!(answered, [path, "/v2/victim/tags/list"], "{shown}");
            assert_eq!(answers.len(), 2, "{shown}");
        }
    }
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// Tries it where the body is read and where it is not.
fn everywhere(server: &Server, headers: &str, rest: &str, outcome: Outcome) {
    for (method, path) in TARGETS {
        attack(server, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}"), path, rest, outcome);
    }
}

/// A body in chunks that ends before the smuggled request, and its length with that.
fn short_chunks() -> (String, usize) {
    let body = format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
    let length = body.len();
    (body, length)
}

/// A body in chunks that ends behind the smuggled request, and the length of what comes before that.
fn long_chunks() -> (String, usize) {
    let size = format!("{:x}\r\n", SMUGGLED.len());
    let length = size.len();
    (format!("{size}{SMUGGLED}\r\n0\r\n\r\n"), length)
}

#[test]
fn of_two_framings_one_is_taken_and_the_connection_ends() {
    let server = start();
    for (body, length) in [short_chunks(), long_chunks()] {
        for headers in [
            format!("content-length: {length}\r\ntransfer-encoding: chunked"),
            format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
            format!("Transfer-Encoding:\tcHuNkEd\t\r\nContent-Length: {length}"),
        ] {
            everywhere(&server, &headers, &body, Outcome::Last);
        }
    }
}

#[test]
fn a_transfer_encoding_that_some_read_and_others_do_not_is_refused() {
    let server = start();
    let (body, length) = short_chunks();
    for coding in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding:",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding:\r\n chunked",
        // The last one is chunked, so that an end can be found; but others may have looked at the first.
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: , chunked",
    ] {
        everywhere(&server, &format!("content-length: {length}\r\n{coding}"), &body, Outcome::Refused);
        everywhere(&server, coding, &body, Outcome::Refused);
    }
}

#[test]
fn a_name_that_only_looks_like_a_framing_is_none() {
    let server = start();
    for header in ["Transfer_Encoding: chunked", "X-Transfer-Encoding: chunked", "Content_Length: 3"] {
        let headers = format!("content-length: {}\r\n{header}", SMUGGLED.len());
        everywhere(&server, &headers, SMUGGLED, Outcome::Framed);
    }
}

#[test]
fn a_body_is_as_long_as_it_was_said_to_be() {
    let server = start();
    let length = SMUGGLED.len();
    everywhere(&server, &format!("content-length: {length}"), SMUGGLED, Outcome::Framed);
    everywhere(&server, &format!("content-length: {length}\r\ncontent-length: {length}"), SMUGGLED, Outcome::Framed);
    everywhere(&server, "transfer-encoding: chunked", &long_chunks().0, Outcome::Framed);
    everywhere(&server, "Transfer-Encoding: CHUNKED", &long_chunks().0, Outcome::Framed);
    for length in [
        "+5",
        "-5",
        "-0",
        "0x30",
        "5,5",
        "5, 5",
        "5 5",
        "5\u{b}",
        "",
        "five",
        "5.0",
        "1e2",
        "0b1",
        "\"5\"",
        "٥",
        "18446744073709551616",
        "18446744073709551615",
        "99999999999999999999999999",
        "5\r\ncontent-length: 6",
        "0\r\ncontent-length: 5",
        "5\r\nContent-Length : 5",
        "5\r\n\tx",
    ] {
        everywhere(&server, &format!("content-length: {length}"), SMUGGLED, Outcome::Refused);
    }
}

#[test]
fn chunks_of_an_unclear_size_end_the_connection() {
    let server = start();
    for size in [
        "+5",
        "-5",
        "0x5",
        "5 5",
        "five",
        "",
        " 5",
        "\t5",
        "5\u{b}",
        "5,",
        "5_0",
        "10000000000000000",
        "ffffffffffffffffffff",
        "00000000000000000000000000000000000000000000000g",
    ] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
        chunked(&server, &body);
    }
    for body in [
        // Line ends that some take for such.
        format!("5\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5\rhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5\r\nhello\n0\r\n\r\n{SMUGGLED}"),
        format!("5\r\nhelloxx0\r\n\r\n{SMUGGLED}"),
        format!("5;x\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5;x=\"\n\"\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5\r\nhello\r\n0\n\n{SMUGGLED}"),
        // More than a chunk has any use for.
        format!("5;{}\r\nhello\r\n0\r\n\r\n{SMUGGLED}", "x".repeat(64 * 1024)),
        format!("{}0\r\n\r\n{SMUGGLED}", format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(64)),
        format!("5\r\nhello\r\n0\r\n{}\r\n{SMUGGLED}", "x: y\r\n".repeat(4000)),
        format!("5\r\nhello\r\n0\r\nx: {}\r\n\r\n{SMUGGLED}", "y".repeat(256 * 1024)),
    ] {
        chunked(&server, &body);
    }
}

/// A body that breaks off: the request may have been answered already, but nothing behind it is.
fn chunked(server: &Server, body: &str) {
    for (method, path) in TARGETS {
        let before = server.answered().len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked");
        let answers = exchange(server.address, format!("{head}\r\n\r\n{body}{VICTIM}").as_bytes());
        let answered = server.answered()[before..].to_vec();
        assert!(answered.iter().all(|found| found == path) && answered.len() <= 1, "{body:.200?}\n{answered:?}");
        assert!(answers.len() <= 1, "{body:.200?}\n{answers:?}");
        if method == "PUT" {
            assert!(answers.iter().all(|answer| answer.status == 400), "{body:.200?}\n{answers:?}");
        }
    }
}

#[test]
fn trailers_are_no_requests_and_change_nothing() {
    let server = start();
    let body = "5\r\nhello\r\n0\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\nhost: y\r\n\r\n";
    everywhere(&server, "transfer-encoding: chunked", body, Outcome::Framed);
    // A line end that is none leaves what follows among the trailers.
    for end in ["\n", "x: y\n\n", "\n\n"] {
        let body = format!("5\r\nhello\r\n0\r\n{end}{SMUGGLED}");
        everywhere(&server, "transfer-encoding: chunked", &body, Outcome::Framed);
    }
}

#[test]
fn a_head_of_doubtful_lines_is_refused_or_has_one_reading() {
    let server = start();
    let length = SMUGGLED.len();
    for headers in [
        format!("x: y\r content-length: {length}"),
        format!("x: y\0\r\ncontent-length: {length}"),
        format!("x\0: y\r\ncontent-length: {length}"),
        format!(": y\r\ncontent-length: {length}"),
        format!("no colon\r\ncontent-length: {length}"),
        format!("x y: z\r\ncontent-length: {length}"),
        format!("x: y\r\n folded\r\ncontent-length: {length}"),
        format!("content-length: 0\r\n {length}"),
        format!("(x): y\r\ncontent-length: {length}"),
        format!("content-length: {length}\r\nhost: y"),
    ] {
        everywhere(&server, &headers, SMUGGLED, Outcome::Refused);
    }
    // A line may end without its carriage return. [RFC 9112, 2.2]
    everywhere(&server, &format!("x: y\ncontent-length: {length}"), SMUGGLED, Outcome::Framed);
}

#[test]
fn whose_server_is_meant_is_said_once() {
    let server = start();
    for (head, outcome) in [
        ("GET /livez HTTP/1.1\r\nx: y", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nhost: a", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nhost: b", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a b", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a/../b", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: user@a", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a:b", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a, b", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: a\\b", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost: [::1", Outcome::Refused),
        ("GET /livez HTTP/1.1\r\nhost:", Outcome::Framed),
        ("GET /livez HTTP/1.1\r\nhost: a.example:5000", Outcome::Framed),
        ("GET /livez HTTP/1.1\r\nhost: [::1]:5000", Outcome::Framed),
        ("GET /livez HTTP/1.1\r\nhost: under_score.example", Outcome::Framed),
    ] {
        attack(&server, head, "/livez", "", outcome);
    }
}

#[test]
fn targets_of_other_forms_are_the_same_paths_or_none() {
    let server = start();
    for (line, path) in [
        ("GET http://evil.example/livez HTTP/1.1", "/livez"),
        ("GET http://evil.example:99/livez?x=http://y HTTP/1.1", "/livez"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("GET //livez HTTP/1.1", "//livez"),
        ("GET /livez/../livez HTTP/1.1", "/livez/../livez"),
    ] {
        attack(&server, &format!("{line}\r\nhost: x"), path, "", Outcome::Framed);
    }
    for line in [
        "GET livez HTTP/1.1",
        "GET /live z HTTP/1.1",
        "GET  /livez HTTP/1.1",
        "GET\t/livez HTTP/1.1",
        "GET /livez\0 HTTP/1.1",
        "GET /livez HTTP/1.1 ",
        "GET /livez HTTP/1.2",
        "GET /livez HTTP/2.0",
        "GET /livez HTTP/01.1",
        "GET /livez http/1.1",
        "GET /livez",
        "G(T /livez HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        attack(&server, &format!("{line}\r\nhost: x"), "", "", Outcome::Refused);
    }
}

#[test]
fn old_versions_have_no_chunks_and_no_second_request() {
    let server = start();
    let (body, length) = short_chunks();
    for (method, path) in TARGETS {
        let line = format!("{method} {path} HTTP/1.0");
        for coding in ["transfer-encoding: chunked", "connection: keep-alive\r\ntransfer-encoding: chunked"] {
            attack(&server, &format!("{line}\r\n{coding}"), path, &body, Outcome::Refused);
            attack(&server, &format!("{line}\r\n{coding}\r\ncontent-length: {length}"), path, &body, Outcome::Refused);
        }
        attack(&server, &format!("{line}\r\ncontent-length: {}", SMUGGLED.len()), path, SMUGGLED, Outcome::Last);
    }
    // HTTP/0.9 has a line and nothing else.
    for line in ["GET /v2/smuggled/tags/list\r\n", "GET /v2/smuggled/tags/list\r\n\r\n"] {
        assert!(matches!(statuses(&exchange(server.address, line.as_bytes()))[..], [] | [400]));
    }
    assert!(!server.answered().iter().any(|path| path.contains("smuggled")));
}

#[test]
fn nobody_is_led_into_another_protocol() {
    let server = start();
    let settings = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA";
    for upgrade in [settings, "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13", "upgrade: h2c"] {
        everywhere(&server, &format!("content-length: {}\r\n{upgrade}", SMUGGLED.len()), SMUGGLED, Outcome::Framed);
    }
    attack(&server, "CONNECT evil.example:443 HTTP/1.1\r\nhost: x", "", "", Outcome::Framed);
}

#[test]
fn what_a_client_expects_does_not_move_the_end_of_its_body() {
    let server = start();
    let length = SMUGGLED.len();
    for expect in ["100-continue", "100-CONTINUE", "100-continue, x", "200-ok", "x", "", "100-continue\r\nexpect: x"] {
        everywhere(&server, &format!("content-length: {length}\r\nexpect: {expect}"), SMUGGLED, Outcome::Framed);
    }
    everywhere(&server, "content-length: 0\r\nexpect: 100-continue", "", Outcome::Framed);
}
