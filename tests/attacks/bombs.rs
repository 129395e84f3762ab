//! Small things that would be large ones if they were read without care.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::hostile::{Hostile, Reply};
use crate::raw;
use crate::stage::{Server, Settings, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The memory that one bomb may make the server have, beside what it is made of.
const MEMORY: u64 = 384 * MIB;

/// Manifests may be larger than usual, so that a million of something fits into one.
fn start() -> Server {
    let server = Server::start(Settings { server: "max_manifest_size = \"16MiB\"", ..Settings::default() });
    server.forget_peak();
    server
}

fn put(server: &Server, reference: &str, media_type: &str, manifest: impl Into<reqwest::blocking::Body>) -> u16 {
    let request = server.client.put(server.url(&format!("/v2/a/manifests/{reference}")));
    let answer = request.header("content-type", media_type).body(manifest).send().unwrap();
    let status = answer.status().as_u16();
    assert!(answer.text().unwrap().len() < 4096, "an answer is no echo");
    status
}

fn is_bounded(server: &mut Server, what: &str, bound: u64) {
    let peak = server.memory("VmHWM");
    eprintln!("{what}: {} MiB at the peak", peak / MIB);
    assert!(peak < bound, "{what}: {} MiB", peak / MIB);
    server.is_well();
}

/// So many keys that are no two alike, with this value.
fn keys(count: u32, value: &str) -> String {
    let letter =
        |number: u32| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(number & 63) as usize]);
    let mut text = String::new();
    for number in 0..count {
        let separator = if number == 0 { "" } else { "," };
        let key: String = [number >> 18, number >> 12, number >> 6, number].into_iter().map(letter).collect();
        write!(text, "{separator}\"{key}\":{value}").unwrap();
    }
    text
}

