//! Mirroring to a registry elsewhere.

use serde_json::json;
use testing::FakeUpstream;

use crate::stage::{Stage, docker_hub};

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_pushes_to_another_registry_with_its_referrers() {
    let (upstream, other) = (FakeUpstream::start(), FakeUpstream::start());
    let index = upstream.put_index("team/app", "1.0");
    let signature = upstream.put_artifact("team/app", &index.digest, "application/vnd.dev.sigstore.bundle.v0.3+json");
    let settings = docker_hub(&upstream)
        + &format!(
            "[[upstream]]\nhost = \"registry.test\"\nurl = \"{}\"\n[[mirror]]\nname = \"out\"\nfrom = \"docker.io/team/app\"\n\
             to = \"registry.test/copies/app\"\ntags = [\"1.0\"]\ntag_as = [\"{{tag}}\", \"{{tag}}-{{date}}\"]\n",
            other.url()
        );
    let stage = Stage::new(&settings).await;
    let run = stage.run("out", json!({})).await;
    assert_eq!(run["state"], "done", "{run}");
    assert_eq!(other.tags("copies/app"), ["1.0", "1.0-20260101"]);
    assert_eq!(other.manifest("copies/app", &index.digest), Some(index.bytes.clone()));
    assert!(other.manifest("copies/app", &signature).is_some());
    for image in &index.images {
        assert_eq!(other.manifest("copies/app", &image.digest), Some(image.bytes.clone()));
        assert!(other.blob("copies/app", &image.layers[0]).is_some());
    }
    // Unchanged, it costs a HEAD here and there.
    other.clear_requests();
    let again = stage.run("out", json!({})).await;
    assert_eq!(again["totals"]["unchanged"], 1);
    assert!(other.requests().iter().all(|request| request.method == "HEAD"), "{:?}", other.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_no_pushes_is_named() {
    let (upstream, other) = (FakeUpstream::start(), FakeUpstream::start());
    upstream.put_image("team/app", "1.0");
    other.pushes(false);
    let settings = docker_hub(&upstream)
        + &format!(
            "[[upstream]]\nhost = \"registry.test\"\nurl = \"{}\"\n[[mirror]]\nname = \"out\"\nfrom = \"docker.io/team/app\"\n\
             to = \"registry.test/copies/app\"\ntags = [\"1.0\"]\n",
            other.url()
        );
    let stage = Stage::new(&settings).await;
    let run = stage.run("out", json!({})).await;
    assert_eq!(run["state"], "failed");
    assert!(run["report"]["tags"]["1.0"]["error"].as_str().unwrap().contains("copies/app"), "{run}");
}
