//! The mirror of the first pipeline (`mirror-images.yaml`), as one entry of the configuration.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testing::{FakeUpstream, Index};

use crate::process::{run, tool};
use crate::stage::{Stage, docker_hub};

const FROM: &str = "tinybirdco/tinybird-local";
const TO: &str = "micro/tinybird-local";

fn settings(upstream: &FakeUpstream) -> String {
    docker_hub(upstream)
        + r#"
[[mirror]]
name = "tinybird"
schedule = "0 2 * * 0"
from = "docker.io/tinybirdco/tinybird-local"
to = "micro/tinybird-local"
tags = ["latest", "beta"]
tag_as = ["{tag}", "{tag}-{date}"]
keep = 3

[[mirror]]
name = "plain"
schedule = "0 2 * * 0"
from = "docker.io/tinybirdco/tinybird-local"
to = "plain/tinybird-local"
tags = ["latest"]
tag_as = ["{date}"]
"#
}

/// Everything that belongs to an index is here, byte for byte.
async fn is_whole(stage: &Stage, repository: &str, tag: &str, index: &Index) {
    assert_eq!(stage.manifest(repository, tag).await, index.bytes, "{repository}:{tag}");
    for image in &index.images {
        assert_eq!(stage.manifest(repository, &image.digest.to_string()).await, image.bytes);
        for blob in image.layers.iter().chain([&image.config]) {
            assert!(stage.has_blob(repository, blob).await, "{blob} of {repository}:{tag}");
        }
    }
}

fn sorted(tags: &[&str]) -> Vec<String> {
    let mut tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    tags.sort();
    tags
}

#[tokio::test(flavor = "multi_thread")]
async fn sundays_as_the_pipeline_meant_them() {
    let upstream = FakeUpstream::start();
    let latest = upstream.put_index(FROM, "latest");
    let beta = upstream.put_index(FROM, "beta");
    let signature = upstream.put_artifact(FROM, &latest.digest, "application/vnd.dev.sigstore.bundle.v0.3+json");
    let sbom = upstream.put_artifact(FROM, &latest.images[0].digest, "application/spdx+json");
    let stage = Stage::new(&settings(&upstream)).await;

    stage.until("2026-01-04T01:59:00Z").await;
    assert_eq!(stage.tags(TO).await, [""; 0], "it is not time yet");
    stage.until("2026-01-04T02:00:00Z").await;
    stage.ended("tinybird", 1).await;
    stage.ended("plain", 1).await;
    assert_eq!(stage.tags(TO).await, sorted(&["latest", "latest-20260104", "beta", "beta-20260104"]));
    assert_eq!(stage.tags("plain/tinybird-local").await, ["20260104"]);
    for (tag, index) in [("latest", &latest), ("latest-20260104", &latest), ("beta", &beta), ("beta-20260104", &beta)] {
        is_whole(&stage, TO, tag, index).await;
    }
    is_whole(&stage, "plain/tinybird-local", "20260104", &latest).await;
    assert_eq!(stage.referrers(TO, &latest.digest).await, [signature.to_string()]);
    assert_eq!(stage.referrers(TO, &latest.images[0].digest).await, [sbom.to_string()]);
    pulled_by_podman(&stage, &format!("{TO}:latest-20260104"), &latest.digest.to_string());

    // The next Sunday only `latest` is another one.
    let newer = upstream.put_index(FROM, "other");
    upstream.put_manifest(FROM, Some("latest"), oci::media_type::OCI_INDEX, newer.bytes.clone());
    stage.until("2026-01-11T02:00:00Z").await;
    let run = stage.ended("tinybird", 2).await;
    assert_eq!(
        run["totals"],
        json!({ "copied": 1, "unchanged": 1, "removed": 0, "failed": 0, "bytes_copied": run["totals"]["bytes_copied"], "bytes_skipped": run["totals"]["bytes_skipped"] })
    );
    assert_eq!(stage.tags(TO).await, sorted(&["latest", "latest-20260104", "latest-20260111", "beta", "beta-20260104"]));
    is_whole(&stage, TO, "latest", &newer).await;
    is_whole(&stage, TO, "latest-20260104", &latest).await;

    // After three Sundays of news the oldest goes.
    for (count, (sunday, tag)) in [("2026-01-18", "third"), ("2026-01-25", "fourth")].into_iter().enumerate() {
        let next = upstream.put_index(FROM, tag);
        upstream.put_manifest(FROM, Some("latest"), oci::media_type::OCI_INDEX, next.bytes.clone());
        stage.until(&format!("{sunday}T02:00:00Z")).await;
        stage.ended("tinybird", 3 + count).await;
    }
    assert_eq!(
        stage.tags(TO).await,
        sorted(&["latest", "latest-20260111", "latest-20260118", "latest-20260125", "beta", "beta-20260104"])
    );
}

