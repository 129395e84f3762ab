//! Values that try to become a header, a line of the log, or a path of the disk.

use std::fs;

use serde_json::json;

use crate::raw::{Answer, exchange};
use crate::stage::{Server, Settings, files, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SECRET: &str = "what lies beside the data";

/// As they can stand in the first line of a request.
const HOSTILE: [&str; 36] = [
    "%0d%0ax-injected:%201",
    "%0D%0AX-Injected:%201%0D%0A",
    "a%0d%0a%0d%0aHTTP/1.1%20200%20OK%0d%0ax-injected:%201",
    "%0ax-injected:%201",
    "%0dx-injected:%201",
    "a%0a{%22level%22:%22INFO%22,%22message%22:%22forged%22}",
    "a%0a2026-01-01T00:00:00.000000Z%20%20INFO%20forged",
    "%00",
    "a%00b",
    "..",
    ".",
    "../../secret",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fsecret",
    "..%2f..%2f..%2fsecret",
    "a%2f..%2f..%2f..%2f..%2fsecret",
    "%2f%2fetc%2fpasswd",
    "/etc/passwd",
    "//evil.example/x",
    "%252e%252e%252fsecret",
    "%c0%ae%c0%ae%c0%afsecret",
    "%e0%80%ae%e0%80%ae%e0%80%afsecret",
    "%f0%80%80%ae%f0%80%80%afsecret",
    "%ed%a0%80",
    "%ff%fe",
    "%u002e%u002e",
    "%",
    "%zz",
    "..%5c..%5csecret",
    "C:%5csecret",
    "\u{e9}\u{2028}\u{85}\u{9b}2J",
    "%e2%80%a8%c2%85forged",
    "%1b%5b2J%1b%5d0;forged%07",
    "%22%3e;%20rel=%22next%22,%20%3chttp://evil.example/",
    "%3Cscript%3E",
    "a%20b",
];

/// Where a value can stand. `DIGEST` is one of content that is here.
const PLACES: [&str; 27] = [
    "GET /v2/VALUE/manifests/v1",
    "GET /v2/a/VALUE/manifests/v1",
    "GET /v2/VALUE/tags/list",
    "GET /v2/VALUE/blobs/DIGEST",
    "GET /v2/VALUE/referrers/DIGEST",
    "POST /v2/VALUE/blobs/uploads/",
    "POST /v2/VALUE/blobs/uploads/?digest=DIGEST",
    "DELETE /v2/VALUE/manifests/v1",
    "GET /v2/a/manifests/VALUE",
    "HEAD /v2/a/manifests/VALUE",
    "PUT /v2/a/manifests/VALUE",
    "PUT /v2/a/manifests/DIGEST?tag=VALUE",
    "GET /v2/a/blobs/VALUE",
    "GET /v2/a/blobs/sha256:VALUE",
    "POST /v2/a/blobs/uploads/?digest=VALUE",
    "POST /v2/a/blobs/uploads/?digest-algorithm=VALUE",
    "POST /v2/a/blobs/uploads/?mount=VALUE&from=b",
    "POST /v2/a/blobs/uploads/?mount=DIGEST&from=VALUE",
    "GET /v2/a/blobs/uploads/VALUE",
    "PATCH /v2/a/blobs/uploads/VALUE",
    "GET /v2/a/tags/list?n=VALUE",
    "GET /v2/a/tags/list?n=1&last=VALUE",
    "GET /v2/_catalog?n=1&last=VALUE",
    "GET /v2/a/referrers/DIGEST?n=1&artifactType=VALUE",
    "GET /v2/a/tags/list?n=1&ns=VALUE",
    "GET /VALUE",
    "GET /api/v1/VALUE",
];

/// A server with two tags in each of two repositories, beside whose data lies a secret.
fn start(settings: Settings<'_>) -> (Server, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    let server = Server::start_in(folder, settings);
    let config = server.push_blob("a", b"{}");
    assert_eq!(server.push_blob("b", b"{}"), config);
    let manifest = image(&config, &json!({}));
    for (name, tag) in [("a", "v1"), ("a", "v2"), ("b", "v1"), ("b", "v2")] {
        assert_eq!(put(&server, name, tag, &manifest), 201);
    }
    (server, sha256(manifest.as_bytes()))
}

fn image(config: &str, more: &serde_json::Value) -> String {
    let descriptor = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 });
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": [] });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest.to_string()
}

fn put(server: &Server, name: &str, reference: &str, manifest: &str) -> u16 {
    let request = server.client.put(server.url(&format!("/v2/{name}/manifests/{reference}")));
    request.header("content-type", MANIFEST).body(manifest.to_owned()).send().unwrap().status().as_u16()
}

/// No header is one that was smuggled in, and none that tells a client where to go leads elsewhere.
fn is_clean(request: &str, answer: &Answer) {
    assert!(answer.status < 500, "{request}: {answer:?}");
    assert!(!answer.body.contains(SECRET) && !answer.body.contains("root:"), "{request}: {answer:?}");
    for (name, value) in &answer.headers {
        assert_ne!(name, "x-injected", "{request}: {answer:?}");
        assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{request}: {name}: {value:?}");
        if matches!(name.as_str(), "location" | "link" | "www-authenticate")
            || name.starts_with("docker-")
            || name.starts_with("oci-")
        {
            let value = value.to_lowercase();
            assert!(!value.contains("x-injected: ") && !value.contains("evil.example/>"), "{request}: {name}: {value}");
        }
        if name == "location" {
            assert!(value.starts_with("/v2/") && !value.contains(".."), "{request}: {value}");
        }
        if name == "link" {
            assert!(
                value.starts_with("</v2/") && value.ends_with(">; rel=\"next\"") && value.matches('>').count() == 1,
                "{request}: {value}"
            );
        }
    }
}

