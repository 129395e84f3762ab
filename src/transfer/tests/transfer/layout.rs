use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Discover, Error, Hasher, Manifest, Page, Pull, Push, RangeSource, Reference, ReferrersList, media_type};
use roadstead_transfer::layout::{Folder, Layout};
use roadstead_transfer::{Progress, Transfer};
use telemetry::SystemClock;
use testing::deterministic_bytes;
use upstream::Upstream;

use crate::{name, quick, reference, stage, tag};

/// The source of some bytes: a blob of the fake would be a detour.
async fn source(bytes: &Bytes) -> Arc<dyn RangeSource> {
    let shelf = crate::shelf::Shelf::default();
    let digest = Hasher::digest(Algorithm::Sha256, bytes);
    shelf.put("x", |held| drop(held.blobs.insert(digest.clone(), bytes.clone())));
    Arc::new(Opened(shelf.blob(&name("x"), &digest).await.unwrap().content))
}

struct Opened(oci::Content);

#[async_trait::async_trait]
impl RangeSource for Opened {
    async fn open(&self, start: u64, _end: Option<u64>) -> Result<oci::ByteStream, Error> {
        let oci::Content::Bytes(bytes) = &self.0 else { unreachable!("a shelf gives bytes") };
        let rest = bytes.slice(usize::try_from(start).unwrap()..);
        Ok(Box::pin(futures_util::stream::iter([Ok(rest)])))
    }
}

fn index(bytes: &'static str) -> Manifest {
    let bytes = Bytes::from_static(bytes.as_bytes());
    let digest = Hasher::digest(Algorithm::Sha512, &bytes);
    Manifest { digest, media_type: media_type::OCI_INDEX.to_owned(), bytes, warning: None }
}

#[tokio::test]
async fn a_folder_keeps_what_it_is_given_and_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let app = name("micro/app");
    let blob = deterministic_bytes(300_000, 1);
    let digest = Hasher::digest(Algorithm::Sha512, &blob);
    let manifest = index(r#"{"schemaVersion":2,"manifests":[]}"#);
    let layout = Folder::open(&path).await.unwrap();
    assert!(!layout.has_blob(&app, &digest).await.unwrap());
    layout.push_blob(&app, &digest, None, source(&blob).await).await.unwrap();
    assert!(layout.mount_blob(&name("other"), &digest, None).await.unwrap());
    layout.push_manifest(&app, &manifest, &[tag("a"), tag("b")]).await.unwrap();
    let again = Folder::open(&path).await.unwrap();
    assert!(again.has_blob(&app, &digest).await.unwrap());
    assert_eq!(again.tagged(&app, &tag("b")).await.unwrap(), Some(manifest.digest.clone()));
    let found = again.manifest(&app, &reference("a")).await.unwrap();
    assert_eq!(found.bytes, manifest.bytes);
    assert_eq!(again.tags(&app, &Page::default()).await.unwrap().entries, [tag("a"), tag("b")]);
    assert!(matches!(again.resolve(&name("other"), &reference("a")).await, Err(Error::NameUnknown { .. })));
    assert!(matches!(again.resolve(&app, &reference("c")).await, Err(Error::ManifestUnknown { .. })));
    assert!(matches!(again.stat_blob(&app, &manifest.digest).await, Ok(stat) if stat.size == Some(manifest.bytes.len() as u64)));
}

#[tokio::test]
async fn a_folder_keeps_nothing_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Folder::open(folder.path()).await.unwrap();
    let app = name("micro/app");
    let digest = Hasher::digest(Algorithm::Sha256, b"others");
    let wrong = layout.push_blob(&app, &digest, None, source(&deterministic_bytes(100, 1)).await).await;
    assert!(matches!(wrong, Err(Error::DigestInvalid { .. })));
    let mut manifest = index(r#"{"schemaVersion":2,"manifests":[]}"#);
    manifest.digest = digest.clone();
    assert!(matches!(layout.push_manifest(&app, &manifest, &[]).await, Err(Error::DigestInvalid { .. })));
    assert!(!layout.has_blob(&app, &digest).await.unwrap());
    assert_eq!(fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count(), 0, "no rest of it either");
}

#[tokio::test]
async fn a_copy_into_a_folder_is_a_source_with_its_referrers() {
    let stage = stage();
    let image = stage.fake.put_image("library/app", "1");
    let sbom = stage.fake.put_artifact("library/app", &image.digest, "application/spdx+json");
    let folder = tempfile::tempdir().unwrap();
    let layout = Arc::new(Folder::open(folder.path()).await.unwrap());
    let clock = Arc::new(SystemClock::default());
    let target: Arc<dyn Push> = Arc::<Folder>::clone(&layout);
    let transfer = Transfer::new(Arc::<Upstream>::clone(&stage.source), target, clock, quick());
    let (from, to) = (name("library/app"), name("micro/app"));
    transfer.copy(&from, &reference("1"), &to, &[tag("1")], &Progress::new()).await.unwrap();
    let read = Arc::new(Layout::open(folder.path()).await.unwrap());
    read.verify(&Progress::new()).await.unwrap();
    for source in [&read, layout.layout()] {
        let all = source.referrers(&to, &image.digest, &ReferrersList::default()).await.unwrap();
        assert_eq!(all.entries.len(), 1);
        assert_eq!(all.entries[0].digest, sbom);
        assert_eq!(all.entries[0].artifact_type.as_deref(), Some("application/spdx+json"));
        let other = ReferrersList { artifact_type: Some("x/y".to_owned()), ..ReferrersList::default() };
        assert!(source.referrers(&to, &image.digest, &other).await.unwrap().entries.is_empty());
        assert_eq!(source.images().len(), 1, "a referrer is no image");
        let by_digest = source.manifest(&to, &Reference::Digest(sbom.clone())).await.unwrap();
        assert_eq!(by_digest.digest, sbom);
    }
}