#[test]
fn a_manifest_that_is_a_bomb_is_refused_or_kept_in_little_memory() {
    let mut server = start();
    let config = server.push_blob("a", b"{}");
    let head = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{{\"mediaType\":\"x/y\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[]"
    );
    let deep = |open: &str, close: &str| format!("{head},\"x\":{}1{}}}", open.repeat(100_000), close.repeat(100_000));
    let escapes = "\\u0000".repeat(1_300_000);
    let bombs = [
        ("arrays in arrays", deep("[", "]"), 400),
        ("objects in objects", deep("{\"x\":", "}"), 400),
        ("only beginnings", "[".repeat(8_000_000), 400),
        ("a million keys", format!("{head},{}}}", keys(1_000_000, "0")), 201),
        ("a million annotations", format!("{head},\"annotations\":{{{}}}}}", keys(1_000_000, "\"\"")), 201),
        ("a number of 8 MiB", format!("{head},\"x\":{}}}", "9".repeat(8 << 20)), 201),
        ("a version of 8 MiB", format!("{{\"schemaVersion\":{}}}", "2".repeat(8 << 20)), 400),
        ("a huge exponent", format!("{head},\"x\":1e999999999}}"), 201),
        ("a size that is none", head.replace("\"size\":2", "\"size\":1e400") + "}", 400),
        ("a negative size", head.replace("\"size\":2", "\"size\":-1") + "}", 400),
        ("escapes in a key that is passed over", format!("{head},\"{escapes}\":\"{escapes}\"}}"), 201),
        ("escapes in an annotation", format!("{head},\"annotations\":{{\"{escapes}\":\"{escapes}\"}}}}"), 201),
        ("halves of letters", format!("{head},\"annotations\":{{\"x\":\"{}\"}}}}", "\\ud800".repeat(1_000_000)), 400),
        ("a key twice", format!("{{\"schemaVersion\":2,{}", &head[1..]) + "}", 400),
        ("a key a million times", format!("{head}{}}}", ",\"x\":0".repeat(1_000_000)), 201),
        ("a type of 8 MiB", head.replace("x/y", &"x".repeat(8 << 20)) + "}", 201),
        ("empty space", format!("{head}{}}}", " ".repeat(15 << 20)), 201),
    ];
    for (name, bomb, expected) in bombs {
        let status = put(&server, "bomb", MANIFEST, bomb.clone());
        assert_eq!(status, expected, "{name}");
        is_bounded(&mut server, name, MEMORY);
        server.forget_peak();
        if status == 201 {
            let pulled = server.client.get(server.url("/v2/a/manifests/bomb")).send().unwrap().bytes().unwrap();
            assert_eq!(pulled, bomb.as_bytes(), "{name}");
        }
    }
}

#[test]
fn an_index_of_a_hundred_thousand_is_kept_in_little_memory() {
    let mut server = start();
    let mut text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[");
    for number in 0..100_000 {
        let separator = if number == 0 { "" } else { "," };
        write!(text, "{separator}{{\"mediaType\":\"{MANIFEST}\",\"platform\":{{\"os\":\"linux\",\"architecture\":\"amd64\"}},\"digest\":\"sha256:{number:064x}\",\"size\":1}}").unwrap();
    }
    text.push_str("]}");
    assert_eq!(put(&server, "large", INDEX, text.clone()), 413);
    is_bounded(&mut server, "an index that is too large", MEMORY);
    let short = text.replace(",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}", "");
    assert_eq!(put(&server, "many", INDEX, short.clone()), 201);
    is_bounded(&mut server, "an index of many", MEMORY);
    assert_eq!(server.client.get(server.url("/v2/a/manifests/many")).send().unwrap().text().unwrap(), short);
}

#[test]
fn manifests_that_do_not_end_take_no_memory_from_others() {
    let mut server = Server::start(Settings::default());
    server.forget_peak();
    let large = vec![b' '; (8 << 20) - 1];
    let head = format!(
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\nhost: x\r\ncontent-type: {MANIFEST}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        8 << 20
    );
    let mut waiting: Vec<TcpStream> = (0..40).map(|_| raw::connect(server.address)).collect();
    for stream in &mut waiting {
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&large).unwrap();
    }
    is_bounded(&mut server, "manifests that wait for a byte", 200 * MIB);
    // Those of others are small.
    let config = server.push_blob("b", b"{}");
    let small = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": { "mediaType": "x/y", "digest": config, "size": 2 } });
    let put = server.client.put(server.url("/v2/b/manifests/v1")).header("content-type", MANIFEST);
    assert_eq!(put.body(small.to_string()).send().unwrap().status(), 201);
    // Who found room is heard, and who did not is told so.
    let mut statuses = BTreeSet::new();
    for stream in &mut waiting {
        stream.write_all(b" ").unwrap();
        let answer = String::from_utf8(raw::rest(stream)).unwrap();
        let crowded =
            answer.starts_with("HTTP/1.1 429 ") && answer.contains("TOOMANYREQUESTS") && answer.contains("retry-after: ");
        assert!(crowded || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        statuses.insert(answer[9..12].to_owned());
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), ["400", "429"]);
}

#[test]
fn annotations_of_referrers_come_in_pages() {
    let mut server = start();
    let config = server.push_blob("a", b"{}");
    let subject = format!("sha256:{}", "0".repeat(64));
    let kept = "y".repeat(6 << 20);
    for number in 0..6 {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": { "mediaType": "x/y", "digest": config, "size": 2 },
            "subject": { "mediaType": MANIFEST, "digest": subject, "size": 2 },
            "annotations": { "number": number.to_string(), "x": kept },
        });
        assert_eq!(put(&server, &format!("t{number}"), MANIFEST, manifest.to_string()), 201);
    }
    let listed = server.client.get(server.url(&format!("/v2/a/referrers/{subject}"))).send().unwrap();
    assert!(listed.headers().contains_key("link"));
    let body = listed.bytes().unwrap();
    assert!((body.len() as u64) < 16 * MIB, "{}", body.len());
    is_bounded(&mut server, "referrers", MEMORY);
}

