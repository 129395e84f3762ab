//! Input: the `index.json` of an image layout, in a folder with a few blobs.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use oci::{Algorithm, Digest, Discover, Hasher, Page, Pull, Reference, ReferrersList, RepositoryName, media_type};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use transfer::layout::{Error, Layout};
use transfer::{Progress, bundle};

/// A folder for layouts and a runtime to read them with.
pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    pub(crate) folder: TempDir,
}

thread_local! {
    static STAGE: Stage = Stage::with_blobs();
}

impl Stage {
    pub(crate) fn new() -> Self {
        // In memory where there is such a folder.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, folder }
    }

    fn with_blobs() -> Self {
        let stage = Self::new();
        let path = stage.folder.path();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        for blob in blobs() {
            let digest = Hasher::digest(Algorithm::Sha256, blob.as_bytes());
            fs::write(path.join("blobs/sha256").join(digest.hex()), blob).unwrap();
        }
        stage
    }
}

/// An image, an index of it and of something absent, and what refers to the image. The seeds have their digests.
fn blobs() -> Vec<String> {
    let describe = |media_type: &str, text: &str| {
        let digest = Hasher::digest(Algorithm::Sha256, text.as_bytes());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, text.len())
    };
    let config = describe("application/vnd.oci.image.config.v1+json", "{}");
    let image = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
    let listed = [describe(media_type::OCI_MANIFEST, &image), describe(media_type::OCI_MANIFEST, "absent")].join(",");
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{listed}]}}"#);
    let subject = describe(media_type::OCI_MANIFEST, &image);
    let artifact = format!(
        r#"{{"schemaVersion":2,"artifactType":"x/y","config":{config},"layers":[],"subject":{subject},"annotations":{{"a":"b"}}}}"#
    );
    vec!["{}".to_owned(), image, index, artifact]
}

pub(crate) fn target(data: &[u8]) {
    STAGE.with(|stage| {
        fs::write(stage.folder.path().join("index.json"), data).unwrap();
        stage.runtime.block_on(read(stage.folder.path()));
    });
}

/// A layout is refused, or all that it says is true.
pub(crate) async fn read(path: &Path) {
    let layout = match Layout::open(path).await {
        Ok(layout) => Arc::new(layout),
        Err(refusal) => return is_short(&refusal),
    };
    for image in layout.images() {
        let name = bundle::as_named(&image).unwrap_or_else(|| RepositoryName::parse("what/has/no/repository/is/in/any").unwrap());
        let stat = layout.resolve(&name, &image.reference).await.unwrap();
        assert_eq!(stat.digest, image.digest);
        let by_digest = Reference::Digest(image.digest.clone());
        let manifest = layout.manifest(&name, &by_digest).await.unwrap();
        assert_eq!(Hasher::digest(image.digest.algorithm(), &manifest.bytes), image.digest);
        assert_eq!(manifest.stat(), stat);
        if let Reference::Tag(tag) = &image.reference {
            assert!(layout.tags(&name, &Page::default()).await.unwrap().entries.contains(tag));
        }
        listed(&layout, &name, &image.digest).await;
    }
    if let Err(refusal) = layout.verify(&Progress::new()).await {
        is_short(&refusal);
    }
}

/// What refers to it is there, and says so.
async fn listed(layout: &Layout, name: &RepositoryName, subject: &Digest) {
    let referrers = layout.referrers(name, subject, &ReferrersList::default()).await.unwrap();
    for referrer in referrers.entries {
        let manifest = layout.manifest(name, &Reference::Digest(referrer.digest.clone())).await.unwrap();
        let view = oci::ManifestView::parse(&manifest.bytes, Some(&manifest.media_type)).unwrap();
        assert_eq!(view.subject.map(|subject| subject.digest).as_ref(), Some(subject));
        assert_eq!(view.artifact_type, referrer.artifact_type);
    }
}

/// What a stranger wrote is repeated in part only.
fn is_short(refusal: &Error) {
    assert!(refusal.to_string().len() <= 4096, "{refusal}");
}
