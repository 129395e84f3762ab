//! Putting content into the fake.

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher, media_type};
use serde_json::{Value, json};

use super::FakeUpstream;
use crate::content::{deterministic_bytes, tar};

/// An image that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's bytes.
    pub bytes: Bytes,
    /// The configuration's digest.
    pub config: Digest,
    /// The layers' digests, in order.
    pub layers: Vec<Digest>,
}

/// An index that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The index's digest.
    pub digest: Digest,
    /// The index's bytes.
    pub bytes: Bytes,
    /// Its images: linux/amd64, then linux/arm64.
    pub images: Vec<Image>,
}

#[expect(clippy::must_use_candidate, reason = "content is put for its effect")]
impl FakeUpstream {
    /// Puts a blob under its sha256.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        self.shared.lock().hold_blob(repository, digest.clone(), bytes);
        digest
    }

    /// Puts a blob of `size` bytes that depends on `seed`, as [`deterministic_bytes`] makes it. It is held once.
    pub fn put_blob_sized(&self, repository: &str, size: usize, seed: u64) -> Digest {
        self.put_blob(repository, deterministic_bytes(size, seed))
    }

    /// Puts a manifest, whatever its bytes are, under its sha256 and moves `tag` to it.
    pub fn put_manifest(&self, repository: &str, tag: Option<&str>, media_type: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        let tags: Vec<String> = tag.map(str::to_owned).into_iter().collect();
        self.shared.lock().hold_manifest(repository, &tags, media_type, &digest, bytes);
        digest
    }

    /// Removes a tag and leaves its manifest.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        if let Some(repository) = self.shared.lock().repositories.get_mut(repository) {
            repository.tags.remove(tag);
        }
    }

    /// Removes a repository with all that it holds.
    pub fn remove_repository(&self, repository: &str) {
        self.shared.lock().repositories.remove(repository);
    }

    /// Puts an image for linux/amd64 with one small layer, which depends on repository and tag.
    pub fn put_image(&self, repository: &str, tag: &str) -> Image {
        self.put_image_of(repository, Some(tag), "amd64", format!("{repository}:{tag}\n").as_bytes())
    }

    /// As [`FakeUpstream::put_image`] with this content in its layer: another content is another image.
    pub fn put_image_with(&self, repository: &str, tag: &str, content: &[u8]) -> Image {
        self.put_image_of(repository, Some(tag), "amd64", content)
    }

    /// Puts an index of two images, for linux/amd64 and linux/arm64.
    pub fn put_index(&self, repository: &str, tag: &str) -> Index {
        let mut images = Vec::new();
        let mut manifests = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let content = format!("{repository}:{tag} for {architecture}\n");
            let image = self.put_image_of(repository, None, architecture, content.as_bytes());
            let mut descriptor = describe(media_type::OCI_MANIFEST, &image.digest, image.bytes.len());
            descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
            manifests.push(descriptor);
            images.push(image);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
        let bytes = Bytes::from(index.to_string());
        let digest = self.put_manifest(repository, Some(tag), media_type::OCI_INDEX, bytes.clone());
        Index { digest, bytes, images }
    }

    /// Puts an artifact, such as a signature, that refers to `subject`.
    pub fn put_artifact(&self, repository: &str, subject: &Digest, artifact_type: &str) -> Digest {
        let empty = self.put_blob(repository, "{}");
        let config = describe("application/vnd.oci.empty.v1+json", &empty, 2);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config,
            "layers": [config],
            "subject": describe(media_type::OCI_MANIFEST, subject, 2),
        });
        self.put_manifest(repository, None, media_type::OCI_MANIFEST, manifest.to_string())
    }

    fn put_image_of(&self, repository: &str, tag: Option<&str>, architecture: &str, content: &[u8]) -> Image {
        let archive = tar("content", content);
        let size = archive.len();
        let layer = self.put_blob(repository, archive);
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Cmd": ["/content"] },
            "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
        });
        let config = config.to_string();
        let config_size = config.len();
        let config = self.put_blob(repository, config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": describe("application/vnd.oci.image.config.v1+json", &config, config_size),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer, size)],
        });
        let bytes = Bytes::from(manifest.to_string());
        let digest = self.put_manifest(repository, tag, media_type::OCI_MANIFEST, bytes.clone());
        Image { digest, bytes, config, layers: vec![layer] }
    }
}

fn describe(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}