/// A gibibyte of zeros in a mebibyte: the members of a gzip file follow one another.
fn gzip_bomb() -> Vec<u8> {
    let mut gzip = Command::new("gzip").args(["-9", "-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(&vec![0; 1 << 20]).unwrap();
    gzip.wait_with_output().unwrap().stdout.repeat(1024)
}

/// A gibibyte in 32 KiB: blocks that say how often a byte is repeated. [RFC 8878, 3.1.1.2]
fn zstd_bomb() -> Vec<u8> {
    let block = |last: u32| ((128 << 10) << 3 | 1 << 1 | last).to_le_bytes()[..3].iter().copied().chain([0]).collect::<Vec<u8>>();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58][..], &block(0).repeat(8191), &block(1)].concat()
}

#[test]
fn what_is_sent_compressed_is_kept_as_it_is() {
    let mut server = start();
    for (coding, bomb) in [("gzip", gzip_bomb()), ("zstd", zstd_bomb()), ("gzip, gzip, gzip", gzip_bomb())] {
        let digest = sha256(&bomb);
        let url = server.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        let pushed = server.client.post(url).header("content-encoding", coding).body(bomb.clone()).send().unwrap();
        assert_eq!(pushed.status(), 201);
        let pulled =
            server.client.get(server.url(&format!("/v2/a/blobs/{digest}"))).header("accept-encoding", coding).send().unwrap();
        assert!(!pulled.headers().contains_key("content-encoding"));
        assert_eq!(pulled.bytes().unwrap(), bomb);
        let put = server.client.put(server.url("/v2/a/manifests/v1")).header("content-encoding", coding);
        assert_eq!(put.header("content-type", MANIFEST).body(bomb).send().unwrap().status(), 400);
    }
    is_bounded(&mut server, "compressed pushes", MEMORY);
}

#[test]
fn what_an_upstream_sends_compressed_is_not_unpacked() {
    let bomb = gzip_bomb();
    let digest = sha256(&bomb);
    let upstream = Hostile::start({
        let (bomb, digest) = (bomb.clone(), digest.clone());
        move |_, path| {
            let coding = if path.contains("plain") { "" } else { "content-encoding: gzip\r\n" };
            let kind = if path.contains("/tags/") { "application/json" } else { MANIFEST };
            Reply::new(200, &format!("content-type: {kind}\r\n{coding}docker-content-digest: {digest}\r\n"), &bomb)
        }
    });
    let mut server = Server::start(Settings { sections: &upstream.section("up.test", ""), ..Settings::default() });
    server.forget_peak();
    for path in ["a/manifests/v1", "a/tags/list", &format!("a/referrers/{digest}"), &format!("a/blobs/{digest}")] {
        let answer = server.client.get(server.url(&format!("/v2/up.test/{path}"))).send().unwrap();
        assert!(answer.status().is_server_error() || answer.status() == 404, "{path}: {}", answer.status());
    }
    // Without the header it is content like any other.
    for path in [format!("plain/blobs/{digest}"), format!("plain/manifests/{digest}")] {
        let pulled = server.client.get(server.url(&format!("/v2/up.test/{path}"))).send().unwrap();
        assert_eq!(pulled.bytes().unwrap(), bomb, "{path}");
    }
    is_bounded(&mut server, "a compressed upstream", MEMORY);
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let piece = " ".repeat(64 * 1024);
    let times = GIB / piece.len() as u64;
    for announced in [true, false] {
        let endless = {
            let piece = piece.clone();
            move |status, headers: &str| {
                let body = piece.as_bytes();
                if announced { Reply::long(status, headers, body, times) } else { Reply::in_chunks(status, headers, body, times) }
            }
        };
        let upstream = Hostile::start(move |_, path| {
            if path.starts_with("/token") {
                return endless(200, "content-type: application/json\r\n");
            }
            if path.contains("/private/") {
                return Reply::new(401, "www-authenticate: Bearer realm=\"/token\",service=\"s\"\r\n", b"{}");
            }
            if path.contains("/failing/") {
                return endless(500, "content-type: application/json\r\n");
            }
            endless(200, &format!("content-type: {}\r\n", if path.contains("/manifests/") { MANIFEST } else { INDEX }))
        });
        let mut server = Server::start(Settings { sections: &upstream.section("up.test", ""), ..Settings::default() });
        server.forget_peak();
        for path in [
            "private/x/manifests/v1",
            "failing/x/manifests/v1",
            "a/manifests/v1",
            "a/tags/list",
            &format!("a/referrers/sha256:{}", "a".repeat(64)),
        ] {
            let answer = server.client.get(server.url(&format!("/v2/up.test/{path}"))).send().unwrap();
            assert!(answer.status().is_server_error() || answer.status() == 404, "{path}: {}", answer.status());
        }
        // Each request may have taken what it may read, and what the sockets hold.
        assert!(upstream.sent() < 200 * MIB, "{}", upstream.sent());
        is_bounded(&mut server, "endless answers", MEMORY);
    }
}

