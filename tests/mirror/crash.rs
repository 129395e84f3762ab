//! `kill -9` in the middle of runs, and several servers on one bucket.
//!
//! `ROADSTEAD_KILLS` says how often; 10 if unset.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use testing::{FakeUpstream, Fault, ManualClock};

use crate::binary::Binary;
use crate::buckets;
use crate::stage::{client, parse};

const IMAGES: usize = 20;
const LAYERS: usize = 3;
const LAYER: usize = 100_000;
/// Blobs that a transfer copies at the same time.
const IN_FLIGHT: usize = 4;

/// An image whose layers and configuration are its own.
fn put(upstream: &FakeUpstream, tag: &str, seed: u64) {
    let layers: Vec<Value> = (0..LAYERS)
        .map(|layer| {
            let digest = upstream.put_blob_sized("team/app", LAYER, seed * 100 + layer as u64);
            json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": LAYER, "digest": digest.to_string() })
        })
        .collect();
    let config = format!("{{\"tag\":\"{tag}\"}}");
    let size = config.len();
    let config = upstream.put_blob("team/app", config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": oci::media_type::OCI_MANIFEST, "layers": layers,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "size": size, "digest": config.to_string() },
    });
    upstream.put_manifest("team/app", Some(tag), oci::media_type::OCI_MANIFEST, manifest.to_string());
}

fn start(folder: &Path, upstream: &FakeUpstream) -> Binary {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n[[upstream]]\n\
         host = \"docker.io\"\nurl = \"{}\"\nrequests_per_second = 100000\n[[mirror]]\nname = \"m\"\n\
         from = \"docker.io/team/app\"\nto = \"micro/app\"\ntags = [{{ glob = \"*\" }}]\ntag_as = [\"{{tag}}\", \"{{tag}}-{{date}}\"]\n",
        folder.join("data").display(),
        upstream.url()
    );
    let file = folder.join("roadstead.toml");
    std::fs::write(&file, config).unwrap();
    Binary::start(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--config"]).arg(&file))
}

async fn api(client: &Client, folder: &Path, url: &str, method: &str, path: &str) -> Value {
    let token = std::fs::read_to_string(folder.join("data/admin-token")).unwrap();
    let request = client.request(method.parse().unwrap(), format!("{url}/api/v1/{path}")).bearer_auth(token.trim());
    request.send().await.unwrap().json().await.unwrap()
}

