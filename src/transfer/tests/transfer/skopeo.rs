use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use roadstead_transfer::bundle::Format;

use crate::bundle::{export, five, import};
use crate::shelf::Shelf;
use crate::{reference, stage, tag};

/// The program; a test without it fails.
fn skopeo() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join("skopeo")).find(|file| file.is_file());
    let mut command = Command::new("timeout");
    command
        .arg("120")
        .arg(found.unwrap_or_else(|| panic!("skopeo is missing: run tests/tools/install")))
        .arg("--insecure-policy");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn manifest(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("manifest.json")).unwrap()
}

#[tokio::test]
async fn skopeo_reads_every_image_of_a_bundle() {
    let stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    let (tar, open) = (folder.path().join("bundle.tar"), folder.path().join("bundle"));
    export(&stage, &images, &tar, Format::Tar).await.unwrap();
    export(&stage, &images, &open, Format::Folder).await.unwrap();
    for (number, (repository, reference)) in images.iter().enumerate() {
        let separator = if matches!(reference, oci::Reference::Tag(_)) { ':' } else { '@' };
        let image = format!("{repository}{separator}{reference}");
        let want = oci::Pull::manifest(stage.source.as_ref(), repository, reference).await.unwrap().bytes;
        for (transport, path) in [("oci-archive", &tar), ("oci", &open)] {
            let out = folder.path().join(format!("{transport}-{number}"));
            let from = format!("{transport}:{}:{image}", path.display());
            run(skopeo().args(["copy", "--all", &from]).arg(format!("dir:{}", out.display())));
            assert_eq!(manifest(&out), want, "{image}");
        }
    }
}

#[tokio::test]
async fn what_skopeo_writes_is_imported() {
    let stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.tar");
    export(&stage, &images[..1].to_vec(), &bundle, Format::Tar).await.unwrap();
    let theirs = folder.path().join("theirs.tar");
    let from = format!("oci-archive:{}:tinybirdco/tinybird-local:latest", bundle.display());
    run(skopeo()
        .args(["copy", "--all", "--preserve-digests", &from])
        .arg(format!("oci-archive:{}:micro/tinybird:1", theirs.display())));
    let target = Arc::new(Shelf::default());
    let imported = import(&theirs, &target).await.unwrap();
    assert_eq!(imported.len(), 1);
    let held = target.held("micro/tinybird");
    let original = oci::Pull::resolve(stage.source.as_ref(), &images[0].0, &reference("latest")).await.unwrap();
    assert_eq!(held.tags.get(&tag("1")), Some(&original.digest));
    assert_eq!(held.manifests.len(), 3);
}
