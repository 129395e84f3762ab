//! Many at once, and one that is large: no error, and memory that depends on neither.
//!
//! `ROADSTEAD_CROWD` says how many clients there are (60 if unset), each with a blob of 10 MiB; `ROADSTEAD_GIANT` how many MiB the large
//! blob has (300 if unset). `tests/full` has 500 clients and 10 GiB.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use oci::{Algorithm, Digest, Hasher};
use reqwest::{Body, Client};
use telemetry::{Clock, SystemClock};

#[path = "../support/binary.rs"]
mod binary;

use crate::binary::Binary;

const MIB: usize = 1024 * 1024;
/// What each client of the crowd pulls and pushes, in MiB.
const EACH: u64 = 10;
/// Different blobs that the crowd pulls.
const DISTINCT: u64 = 20;
/// Anonymous memory that the server may have at its peak, with a crowd and with a giant.
const CROWD_MEMORY: u64 = 150 * 1024 * 1024;
const GIANT_MEMORY: u64 = 40 * 1024 * 1024;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn start(folder: &Path, upstream: Option<&str>) -> Binary {
    let upstream = upstream
        .map_or_else(|| "upstream = []\n".to_owned(), |url| format!("[[upstream]]\nhost = \"origin.test\"\nurl = \"{url}\"\n"));
    let (before, after) = if upstream.starts_with('[') { ("", upstream.as_str()) } else { (upstream.as_str(), "") };
    let config = format!(
        "{before}[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n{after}",
        folder.join("data").display()
    );
    let file = folder.join("roadstead.toml");
    std::fs::write(&file, config).unwrap();
    Binary::start(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--config"]).arg(&file))
}

/// Looks at the anonymous memory of a process until it is asked for its peak.
struct Watch {
    watching: Arc<AtomicBool>,
    watcher: JoinHandle<u64>,
}

impl Watch {
    fn start(process: u32) -> Self {
        let watching = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&watching);
        let watcher = std::thread::spawn(move || {
            let mut peak = 0;
            while on.load(Ordering::Relaxed) {
                let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
                let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
                peak = peak.max(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024);
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        });
        Self { watching, watcher }
    }

    fn peak(self) -> u64 {
        self.watching.store(false, Ordering::Relaxed);
        self.watcher.join().unwrap()
    }
}

/// The bytes of one MiB of the blob of this number; no two are alike.
fn piece(blob: u64, at: u64) -> Bytes {
    let mut bytes = vec![0; MIB];
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(blob << 44 ^ at << 20 ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    }
    bytes.into()
}

fn client() -> Client {
    Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap()
}

/// Pushes as docker does: a session, a stream, and the digest at the end.
async fn push(client: &Client, url: &str, blob: u64, pieces: u64) -> Digest {
    let opened = client.post(format!("{url}/v2/a/blobs/uploads/")).header("content-length", "0").send().await.unwrap();
    assert_eq!(opened.status(), 202);
    let location = |answer: &reqwest::Response| answer.headers()["location"].to_str().unwrap().to_owned();
    let target = format!("{url}{}", location(&opened));
    let hasher = Arc::new(std::sync::Mutex::new(Hasher::new(Algorithm::Sha256)));
    let feeding = Arc::clone(&hasher);
    let stream = futures_util::stream::iter(0..pieces).map(move |at| {
        let bytes = piece(blob, at);
        feeding.lock().unwrap().update(&bytes);
        Ok::<_, std::io::Error>(bytes)
    });
    let sent = client.patch(target).body(Body::wrap_stream(stream)).send().await.unwrap();
    assert_eq!(sent.status(), 202);
    let digest = hasher.lock().unwrap().clone().finish();
    let target = format!("{url}{}?digest={digest}", location(&sent));
    let done = client.put(target).header("content-length", "0").send().await.unwrap();
    assert_eq!(done.status(), 201, "{}", done.text().await.unwrap());
    digest
}

/// Pulls, and looks at every byte.
async fn pull(client: &Client, url: &str, digest: &Digest) {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.bytes_stream();
    while let Some(bytes) = body.next().await {
        hasher.update(&bytes.unwrap());
    }
    assert_eq!(hasher.finish(), *digest);
}

/// Median and 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_served_within_its_memory() {
    server::raise_file_limit();
    let crowd = number("ROADSTEAD_CROWD", 60);
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), None);
    let (client, clock) = (client(), SystemClock::default());
    let mut digests = Vec::new();
    for blob in 0..DISTINCT {
        digests.push(push(&client, &server.url, blob, EACH).await);
    }
    let watch = Watch::start(server.process.id());
    let pulls = (0..crowd).map(|number| {
        let (client, clock) = (client.clone(), clock.clone());
        let digest = digests[usize::try_from(number % DISTINCT).unwrap()].clone();
        let url = format!("{}/v2/a/blobs/{digest}", server.url);
        tokio::spawn(async move {
            let begin = clock.monotonic();
            pull(&client, &url, &digest).await;
            clock.monotonic().saturating_sub(begin)
        })
    });
    let pull_times: Vec<Duration> = join_all(pulls).await.into_iter().map(Result::unwrap).collect();
    let pull_peak = watch.peak();
    let watch = Watch::start(server.process.id());
    let pushes = (0..crowd).map(|number| {
        let (client, clock, url) = (client.clone(), clock.clone(), server.url.clone());
        tokio::spawn(async move {
            let begin = clock.monotonic();
            push(&client, &url, DISTINCT + number, EACH).await;
            clock.monotonic().saturating_sub(begin)
        })
    });
    let push_times: Vec<Duration> = join_all(pushes).await.into_iter().map(Result::unwrap).collect();
    let push_peak = watch.peak();
    let tell = |what, times, peak: u64| {
        let (median, p99) = percentiles(times);
        eprintln!("{crowd} {what}: median {median:?}, p99 {p99:?}, peak anonymous memory {} MiB", peak / MIB as u64);
        assert!(peak < CROWD_MEMORY, "{peak} bytes of anonymous memory with {crowd} {what}");
    };
    tell("pulls", pull_times, pull_peak);
    tell("pushes", push_times, push_peak);
}

