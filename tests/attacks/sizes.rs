//! Requests that are too large to be any.

use crate::frames::{Connection, Outcome, request};
use crate::raw::exchange;
use crate::stage::{Server, Settings};

const KIB: usize = 1024;

#[test]
fn what_is_too_large_is_refused_and_the_connection_ends() {
    let mut server = Server::start(Settings::default());
    server.forget_peak();
    let scopes = "scope=repository:a/b:pull,push&".repeat(10_000);
    for (name, head, expected) in [
        ("authorization", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", "a".repeat(64 * KIB)), 431),
        ("basic", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Basic {}\r\n", "YTph".repeat(16 * KIB)), 431),
        ("cookie", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\ncookie: {}\r\n", "a=b; ".repeat(64 * KIB)), 431),
        ("host", format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n", "x".repeat(64 * KIB)), 431),
        ("scopes", format!("GET /v2/?{scopes} HTTP/1.1\r\nhost: x\r\n"), 431),
        ("url", format!("GET /v2/{} HTTP/1.1\r\nhost: x\r\n", "a".repeat(64 * KIB)), 431),
        ("query", format!("GET /v2/a/tags/list?last={} HTTP/1.1\r\nhost: x\r\n", "a".repeat(64 * KIB)), 431),
        ("method", format!("{} /v2/ HTTP/1.1\r\nhost: x\r\n", "A".repeat(64 * KIB)), 431),
        ("thousands of headers", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\n{}", "x: y\r\n".repeat(4000)), 431),
        ("a thousand different headers", different(1000), 431),
        ("name", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\n{}: y\r\n", "x".repeat(64 * KIB)), 431),
        ("without end", format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(1024 * KIB)), 431),
    ] {
        let before = server.answered().len();
        let answers = exchange(server.address, format!("{head}\r\nGET /livez HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [expected], "{name}");
        assert_eq!(server.answered().len(), before, "{name}");
    }
    server.is_well();
    assert!(server.memory("VmHWM") < 64 << 20, "{}", server.memory("VmHWM"));
}

fn different(count: usize) -> String {
    let headers: Vec<String> = (0..count).map(|number| format!("x-{number}: y\r\n")).collect();
    format!("GET /v2/ HTTP/1.1\r\nhost: x\r\n{}", headers.concat())
}

#[test]
fn over_http2_it_is_refused_too() {
    let mut server = Server::start(Settings::default());
    // Each is far from too much.
    let many: Vec<(String, String)> = (0..2000).map(|number| (format!("x-{number}"), "y".repeat(10))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let before = server.answered().len();
    let mut connection = Connection::open(server.address);
    connection.head_in_pieces(1, &request("GET", "/v2/", &many));
    let outcome = connection.outcome(1);
    assert!(matches!(outcome, Outcome::Answered(0) | Outcome::Reset(_) | Outcome::Away(_)), "{outcome:?}");
    // And a head of 64 KiB in four frames.
    let block = request("GET", "/v2/", &[("authorization", &"a".repeat(64 * KIB))]);
    let mut connection = Connection::open(server.address);
    connection.head_in_pieces(1, &block);
    let outcome = connection.outcome(1);
    assert!(matches!(outcome, Outcome::Answered(0) | Outcome::Reset(_) | Outcome::Away(_)), "{outcome:?}");
    assert_eq!(server.answered().len(), before);
    server.is_well();
}

#[test]
fn what_real_clients_send_is_not_too_large() {
    let server = Server::start(Settings::default());
    // Tokens of clouds have some KiB, and so may a list of media types.
    let token = format!("Bearer {}", "a".repeat(16 * KIB));
    let answer = server.client.get(server.url("/v2/")).header("authorization", token).send().unwrap();
    assert_eq!(answer.status(), 200);
    let last = server.client.get(server.url(&format!("/v2/_catalog?last={}", "a".repeat(8 * KIB)))).send().unwrap();
    assert_eq!(last.status(), 200);
}
