//! Rules that are easily broken: dated tags that stand, memories that fit, runs that are asked for beside others.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testing::{FakeUpstream, Fault};

use crate::stage::{Stage, docker_hub};

const APP: &str = "team/app";

fn mirror(upstream: &FakeUpstream, lines: &str) -> String {
    docker_hub(upstream) + &format!("[[mirror]]\nname = \"m\"\nfrom = \"docker.io/team/app\"\nto = \"micro/app\"\n{lines}\n")
}

/// Moves a tag of the upstream to another image.
fn put(upstream: &FakeUpstream, tag: &str, content: &str) -> oci::Digest {
    upstream.put_image_with(APP, tag, content.as_bytes()).digest
}

async fn tag_of(stage: &Stage, tag: &str) -> oci::Digest {
    oci::Hasher::digest(oci::Algorithm::Sha256, &stage.manifest("micro/app", tag).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_the_upstream_that_looks_like_a_dated_one_does_not_move_it() {
    let upstream = FakeUpstream::start();
    let first = put(&upstream, "latest", "one");
    let stage = Stage::new(&mirror(&upstream, "tags = [{ glob = \"*\" }]\ntag_as = [\"{tag}\", \"{tag}-{date}\"]")).await;
    stage.run("m", json!({})).await;
    put(&upstream, "latest-20260101", "a stranger");
    let run = stage.run("m", json!({})).await;
    assert_eq!(run["report"]["tags"]["latest-20260101"]["outcome"], "refused", "{run}");
    assert_eq!(tag_of(&stage, "latest-20260101").await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dated_tag_that_two_source_tags_share_goes_with_the_last_of_them() {
    let upstream = FakeUpstream::start();
    let shared = put(&upstream, "latest", "one");
    put(&upstream, "1.0", "one");
    let lines = "tags = [\"latest\", \"1.0\"]\ntag_as = [\"{tag}\", \"{digest:12}\"]\nkeep = 1";
    let stage = Stage::new(&mirror(&upstream, lines)).await;
    stage.run("m", json!({})).await;
    put(&upstream, "latest", "two");
    stage.run("m", json!({})).await;
    assert_eq!(tag_of(&stage, &shared.hex()[..12]).await, shared, "1.0 still has it");
    put(&upstream, "1.0", "three");
    stage.run("m", json!({})).await;
    assert!(!stage.tags("micro/app").await.contains(&shared.hex()[..12].to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_here_is_copied_again() {
    let upstream = FakeUpstream::start();
    let digest = put(&upstream, "latest", "one");
    let stage = Stage::new(&mirror(&upstream, "tags = [\"latest\"]\ntag_as = [\"{date}\"]")).await;
    stage.run("m", json!({})).await;
    let gone = stage.client.delete(format!("{}/v2/micro/app/manifests/{digest}", stage.url)).send().await.unwrap();
    assert_eq!(gone.status(), 202);
    assert_eq!(stage.run("m", json!({})).await["totals"]["copied"], 1);
    assert_eq!(tag_of(&stage, "20260101").await, digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_target_begins_anew() {
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", "one");
    let lines = "tags = [\"latest\"]\ntag_as = [\"{date}\"]";
    let mut stage = Stage::new(&mirror(&upstream, lines)).await;
    stage.run("m", json!({})).await;
    stage.restart_with(&mirror(&upstream, lines).replace("micro/app", "other/app")).await;
    assert_eq!(stage.run("m", json!({})).await["totals"]["copied"], 1);
    assert_eq!(stage.tags("other/app").await, ["20260101"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_dated_tags_go_while_nothing_changes_but_the_newest_stays() {
    let upstream = FakeUpstream::start();
    let lines = "tags = [\"latest\"]\ntag_as = [\"{date}\"]\nkeep_for = \"10d\"";
    let stage = Stage::new(&mirror(&upstream, lines)).await;
    for content in ["one", "two"] {
        put(&upstream, "latest", content);
        stage.run("m", json!({})).await;
        stage.clock.advance(Duration::from_hours(24));
    }
    assert_eq!(stage.tags("micro/app").await, ["20260101", "20260102"]);
    stage.clock.advance(Duration::from_hours(24 * 30));
    let run = stage.run("m", json!({})).await;
    assert_eq!(run["report"]["tags"]["latest"]["removed"], json!(["20260101"]), "{run}");
    assert_eq!(stage.tags("micro/app").await, ["20260102"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_not_wanted_any_more_is_not_followed_further_than_its_end() {
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", "one");
    put(&upstream, "beta", "one");
    let lines = |tags: &str| mirror(&upstream, &format!("tags = [{tags}]\nfollow_deletions = true"));
    let mut stage = Stage::new(&lines("\"latest\", \"beta\"")).await;
    stage.run("m", json!({})).await;
    stage.restart_with(&lines("\"latest\"")).await;
    let before = tag_of(&stage, "beta").await;
    put(&upstream, "beta", "two");
    stage.run("m", json!({})).await;
    assert_eq!(tag_of(&stage, "beta").await, before, "it is not copied any more");
    upstream.remove_tag(APP, "beta");
    for _ in 0..2 {
        assert_eq!(stage.run("m", json!({})).await["state"], "done", "to be gone is no failure, however often");
    }
    assert_eq!(stage.tags("micro/app").await, ["latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_done_again_tries_what_was_refused_and_has_the_day_of_today() {
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", "one");
    let lines = "tags = [\"latest\", \"beta\"]\ntag_as = [\"{tag}\", \"{tag}-{date}\"]";
    let stage = Stage::new(&mirror(&upstream, lines)).await;
    let failed = stage.run("m", json!({})).await;
    assert_eq!((&failed["state"], &failed["report"]["tags"]["beta"]["outcome"]), (&json!("failed"), &json!("refused")));
    put(&upstream, "beta", "one");
    stage.clock.advance(Duration::from_hours(48));
    let (status, again) = stage.api(Method::POST, &format!("jobs/{}/retry", failed["id"].as_str().unwrap()), None).await;
    assert_eq!(status, 202);
    let record = ended(&stage, &again).await;
    assert_eq!(record["state"], "done", "{record}");
    assert_eq!(stage.tags("micro/app").await, ["beta", "beta-20260103", "latest", "latest-20260101"]);
    // What is done is not done again.
    let path = format!("jobs/{}/retry", record["id"].as_str().unwrap());
    let (status, refused) = stage.api(Method::POST, &path, None).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("CONFLICT")));
}

async fn ended(stage: &Stage, asked: &Value) -> Value {
    let path = format!("jobs/{}", asked["id"].as_str().unwrap());
    stage
        .wait("the end of a run", async || {
            let record = stage.api(Method::GET, &path, None).await.1;
            (!record["ended"].is_null()).then_some(record)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_not_taken_for_a_dry_one_and_its_followers_leave_when_the_server_stops() {
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", "one");
    let mut stage = Stage::new(&mirror(&upstream, "tags = [\"latest\"]")).await;
    upstream.fault("/blobs/", Fault::Delay(Duration::from_mins(1)));
    let (_, asked) = stage.api(Method::POST, "mirrors/m/runs", None).await;
    let (status, refused) = stage.api(Method::POST, "mirrors/m/runs", Some(json!({ "dry_run": true }))).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("CONFLICT")), "{refused}");
    let events = format!("{}/api/v1/jobs/{}/events", stage.url, asked["id"].as_str().unwrap());
    let followed = stage.client.get(events).bearer_auth(stage.token()).send().await.unwrap();
    let followed = tokio::spawn(followed.text());
    stage.asleep(Duration::ZERO).await;
    let lines = tokio::time::timeout(Duration::from_secs(10), followed).await.unwrap().unwrap().unwrap();
    assert!(lines.lines().filter(|line| !line.is_empty()).count() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_years_ahead_once_does_not_silence_a_schedule() {
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", "one");
    let stage = Stage::new(&mirror(&upstream, "schedule = \"0 2 * * *\"\ntags = [\"latest\"]")).await;
    let years = 4 * 365 * 24 * 3600;
    stage.clock.jump(years);
    stage.ended("m", 1).await;
    stage.clock.jump(-years);
    stage.until("2026-01-03T02:00:00Z").await;
    assert_eq!(stage.ended("m", 2).await["state"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_dated_tag_that_was_removed_is_not_used_again() {
    let upstream = FakeUpstream::start();
    let stage = Stage::new(&mirror(&upstream, "tags = [\"latest\"]\ntag_as = [\"{date}\"]\nkeep = 1")).await;
    for (content, expected) in [("one", "20260101"), ("two", "20260101-2"), ("three", "20260101-3"), ("one", "20260101-4")] {
        let digest = put(&upstream, "latest", content);
        stage.run("m", json!({})).await;
        assert_eq!(stage.tags("micro/app").await, [expected], "{content}");
        assert_eq!(tag_of(&stage, expected).await, digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_selects_nothing_says_so() {
    let upstream = FakeUpstream::start();
    put(&upstream, "latest", "one");
    let stage = Stage::new(&mirror(&upstream, "tags = [{ glob = \"zzz*\" }]")).await;
    let run = stage.run("m", json!({})).await;
    assert_eq!(run["state"], "failed");
    assert!(run["reason"].as_str().unwrap().contains("none of the tags"), "{run}");
}