fn pulled_by_podman(stage: &Stage, image: &str, digest: &str) {
    let folder = tempfile::tempdir().unwrap();
    let host = stage.url.strip_prefix("http://").unwrap();
    let name = format!("{host}/{image}");
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]).arg(tool("podman"));
        command.args(["--root", &folder.path().join("root").display().to_string(), "--storage-driver", "vfs"]);
        command.args(["--runroot", &folder.path().join("run").display().to_string()]);
        tokio::task::block_in_place(|| run(command.env("HOME", folder.path()).args(arguments)))
    };
    podman(&["pull", "--quiet", "--tls-verify=false", &name]);
    assert!(podman(&["image", "inspect", "--format", "{{json .RepoDigests}}", &name]).contains(digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_later_to_an_unchanged_image_is_found_after_its_interval() {
    let upstream = FakeUpstream::start();
    let latest = upstream.put_index(FROM, "latest");
    upstream.put_index(FROM, "beta");
    let stage = Stage::new(&settings(&upstream)).await;
    stage.run("tinybird", json!({})).await;
    assert_eq!(stage.referrers(TO, &latest.digest).await, [""; 0]);
    let signature = upstream.put_artifact(FROM, &latest.digest, "application/vnd.dev.sigstore.bundle.v0.3+json");
    let on_image = upstream.put_artifact(FROM, &latest.images[1].digest, "application/spdx+json");
    stage.run("tinybird", json!({})).await;
    assert_eq!(stage.referrers(TO, &latest.digest).await, [""; 0], "it is not looked for again so soon");
    stage.clock.advance(Duration::from_hours(24));
    stage.run("tinybird", json!({})).await;
    assert_eq!(stage.referrers(TO, &latest.digest).await, [signature.to_string()]);
    assert_eq!(stage.referrers(TO, &latest.images[1].digest).await, [on_image.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_on_the_same_day_gets_a_number_or_is_refused() {
    let upstream = FakeUpstream::start();
    let first = upstream.put_image_with(FROM, "latest", b"one");
    let refuse = r#"
[[mirror]]
name = "strict"
from = "docker.io/tinybirdco/tinybird-local"
to = "strict/tinybird-local"
tags = ["latest"]
tag_as = ["{date}"]
same_day = "refuse"
[[mirror]]
name = "loose"
from = "docker.io/tinybirdco/tinybird-local"
to = "loose/tinybird-local"
tags = ["latest"]
tag_as = ["{date}"]
"#;
    let stage = Stage::new(&(docker_hub(&upstream) + refuse)).await;
    for mirror in ["strict", "loose"] {
        assert_eq!(stage.run(mirror, json!({})).await["state"], "done");
    }
    let second = upstream.put_image_with(FROM, "latest", b"two");
    let refused = stage.run("strict", json!({})).await;
    assert_eq!(refused["state"], "failed");
    assert!(refused["report"]["tags"]["latest"]["error"].as_str().unwrap().contains("never moved"), "{refused}");
    assert_eq!(stage.manifest("strict/tinybird-local", "20260101").await, first.bytes);
    assert_eq!(stage.run("loose", json!({})).await["state"], "done");
    assert_eq!(stage.manifest("loose/tinybird-local", "20260101").await, first.bytes);
    assert_eq!(stage.manifest("loose/tinybird-local", "20260101-2").await, second.bytes);
    // The first content again is no news.
    upstream.put_image_with(FROM, "latest", b"one");
    stage.run("loose", json!({})).await;
    assert_eq!(stage.tags("loose/tinybird-local").await, ["20260101", "20260101-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tag_that_fails_does_not_stop_the_others_and_is_tried_again_alone() {
    let upstream = FakeUpstream::start();
    upstream.put_index(FROM, "latest");
    upstream.put_index(FROM, "beta");
    let stage = Stage::new(&settings(&upstream)).await;
    upstream.fault("/manifests/beta", testing::Fault::Status(500));
    let (status, asked) = stage.api(Method::POST, "mirrors/tinybird/runs", Some(json!({}))).await;
    assert_eq!(status, 202);
    let job = format!("jobs/{}", asked["id"].as_str().unwrap());
    stage.wait("the tag that does not fail", async || stage.tags(TO).await.contains(&"latest".to_owned()).then_some(())).await;
    let record = stage
        .wait("the wait before the next try", async || {
            let record = stage.api(Method::GET, &job, None).await.1;
            (record["state"] == "waiting" && record["attempts"] == 1).then_some(record)
        })
        .await;
    assert_eq!(record["report"]["tags"]["beta"]["outcome"], "failed", "{record}");
    assert!(record["reason"].as_str().unwrap().contains("1 of 2 tags failed"));
    upstream.clear_faults();
    upstream.clear_requests();
    let record = stage
        .wait("the end", async || {
            let record = stage.api(Method::GET, &job, None).await.1;
            (!record["ended"].is_null()).then_some(record)
        })
        .await;
    assert_eq!(record["state"], "done", "{record}");
    assert_eq!(upstream.count("HEAD", "/manifests/latest"), 0, "what was done is not looked at again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let upstream = FakeUpstream::start();
    upstream.put_index(FROM, "latest");
    upstream.put_index(FROM, "beta");
    let stage = Stage::new(&settings(&upstream)).await;
    let record = stage.run("tinybird", json!({ "dry_run": true })).await;
    assert_eq!(record["state"], "done");
    assert_eq!(record["report"]["tags"]["beta"]["outcome"], "would_copy");
    assert_eq!(record["report"]["tags"]["beta"]["targets"], json!(["beta", "beta-20260101"]));
    assert_eq!(stage.tags(TO).await, [""; 0]);
    assert_eq!(upstream.count("GET", "/manifests/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_upstream_stays_unless_deletions_are_followed() {
    let upstream = FakeUpstream::start();
    upstream.put_index(FROM, "latest");
    upstream.put_index(FROM, "beta");
    let follow = r#"
[[mirror]]
name = "stays"
from = "docker.io/tinybirdco/tinybird-local"
to = "stays/app"
tags = [{ glob = "*" }]
tag_as = ["{tag}", "{tag}-{date}"]
[[mirror]]
name = "follows"
from = "docker.io/tinybirdco/tinybird-local"
to = "follows/app"
tags = [{ glob = "*" }]
tag_as = ["{tag}", "{tag}-{date}"]
follow_deletions = true
"#;
    let stage = Stage::new(&(docker_hub(&upstream) + follow)).await;
    for _ in 0..2 {
        for mirror in ["stays", "follows"] {
            assert_eq!(stage.run(mirror, json!({})).await["state"], "done");
        }
        upstream.remove_tag(FROM, "beta");
    }
    assert_eq!(stage.tags("stays/app").await, ["beta", "beta-20260101", "latest", "latest-20260101"]);
    assert_eq!(stage.tags("follows/app").await, ["beta-20260101", "latest", "latest-20260101"]);
}
