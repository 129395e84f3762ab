//! Mirrors that have nothing to do, do nothing.

use serde_json::json;
use testing::FakeUpstream;

use crate::stage::{Stage, docker_hub};

const IMAGES: usize = 200;

/// An image of five layers; `changed` gives the last one other content.
fn put(upstream: &FakeUpstream, tag: &str, changed: bool) {
    let layers: Vec<_> = (0..5)
        .map(|layer| {
            let content = format!("{tag} layer {layer}{}", if changed && layer == 4 { " changed" } else { "" });
            let size = content.len();
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": size,
                "digest": upstream.put_blob("team/app", content.into_bytes()).to_string(),
            })
        })
        .collect();
    let config = upstream.put_blob("team/app", format!("{{\"tag\":\"{tag}\"}}").into_bytes());
    let size = format!("{{\"tag\":\"{tag}\"}}").len();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": oci::media_type::OCI_MANIFEST, "layers": layers,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "size": size, "digest": config.to_string() },
    });
    upstream.put_manifest("team/app", Some(tag), oci::media_type::OCI_MANIFEST, manifest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_set_costs_one_head_for_each_tag_and_a_changed_layer_moves_alone() {
    let upstream = FakeUpstream::start();
    let tags: Vec<String> = (0..IMAGES).map(|number| format!("v{number:03}")).collect();
    for tag in &tags {
        put(&upstream, tag, false);
    }
    let settings = docker_hub(&upstream)
        + &format!(
            "[[mirror]]\nname = \"m\"\nfrom = \"docker.io/team/app\"\nto = \"micro/app\"\ntags = {tags:?}\ntag_as = [\"{{tag}}\", \"{{tag}}-{{date}}\"]\n"
        );
    let stage = Stage::new(&settings).await;
    let first = stage.run("m", json!({})).await;
    assert_eq!(first["totals"]["copied"], IMAGES, "{}", first["reason"]);

    upstream.clear_requests();
    let second = stage.run("m", json!({})).await;
    assert_eq!(second["totals"]["unchanged"], IMAGES);
    let asked = upstream.requests();
    assert_eq!(asked.len(), IMAGES, "{:?}", asked.iter().take(5).collect::<Vec<_>>());
    assert!(asked.iter().all(|request| request.method == "HEAD" && request.path.contains("/manifests/v")));

    put(&upstream, "v007", true);
    upstream.clear_requests();
    let third = stage.run("m", json!({})).await;
    assert_eq!((&third["totals"]["copied"], &third["report"]["tags"]["v007"]["blobs"]), (&json!(1), &json!(1)));
    assert_eq!(upstream.count("GET", "/blobs/"), 1, "only that layer moves");
}