/// Sends every value in every place.
fn try_all(server: &Server, digest: &str) {
    for place in PLACES {
        for value in HOSTILE {
            let line = place.replace("DIGEST", digest).replace("VALUE", value);
            let headers = "host: x\r\ncontent-length: 0\r\nuser-agent: a\" path=\"/forged\r\nconnection: close";
            let answers = exchange(server.address, format!("{line} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes());
            assert_eq!(answers.len(), 1, "{line}");
            is_clean(&line, &answers[0]);
        }
    }
}

#[test]
fn no_value_becomes_a_header_a_line_of_the_log_or_a_file() {
    let (mut server, digest) = start(Settings::default());
    let before = files(server.folder.path());
    try_all(&server, &digest);
    // Each line is one of JSON, and those of requests have the fields that we gave them.
    let log = server.settled_log();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("a forged line: {line}"));
        assert_ne!(line["message"], "forged", "{line}");
    }
    assert!(log.chars().all(|letter| letter == '\n' || !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}')));
    let outside = |found: &Vec<String>| found.iter().filter(|path| !path.starts_with("data/")).cloned().collect::<Vec<_>>();
    let after = files(server.folder.path());
    assert_eq!(outside(&before), outside(&after));
    assert!(after.iter().all(|path| !path.contains("..") && !path.contains("passwd") && !path.contains("secret/")), "{after:?}");
    assert_eq!(fs::read_to_string(server.folder.path().join("secret")).unwrap(), SECRET);
    server.is_well();
}

#[test]
fn no_value_becomes_a_line_of_a_log_of_text() {
    let (mut server, digest) = start(Settings { text_log: true, ..Settings::default() });
    try_all(&server, &digest);
    let log = server.settled_log();
    let year = log.get(..5).unwrap().to_owned();
    for line in log.lines() {
        let level = line.get(27..33).unwrap_or_default().trim();
        assert!(line.starts_with(&year) && ["INFO", "WARN", "ERROR"].contains(&level), "a forged line: {line}");
        assert!(!line.get(33..).unwrap().trim_start().starts_with("forged"), "a forged line: {line}");
    }
    assert!(log.chars().all(|letter| letter == '\n' || !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}')));
    server.is_well();
}

#[test]
fn a_type_with_line_ends_stays_within_its_link() {
    let (server, subject) = start(Settings::default());
    let kind = "a/b\r\nx-injected: 1\r\n>; rel=\"next\"";
    let config = sha256(b"{}");
    for number in 0..2 {
        let more = json!({ "artifactType": kind, "annotations": { "n": number.to_string() }, "subject": { "mediaType": MANIFEST, "digest": subject, "size": 2 } });
        let manifest = image(&config, &more);
        assert_eq!(put(&server, "a", &sha256(manifest.as_bytes()), &manifest), 201);
    }
    let encoded = "a/b%0d%0ax-injected:%201%0d%0a%3E;%20rel=%22next%22";
    let sent =
        format!("GET /v2/a/referrers/{subject}?n=1&artifactType={encoded} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = exchange(server.address, sent.as_bytes()).remove(0);
    assert_eq!(answer.status, 200);
    is_clean(&sent, &answer);
    let link = answer.header("link").unwrap();
    assert!(link.contains("artifactType=a/b%0D%0Ax-injected:%201%0D%0A%3E%3B%20rel%3D%22next%22"), "{link}");
    // What the link leads to is the other one.
    let next = server.url(link.trim_start_matches('<').split('>').next().unwrap());
    assert!(server.client.get(next).send().unwrap().text().unwrap().contains("\"artifactType\":\"a/b\\r\\n"));
}

#[test]
fn where_a_client_is_sent_is_not_said_by_clients() {
    let external = "external_url = \"https://registry.example:5000\"";
    for (server, begins) in [("", "/v2/"), (external, "https://registry.example:5000/v2/")] {
        let (server, _) = start(Settings { server, ..Settings::default() });
        for header in [
            "host: evil.example",
            "host: x\r\nx-forwarded-host: evil.example",
            "host: x\r\nx-forwarded-proto: javascript",
            "host: x\r\nx-forwarded-prefix: //evil.example",
            "host: x\r\nx-forwarded-for: 1.2.3.4, evil.example",
            "host: x\r\nx-forwarded-port: 99",
            "host: x\r\nforwarded: for=1.2.3.4;host=evil.example;proto=http",
            "host: x\r\nx-original-url: /evil.example\r\nx-rewrite-url: /evil.example",
            "host: x\r\nx-http-method-override: DELETE",
        ] {
            for line in ["POST /v2/a/blobs/uploads/", "GET /v2/a/tags/list?n=1", "POST http://evil.example/v2/a/blobs/uploads/"] {
                let sent = format!("{line} HTTP/1.1\r\n{header}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let answer = exchange(server.address, sent.as_bytes()).remove(0);
                assert!(matches!(answer.status, 200 | 202), "{sent}{answer:?}");
                let target = answer.header("location").or(answer.header("link")).unwrap().trim_start_matches('<');
                assert!(target.starts_with(begins), "{sent}{target}");
                assert!(answer.headers.iter().all(|(_, value)| !value.contains("evil")), "{sent}{answer:?}");
            }
        }
        // What stands there is no line of its own either.
        for header in [
            "host: x\r\nx-forwarded-host: a\rb",
            "host: x\r\nx-forwarded-for: a\0b",
            "host: x\r\nx-forwarded-host: a\r\n b",
            "host: evil.example/v2",
        ] {
            let sent = format!("GET /v2/ HTTP/1.1\r\n{header}\r\nconnection: close\r\n\r\n");
            assert_eq!(exchange(server.address, sent.as_bytes())[0].status, 400, "{sent:?}");
        }
    }
}
