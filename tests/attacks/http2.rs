//! HTTP/2 that is spoken wrongly, or too much of it.

use std::io::Write;

use crate::frames::{
    CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame, request, text,
};
use crate::stage::{Server, Settings, sha256};

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What an attack on one connection may cost.
const MEMORY: u64 = 48 << 20;

fn start() -> Server {
    Server::start(Settings::default())
}

/// Sends pieces until the server takes no more, and gives how many bytes it took.
fn flood(connection: &mut Connection, pieces: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut taken = 0;
    for piece in pieces {
        if connection.0.write_all(&piece).is_err() {
            break;
        }
        taken += piece.len();
    }
    taken
}

/// The server has ended the connection, and is well.
fn is_over(server: &mut Server, connection: &mut Connection) -> Outcome {
    let outcome = connection.outcome(u32::MAX);
    server.is_well();
    outcome
}

#[test]
fn who_resets_what_he_asks_for_again_and_again_is_sent_away() {
    let mut server = start();
    server.forget_peak();
    let mut connection = Connection::open(server.address);
    let block = request("GET", "/v2/a/tags/list", &[]);
    let pairs = (0..400).map(|batch| {
        let pair = |number: u32| {
            let stream = (batch * 50 + number) * 2 + 1;
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())]
                .concat()
        };
        (0..50).flat_map(pair).collect()
    });
    flood(&mut connection, pairs);
    // A reset of the connection may have overtaken its reason.
    let outcome = is_over(&mut server, &mut connection);
    assert!(matches!(outcome, Outcome::Away(ENHANCE_YOUR_CALM) | Outcome::Closed), "{outcome:?}");
    assert!(server.answered().len() < 5000, "{}", server.answered().len());
    assert!(server.memory("VmHWM") < 2 * MEMORY, "{}", server.memory("VmHWM"));
}

#[test]
fn a_head_without_end_is_cut_off() {
    let mut server = start();
    server.forget_peak();
    let mut field = Vec::new();
    field.push(0);
    text(&mut field, b"x");
    text(&mut field, &[b'y'; 16_000]);
    for payload in [field, Vec::new()] {
        let mut connection = Connection::open(server.address);
        connection.send(HEADERS, 0, 1, &request("GET", "/livez", &[]));
        let more = (0..100_000).map(|_| frame(CONTINUATION, 0, 1, &payload));
        let taken = flood(&mut connection, more);
        // More than its own buffers and those of the sockets it has not seen.
        assert!(taken < 16 << 20, "{taken}");
        let outcome = is_over(&mut server, &mut connection);
        assert!(matches!(outcome, Outcome::Away(_) | Outcome::Closed), "{outcome:?}");
    }
    assert!(server.answered().iter().all(|path| path != "/livez"));
    assert!(server.memory("VmHWM") < 2 * MEMORY, "{}", server.memory("VmHWM"));
}

#[test]
fn a_small_head_that_would_be_a_large_one_is_refused() {
    let mut server = start();
    server.forget_peak();
    let mut connection = Connection::open(server.address);
    for stream in (1..100).step_by(2) {
        let mut block = request("GET", "/livez", &[]);
        // A field of nearly the whole table, and then again and again its number in the table.
        block.push(0x40);
        text(&mut block, b"x");
        text(&mut block, &[b'y'; 4000]);
        block.resize(16_000, 0xbe);
        if !connection.ask(stream, &block) {
            break;
        }
    }
    let outcome = connection.outcome(1);
    // 431 is none of the few statuses that have a number.
    assert!(matches!(outcome, Outcome::Answered(0) | Outcome::Reset(_) | Outcome::Away(_) | Outcome::Closed), "{outcome:?}");
    server.is_well();
    assert!(server.answered().iter().all(|path| path != "/livez"));
    assert!(server.memory("VmHWM") < 2 * MEMORY, "{}", server.memory("VmHWM"));
}

#[test]
fn a_body_that_is_not_as_long_as_it_was_said_to_be_is_not_kept() {
    let mut server = start();
    let digest = sha256(b"hello");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    for (length, pieces) in
        [("9", &[&b"hello"[..]][..]), ("3", &[b"hello"]), ("3", &[b"hel", b"lo"]), ("0", &[b"hello"]), ("-5", &[b"hello"])]
    {
        let mut connection = Connection::open(server.address);
        connection.send(HEADERS, END_HEADERS, 1, &request("POST", &path, &[("content-length", length)]));
        for (index, piece) in pieces.iter().enumerate() {
            connection.send(DATA, if index + 1 == pieces.len() { END_STREAM } else { 0 }, 1, piece);
        }
        let outcome = connection.outcome(1);
        assert!(matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Answered(400)), "{length}: {outcome:?}");
        let kept = server.client.get(server.url(&format!("/v2/a/blobs/{digest}"))).send().unwrap();
        assert_eq!(kept.status(), 404, "{length}");
    }
    server.is_well();
}

