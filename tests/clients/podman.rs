//! podman pushes manifest lists that it writes itself, so the images inside must keep their digests and the list the digest it reports.

use std::process::Command;

use crate::stage::{Stage, THROUGH};
use crate::support::process::run;

#[test]
fn podman_pushes_and_pulls_an_index() {
    let stage = Stage::new();
    let name = stage.name("micro/podman:1");
    let layout = format!("oci:{}:1", stage.image.path.display());
    let file = stage.path("digest").display().to_string();
    run(podman(&stage).args(["manifest", "create", "list"]));
    run(podman(&stage).args(["manifest", "add", "--all", "list", &layout]));
    run(podman(&stage).args([
        "manifest",
        "push",
        "--all",
        "--tls-verify=false",
        "--digestfile",
        &file,
        "list",
        &format!("docker://{name}"),
    ]));
    let digest = std::fs::read_to_string(file).expect("podman wrote the digest");
    assert!(stage.serves("micro/podman", &digest));
    assert_eq!(stage.images_of("micro/podman", "1"), stage.image.images);
    run(podman(&stage).args(["manifest", "rm", "list"]));
    pull(&stage, &name, &digest);
    pull(&stage, &format!("{}@{digest}", stage.name("micro/podman")), &digest);
}

#[test]
fn podman_pulls_through_by_path() {
    let stage = Stage::new();
    pull(&stage, &stage.name(&format!("{THROUGH}:1")), &stage.busybox.index);
    pull(&stage, &stage.name(&format!("{THROUGH}@{}", stage.busybox.index)), &stage.busybox.index);
}

#[test]
fn podman_pulls_docker_io_through_the_mirror() {
    let stage = Stage::new();
    pull(&stage, &format!("{THROUGH}:1"), &stage.busybox.index);
    pull(&stage, &format!("{THROUGH}@{}", stage.busybox.index), &stage.busybox.index);
}

/// Pulls into an empty store, and expects the digest to be among those that podman remembers.
fn pull(stage: &Stage, name: &str, digest: &str) {
    run(podman(stage).args(["pull", "--quiet", name]));
    let digests = run(podman(stage).args(["image", "inspect", "--format", "{{json .RepoDigests}}", name]));
    assert!(digests.contains(digest), "{name}: {digests} lack {digest}");
    run(podman(stage).args(["rmi", "--all", "--force"]));
}

fn podman(stage: &Stage) -> Command {
    let mut command = stage.client("podman");
    configure(stage, &mut command);
    command
}

/// Settings for podman and buildah: a store, engine and mirror of the test's own.
pub(crate) fn configure(stage: &Stage, command: &mut Command) {
    let run = stage.path("containers/run").display().to_string();
    let graph = stage.path("containers/graph").display().to_string();
    let storage = format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{run}\"\ngraphroot = \"{graph}\"\n");
    let temporary = stage.path("containers/tmp").display().to_string();
    let engine = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nnetns = \"host\"\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\ntmp_dir = \"{temporary}\"\n"
    );
    let host = stage.host();
    let registries = format!(
        "unqualified-search-registries = []\n[[registry]]\nlocation = \"{host}\"\ninsecure = true\n\
         [[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
         [[registry.mirror]]\nlocation = \"{host}/docker.io\"\ninsecure = true\n"
    );
    let policy = stage.write(".config/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    assert!(policy.is_file(), "the policy is in the home of the test");
    command.env("CONTAINERS_STORAGE_CONF", stage.write("containers/storage.conf", &storage));
    command.env("CONTAINERS_CONF", stage.write("containers/containers.conf", &engine));
    command.env("CONTAINERS_REGISTRIES_CONF", stage.write("containers/registries.conf", &registries));
}
