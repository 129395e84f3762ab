//! Images made by hand: an OCI layout holding an index of two platforms, each with a layer of one small file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The media type of an image index.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of an image manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An OCI layout on disk, its one entry tagged `1`.
pub(crate) struct Layout {
    /// The layout's directory.
    pub(crate) path: PathBuf,
    /// The digest of the index.
    pub(crate) index: String,
    /// The digests of the images, in the index's order: amd64, arm64.
    pub(crate) images: Vec<String>,
    /// The digests of configurations and layers.
    pub(crate) blobs: Vec<String>,
}

impl Layout {
    /// Writes a layout whose content depends on the seed alone.
    pub(crate) fn write(path: &Path, seed: &str) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).expect("the layout can be made");
        let mut layout = Self { path: path.to_owned(), index: String::new(), images: vec![], blobs: vec![] };
        let entries: Vec<Value> = ["amd64", "arm64"].map(|architecture| layout.image(architecture, seed)).into();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let mut entry = layout.document(INDEX, &index);
        layout.index = digest_of(&entry);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
        let top = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(path.join("index.json"), top.to_string()).expect("the index can be written");
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the mark can be written");
        layout
    }

    /// The file of a digest.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        self.path.join("blobs").join(digest.replace(':', "/"))
    }

    fn image(&mut self, architecture: &str, seed: &str) -> Value {
        let tar = tar_of("hello", format!("{seed} on {architecture}\n").as_bytes());
        let layer = self.blob(LAYER, &gzip(&tar));
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Cmd": ["/hello"] },
            "rootfs": { "type": "layers", "diff_ids": [sha256(&tar)] },
            "history": [{ "created": "2026-01-01T00:00:00Z", "created_by": seed }],
        });
        let config = self.document(CONFIG, &config);
        self.blobs.extend([digest_of(&config), digest_of(&layer)]);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let mut entry = self.document(MANIFEST, &manifest);
        self.images.push(digest_of(&entry));
        entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
        entry
    }

    fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = sha256(content);
        std::fs::write(self.file(&digest), content).expect("the blob can be written");
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }
}

/// The digest of bytes.
pub(crate) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |mut digest, byte| {
        write!(digest, "{byte:02x}").expect("a string takes text");
        digest
    })
}

fn digest_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().expect("a descriptor has a digest").to_owned()
}

/// A tar archive of one file, in the ustar format.
fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["--no-name", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip starts");
    child.stdin.take().expect("gzip reads").write_all(content).expect("gzip takes a small file");
    child.wait_with_output().expect("gzip ends").stdout
}