#[test]
fn heads_of_upstreams_without_end_are_not_read_to_their_end() {
    let upstream = Hostile::start(|_, path| {
        let begin = b"HTTP/1.1 200 OK\r\n".to_vec();
        let piece = if path.contains("/one/") { "y".repeat(64 * 1024) } else { "x: y\r\n".repeat(10_000) };
        let begin = if path.contains("/one/") { [&begin[..], b"x: "].concat() } else { begin };
        Reply { begin, piece: piece.into_bytes(), times: 10_000 }
    });
    let mut server = Server::start(Settings { sections: &upstream.section("up.test", ""), ..Settings::default() });
    server.forget_peak();
    for path in ["one/x/manifests/v1", "many/x/manifests/v1", "one/x/tags/list"] {
        let answer = server.client.get(server.url(&format!("/v2/up.test/{path}"))).send().unwrap();
        assert_eq!(answer.status(), 502, "{path}");
    }
    assert!(upstream.sent() < 200 * MIB, "{}", upstream.sent());
    is_bounded(&mut server, "endless heads", MEMORY);
}

/// `roadstead import` of a file into a server, with 2 GB of address space to have.
fn import(server: &Server, file: &std::path::Path) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    let script = "ulimit -v 2000000; exec \"$0\" import \"$1\" --server \"$2\" --token-file \"$3\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_roadstead")]).arg(file).arg(server.url(""));
    let output = command.arg(server.folder.path().join("admin-token")).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The header of a file in a tar. [POSIX, pax, ustar]
fn entry(name: &str, size: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut set = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    set(0, name);
    set(100, "0000644\0");
    set(124, size);
    set(148, "        ");
    set(156, "0");
    set(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn a_bundle_that_is_a_bomb_is_refused() {
    let mut server = start();
    let file = server.folder.path().join("bundle");
    for (name, bomb) in [("gzip", gzip_bomb()), ("zstd", zstd_bomb())] {
        fs::write(&file, bomb).unwrap();
        let (code, said) = import(&server, &file);
        assert!(code == Some(1) && said.contains(name), "{code:?} {said}");
    }
    // Files that say that they are large; the first is, as far as the disk's holes go.
    for (entry_of, size, length) in
        [("index.json", "10000000000\0", GIB), ("oci-layout", "10000000000\0", GIB), ("index.json", "77777777777\0", 0)]
    {
        let mut bundle = File::create(&file).unwrap();
        bundle.write_all(&entry(entry_of, size)).unwrap();
        bundle.set_len(length + 2048).unwrap();
        let (code, said) = import(&server, &file);
        assert!(code == Some(1) && !said.contains("memory"), "{entry_of}: {code:?} {said}");
    }
    is_bounded(&mut server, "imports", MEMORY);
}
