//! Upstreams that want the credentials of others.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Response;

use crate::hostile::{Hostile, Reply};
use crate::stage::{Server, Settings, until};

const PASSWORD: &str = "correct-horse-battery";

/// Somebody who takes what he is given, and answers with a token.
fn collector() -> Hostile {
    Hostile::start(|_, _| Reply::new(200, "content-type: application/json\r\n", b"{\"token\":\"t\"}"))
}

/// An upstream that answers every request without a token by this challenge.
fn upstream(challenge: String) -> Hostile {
    Hostile::start(move |_, _| Reply::new(401, &format!("www-authenticate: {challenge}\r\n"), b"{}"))
}

/// Pulls through a server that has credentials for the upstream.
fn pull(upstream: &Hostile) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    let more = format!("username = \"team\"\npassword_file = \"{}\"", file.display());
    let server = Server::start_in(folder, Settings { sections: &upstream.section("up.test", &more), ..Settings::default() });
    for path in ["/v2/up.test/a/manifests/v1", "/v2/up.test/a/tags/list"] {
        let answer = server.client.get(server.url(path)).send().unwrap();
        assert!(answer.status().as_u16() >= 400, "{}", answer.status());
        assert!(!answer.text().unwrap().contains(PASSWORD));
    }
    server
}

/// Nobody of these was told the password, and it is in no line of the log.
fn is_kept(server: &Server, others: &[&Hostile], what: &str) {
    let encoded = STANDARD.encode(format!("team:{PASSWORD}"));
    for asked in others.iter().flat_map(|other| other.asked()) {
        let told =
            asked.to_lowercase().contains("\nauthorization: basic") || asked.contains(PASSWORD) || asked.contains(&encoded);
        assert!(!told, "{what}: {asked}");
    }
    let log = server.settled_log();
    assert!(!log.contains(PASSWORD) && !log.contains(&encoded), "{what}");
}

#[test]
fn a_realm_elsewhere_gets_no_credentials_however_it_is_written() {
    let collector = collector();
    let port = collector.address.port();
    for realm in [
        format!("http://127.0.0.1:{port}/token"),
        format!("http://localhost:{port}/token"),
        format!("http://team:x@127.0.0.1:{port}/token"),
        format!("HTTP://127.0.0.1:{port}/token#OWN"),
        format!("//127.0.0.1:{port}/token"),
        format!("\\\\\\\\127.0.0.1:{port}\\\\token"),
        format!("http://OWN@127.0.0.1:{port}/token"),
        format!("http://OWN\\\\@127.0.0.1:{port}/token"),
        format!("http:127.0.0.1:{port}/token"),
        format!("http://[::ffff:127.0.0.1]:{port}/token"),
        format!("http://0x7f000001:{port}/token"),
        format!("\\thttp://127.0.0.1:{port}/token"),
    ] {
        let before = collector.asked().len();
        let own = Hostile::start({
            let realm = realm.clone();
            move |_, path| {
                let named = realm.replace("OWN", "127.0.0.1:1");
                let challenge = format!("www-authenticate: Bearer realm=\"{named}\",service=\"s\"\r\n");
                if path.starts_with("/v2/") { Reply::new(401, &challenge, b"{}") } else { Reply::new(404, "", b"") }
            }
        });
        let server = pull(&own);
        is_kept(&server, &[&collector], &realm);
        // The plainest of them is asked; so the test would see credentials.
        assert!(!realm.starts_with("http://127.") || collector.asked().len() > before, "{realm}");
    }
}

#[test]
fn a_realm_of_ones_own_that_sends_us_elsewhere_takes_no_credentials_along() {
    let collector = collector();
    for status in [301, 302, 303, 307, 308] {
        let address = collector.address;
        let own = Hostile::start(move |_, path| {
            if path.starts_with("/v2/") {
                Reply::new(401, "www-authenticate: Bearer realm=\"/token\",service=\"s\"\r\n", b"{}")
            } else {
                Reply::new(status, &format!("location: http://{address}/token\r\n"), b"")
            }
        });
        let server = pull(&own);
        let own_realm = own.asked().into_iter().find(|head| head.contains("/token")).unwrap();
        assert!(own_realm.to_lowercase().contains("authorization: basic"), "{own_realm}");
        is_kept(&server, &[&collector], &status.to_string());
    }
}

#[test]
fn content_that_is_elsewhere_is_asked_for_without_credentials() {
    let collector = collector();
    let address = collector.address;
    let own = Hostile::start(move |_, path| {
        if path.contains("/blobs/") {
            return Reply::new(307, &format!("location: http://{address}/blob\r\n"), b"");
        }
        Reply::new(401, "www-authenticate: Basic realm=\"x\"\r\n", b"{}")
    });
    let server = pull(&own);
    let asked = own.asked().iter().any(|head| head.to_lowercase().contains("authorization: basic"));
    assert!(asked, "the upstream itself gets them: {:?}", own.asked());
    let blob = server.client.get(server.url(&format!("/v2/up.test/a/blobs/sha256:{}", "a".repeat(64)))).send();
    drop(blob.map(Response::bytes));
    until("the blob is looked for elsewhere", || (!collector.asked().is_empty()).then_some(()));
    is_kept(&server, &[&collector], "a redirect");
}

#[test]
fn a_challenge_that_is_none_is_no_way_to_the_log_or_to_a_realm() {
    for challenge in [
        "Bearer realm=\"javascript:alert(1)\"",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"ftp://127.0.0.1/x\"",
        "Bearer realm=\"gopher://127.0.0.1:25/x\"",
        "Bearer realm=\"http://169.254.169.254/latest\"",
        "Bearer realm=\"http://[fd00:ec2::254]/latest\"",
        "Bearer realm=\"\"",
        "Bearer",
        "Bearer realm=",
        "Bearer realm=\"unterminated",
        "Negotiate YII=",
        "Bearer realm=\"http://127.0.0.1:1/%0d%0aforged\"",
    ] {
        let own = upstream(challenge.to_owned());
        let mut server = pull(&own);
        is_kept(&server, &[], challenge);
        // The service that tells machines in clouds who they are.
        let metadata = challenge.contains("169.254") || challenge.contains("fd00:");
        assert!(!metadata || server.log().contains("may not be reached"), "{challenge}: {}", server.log());
        assert!(server.answered().iter().all(|path| path.starts_with("/v2/up.test/") || path == "/readyz"), "{challenge}");
        server.is_well();
    }
}
