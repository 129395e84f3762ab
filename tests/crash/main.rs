//! `kill -9` in the middle of pushes: what was acknowledged is there after the next start, what was not is there whole or not at all.
//!
//! `ROADSTEAD_KILLS` says how often; 10 if unset.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::{Algorithm, Digest, Hasher, media_type};
use reqwest::Client;
use serde_json::{Value, json};

#[path = "../support/binary.rs"]
mod binary;

use crate::binary::Binary;

/// Clients that push at the same time, each to tags of its own.
const PUSHERS: usize = 4;

/// A tag, and the numbers of the pushes to it that began and that were acknowledged, the last ones.
#[derive(Clone, Copy, Default)]
struct Counts {
    begun: u64,
    acknowledged: u64,
}

fn start(folder: &Path) -> Binary {
    let data = folder.join("data");
    let config =
        format!("[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n", data.display());
    let file = folder.join("roadstead.toml");
    std::fs::write(&file, config).unwrap();
    Binary::start(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--config"]).arg(&file))
}

fn digest(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

/// The layer of the push of this number.
fn layer(pusher: usize, number: u64) -> Vec<u8> {
    format!("{pusher} {number} ").repeat(5_000).into_bytes()
}

fn image(pusher: usize, number: u64) -> String {
    let layer = layer(pusher, number);
    json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"{}"), "size": 2 },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len() }],
        "annotations": { "number": number.to_string() },
    })
    .to_string()
}

/// Counts an image; `None` once the server is gone.
async fn push(client: &Client, url: &str, pusher: usize, number: u64) -> Option<()> {
    for blob in [b"{}".to_vec(), layer(pusher, number)] {
        let target = format!("{url}/v2/a/blobs/uploads/?digest={}", digest(&blob));
        let answer = client.post(target).body(blob).send().await.ok()?;
        assert_eq!(answer.status(), 201);
    }
    let target = format!("{url}/v2/a/manifests/t{pusher}");
    let put = client.put(target).header("content-type", media_type::OCI_MANIFEST).body(image(pusher, number));
    let answer = put.send().await.ok()?;
    assert_eq!(answer.status(), 201);
    Some(())
}

async fn push_on(client: Client, url: String, pusher: usize, counts: Arc<Mutex<[Counts; PUSHERS]>>) {
    loop {
        let number = {
            let mut counts = counts.lock().unwrap();
            counts[pusher].begun += 1;
            counts[pusher].begun
        };
        if push(&client, &url, pusher, number).await.is_none() {
            return;
        }
        counts.lock().unwrap()[pusher].acknowledged = number;
    }
}

/// Every tag points at the last acknowledged image or at one that was begun after it, and that image is whole.
async fn check(client: &Client, url: &str, counts: &[Counts; PUSHERS]) {
    for (pusher, counts) in counts.iter().enumerate() {
        let got = client.get(format!("{url}/v2/a/manifests/t{pusher}")).send().await.unwrap();
        if got.status() == 404 {
            assert_eq!(counts.acknowledged, 0, "an acknowledged push is gone");
            continue;
        }
        let manifest = got.text().await.unwrap();
        let parsed: Value = serde_json::from_str(&manifest).unwrap();
        let number: u64 = parsed["annotations"]["number"].as_str().unwrap().parse().unwrap();
        assert!((counts.acknowledged..=counts.begun).contains(&number), "{number} of {}", counts.acknowledged);
        assert_eq!(manifest, image(pusher, number));
        for blob in [b"{}".to_vec(), layer(pusher, number)] {
            let got = client.get(format!("{url}/v2/a/blobs/{}", digest(&blob))).send().await.unwrap();
            assert_eq!(got.bytes().await.unwrap(), blob);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_being_killed() {
    let kills: u64 = std::env::var("ROADSTEAD_KILLS").map_or(10, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let counts = Arc::new(Mutex::new([Counts::default(); PUSHERS]));
    let new_client =
        || Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap();
    let client = new_client();
    for kill in 0..kills {
        let mut server = start(folder.path());
        let now = *counts.lock().unwrap();
        check(&client, &server.url, &now).await;
        let tasks: Vec<_> = (0..PUSHERS)
            .map(|pusher| tokio::spawn(push_on(client.clone(), server.url.clone(), pusher, Arc::clone(&counts))))
            .collect();
        // Each time a little later in whatever the server does.
        tokio::time::sleep(Duration::from_millis(150 + kill * 13 % 170)).await;
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        for task in tasks {
            task.await.unwrap();
        }
    }
    let counts = *counts.lock().unwrap();
    let server = start(folder.path());
    check(&client, &server.url, &counts).await;
    let all: u64 = counts.iter().map(|counts| counts.acknowledged).sum();
    assert!(all > kills, "only {all} pushes were acknowledged");
    let left = std::fs::read_dir(folder.path().join("data/tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary files of a killed server are still there");
}
