//! regctl copies indexes between a layout and the server, and puts artifacts that name a subject.

use serde_json::Value;

use crate::stage::{Stage, THROUGH, first_digest};
use crate::support::process::run;

const TYPE: &str = "application/vnd.example.signature";

#[test]
fn regctl_pushes_and_pulls_an_index() {
    let stage = Stage::new();
    push(&stage, "micro/regctl:1");
    assert_eq!(pull(&stage, "micro/regctl:1", "by-tag"), stage.image.index);
    let by_digest = format!("micro/regctl@{}", stage.image.index);
    assert_eq!(pull(&stage, &by_digest, "by-digest"), stage.image.index);
}

#[test]
fn regctl_puts_an_artifact_and_lists_it() {
    let stage = Stage::new();
    push(&stage, "micro/regctl:1");
    let name = stage.name(&format!("micro/regctl@{}", stage.image.index));
    let file = stage.write("signature", "signed").display().to_string();
    regctl(&stage, &["artifact", "put", "--artifact-type", TYPE, "--subject", &name, "--file", &file]);
    let list = regctl(&stage, &["artifact", "list", "--format", "{{json .Descriptors}}", &name]);
    let list: Value = serde_json::from_str(&list).expect("regctl prints JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["artifactType"], TYPE);
    assert_eq!(regctl(&stage, &["tag", "ls", &stage.name("micro/regctl")]).trim(), "1");
}

#[test]
fn regctl_deletes_a_tag() {
    let stage = Stage::new();
    push(&stage, "micro/regctl:1");
    push(&stage, "micro/regctl:2");
    regctl(&stage, &["tag", "delete", &stage.name("micro/regctl:1")]);
    assert_eq!(regctl(&stage, &["tag", "ls", &stage.name("micro/regctl")]).trim(), "2");
}

#[test]
fn regctl_pulls_through() {
    let stage = Stage::new();
    assert_eq!(pull(&stage, &format!("{THROUGH}:1"), "by-tag"), stage.busybox.index);
    let by_digest = format!("{THROUGH}@{}", stage.busybox.index);
    assert_eq!(pull(&stage, &by_digest, "by-digest"), stage.busybox.index);
}

fn push(stage: &Stage, name: &str) {
    let layout = format!("ocidir://{}:1", stage.image.path.display());
    regctl(stage, &["image", "copy", &layout, &stage.name(name)]);
}

fn pull(stage: &Stage, name: &str, into: &str) -> String {
    let path = stage.path(into);
    regctl(stage, &["image", "copy", &stage.name(name), &format!("ocidir://{}:1", path.display())]);
    first_digest(&path)
}

fn regctl(stage: &Stage, arguments: &[&str]) -> String {
    let mut regctl = stage.client("regctl");
    let host = format!("reg={},tls=disabled", stage.host());
    run(regctl.env("REGCTL_CONFIG", stage.path("regctl.json")).args(["--host", &host]).args(arguments))
}
