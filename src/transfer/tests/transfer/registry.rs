use std::fs;
use std::path::Path;
use std::sync::Arc;

use oci::{Content, Pull, Push, Reference};
use registry::{Limits, Registry, Rules};
use roadstead_transfer::bundle::{self, Format};
use roadstead_transfer::{Options, Progress, Transfer};
use storage::{Location, Store};
use telemetry::{Metrics, SystemClock};
use upstream::Upstream;

use crate::bundle::{Images, export, five};
use crate::{Stage, name, quick, reference, stage, tag};

async fn registry(folder: &Path) -> Arc<Registry> {
    let clock = Arc::new(SystemClock::default());
    let location = Location::Folder(folder.to_owned());
    let store = Store::open(&location, Arc::<SystemClock>::clone(&clock), Metrics::new()).await.unwrap();
    Arc::new(Registry::new(store, clock, Limits::default(), Rules::default()))
}

fn push(registry: &Arc<Registry>) -> Arc<dyn Push> {
    Arc::<Registry>::clone(registry)
}

fn to_registry(stage: &Stage, registry: &Arc<Registry>) -> Transfer {
    let clock = Arc::new(SystemClock::default());
    let transfer = Transfer::new(Arc::<Upstream>::clone(&stage.source), push(registry), clock, stage.options.clone());
    transfer.reading_back(Arc::<Registry>::clone(registry))
}

async fn is_equal(stage: &Stage, registry: &Registry, images: &Images) {
    for (name, reference) in images {
        let want = stage.source.manifest(name, reference).await.unwrap();
        let found = registry.manifest(name, reference).await.unwrap();
        assert_eq!((found.digest, found.bytes, found.media_type), (want.digest, want.bytes, want.media_type));
    }
}

#[tokio::test]
async fn a_registry_is_mirrored_and_an_unchanged_image_costs_one_head() {
    let mut stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let transfer = to_registry(&stage, &registry);
    for (name, reference) in &images {
        let tags: Vec<_> = if let Reference::Tag(tag) = reference { vec![tag.clone()] } else { vec![] };
        transfer.copy(name, reference, name, &tags, &Progress::new()).await.unwrap();
    }
    is_equal(&stage, &registry, &images).await;
    stage.options.referrers = false;
    stage.fake.clear_requests();
    let (repository, latest) = &images[0];
    let unchanged = to_registry(&stage, &registry);
    let again = unchanged.copy(repository, latest, repository, &[tag("latest")], &Progress::new()).await.unwrap();
    assert_eq!((again.manifests, again.blobs_copied, again.tags_moved.len()), (0, 0, 0));
    assert_eq!((stage.fake.count("HEAD", ""), stage.fake.count("GET", "/v2/tinybirdco")), (1, 0));
    // The same image in another repository moves no bytes.
    let other = unchanged.copy(repository, latest, &name("other"), &[tag("1")], &Progress::new()).await.unwrap();
    assert_eq!((other.blobs_copied, other.blobs_mounted), (0, 4));
}

#[tokio::test]
async fn what_is_exported_imported_and_exported_again_is_the_same_file() {
    let stage = stage();
    let images = five(&stage);
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.tar"), folder.path().join("second.tar"));
    export(&stage, &images, &first, Format::Tar).await.unwrap();
    let registry = registry(&folder.path().join("data")).await;
    let clock = || Arc::new(SystemClock::default());
    let progress = Progress::new();
    bundle::import(&first, push(&registry), &bundle::as_named, clock(), quick(), &progress).await.unwrap();
    is_equal(&stage, &registry, &images).await;
    let seen = progress.seen();
    assert!(seen.bytes_verified > 0 && seen.blobs_done == seen.blobs_known && seen.bytes_done == seen.bytes_known);
    let source = Arc::<Registry>::clone(&registry);
    bundle::export(source, &images, &second, Format::Tar, clock(), quick(), &Progress::new()).await.unwrap();
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
}

#[tokio::test]
async fn many_images_at_once_share_what_they_have() {
    let stage = stage();
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for number in &numbers {
        // Small and large ones, and each of them twice.
        let size = if number.len() == 1 { 100 } else { 300_000 };
        let content = testing::deterministic_bytes(size, number.parse::<u64>().unwrap() / 2);
        stage.fake.put_image_with("library/app", number, &content);
    }
    let transfer = Transfer::new(
        Arc::<Upstream>::clone(&stage.source),
        push(&registry),
        Arc::new(SystemClock::default()),
        Options { blobs_at_once: 8, ..quick() },
    );
    let (from, progress) = (name("library/app"), Progress::new());
    let targets: Vec<_> = (0..2).map(|number| name(&format!("micro/app{number}"))).collect();
    let copies = numbers.iter().enumerate().map(async |(at, number)| {
        transfer.copy(&from, &reference(number), &targets[at % 2], &[tag(number)], &progress).await.unwrap()
    });
    let done = futures_util::future::join_all(copies).await;
    let moved: u64 = done.iter().map(|copied| copied.blobs_copied).sum();
    let gets = stage.fake.requests().iter().filter(|request| request.method == "GET" && request.path.contains("/blobs/")).count();
    assert_eq!((moved, gets), (20, 20), "ten layers and ten configurations, each of them once");
    for (at, number) in numbers.iter().enumerate() {
        let image = registry.manifest(&targets[at % 2], &reference(number)).await.unwrap();
        for blob in oci::ManifestView::parse(&image.bytes, None).unwrap().blobs {
            let found = registry.blob(&targets[at % 2], &blob.digest).await.unwrap();
            assert_eq!(found.size, Some(blob.size));
            assert!(!matches!(found.content, Content::Growing(_)));
        }
    }
}
