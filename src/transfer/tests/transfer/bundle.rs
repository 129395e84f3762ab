use std::fs;
use std::path::Path;
use std::sync::Arc;

use oci::{Reference, RepositoryName};
use roadstead_transfer::bundle::{self, Format, Image};
use roadstead_transfer::{Copied, Progress};
use telemetry::SystemClock;
use upstream::Upstream;

use crate::shelf::Shelf;
use crate::{Stage, name, quick, reference, stage, tag};

pub(crate) type Images = Vec<(RepositoryName, Reference)>;

/// Five images of three repositories: two indexes, one by its digest, and with a signature and an SBOM.
pub(crate) fn five(stage: &Stage) -> Images {
    let index = stage.fake.put_index("tinybirdco/tinybird-local", "latest");
    let sbom = stage.fake.put_artifact("tinybirdco/tinybird-local", &index.digest, "application/spdx+json");
    stage.fake.put_artifact("tinybirdco/tinybird-local", &sbom, "application/x.signature");
    let cosign = format!("sha256-{}.sig", index.digest.hex());
    stage.fake.put_image_with("tinybirdco/tinybird-local", &cosign, b"signature");
    stage.fake.put_index("tinybirdco/tinybird-local", "beta");
    stage.fake.put_image("library/nginx", "1.27");
    let by_digest = stage.fake.put_image("library/nginx", "old").digest;
    stage.fake.put_image_with("micro/app", "v1", &testing::deterministic_bytes(400_000, 1));
    vec![
        (name("tinybirdco/tinybird-local"), reference("latest")),
        (name("tinybirdco/tinybird-local"), reference("beta")),
        (name("library/nginx"), reference("1.27")),
        (name("library/nginx"), Reference::Digest(by_digest)),
        (name("micro/app"), reference("v1")),
    ]
}

pub(crate) async fn export(stage: &Stage, images: &Images, out: &Path, format: Format) -> Result<Vec<Copied>, bundle::Error> {
    let source = Arc::<Upstream>::clone(&stage.source);
    let clock = Arc::new(SystemClock::default());
    bundle::export(source, images, out, format, clock, stage.options.clone(), &Progress::new()).await
}

pub(crate) async fn import(path: &Path, target: &Arc<Shelf>) -> Result<Vec<bundle::Imported>, bundle::Error> {
    let clock = Arc::new(SystemClock::default());
    bundle::import(path, Arc::<Shelf>::clone(target), &bundle::as_named, clock, quick(), &Progress::new()).await
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn five_images_cross_an_air_gap_in_a_file_or_a_folder() {
    let stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    for (out, format) in [("bundle.tar", Format::Tar), ("bundle", Format::Folder)] {
        let out = folder.path().join(out);
        let exported = export(&stage, &images, &out, format).await.unwrap();
        assert_eq!(exported.len(), 5);
        assert_eq!(exported[0].referrers, 3);
        let target = Arc::new(Shelf::default());
        let imported = import(&out, &target).await.unwrap();
        assert_eq!(imported.len(), 5);
        // What stands there now is what a copy would have brought.
        let direct = Arc::new(Shelf::default());
        let transfer = crate::transfer(Arc::<Upstream>::clone(&stage.source), &direct, quick());
        for (name, reference) in &images {
            let tags: Vec<_> = if let Reference::Tag(tag) = reference { vec![tag.clone()] } else { vec![] };
            transfer.copy(name, reference, name, &tags, &Progress::new()).await.unwrap();
        }
        assert_eq!(target.names(), direct.names());
        for name in direct.names() {
            assert_eq!(target.held(&name), direct.held(&name), "{name}");
        }
    }
    assert_eq!(entries(folder.path()), ["bundle", "bundle.tar"], "nothing else is left there");
    assert_eq!(entries(&folder.path().join("bundle")), ["blobs", "index.json", "oci-layout"]);
}

#[tokio::test]
async fn a_bundle_is_the_same_bytes_whoever_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for number in 0..3 {
        let mut stage = stage();
        stage.options.blobs_at_once = 1 + number;
        let mut images = five(&stage);
        images.rotate_left(number);
        let out = folder.path().join(format!("{number}.tar"));
        export(&stage, &images, &out, Format::Tar).await.unwrap();
        written.push(fs::read(out).unwrap());
    }
    assert!(written[0] == written[1] && written[1] == written[2]);
}

