//! Freshness: tags are checked again after their lifetime, and the copy is served when the upstream does not say.

use std::sync::Arc;
use std::time::Duration;

use testing::{FakeUpstream, Fault, ManualClock};

use crate::harness::{TestServer, config, docker_hub, refusal, refused, text};

/// Something that goes wrong upstream.
type Trouble = fn(&FakeUpstream);

const LIFETIME: Duration = Duration::from_mins(5);
const PATH: &str = "/v2/docker.io/library/alpine/manifests/3";

async fn server(fake: &FakeUpstream) -> (TestServer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let mut config = config();
    config.upstreams = vec![docker_hub(fake)];
    (TestServer::start_at(config, Arc::<ManualClock>::clone(&clock)).await, clock)
}

async fn digest(server: &TestServer) -> String {
    let got = server.get(PATH).await;
    assert_eq!(got.status(), 200);
    assert_eq!(text(&got, "warning"), "");
    text(&got, "docker-content-digest")
}

#[tokio::test]
async fn a_fresh_tag_is_served_without_asking() {
    let fake = FakeUpstream::start();
    let first = fake.put_image("library/alpine", "3");
    let (server, clock) = server(&fake).await;
    assert_eq!(digest(&server).await, first.digest.to_string());
    fake.put_image_with("library/alpine", "3", b"newer");
    clock.advance(LIFETIME.checked_sub(Duration::from_secs(2)).unwrap());
    fake.clear_requests();
    assert_eq!(digest(&server).await, first.digest.to_string());
    assert!(fake.requests().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn an_old_tag_is_checked_by_head_and_moves_with_the_upstream() {
    let fake = FakeUpstream::start();
    let first = fake.put_image("library/alpine", "3");
    let (server, clock) = server(&fake).await;
    assert_eq!(digest(&server).await, first.digest.to_string());
    for _ in 0..3 {
        clock.advance(LIFETIME);
        fake.clear_requests();
        assert_eq!(digest(&server).await, first.digest.to_string());
        assert_eq!(digest(&server).await, first.digest.to_string());
        assert_eq!((fake.count("HEAD", "/manifests/3"), fake.count("GET", "/manifests/")), (1, 0));
    }
    let second = fake.put_image_with("library/alpine", "3", b"newer");
    clock.advance(LIFETIME);
    assert_eq!(digest(&server).await, second.digest.to_string());
    assert_eq!(server.get(&format!("/v2/docker.io/library/alpine/manifests/{}", first.digest)).await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn a_head_of_a_new_tag_costs_no_pull_and_the_tag_is_remembered() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    let (server, _clock) = server(&fake).await;
    let head = server.head(PATH).await;
    assert_eq!(text(&head, "docker-content-digest"), image.digest.to_string());
    assert_eq!(fake.count("GET", "/manifests/"), 0);
    // As containerd does: HEAD by tag, then GET by digest. The tag is known from then on.
    assert_eq!(server.get(&format!("/v2/docker.io/library/alpine/manifests/{}", image.digest)).await.status(), 200);
    wait_until_kept(&server, &fake).await;
    assert_eq!(digest(&server).await, image.digest.to_string());
    assert_eq!(fake.count("GET", "/manifests/"), 1);
    server.stop().await;
}

/// The keeping goes on behind the answer.
async fn wait_until_kept(server: &TestServer, fake: &FakeUpstream) {
    fake.down(true);
    for _ in 0..500 {
        if server.head(PATH).await.status() == 200 {
            fake.down(false);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the tag was never kept");
}

#[tokio::test]
async fn the_copy_is_served_with_a_warning_when_the_upstream_fails() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    let (server, clock) = server(&fake).await;
    assert_eq!(digest(&server).await, image.digest.to_string());
    let troubles: [(Trouble, &str); 4] = [
        (|fake| fake.respond_with(500), "did not answer"),
        (|fake| fake.fault("/", Fault::TooManyRequests { retry_after: Some("60".to_owned()) }), "limits our requests"),
        (|fake| fake.fault("/", Fault::Drop), "did not answer"),
        (|fake| fake.remove_tag("library/alpine", "3"), "no longer has this"),
    ];
    for (trouble, words) in troubles {
        clock.advance(LIFETIME);
        fake.clear_faults();
        fake.clear_requests();
        trouble(&fake);
        for method in ["GET", "HEAD", "GET"] {
            let got = server.request(method, PATH).send().await.unwrap();
            assert_eq!((got.status().as_u16(), text(&got, "docker-content-digest")), (200, image.digest.to_string()));
            let warning = text(&got, "warning");
            assert!(warning.starts_with("299 - \"docker.io ") && warning.contains(words), "{warning}");
        }
        // It is left in peace for a while.
        assert_eq!(fake.count("HEAD", "/manifests/3"), 1, "{words}");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_copy_a_failing_upstream_is_named() {
    let fake = FakeUpstream::start();
    fake.put_image("library/alpine", "2");
    let (server, clock) = server(&fake).await;
    assert_eq!(refusal(server.get(PATH).await).await, refused(404, "MANIFEST_UNKNOWN"));
    fake.respond_with(503);
    assert_eq!(refusal(server.get(PATH).await).await, refused(502, "UNAVAILABLE"));
    fake.clear_faults();
    fake.fault("/", Fault::TooManyRequests { retry_after: Some("7".to_owned()) });
    let limited = server.get(PATH).await;
    assert_eq!(text(&limited, "retry-after"), "7");
    assert_eq!(refusal(limited).await, refused(429, "TOOMANYREQUESTS"));
    fake.clear_faults();
    fake.clear_requests();
    // It is left alone for as long as it said, whatever is asked.
    clock.advance(Duration::from_secs(6));
    let path = "/v2/docker.io/library/other/manifests/1";
    for got in [server.get(PATH).await, server.head(path).await, server.get(path).await] {
        assert_eq!((got.status().as_u16(), text(&got, "retry-after")), (429, "1".to_owned()));
    }
    assert!(fake.requests().is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(server.get(PATH).await.status(), 404);
    fake.down(true);
    let body = server.get(PATH).await.text().await.unwrap();
    assert!(body.contains("docker.io"), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn a_manifest_that_lies_about_its_digest_is_neither_served_nor_kept() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    let (server, _clock) = server(&fake).await;
    fake.fault("/manifests/", Fault::Corrupt { at: 10 });
    for reference in ["3".to_owned(), image.digest.to_string()] {
        let got = server.get(&format!("/v2/docker.io/library/alpine/manifests/{reference}")).await;
        assert_eq!(refusal(got).await, refused(502, "UNAVAILABLE"));
    }
    fake.clear_faults();
    assert_eq!(digest(&server).await, image.digest.to_string());
    server.stop().await;
}

#[tokio::test]
async fn an_index_is_kept_whole_and_its_children_come_when_asked_for() {
    let fake = FakeUpstream::start();
    let index = fake.put_index("library/alpine", "3");
    let (server, _clock) = server(&fake).await;
    assert_eq!(server.get(PATH).await.bytes().await.unwrap(), index.bytes);
    assert_eq!(fake.requests().len(), 1);
    let child = &index.images[1];
    let got = server.get(&format!("/v2/docker.io/library/alpine/manifests/{}", child.digest)).await;
    assert_eq!(got.bytes().await.unwrap(), child.bytes);
    let layer = server.get(&format!("/v2/docker.io/library/alpine/blobs/{}", child.layers[0])).await;
    assert_eq!(layer.status(), 200);
    assert_eq!(fake.count("GET", &index.images[0].digest.to_string()), 0);
    server.stop().await;
}

#[tokio::test]
async fn one_fetch_answers_all_who_ask_at_once() {
    let fake = FakeUpstream::start();
    fake.put_image("library/alpine", "3");
    fake.fault("/manifests/", Fault::Delay(Duration::from_millis(200)));
    let (server, clock) = server(&fake).await;
    for expected in [(0, 1), (1, 1)] {
        let answers = futures_util::future::join_all((0..50).map(|_| server.get(PATH))).await;
        assert!(answers.iter().all(|answer| answer.status() == 200));
        assert_eq!((fake.count("HEAD", "/manifests/"), fake.count("GET", "/manifests/")), expected);
        clock.advance(LIFETIME);
    }
    server.stop().await;
}

#[tokio::test]
async fn every_tag_of_a_digest_is_known_after_its_head() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    fake.put_manifest("library/alpine", Some("latest"), oci::media_type::OCI_MANIFEST, image.bytes.clone());
    let (server, _clock) = server(&fake).await;
    assert_eq!(digest(&server).await, image.digest.to_string());
    let latest = "/v2/docker.io/library/alpine/manifests/latest";
    assert_eq!(text(&server.head(latest).await, "docker-content-digest"), image.digest.to_string());
    fake.down(true);
    assert_eq!(server.get(latest).await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn a_pull_of_an_old_digest_does_not_move_the_tag_back() {
    let fake = FakeUpstream::start();
    let old = fake.put_image("library/alpine", "3");
    let (server, clock) = server(&fake).await;
    assert_eq!(text(&server.head(PATH).await, "docker-content-digest"), old.digest.to_string());
    let new = fake.put_image_with("library/alpine", "3", b"newer");
    clock.advance(Duration::from_secs(1));
    assert_eq!(digest(&server).await, new.digest.to_string());
    assert_eq!(server.get(&format!("/v2/docker.io/library/alpine/manifests/{}", old.digest)).await.status(), 200);
    // What the pull leaves behind is done when the server has stopped; meanwhile the tag never shows the old one.
    for _ in 0..20 {
        assert_eq!(digest(&server).await, new.digest.to_string());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn without_the_upstream_no_signatures_is_not_an_answer() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    let (server, _clock) = server(&fake).await;
    assert_eq!(digest(&server).await, image.digest.to_string());
    fake.down(true);
    let path = format!("/v2/docker.io/library/alpine/referrers/{}", image.digest);
    assert_eq!(refusal(server.get(&path).await).await, refused(502, "UNAVAILABLE"));
    server.stop().await;
}

#[tokio::test]
async fn a_slow_upstream_is_waited_for_once() {
    let fake = FakeUpstream::start();
    let image = fake.put_image("library/alpine", "3");
    let (server, clock) = server(&fake).await;
    assert_eq!(digest(&server).await, image.digest.to_string());
    clock.advance(LIFETIME);
    fake.fault("/manifests/", Fault::Delay(Duration::from_mins(10)));
    let sleepers = clock.sleepers();
    let waiting = tokio::spawn(server.request("GET", PATH).send());
    while clock.sleepers() <= sleepers {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    clock.advance(Duration::from_secs(5));
    let first = waiting.await.unwrap().unwrap();
    let second = server.get(PATH).await;
    for got in [first, second] {
        assert_eq!(got.status(), 200);
        assert!(text(&got, "warning").contains("has not answered yet"));
    }
    assert_eq!(fake.count("HEAD", "/manifests/3"), 1);
}

#[tokio::test]
async fn an_upstream_that_limits_us_without_saying_how_long_is_left_alone_too() {
    let fake = FakeUpstream::start();
    let (server, clock) = server(&fake).await;
    fake.fault("/", Fault::TooManyRequests { retry_after: None });
    let blob = format!("/v2/docker.io/library/alpine/blobs/{}", crate::harness::sha256(b"x"));
    assert_eq!(server.get(PATH).await.status(), 429);
    for path in [PATH, "/v2/docker.io/library/alpine/tags/list", &blob] {
        assert_eq!(text(&server.head(path).await, "retry-after"), "30", "{path}");
    }
    assert_eq!(fake.requests().len(), 1);
    clock.advance(Duration::from_secs(30));
    fake.clear_faults();
    assert_eq!(server.get(PATH).await.status(), 404);
    server.stop().await;
}
