//! A hundred clients and one uncached blob: the promise of the pull-through, held against the real binary as a process of its own.
//!
//! Its upstream gives 50 MB/s. It must see one GET, every client must have its first byte before a tenth of the fill is done, every
//! copy must be right, and the server's anonymous memory must stay bounded. Late joiners and early leavers are among the clients.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::Client;
use telemetry::{Clock, SystemClock};
use testing::{FakeUpstream, Fault, deterministic_bytes};

#[path = "../support/binary.rs"]
mod binary;

use crate::binary::Binary;

const MIB: usize = 1024 * 1024;
const SIZE: usize = 200 * MIB;
const RATE: u64 = 50_000_000;
const CLIENTS: usize = 100;
/// Anonymous memory that the server may have at its peak.
const MEMORY: u64 = 100 * 1024 * 1024;

/// Starts the binary with an upstream.
fn start(folder: &Path, upstream: &str) -> Binary {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\nurl = \"file:{}\"\n[log]\nformat = \"json\"\n[[upstream]]\nhost = \
         \"docker.io\"\nurl = \"{upstream}\"\n",
        folder.join("data").display()
    );
    let file = folder.join("roadstead.toml");
    std::fs::write(&file, config).unwrap();
    Binary::start(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--config"]).arg(&file))
}

/// Anonymous memory of a process now, in bytes.
fn anonymous_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// How a client behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Stays,
    JoinsLate,
    LeavesEarly,
}

struct Pull {
    manner: Manner,
    first_byte: Duration,
    right: bool,
}

async fn pull(client: Client, url: String, expected: Bytes, manner: Manner, clock: SystemClock, start: Duration) -> Pull {
    if manner == Manner::JoinsLate {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let asked = if manner == Manner::JoinsLate { clock.monotonic() } else { start };
    let mut body = client.get(url).send().await.unwrap().bytes_stream();
    let (mut received, mut right, mut first_byte) = (0, true, Duration::MAX);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.unwrap();
        first_byte = first_byte.min(clock.monotonic().saturating_sub(asked));
        right &= expected[received..received + bytes.len()] == bytes;
        received += bytes.len();
        if manner == Manner::LeavesEarly && received > MIB {
            return Pull { manner, first_byte, right };
        }
    }
    Pull { manner, first_byte, right: right && received == expected.len() }
}

/// Waits until the fill is over and gives when that was.
async fn end_of_fill(client: Client, url: String, clock: SystemClock, start: Duration) -> Duration {
    loop {
        let metrics = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        if metrics.lines().any(|line| line.starts_with("roadstead_fills_total{") && line.ends_with(" 1")) {
            return clock.monotonic().saturating_sub(start);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn client() -> Client {
    Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_share_one_fetch() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", SIZE, 7);
    let expected = deterministic_bytes(SIZE, 7);
    fake.fault("/blobs/", Fault::Rate { bytes_per_second: RATE });
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &fake.url());
    let process = server.process.id();
    let peak = Arc::new(AtomicU64::new(0));
    let watching = Arc::new(AtomicBool::new(true));
    let watcher = std::thread::spawn({
        let (peak, watching) = (Arc::clone(&peak), Arc::clone(&watching));
        move || {
            while watching.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_memory(process), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    // A client of its own for each, so that none shares a connection; made before the race, since each reads the system's roots.
    let clients: Vec<Client> = (0..CLIENTS).map(|_| client()).collect();
    let observer = client();
    let clock = SystemClock::default();
    let start = clock.monotonic();
    let url = format!("{}/v2/docker.io/library/big/blobs/{digest}", server.url);
    let pulls = clients.into_iter().enumerate().map(|(number, client)| {
        let manner = match number % 10 {
            8 => Manner::JoinsLate,
            9 => Manner::LeavesEarly,
            _ => Manner::Stays,
        };
        tokio::spawn(pull(client, url.clone(), expected.clone(), manner, clock.clone(), start))
    });
    let pulls = join_all(pulls);
    let (pulls, fill) = tokio::join!(pulls, end_of_fill(observer, server.url.clone(), clock.clone(), start));
    watching.store(false, Ordering::Relaxed);
    watcher.join().unwrap();
    let latest = pulls.iter().map(|pull| pull.as_ref().unwrap().first_byte).max().unwrap();
    let peak = peak.load(Ordering::Relaxed);
    eprintln!("the fill took {fill:?}, the latest first byte {latest:?}, peak anonymous memory {} MiB", peak / MIB as u64);
    for pull in pulls {
        let pull = pull.unwrap();
        assert!(pull.right);
        if pull.manner != Manner::JoinsLate {
            assert!(pull.first_byte < fill / 10, "a first byte after {:?} of a fill of {fill:?}", pull.first_byte);
        }
    }
    assert_eq!(fake.count("GET", "/blobs/"), 1);
    assert!(peak < MEMORY, "{peak} bytes of anonymous memory");
}