/// Sends the fields as a request and asserts that it was none.
fn malformed(server: &mut Server, sent: &[(&str, &str)]) {
    let before = server.answered().len();
    let mut connection = Connection::open(server.address);
    connection.ask(1, &fields(sent));
    let outcome = connection.outcome(1);
    let refused = matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Away(_) | Outcome::Answered(400) | Outcome::Closed);
    assert!(refused, "{sent:?}: {outcome:?}");
    let answered = server.answered();
    assert_eq!(answered[before..], [""; 0], "{sent:?}");
    server.is_well();
}

/// The same without what is wrong is a request.
fn is_request(server: &Server, sent: &[(&str, &str)]) {
    let mut connection = Connection::open(server.address);
    connection.ask(1, &fields(sent));
    assert_eq!(connection.outcome(1), Outcome::Answered(200));
}

#[test]
fn a_pseudo_field_holds_what_it_is_for_and_nothing_more() {
    let mut server = start();
    let whole = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/livez")];
    is_request(&server, &whole);
    for (name, values) in [
        (":method", &["GET /v2/smuggled HTTP/1.1\r\nx: y", "GET ", "G\0T", "", "GET\n"][..]),
        (":scheme", &["http\r\n", "http://evil/?", "ht tp"]),
        (":authority", &["x\r\nhost: y", "x y", "x/..", "x\0", "x?y"]),
        (":path", &["/livez HTTP/1.1\r\nx: y", "livez", " /livez", "", "/livez\n", "/live z", "/livez\0"]),
    ] {
        for value in values {
            let changed = whole.map(|(found, kept)| if found == name { (found, *value) } else { (found, kept) });
            malformed(&mut server, &changed);
        }
        let without: Vec<_> = whole.into_iter().filter(|(found, _)| *found != name).collect();
        if name != ":authority" {
            malformed(&mut server, &without);
        }
        let own = whole.into_iter().find(|(found, _)| *found == name).unwrap();
        malformed(&mut server, &[&whole[..], &[own]].concat());
        malformed(&mut server, &[&without[..], &[("x", "y"), own]].concat());
    }
    for other in [(":status", "200"), (":x", "y"), (":protocol", "websocket"), (":", "y")] {
        malformed(&mut server, &[&whole[..], &[other]].concat());
    }
}

#[test]
fn fields_of_http1_and_of_no_protocol_are_refused() {
    let mut server = start();
    let whole = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/livez")];
    is_request(&server, &[&whole[..], &[("x-lower", "y"), ("te", "trailers"), ("host", "x"), ("content-length", "0")]].concat());
    for field in [
        ("X-Upper", "y"),
        ("Host", "x"),
        ("connection", "close"),
        ("keep-alive", "x"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("x", "y\r\nz: a"),
        ("x", "y\nz"),
        ("x", "y\0"),
        ("x\r\ny", "z"),
        ("x y", "z"),
        ("x:", "z"),
        ("", "z"),
        ("content-length", "1, 2"),
        ("content-length", "+0"),
    ] {
        malformed(&mut server, &[&whole[..], &[field]].concat());
    }
}

#[test]
fn frames_that_ask_for_nothing_cost_nothing() {
    let mut server = start();
    server.forget_peak();
    let floods: [(&str, Vec<u8>); 6] = [
        ("ping", frame(PING, 0, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("empty data", frame(DATA, 0, 1, &[])),
        ("window", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x77, 0, 0, &[0; 8])),
    ];
    for (name, piece) in floods {
        let mut connection = Connection::open(server.address);
        // An upload that is open, for the empty pieces to be of.
        connection.send(HEADERS, END_HEADERS, 1, &request("POST", "/v2/a/blobs/uploads/?digest=sha256:ab", &[]));
        connection.0.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let batch = piece.repeat(1000);
        // Who does not read what he is answered is not listened to any more, so that writing fails in the end or all was taken.
        flood(&mut connection, (0..200).map(|_| batch.clone()));
        server.is_well();
        let peak = server.memory("VmHWM");
        assert!(peak < 2 * MEMORY, "{name}: {peak}");
    }
}

#[test]
fn no_more_streams_are_open_than_are_allowed() {
    let mut server = start();
    let mut connection = Connection::open(server.address);
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"x"));
    // Bodies that do not come.
    let block = request("POST", &path, &[("content-length", "1")]);
    for stream in (1..=401).step_by(2) {
        connection.send(HEADERS, END_HEADERS, stream, &block);
    }
    assert_eq!(connection.outcome(401), Outcome::Reset(REFUSED_STREAM));
    server.is_well();
}
