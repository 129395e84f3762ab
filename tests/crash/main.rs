//! `kill -9` in the middle of pushes, deletions and fills: what was acknowledged is there after the next start, what was not is there
//! whole or not at all, and nothing unfinished takes space.
//!
//! `ROADSTEAD_KILLS` says how often; 10 if unset.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::{Algorithm, Digest, Hasher, media_type};
use reqwest::Client;
use serde_json::{Value, json};
use testing::FakeUpstream;

#[path = "../support/binary.rs"]
mod binary;

use crate::binary::Binary;

/// Clients that push and delete at the same time, each its own tag.
const PUSHERS: usize = 4;
/// Blobs of the upstream, that a client pulls all the while.
const CACHED: u64 = 2000;

/// A tag, and the numbers of the changes of it that began and that were acknowledged, the last ones.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    begun: u64,
    acknowledged: u64,
}

/// Every fourth change removes the tag, and with it sometimes the manifest.
fn is_deletion(number: u64) -> bool {
    number.is_multiple_of(4)
}

/// The number of the image that the tag points at after this change.
fn after(number: u64) -> Option<u64> {
    (!is_deletion(number)).then_some(number)
}

fn start(folder: &Path, upstream: &FakeUpstream) -> Binary {
    let data = folder.join("data");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n\
         [[upstream]]\nhost = \"origin.test\"\nurl = \"{}\"\n",
        data.display(),
        upstream.url()
    );
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

/// Deletes the tag; every other time with the manifest that it points at. `None` once the server is gone.
async fn delete(client: &Client, url: &str, pusher: usize, number: u64) -> Option<()> {
    let manifests = format!("{url}/v2/a/manifests");
    let mut reference = format!("t{pusher}");
    if number.is_multiple_of(8) {
        let there = client.head(format!("{manifests}/{reference}")).send().await.ok()?;
        let Some(digest) = there.headers().get("docker-content-digest") else { return Some(()) };
        digest.to_str().unwrap().clone_into(&mut reference);
    }
    let answer = client.delete(format!("{manifests}/{reference}")).send().await.ok()?;
    // The deletion before may have been done, and its answer lost.
    assert!(matches!(answer.status().as_u16(), 202 | 404), "{}", answer.status());
    Some(())
}

/// Pulls blobs that are not here yet, again and again, until the server is gone.
async fn pull_on(client: Client, url: String, blobs: Arc<Vec<Digest>>, next: Arc<AtomicU64>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed) % CACHED;
        let wanted = &blobs[usize::try_from(number).unwrap()];
        let Ok(answer) = client.get(format!("{url}/v2/origin.test/x/blobs/{wanted}")).send().await else { return };
        assert_eq!(answer.status(), 200);
        let Ok(bytes) = answer.bytes().await else { return };
        assert_eq!(digest(&bytes), *wanted);
    }
}

async fn push_on(client: Client, url: String, pusher: usize, counts: Arc<Mutex<[Counts; PUSHERS]>>) {
    loop {
        let number = {
            let mut counts = counts.lock().unwrap();
            counts[pusher].begun += 1;
            counts[pusher].begun
        };
        let done = match after(number) {
            Some(number) => push(&client, &url, pusher, number).await,
            None => delete(&client, &url, pusher, number).await,
        };
        if done.is_none() {
            return;
        }
        counts.lock().unwrap()[pusher].acknowledged = number;
    }
}

/// Every tag points at the last acknowledged image or at one that was begun after it, and that image is whole.
async fn check(client: &Client, url: &str, counts: &[Counts; PUSHERS]) {
    for (pusher, counts) in counts.iter().enumerate() {
        let got = client.get(format!("{url}/v2/a/manifests/t{pusher}")).send().await.unwrap();
        let mut allowed = (counts.acknowledged..=counts.begun).map(after);
        if got.status() == 404 {
            assert!(allowed.any(|state| state.is_none()), "an acknowledged push is gone: {counts:?}");
            continue;
        }
        let manifest = got.text().await.unwrap();
        let parsed: Value = serde_json::from_str(&manifest).unwrap();
        let number: u64 = parsed["annotations"]["number"].as_str().unwrap().parse().unwrap();
        assert!(allowed.any(|state| state == Some(number)), "{number} is there: {counts:?}");
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
    let upstream = FakeUpstream::start();
    let blobs: Arc<Vec<Digest>> = Arc::new((0..CACHED).map(|seed| upstream.put_blob_sized("x", 300_000, seed)).collect());
    let next = Arc::new(AtomicU64::new(0));
    for kill in 0..kills {
        let mut server = start(folder.path(), &upstream);
        let now = *counts.lock().unwrap();
        check(&client, &server.url, &now).await;
        let mut tasks: Vec<_> = (0..PUSHERS)
            .map(|pusher| tokio::spawn(push_on(client.clone(), server.url.clone(), pusher, Arc::clone(&counts))))
            .collect();
        tasks.push(tokio::spawn(pull_on(client.clone(), server.url.clone(), Arc::clone(&blobs), Arc::clone(&next))));
        // Each time a little later in whatever the server does.
        tokio::time::sleep(Duration::from_millis(150 + kill * 13 % 170)).await;
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        for task in tasks {
            task.await.unwrap();
        }
    }
    let counts = *counts.lock().unwrap();
    let server = start(folder.path(), &upstream);
    check(&client, &server.url, &counts).await;
    // What was filled is here, and right, when the upstream is gone: each blob whole or not at all.
    let pulled = next.load(Ordering::Relaxed).min(CACHED);
    upstream.down(true);
    let mut here = 0;
    for wanted in blobs.iter().take(usize::try_from(pulled).unwrap()) {
        let answer = client.get(format!("{}/v2/origin.test/x/blobs/{wanted}", server.url)).send().await.unwrap();
        if answer.status() == 200 {
            assert_eq!(digest(&answer.bytes().await.unwrap()), *wanted);
            here += 1;
        }
    }
    assert!(here > kills, "only {here} of {pulled} blobs were kept");
    let all: u64 = counts.iter().map(|counts| counts.acknowledged).sum();
    assert!(all > kills, "only {all} pushes were acknowledged");
    let left = std::fs::read_dir(folder.path().join("data/tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary files of a killed server are still there");
}
