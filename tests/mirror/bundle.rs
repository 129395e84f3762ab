//! Images over an air gap: `roadstead export` and `roadstead import`.

use std::path::Path;
use std::process::{Command, Output};

use oci::Digest;
use serde_json::Value;
use testing::FakeUpstream;

use crate::binary::Binary;
use crate::process::{output, run, tool};
use crate::stage::client;

fn roadstead(folder: &Path, arguments: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(arguments).current_dir(folder).env_remove("ROADSTEAD_CONFIG"))
}

fn config(folder: &Path, upstream: Option<&FakeUpstream>) {
    let upstreams = upstream.map_or("upstream = []\n".to_owned(), |upstream| {
        format!("[[upstream]]\nhost = \"docker.io\"\nurl = \"{}\"\n", upstream.url())
    });
    let (top, rest) = if upstream.is_some() { (String::new(), upstreams) } else { (upstreams, String::new()) };
    let text = format!("{top}[server]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{rest}");
    std::fs::write(folder.join("r.toml"), text).unwrap();
}

fn serve(folder: &Path) -> Binary {
    Binary::start(Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["serve", "--config", "r.toml"]).current_dir(folder))
}

/// Ends a server as an operator does, so that what it fetched is kept.
fn stop(mut server: Binary) {
    let id = server.process.id().to_string();
    run(Command::new("kill").args(["-TERM", &id]));
    assert!(server.process.wait().unwrap().success());
}

/// Pulls an image through the server, so that it is all here.
async fn warm(url: &str, repository: &str, tag: &str) {
    let client = client();
    let manifest = async |reference: &str| -> Value {
        let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let response =
            client.get(format!("{url}/v2/{repository}/manifests/{reference}")).header("accept", accept).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    };
    let index = manifest(tag).await;
    for image in index["manifests"].as_array().unwrap() {
        let image = manifest(image["digest"].as_str().unwrap()).await;
        for blob in image["layers"].as_array().unwrap().iter().chain([&image["config"]]) {
            let url = format!("{url}/v2/{repository}/blobs/{}", blob["digest"].as_str().unwrap());
            assert_eq!(client.get(url).send().await.unwrap().bytes().await.unwrap().len() as u64, blob["size"].as_u64().unwrap());
        }
    }
}

/// Five images on one side, with a signature; the other side is empty.
async fn sides() -> (tempfile::TempDir, tempfile::TempDir, Vec<(String, Digest)>) {
    let upstream = FakeUpstream::start_on_thread();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    config(here.path(), Some(&upstream));
    config(there.path(), None);
    let mut images = Vec::new();
    let server = serve(here.path());
    for number in 0..5 {
        let repository = format!("team/app{number}");
        let index = upstream.put_index(&repository, "1.0");
        warm(&server.url, &format!("docker.io/{repository}"), "1.0").await;
        images.push((format!("docker.io/{repository}"), index.digest));
    }
    stop(server);
    (here, there, images)
}

fn names(images: &[(String, Digest)]) -> Vec<String> {
    images.iter().map(|(repository, _)| format!("{repository}:1.0")).collect()
}

fn export(folder: &Path, bundle: &str, images: &[(String, Digest)]) {
    let names = names(images);
    let mut arguments = vec!["export", "--config", "r.toml", "--no-referrers", bundle];
    arguments.extend(names.iter().map(String::as_str));
    let ended = roadstead(folder, &arguments);
    assert!(ended.status.success(), "{ended:?}");
    let text = String::from_utf8(ended.stdout).unwrap();
    for (_, digest) in images {
        assert!(text.contains(&digest.to_string()), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_brings_every_digest_to_the_other_side_and_is_the_same_each_time() {
    let (here, there, images) = sides().await;
    export(here.path(), "one.tar", &images);
    export(here.path(), "two.tar", &images);
    let bundle = std::fs::read(here.path().join("one.tar")).unwrap();
    assert!(bundle == std::fs::read(here.path().join("two.tar")).unwrap(), "the bundles differ");

    // Into a server that is not running, under a name in front.
    std::fs::write(there.path().join("bundle.tar"), &bundle).unwrap();
    stop(serve(there.path()));
    let ended = roadstead(there.path(), &["import", "--config", "r.toml", "--prefix", "gap", "bundle.tar"]);
    assert!(ended.status.success(), "{ended:?}");
    // And into one that runs.
    let server = serve(there.path());
    let ended = roadstead(there.path(), &["import", "--server", &server.url, "bundle.tar"]);
    assert!(ended.status.success(), "{ended:?}");
    for (repository, digest) in &images {
        for name in [repository.clone(), format!("gap/{repository}")] {
            let accept = "application/vnd.oci.image.index.v1+json";
            let url = format!("{}/v2/{name}/manifests/1.0", server.url);
            let response = client().get(url).header("accept", accept).send().await.unwrap();
            let bytes = response.bytes().await.unwrap();
            assert_eq!(oci::Hasher::digest(digest.algorithm(), &bytes), *digest, "{name}");
            warm(&server.url, &name, "1.0").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_caches_is_not_imported_under_that_name() {
    let (here, _there, images) = sides().await;
    export(here.path(), "bundle.tar", &images);
    let ended = roadstead(here.path(), &["import", "--config", "r.toml", "bundle.tar"]);
    assert_eq!(ended.status.code(), Some(1));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(error.contains("the cache of docker.io") && error.contains("--prefix"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_an_image_of_a_bundle() {
    let (here, _there, images) = sides().await;
    export(here.path(), "bundle.tar", &images);
    let (repository, digest) = &images[2];
    let folder = here.path().join("copied");
    let policy = here.path().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).arg(tool("skopeo")).arg("--policy").arg(&policy);
    command.args(["copy", "--all"]).arg(format!("oci-archive:{}:{repository}:1.0", here.path().join("bundle.tar").display()));
    run(command.arg(format!("dir:{}", folder.display())).env("HOME", here.path()));
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    assert_eq!(oci::Hasher::digest(digest.algorithm(), &manifest), *digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bundle_is_refused_with_the_blob_named_and_nothing_is_imported() {
    let (here, there, images) = sides().await;
    export(here.path(), "bundle.tar", &images);
    let mut bundle = std::fs::read(here.path().join("bundle.tar")).unwrap();
    // A byte in the middle of a layer.
    let marker = b"team/app3:1.0 for arm64";
    let at = bundle.windows(marker.len()).position(|window| window == marker).unwrap();
    bundle[at] ^= 1;
    std::fs::write(there.path().join("bundle.tar"), &bundle).unwrap();
    let server = serve(there.path());
    let ended = roadstead(there.path(), &["import", "--server", &server.url, "bundle.tar"]);
    assert_eq!(ended.status.code(), Some(1));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(error.contains("sha256:"), "{error}");
    let catalog: Value = client().get(format!("{}/v2/_catalog", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(catalog["repositories"], serde_json::json!([]));
    // Cut off, it is refused as well.
    std::fs::write(there.path().join("bundle.tar"), &bundle[..bundle.len() / 2]).unwrap();
    assert_eq!(roadstead(there.path(), &["import", "--server", &server.url, "bundle.tar"]).status.code(), Some(1));
    // And a file that is none.
    std::fs::write(there.path().join("bundle.tar"), "nothing").unwrap();
    assert_eq!(roadstead(there.path(), &["import", "--server", &server.url, "bundle.tar"]).status.code(), Some(1));
}
