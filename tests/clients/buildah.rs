//! buildah builds on an image of the server, pushes the result, and handles manifest lists as podman does.

use std::process::Command;

use crate::podman::configure;
use crate::skopeo;
use crate::stage::{Stage, THROUGH};
use crate::support::process::run;

#[test]
fn buildah_pushes_and_pulls_an_index() {
    let stage = Stage::new();
    let name = stage.name("micro/buildah:1");
    let layout = format!("oci:{}:1", stage.image.path.display());
    run(buildah(&stage).args(["manifest", "create", "list"]));
    run(buildah(&stage).args(["manifest", "add", "--all", "list", &layout]));
    run(buildah(&stage).args(["manifest", "push", "--all", "--tls-verify=false", "list", &format!("docker://{name}")]));
    let digest = stage.digest_of("micro/buildah", "1");
    assert_eq!(stage.images_of("micro/buildah", "1"), stage.image.images);
    run(buildah(&stage).args(["manifest", "rm", "list"]));
    pull(&stage, &name, &digest);
    pull(&stage, &format!("{}@{digest}", stage.name("micro/buildah")), &digest);
}

#[test]
fn buildah_builds_on_an_image_and_pushes_the_result() {
    let stage = Stage::new();
    skopeo::push(&stage, "micro/base:1");
    let dockerfile = format!("FROM {}\nCOPY added /added\n", stage.name("micro/base:1"));
    stage.write("context/Dockerfile", &dockerfile);
    stage.write("context/added", "added");
    let name = stage.name("micro/buildah:built");
    let context = stage.path("context").display().to_string();
    run(buildah(&stage).args(["bud", "--isolation=chroot", "--tag", &name, &context]));
    let file = stage.path("digest").display().to_string();
    run(buildah(&stage).args(["push", "--digestfile", &file, &name]));
    let digest = std::fs::read_to_string(file).expect("buildah wrote the digest");
    run(buildah(&stage).args(["rmi", "--all", "--force"]));
    pull(&stage, &name, &digest);
}

#[test]
fn buildah_pulls_through_by_path() {
    let stage = Stage::new();
    pull(&stage, &stage.name(&format!("{THROUGH}:1")), &stage.busybox.index);
    pull(&stage, &stage.name(&format!("{THROUGH}@{}", stage.busybox.index)), &stage.busybox.index);
}

#[test]
fn buildah_pulls_docker_io_through_the_mirror() {
    let stage = Stage::new();
    pull(&stage, &format!("{THROUGH}:1"), &stage.busybox.index);
}

/// Pulls into an empty store, and expects the digest to be among those that buildah remembers.
fn pull(stage: &Stage, name: &str, digest: &str) {
    run(buildah(stage).args(["pull", "--quiet", name]));
    let images = run(buildah(stage).args(["images", "--json"]));
    let inspect = run(buildah(stage).args(["inspect", "--type=image", name]));
    assert!(images.contains(digest) || inspect.contains(digest), "{name}: {images} {inspect} lack {digest}");
    run(buildah(stage).args(["rmi", "--all", "--force"]));
}

fn buildah(stage: &Stage) -> Command {
    let mut command = stage.client("buildah");
    configure(stage, &mut command);
    command
}
