//! Thousands that are slow on purpose, and a few that want to be served.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reqwest::Client;
use telemetry::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::stage::{QUIET, Server, Settings, sha256};

/// Those who want to be served.
const GOOD: usize = 64;
const ALONE: Duration = Duration::from_secs(2);
const ATTACKED: Duration = Duration::from_secs(4);
/// How long the server waits for a head, and for somebody who is silent.
const LIMITS: &str = "header_timeout = \"5s\"\nidle_timeout = \"5s\"\ndrain_timeout = \"0s\"";
/// Between two bytes of a slow one.
const BYTE: Duration = Duration::from_secs(1);
/// How many connect at a time.
const WAVE: usize = 500;
const LARGE: usize = 16 << 20;

/// In which way somebody is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A byte of a head now and then, without end.
    Head,
    /// The same after a first request.
    LaterHead,
    /// A byte of an upload, and no more.
    Body,
    /// A byte of an upload now and then.
    Trickle,
    /// Reads nothing of a large blob.
    Reader,
    /// Half of a preface of HTTP/2.
    Preface,
    /// Half of a TLS handshake.
    Handshake,
    /// Not a byte.
    Silent,
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    /// Those whom the server has ended, in the order of [`Way`].
    ended: [AtomicUsize; 8],
    /// Those who may go on.
    served: AtomicUsize,
    over: AtomicBool,
}

struct Attack {
    address: SocketAddr,
    /// Of the large blob, to pull it and to push it.
    paths: (String, String),
    counts: Counts,
}

fn number() -> usize {
    std::env::var("ROADSTEAD_SLOW").map_or(500, |text| text.parse().unwrap())
}

impl Attack {
    /// Is slow in this way until the server ends it.
    async fn run(self: Arc<Self>, way: Way) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (blob, upload) = &self.paths;
        let begin = match way {
            Way::Head => "GET / HTTP/1.1\r\nhost: x\r\nx: ".to_owned(),
            Way::LaterHead => "GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\nx: ".to_owned(),
            Way::Body | Way::Trickle => format!("POST {upload} HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGE}\r\n\r\nx"),
            Way::Reader => format!("GET {blob} HTTP/1.1\r\nhost: x\r\n\r\n"),
            Way::Preface => "PRI * HTTP/2.0\r\n\r\nS".to_owned(),
            // The first bytes of a record that holds a ClientHello.
            Way::Handshake => "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(),
            Way::Silent => String::new(),
        };
        let _ = stream.write_all(begin.as_bytes()).await;
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        let ended = match way {
            Way::Head | Way::LaterHead | Way::Trickle => self.send_on(&mut stream).await,
            Way::Reader => self.look_late(&mut stream).await,
            Way::Body | Way::Preface | Way::Handshake | Way::Silent => read_to_end(&mut stream).await,
        };
        let count = if ended { &self.counts.ended[way as usize] } else { &self.counts.served };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A byte now and then, until nobody takes it or all is over.
    async fn send_on(&self, stream: &mut TcpStream) -> bool {
        while !self.counts.over.load(Ordering::Relaxed) {
            sleep(BYTE).await;
            if stream.write_all(b"y").await.is_err() {
                return true;
            }
        }
        false
    }

    /// What was not read in time does not come whole.
    async fn look_late(&self, stream: &mut TcpStream) -> bool {
        while !self.counts.over.load(Ordering::Relaxed) {
            sleep(BYTE).await;
        }
        let (mut piece, mut read) = (vec![0; 64 * 1024], 0);
        while let Ok(Ok(length @ 1..)) = tokio::time::timeout(BYTE, stream.read(&mut piece)).await {
            read += length;
        }
        read < LARGE
    }
}

/// Waits for the server to end it.
async fn read_to_end(stream: &mut TcpStream) -> bool {
    let mut scrap = Vec::new();
    let _ = stream.read_to_end(&mut scrap).await;
    true
}

