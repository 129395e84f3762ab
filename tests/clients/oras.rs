//! oras copies graphs, and attaches artifacts that the server must list as referrers.

use serde_json::Value;

use crate::stage::{Stage, THROUGH, first_digest};
use crate::support::process::run;

const TYPE: &str = "application/vnd.example.sbom";

#[test]
fn oras_pushes_and_pulls_an_index() {
    let stage = Stage::new();
    push(&stage, "micro/oras:1");
    assert_eq!(pull(&stage, "micro/oras:1", "by-tag"), stage.image.index);
    let by_digest = format!("micro/oras@{}", stage.image.index);
    assert_eq!(pull(&stage, &by_digest, "by-digest"), stage.image.index);
}

#[test]
fn oras_attaches_an_artifact_and_discovers_it() {
    let stage = Stage::new();
    push(&stage, "micro/oras:1");
    stage.write("sbom.json", "{}");
    let name = stage.name(&format!("micro/oras@{}", stage.image.index));
    run(stage.client("oras").args(["attach", "--plain-http", "--artifact-type", TYPE, &name, "sbom.json:application/json"]));
    let mut discover = stage.client("oras");
    let found =
        run(discover.args(["discover", "--plain-http", "--distribution-spec", "v1.1-referrers-api", "--format=json", &name]));
    let found: Value = serde_json::from_str(&found).expect("oras prints JSON");
    let entries = found["manifests"].as_array().expect("oras lists what it discovered");
    assert_eq!(entries.len(), 1, "{found}");
    assert_eq!(entries[0]["artifactType"], TYPE);
    let digest = entries[0]["digest"].as_str().expect("an entry has a digest");
    assert!(stage.serves("micro/oras", digest));
    let tags = run(stage.client("oras").args(["repo", "tags", "--plain-http", &stage.name("micro/oras")]));
    assert_eq!(tags.trim(), "1", "an artifact by the referrers API leaves no fallback tag");
}

#[test]
fn oras_pulls_through() {
    let stage = Stage::new();
    assert_eq!(pull(&stage, &format!("{THROUGH}:1"), "by-tag"), stage.busybox.index);
    let by_digest = format!("{THROUGH}@{}", stage.busybox.index);
    assert_eq!(pull(&stage, &by_digest, "by-digest"), stage.busybox.index);
}

fn push(stage: &Stage, name: &str) {
    let layout = format!("{}:1", stage.image.path.display());
    run(stage.client("oras").args(["cp", "--from-oci-layout", &layout, "--to-plain-http", &stage.name(name)]));
}

fn pull(stage: &Stage, name: &str, into: &str) -> String {
    let path = stage.path(into);
    let layout = format!("{}:1", path.display());
    run(stage.client("oras").args(["cp", "--from-plain-http", &stage.name(name), "--to-oci-layout", &layout]));
    first_digest(&path)
}
