//! crane pushes a layout as it is, and tells digests without pulling.

use crate::stage::{Stage, THROUGH, first_digest};
use crate::support::layout::Layout;
use crate::support::process::run;

#[test]
fn crane_pushes_and_pulls_an_index() {
    let stage = Stage::new();
    let name = stage.name("micro/crane");
    let layout = stage.image.path.display().to_string();
    run(stage.client("crane").args(["push", "--insecure", &layout, &format!("{name}:1")]));
    check(&stage, &name, &stage.image);
    let tags = run(stage.client("crane").args(["ls", "--insecure", &name]));
    assert_eq!(tags.trim(), "1");
    let other = stage.name("micro/crane-copy");
    run(stage.client("crane").args(["copy", "--insecure", &format!("{name}:1"), &format!("{other}:1")]));
    check(&stage, &other, &stage.image);
}

#[test]
fn crane_pulls_through() {
    let stage = Stage::new();
    check(&stage, &stage.name(THROUGH), &stage.busybox);
}

fn check(stage: &Stage, name: &str, expected: &Layout) {
    let by_tag = format!("{name}:1");
    let by_digest = format!("{name}@{}", expected.index);
    let digest = run(stage.client("crane").args(["digest", "--insecure", &by_tag]));
    assert_eq!(digest.trim(), expected.index);
    for (count, reference) in [by_tag, by_digest].iter().enumerate() {
        let into = stage.path(&format!("{}-{count}", name.replace(['/', ':'], "_")));
        let path = into.display().to_string();
        run(stage.client("crane").args(["pull", "--insecure", "--format=oci", reference, &path]));
        assert_eq!(first_digest(&into), expected.index, "{reference}");
    }
}