/// How often the good ones were served within so long: a small manifest and a blob, again and again.
async fn rate(client: &Client, urls: &[String; 2], time: Duration) -> f64 {
    let clock = SystemClock::default();
    let (served, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let start = clock.monotonic();
    let good: Vec<_> = (0..GOOD)
        .map(|_| {
            let (client, urls, served, over) = (client.clone(), urls.clone(), Arc::clone(&served), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    for url in &urls {
                        let answer = client.get(url).send().await.unwrap();
                        assert_eq!(answer.status(), 200);
                        answer.bytes().await.unwrap();
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    sleep(time).await;
    let count = u32::try_from(served.load(Ordering::Relaxed)).unwrap();
    let rate = f64::from(count) / clock.monotonic().saturating_sub(start).as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for one in good {
        one.await.unwrap();
    }
    rate
}

/// What the server holds: the URLs of a small manifest and a small blob, and the paths of a large blob, to pull it and to push it.
async fn fill(client: &Client, url: &str) -> ([String; 2], String, String) {
    let push = async |bytes: Vec<u8>| {
        let digest = sha256(&bytes);
        let pushed = client.post(format!("{url}/v2/a/blobs/uploads/?digest={digest}")).body(bytes).send().await.unwrap();
        assert_eq!(pushed.status(), 201);
        digest
    };
    let (config, small, large) = (push(b"{}".to_vec()).await, push(vec![1; 16 * 1024]).await, push(vec![2; LARGE]).await);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{kind}\",\"config\":{{\"mediaType\":\"x/y\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[]}}"
    );
    let put = client.put(format!("{url}/v2/a/manifests/v1")).header("content-type", kind).body(manifest).send().await.unwrap();
    assert_eq!(put.status(), 201);
    let urls = [format!("{url}/v2/a/manifests/v1"), format!("{url}/v2/a/blobs/{small}")];
    (urls, format!("/v2/a/blobs/{large}"), format!("/v2/b/blobs/uploads/?digest={large}"))
}

async fn withstands(address: SocketAddr, client: &Client, url: &str, ways: &[Way]) {
    let (urls, blob, upload) = fill(client, url).await;
    let alone = rate(client, &urls, ALONE).await;
    let attack = Arc::new(Attack { address, paths: (blob, upload), counts: Counts::default() });
    let number = number();
    let open = || attack.counts.open.load(Ordering::Relaxed);
    let mut slow = Vec::new();
    for (index, way) in ways.iter().cycle().take(number).enumerate() {
        slow.push(tokio::spawn(Arc::clone(&attack).run(*way)));
        // No more at a time than the queue of the server has room for.
        while index + 1 - open() > WAVE || index + 1 == number && open() < number {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let attacked = rate(client, &urls, ATTACKED).await;
    eprintln!("{ways:?}: {alone:.0}/s alone, {attacked:.0}/s beside {number} slow ones");
    assert!(attacked >= alone / 2.0, "{alone} alone, {attacked} beside {number} slow ones");
    // Whoever is late is ended by now, or soon.
    let of = |way: Way| ways.iter().cycle().take(number).filter(|other| **other == way).count();
    let left = || {
        let late = ways.iter().filter(|way| !matches!(way, Way::Trickle | Way::Reader));
        let lasting = late.map(|way| (*way, of(*way) - attack.counts.ended[*way as usize].load(Ordering::Relaxed)));
        lasting.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    for _ in 0..400 {
        if left().is_empty() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(left(), [], "they are not ended");
    attack.counts.over.store(true, Ordering::Relaxed);
    for one in slow {
        one.await.unwrap();
    }
    assert_eq!(attack.counts.served.load(Ordering::Relaxed), of(Way::Trickle), "only who sends a byte may go on");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn thousands_that_are_slow_take_no_more_than_half_from_the_others() {
    let _quiet = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    server::raise_file_limit();
    let mut server = Server::start_alone(tempfile::tempdir().unwrap(), Settings { server: LIMITS, ..Settings::default() });
    let client = Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap()).no_proxy().build().unwrap();
    let ways = [Way::Head, Way::LaterHead, Way::Body, Way::Head, Way::Silent, Way::Preface, Way::Reader, Way::Trickle];
    runtime().block_on(withstands(server.address, &client, &server.url(""), &ways));
    server.is_well();
}

#[test]
fn handshakes_that_stop_in_the_middle_take_no_more_than_half_from_the_others() {
    let _quiet = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    server::raise_file_limit();
    let folder = tempfile::tempdir().unwrap();
    let made = certs::dev::make(folder.path(), &["127.0.0.1".to_owned()], SystemClock::default().now()).unwrap();
    let tls = format!("[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", made.certificate.display(), made.key.display());
    let server = Server::start_alone(folder, Settings { server: LIMITS, sections: &tls, ..Settings::default() });
    let trust = certs::client_config(&[made.authority]).unwrap();
    let client = Client::builder().tls_backend_preconfigured(trust).no_proxy().build().unwrap();
    let url = format!("https://{}", server.address);
    runtime().block_on(withstands(server.address, &client, &url, &[Way::Handshake, Way::Silent, Way::Handshake, Way::Head]));
}