#[tokio::test]
async fn a_bundle_names_its_images_and_an_import_renames_them_or_leaves_them() {
    let stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle.tar");
    export(&stage, &images, &out, Format::Tar).await.unwrap();
    let listed = bundle::list(&out).await.unwrap();
    let names: Vec<String> =
        listed.iter().map(|image| format!("{} {}", image.repository.as_ref().unwrap(), image.reference)).collect();
    let by_digest = images[3].1.to_string();
    let want = [
        "library/nginx 1.27".to_owned(),
        format!("library/nginx {by_digest}"),
        "micro/app v1".to_owned(),
        "tinybirdco/tinybird-local beta".to_owned(),
        "tinybirdco/tinybird-local latest".to_owned(),
    ];
    assert_eq!(names, want);
    let target = Arc::new(Shelf::default());
    let rename = |image: &Image| {
        let repository = image.repository.as_ref()?;
        repository.strip_prefix("library").map(|rest| rest.under("cached").unwrap())
    };
    let clock = Arc::new(SystemClock::default());
    let push = Arc::<Shelf>::clone(&target);
    let imported = bundle::import(&out, push, &rename, clock, quick(), &Progress::new()).await.unwrap();
    assert_eq!(target.names().into_iter().collect::<Vec<_>>(), ["cached/nginx"]);
    assert_eq!(imported.iter().filter(|image| image.to.is_some()).count(), 2);
    assert_eq!(imported.iter().filter(|image| image.to.is_none()).count(), 3, "what is left out is told");
    assert!(target.held("cached/nginx").tags.contains_key(&tag("1.27")));
}

#[tokio::test]
async fn an_export_that_fails_leaves_what_was_there() {
    let stage = stage();
    let mut images = five(&stage);
    images.push((name("micro/app"), reference("absent")));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle.tar");
    fs::write(&out, "the last one").unwrap();
    let failure = export(&stage, &images, &out, Format::Tar).await.unwrap_err();
    assert!(failure.to_string().contains("micro/app:absent"), "{failure}");
    assert_eq!(fs::read(&out).unwrap(), b"the last one");
    assert_eq!(entries(folder.path()), ["bundle.tar"]);
    let nothing = export(&stage, &Images::new(), &out, Format::Tar).await;
    assert!(matches!(nothing, Err(bundle::Error::Nothing)));
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), "").unwrap();
    assert!(export(&stage, &images, &full, Format::Folder).await.unwrap_err().to_string().contains("other things"));
}

#[tokio::test]
async fn an_image_of_which_the_source_has_a_part_is_exported_in_part() {
    let stage = stage();
    let index = stage.fake.put_index("library/app", "1");
    stage.copy(&["1"]).await.unwrap();
    stage.target.put("micro/app", |held| drop(held.manifests.remove(&index.images[0].digest)));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle.tar");
    let clock = || Arc::new(SystemClock::default());
    let images = [(name("micro/app"), reference("1"))];
    let source = Arc::<Shelf>::clone(&stage.target);
    let exported = bundle::export(source, &images, &out, Format::Tar, clock(), quick(), &Progress::new()).await.unwrap();
    assert_eq!(exported[0].absent, [index.images[0].digest.clone()]);
    let target = Arc::new(Shelf::default());
    let imported = import(&out, &target).await.unwrap();
    assert_eq!(imported[0].to.as_ref().unwrap().1.absent, [index.images[0].digest.clone()]);
    assert_eq!(target.held("micro/app").manifests.len(), 2);
}
