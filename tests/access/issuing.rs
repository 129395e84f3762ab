//! Certificates that an authority issues: the real program, and pebble as the authority.

use std::process::Command;
use std::time::Duration;

use crate::binary::Binary;
use crate::pebble::Pebble;
use crate::ports::port;

/// A server whose certificate is issued by this kind of challenge, asked as clients ask it.
async fn issued_by(challenge: &str) {
    let (tls, http) = (port(), port());
    let pebble = Pebble::start(tls, http).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = format!(
        "upstream = []\n[server]\nlisten = \"127.0.0.1:{tls}\"\n[server.tls.acme]\ndomains = [\"registry.test\"]\ndirectory = \"{}\"\n\
         ca = \"{}\"\nchallenges = [\"{challenge}\"]\nhttp_listen = \"127.0.0.1:{http}\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n",
        pebble.directory(),
        pebble.ca().display(),
        folder.join("data").display()
    );
    std::fs::write(folder.join("roadstead.toml"), text).unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.args(["serve", "--config"]).arg(folder.join("roadstead.toml")).current_dir(folder);
        Binary::start(&mut command)
    };
    let server = start();
    let root = pebble.root().await;
    let ask = || async {
        let config = certs::client_config(std::slice::from_ref(&root)).unwrap();
        let builder = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy();
        let client = builder.resolve("registry.test", ([127, 0, 0, 1], tls).into()).build().unwrap();
        let answer = client.get(format!("https://registry.test:{tls}/readyz")).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    let mut is_served = false;
    for _ in 0..300 {
        is_served = ask().await;
        if is_served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_served, "no certificate of the authority by {challenge}");
    // Nothing else is behind the door of plain HTTP.
    for path in ["/v2/", "/.well-known/acme-challenge/nothing", "/api/v1/jobs"] {
        let answer = reqwest::get(format!("http://127.0.0.1:{http}{path}")).await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    // It is kept, and served from the first connection on.
    drop(server);
    let _again = start();
    assert!(ask().await, "after a restart");
}

#[tokio::test]
async fn a_certificate_is_issued_by_a_handshake() {
    issued_by("tls-alpn-01").await;
}

#[tokio::test]
async fn a_certificate_is_issued_over_plain_http() {
    issued_by("http-01").await;
}
