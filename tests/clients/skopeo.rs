//! skopeo copies whole indexes, so the digest of the index must be the same on the way in and on the way out.

use crate::stage::{Stage, THROUGH, first_digest};
use crate::support::process::run;

#[test]
fn skopeo_pushes_and_pulls_an_index() {
    let stage = Stage::new();
    push(&stage, "micro/skopeo:1");
    assert_eq!(pull(&stage, "micro/skopeo:1", "by-tag"), stage.image.index);
    let by_digest = format!("micro/skopeo@{}", stage.image.index);
    assert_eq!(pull(&stage, &by_digest, "by-digest"), stage.image.index);
}

#[test]
fn skopeo_lists_tags_and_deletes_an_image() {
    let stage = Stage::new();
    push(&stage, "micro/skopeo:1");
    push(&stage, "micro/skopeo:2");
    let mut list = stage.client("skopeo");
    let name = format!("docker://{}", stage.name("micro/skopeo"));
    let tags = run(list.args(["list-tags", "--tls-verify=false", &name]));
    assert!(tags.contains("\"1\"") && tags.contains("\"2\""), "{tags}");
    let mut delete = stage.client("skopeo");
    run(delete.args(["delete", "--tls-verify=false", &format!("{name}:1")]));
    let mut inspect = stage.client("skopeo");
    let inspect = crate::support::process::output(inspect.args(["inspect", "--raw", "--tls-verify=false", &format!("{name}:1")]));
    assert!(!inspect.status.success(), "the image is still there");
}

#[test]
fn skopeo_pulls_through() {
    let stage = Stage::new();
    assert_eq!(pull(&stage, &format!("{THROUGH}:1"), "by-tag"), stage.busybox.index);
    let by_digest = format!("{THROUGH}@{}", stage.busybox.index);
    assert_eq!(pull(&stage, &by_digest, "by-digest"), stage.busybox.index);
}

/// Pushes the image with both platforms.
pub(crate) fn push(stage: &Stage, name: &str) {
    let mut skopeo = stage.client("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
    skopeo.arg(format!("oci:{}:1", stage.image.path.display()));
    run(skopeo.arg(format!("docker://{}", stage.name(name))));
}

fn pull(stage: &Stage, name: &str, into: &str) -> String {
    let into = stage.path(into);
    let mut skopeo = stage.client("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--all", "--src-tls-verify=false"]);
    skopeo.arg(format!("docker://{}", stage.name(name)));
    run(skopeo.arg(format!("oci:{}:1", into.display())));
    first_digest(&into)
}
