//! Fills: one fetch of a blob, streamed to every reader from its first byte, verified before it is kept.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use testing::{FakeUpstream, Fault, deterministic_bytes};

use crate::harness::{TestServer, refusal, refused, text};

const MIB: usize = 1024 * 1024;

async fn metric(server: &TestServer, name: &str) -> u64 {
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or_default()
}

async fn wait_for_fills_to_end(server: &TestServer) {
    for _ in 0..1000 {
        if metric(server, "roadstead_fills_running").await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a fill goes on and on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_one_fetch_and_have_their_first_byte_early() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", 32 * MIB, 1);
    let expected = deterministic_bytes(32 * MIB, 1);
    fake.fault("/blobs/", Fault::Rate { bytes_per_second: 16 * 1024 * 1024 });
    let server = TestServer::with_upstream(&fake).await;
    let path = format!("/v2/docker.io/library/big/blobs/{digest}");
    let start = tokio::time::Instant::now();
    let pulls = join_all((0..30).map(|client| {
        let (server, path) = (&server, &path);
        async move {
            // A third comes late, a third leaves early.
            if client % 3 == 1 {
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            let mut body = server.get(path).await.bytes_stream();
            let mut received = body.next().await.unwrap().unwrap().to_vec();
            let first = start.elapsed();
            if client % 3 == 2 {
                return (client, first, received);
            }
            while let Some(bytes) = body.next().await {
                received.extend_from_slice(&bytes.unwrap());
            }
            (client, first, received)
        }
    }))
    .await;
    let whole = start.elapsed();
    for (client, first, received) in &pulls {
        match client % 3 {
            2 => assert_eq!(received[..], expected[..received.len()]),
            _ => assert_eq!(received, &expected),
        }
        if client % 3 == 0 {
            assert!(*first < whole / 4, "client {client}: first byte after {first:?} of {whole:?}");
        }
    }
    assert_eq!(fake.count("GET", "/blobs/"), 1);
    // Those that were there from the beginning to the end had all of it from the growing file, without a copy.
    assert!(metric(&server, "roadstead_http_sendfile_bytes_total").await >= 10 * 32 * MIB as u64);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_goes_on_when_its_reader_leaves() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", 4 * MIB, 2);
    fake.fault("/blobs/", Fault::Rate { bytes_per_second: 8 * 1024 * 1024 });
    let server = TestServer::with_upstream(&fake).await;
    let path = format!("/v2/docker.io/library/big/blobs/{digest}");
    let mut body = server.get(&path).await.bytes_stream();
    body.next().await.unwrap().unwrap();
    drop(body);
    wait_for_fills_to_end(&server).await;
    fake.down(true);
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), deterministic_bytes(4 * MIB, 2));
    assert_eq!(fake.count("GET", "/blobs/"), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_breaks_off_is_taken_up_where_it_was() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", 3 * MIB, 3);
    for ranges in [true, false] {
        fake.ranges(ranges);
        fake.clear_requests();
        fake.fault_times("/blobs/", 2, Fault::Cut { after: MIB as u64 });
        let server = TestServer::with_upstream(&fake).await;
        let got = server.get(&format!("/v2/docker.io/library/big/blobs/{digest}")).await;
        assert_eq!(text(&got, "content-length"), (3 * MIB).to_string());
        assert_eq!(got.bytes().await.unwrap(), deterministic_bytes(3 * MIB, 3));
        let asked: Vec<_> = fake.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
        assert!(asked[0].is_none() && asked[1].as_ref().unwrap().starts_with("bytes="), "{asked:?}");
        assert!(metric(&server, "roadstead_fills_resumed_total").await >= 1);
        server.stop().await;
        fake.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_than_asked_for_reset_every_reader_and_are_not_kept() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", 2 * MIB, 4);
    fake.fault("/blobs/", Fault::Corrupt { at: 70_000 });
    fake.fault("/blobs/", Fault::Rate { bytes_per_second: 4 * 1024 * 1024 });
    let server = TestServer::with_upstream(&fake).await;
    let path = format!("/v2/docker.io/library/big/blobs/{digest}");
    let ends = join_all((0..5).map(|_| async { server.get(&path).await.bytes().await.map(|bytes| bytes.len()) })).await;
    for end in ends {
        assert!(end.is_err(), "a reader was let to take wrong bytes for whole: {end:?}");
    }
    wait_for_fills_to_end(&server).await;
    fake.clear_faults();
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), deterministic_bytes(2 * MIB, 4));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_without_a_length_ends_cleanly_only_when_it_is_right() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", MIB, 5);
    let server = TestServer::with_upstream(&fake).await;
    let path = format!("/v2/docker.io/library/big/blobs/{digest}");
    fake.fault("/blobs/", Fault::Chunked);
    fake.fault("/blobs/", Fault::Corrupt { at: 10 });
    // The reset may overtake the head of the answer.
    if let Ok(got) = server.request("GET", &path).send().await {
        assert_eq!(text(&got, "content-length"), "");
        assert!(got.bytes().await.is_err());
    }
    wait_for_fills_to_end(&server).await;
    fake.clear_faults();
    fake.fault("/blobs/", Fault::Chunked);
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), deterministic_bytes(MIB, 5));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_served_while_the_fill_runs() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", 2 * MIB, 6);
    let expected = deterministic_bytes(2 * MIB, 6);
    fake.fault("/blobs/", Fault::Rate { bytes_per_second: 4 * 1024 * 1024 });
    let server = TestServer::with_upstream(&fake).await;
    let path = format!("/v2/docker.io/library/big/blobs/{digest}");
    let ask = |range: &'static str| server.request("GET", &path).header("range", range).send();
    let parts = join_all([ask("bytes=0-9"), ask("bytes=1000000-1000099"), ask("bytes=-5"), ask("bytes=2000000-")]).await;
    for (part, range) in parts.into_iter().zip([0..10, 1_000_000..1_000_100, 2 * MIB - 5..2 * MIB, 2_000_000..2 * MIB]) {
        let part = part.unwrap();
        assert_eq!((part.status().as_u16(), text(&part, "content-length")), (206, range.len().to_string()));
        assert_eq!(part.bytes().await.unwrap(), expected[range]);
    }
    assert_eq!(fake.count("GET", "/blobs/"), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_another_repository_brought_is_not_fetched_again() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob("library/one", "shared");
    fake.put_blob("library/two", "shared");
    let server = TestServer::with_upstream(&fake).await;
    for repository in ["one", "two", "two"] {
        let got = server.get(&format!("/v2/docker.io/library/{repository}/blobs/{digest}")).await;
        assert_eq!(got.text().await.unwrap(), "shared");
        wait_for_fills_to_end(&server).await;
    }
    assert_eq!((fake.count("GET", "/blobs/"), fake.count("HEAD", "/blobs/")), (1, 1));
    // The bytes are here, but the upstream does not have them in this repository.
    let stranger = server.get(&format!("/v2/docker.io/library/three/blobs/{digest}")).await;
    assert_eq!(stranger.status(), 404);
    server.stop().await;
}