async fn tags(client: &Client, url: &str) -> Vec<String> {
    let response = client.get(format!("{url}/v2/micro/app/tags/list")).send().await.unwrap();
    let body: Value = response.json().await.unwrap();
    body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_again_and_again_ends_and_does_nothing_twice() {
    let kills: usize = std::env::var("ROADSTEAD_KILLS").map_or(10, |text| text.parse().unwrap());
    let upstream = FakeUpstream::start_on_thread();
    for number in 0..IMAGES {
        put(&upstream, &format!("v{number:02}"), number as u64);
    }
    // So that a run takes about a second.
    upstream.fault("/blobs/", Fault::Delay(Duration::from_millis(30)));
    let client = client();
    let mut done = 0;
    let mut seed = 7_u64;
    while done < kills {
        let folder = tempfile::tempdir().unwrap();
        upstream.clear_requests();
        let mut killed = 0;
        let mut server = start(folder.path(), &upstream);
        let asked = api(&client, folder.path(), &server.url, "POST", "mirrors/m/runs").await;
        let job = format!("jobs/{}", asked["id"].as_str().unwrap());
        // At most five deaths for each run, so that there are many runs.
        while killed < 5 && done < kills {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tokio::time::sleep(Duration::from_millis(20 + (seed >> 33) % 400)).await;
            drop(server);
            (killed, done) = (killed + 1, done + 1);
            server = start(folder.path(), &upstream);
        }
        let record = ended(&client, folder.path(), &server.url, &job).await;
        assert_eq!(record["state"], "done", "{record}");
        let tags = tags(&client, &server.url).await;
        assert_eq!(tags.len(), 2 * IMAGES, "{tags:?}");
        let history = api(&client, folder.path(), &server.url, "GET", "mirrors/m/runs").await;
        assert_eq!(history["runs"].as_array().unwrap().len(), 1, "{history}");
        let fetched = upstream.count("GET", "/blobs/");
        let distinct = IMAGES * (LAYERS + 1);
        assert!(fetched <= distinct + killed * IN_FLIGHT, "{fetched} blobs were fetched, there are {distinct}, {killed} kills");
    }
}

async fn ended(client: &Client, folder: &Path, url: &str, job: &str) -> Value {
    for _ in 0..600 {
        let record = api(client, folder, url, "GET", job).await;
        if !record["ended"].is_null() {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the run does not end: {}", api(client, folder, url, "GET", job).await);
}

/// A server on a bucket, with one mirror; its schedule and tags are `when`.
fn on_bucket(store: &buckets::Server, folder: &Path, upstream: &FakeUpstream, when: &str) -> String {
    let (secret, token) = (folder.join("secret"), folder.join("token"));
    std::fs::write(&secret, buckets::KEY.1).unwrap();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"s3://{}/servers\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
         access_key = \"{}\"\nsecret_key_file = \"{}\"\n[admin]\ntoken_file = \"{}\"\n[[upstream]]\nhost = \"docker.io\"\nurl = \"{}\"\n\
         [[mirror]]\nname = \"m\"\nfrom = \"docker.io/team/app\"\nto = \"micro/app\"\ntags = [\"latest\"]\nalways = true\n{when}\n",
        buckets::BUCKET,
        store.endpoint,
        buckets::KEY.0,
        secret.display(),
        token.display(),
        upstream.url(),
    )
}

/// Runs of the mirror as a server lists them, the latest first.
async fn runs(client: &Client, url: &str, token: &str) -> Vec<Value> {
    let request = client.get(format!("{url}/api/v1/mirrors/m/runs?n=100")).bearer_auth(token);
    let response = request.send().await.unwrap();
    let (status, answer) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["runs"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_one_bucket_run_each_time_of_a_schedule_once() {
    const SUNDAYS: usize = 6;
    let store = buckets::seaweedfs();
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", 1);
    let clock = Arc::new(ManualClock::new());
    let folder = tempfile::tempdir().unwrap();
    let schedule = "schedule = \"0 2 * * 0\"\ntag_as = [\"{tag}\", \"{date}\"]";
    let settings = on_bucket(&store, folder.path(), &upstream, schedule);
    let mut servers = Vec::new();
    for _ in 0..3 {
        let app = roadstead::build(parse(&settings), Arc::<ManualClock>::clone(&clock)).await.unwrap();
        let url = format!("http://{}", app.local_addr());
        servers.push((url, tokio::spawn(app.run(std::future::pending()))));
    }
    let client = client();
    let token = std::fs::read_to_string(folder.path().join("token")).unwrap();
    for sunday in 1..=SUNDAYS {
        let mut seen = Vec::new();
        for _ in 0..4000 {
            // Quickly to the next Sunday, and then in steps in which whoever works can renew its lease.
            let is_open = seen.first().is_some_and(|run: &Value| run["ended"].is_null());
            clock.advance(if is_open { Duration::from_secs(1) } else { Duration::from_mins(30) });
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen = runs(&client, &servers[sunday % 3].0, token.trim()).await;
            if seen.len() >= sunday && !seen[0]["ended"].is_null() {
                break;
            }
        }
        assert_eq!(seen.len(), sunday, "{seen:?}");
        assert!(seen.iter().all(|run| run["state"] == "done"), "{seen:?}");
    }
    for (_, running) in servers {
        running.abort();
    }
}

/// Processes of their own with the system's clock, so that each time of the schedule is a minute. `ROADSTEAD_MINUTES` says how many
/// are waited for; 2 if unset.
#[tokio::test(flavor = "multi_thread")]
async fn three_processes_on_one_bucket_run_each_time_of_a_schedule_once() {
    let minutes: usize = std::env::var("ROADSTEAD_MINUTES").map_or(2, |text| text.parse().unwrap());
    let store = buckets::seaweedfs();
    let upstream = FakeUpstream::start_on_thread();
    put(&upstream, "latest", 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roadstead.toml");
    let schedule = "schedule = \"* * * * *\"\ntag_as = [\"{tag}\", \"{date:%Y%m%d-%H%M}\"]";
    std::fs::write(&file, format!("[log]\nformat = \"json\"\n{}", on_bucket(&store, folder.path(), &upstream, schedule)))
        .unwrap();
    let servers: Vec<Binary> = (0..3)
        .map(|_| Binary::start(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--config"]).arg(&file)))
        .collect();
    let (client, token) = (client(), std::fs::read_to_string(folder.path().join("token")).unwrap());
    let mut seen = Vec::new();
    for look in 0..minutes * 600 + 300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = runs(&client, &servers[look % 3].url, token.trim()).await;
        if seen.len() >= minutes && !seen[0]["ended"].is_null() {
            break;
        }
    }
    // Whoever came too late would have begun by now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for server in &servers {
        assert_eq!(runs(&client, &server.url, token.trim()).await, seen);
    }
    assert_eq!(seen.len(), minutes, "{seen:?}");
    assert!(seen.iter().all(|run| run["state"] == "done"), "{seen:?}");
    // One for each run, and one for each minute.
    assert_eq!(upstream.count("HEAD", "/manifests/latest"), minutes);
    assert_eq!(tags(&client, &servers[0].url).await.len(), 1 + minutes);
}
