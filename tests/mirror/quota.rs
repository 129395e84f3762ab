//! The upstream's quota belongs to people first.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testing::FakeUpstream;

use crate::stage::{Stage, docker_hub};

const IMAGES: usize = 500;
const QUOTA: u64 = 100;
const WINDOW: Duration = Duration::from_hours(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_five_hundred_images_leaves_people_their_part_and_ends_after_several_windows() {
    let upstream = FakeUpstream::start();
    for number in 0..IMAGES {
        upstream.put_image("team/many", &format!("v{number:03}"));
    }
    for number in 0..200 {
        upstream.put_image("library/person", &format!("p{number}"));
    }
    let settings = docker_hub(&upstream)
        + "[[mirror]]\nname = \"many\"\nfrom = \"docker.io/team/many\"\nto = \"micro/many\"\ntags = [{ glob = \"*\" }]\n";
    let stage = Stage::new(&settings).await;
    upstream.quota(QUOTA, WINDOW, std::sync::Arc::<testing::ManualClock>::clone(&stage.clock));
    let (status, asked) = stage.api(Method::POST, "mirrors/many/runs", Some(json!({}))).await;
    assert_eq!(status, 202);
    let job = format!("jobs/{}", asked["id"].as_str().unwrap());

    // Each window the person pulls as often as the reserve allows, whatever the mirror does.
    let mut pulled = 0;
    let mut put_off = 0;
    let mut windows = 0;
    let record = loop {
        assert!(windows < 40, "the mirror does not end: {}", stage.api(Method::GET, &job, None).await.1);
        for _ in 0..QUOTA / 4 {
            if pulled < 200 {
                let url = format!("{}/v2/library/person/manifests/p{pulled}", stage.url);
                let response = stage.client.get(url).send().await.unwrap();
                assert_eq!(response.status(), 200, "the person is refused in window {windows}");
                pulled += 1;
            }
            // In steps in which whoever works can renew its lease.
            for _ in 0..5 {
                stage.clock.advance(Duration::from_secs(1));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let record = stage.api(Method::GET, &job, None).await.1;
        if !record["ended"].is_null() {
            break record;
        }
        if record["state"] == "waiting" {
            put_off += 1;
            assert!(record["reason"].as_str().unwrap().contains("quota"), "{record}");
            assert_eq!(record["attempts"], 0, "to wait is no failure");
        }
        windows += 1;
        stage.clock.advance(WINDOW);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(record["state"], "done", "{}", record["reason"]);
    // What was copied when a run was cut is found unchanged by the next.
    let count = |key: &str| record["totals"][key].as_u64().unwrap();
    assert_eq!(count("copied") + count("unchanged"), IMAGES as u64);
    assert!(put_off >= 3, "it ended after {windows} windows, and was put off {put_off} times");
    assert_eq!(stage.tags("micro/many").await.len(), IMAGES);
    let refused = upstream.requests().iter().filter(|request| request.status == 429).count();
    assert_eq!(refused, 0, "the upstream never had to refuse");
}