#[tokio::test]
async fn a_blob_that_the_upstream_does_not_have_is_unknown() {
    let fake = FakeUpstream::start();
    let server = TestServer::with_upstream(&fake).await;
    let path = format!("/v2/docker.io/library/x/blobs/{}", crate::harness::sha256(b"nowhere"));
    let (status, code) = refusal(server.get(&path).await).await;
    assert!(status == 404 && ["BLOB_UNKNOWN", "NAME_UNKNOWN"].contains(&code.as_str()), "{status} {code}");
    assert_eq!(server.head(&path).await.status(), 404);
    fake.respond_with(500);
    assert_eq!(refusal(server.get(&path).await).await, refused(502, "UNAVAILABLE"));
    server.stop().await;
}

#[tokio::test]
async fn a_head_of_a_blob_asks_the_upstream_and_fetches_nothing() {
    let fake = FakeUpstream::start();
    let digest = fake.put_blob("library/x", "content");
    let server = TestServer::with_upstream(&fake).await;
    let head = server.head(&format!("/v2/docker.io/library/x/blobs/{digest}")).await;
    assert_eq!((head.status().as_u16(), text(&head, "content-length")), (200, "7".to_owned()));
    assert_eq!((fake.count("HEAD", "/blobs/"), fake.count("GET", "/blobs/")), (1, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_upstream_that_stalls_does_not_hold_up_another() {
    let (slow, good) = (FakeUpstream::start_on_thread(), FakeUpstream::start_on_thread());
    slow.fault("/blobs/", Fault::Stall { after: 1 });
    let digest = good.put_blob("team/app", "content");
    let mut config = crate::harness::config();
    let mut second = crate::harness::docker_hub(&slow);
    second.host = "slow.example".to_owned();
    second.name = "slow.example".parse().unwrap();
    second.default = false;
    config.upstreams = vec![crate::harness::docker_hub(&good), second];
    let server = TestServer::start(config).await;
    let stalled: Vec<_> = (0..70_u64).map(|seed| slow.put_blob_sized("team/app", 10_000, seed)).collect();
    let starts = stalled.iter().map(|digest| {
        let request = server.request("GET", &format!("/v2/slow.example/team/app/blobs/{digest}"));
        tokio::time::timeout(Duration::from_millis(500), request.send())
    });
    join_all(starts).await;
    let got = server.get(&format!("/v2/docker.io/team/app/blobs/{digest}")).await;
    assert_eq!(got.text().await.unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_does_not_wait_an_hour_for_an_upstream_that_asks_for_it() {
    let fake = FakeUpstream::start_on_thread();
    let digest = fake.put_blob_sized("library/big", MIB, 8);
    fake.fault("/blobs/", Fault::Rate { bytes_per_second: 1024 * 1024 });
    fake.fault("/blobs/", Fault::Cut { after: 300_000 });
    let server = TestServer::with_upstream(&fake).await;
    let mut body = server.get(&format!("/v2/docker.io/library/big/blobs/{digest}")).await.bytes_stream();
    body.next().await.unwrap().unwrap();
    fake.fault("/blobs/", Fault::TooManyRequests { retry_after: Some("3600".to_owned()) });
    let end = tokio::time::timeout(Duration::from_secs(20), async {
        while let Some(bytes) = body.next().await {
            bytes?;
        }
        Ok::<_, reqwest::Error>(())
    });
    assert!(end.await.unwrap().is_err(), "a part was taken for the whole");
    wait_for_fills_to_end(&server).await;
    server.stop().await;
}