/// Where the bytes of a blob are.
fn stored(folder: &Path, digest: &Digest) -> std::path::PathBuf {
    folder.join("data/blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_giant_takes_no_more_memory_than_others() {
    let pieces = number("ROADSTEAD_GIANT", 300);
    let (origin_folder, proxy_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = start(origin_folder.path(), None);
    let proxy = start(proxy_folder.path(), Some(&origin.url));
    let (client, peaks) = (client(), AtomicU64::new(0));
    let note = |what: &str, watch: Watch| {
        let peak = watch.peak();
        eprintln!("{what} {pieces} MiB: peak anonymous memory {} MiB", peak / MIB as u64);
        peaks.fetch_max(peak, Ordering::Relaxed);
    };
    let watch = Watch::start(origin.process.id());
    let digest = push(&client, &origin.url, 1, pieces).await;
    note("pushed", watch);
    let watch = Watch::start(origin.process.id());
    pull(&client, &format!("{}/v2/a/blobs/{digest}", origin.url), &digest).await;
    note("pulled", watch);
    let watch = Watch::start(proxy.process.id());
    pull(&client, &format!("{}/v2/origin.test/a/blobs/{digest}", proxy.url), &digest).await;
    note("pulled through", watch);
    std::fs::remove_file(stored(origin_folder.path(), &digest)).unwrap();
    let watch = Watch::start(proxy.process.id());
    pull(&client, &format!("{}/v2/origin.test/a/blobs/{digest}", proxy.url), &digest).await;
    note("pulled from the cache", watch);
    assert!(peaks.load(Ordering::Relaxed) < GIANT_MEMORY, "{peaks:?} bytes of anonymous memory");
}
