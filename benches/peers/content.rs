//! The bytes that are pushed and pulled: made here, the same in every run and for every server.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// The size of a large blob.
pub(crate) const LARGE: usize = 100 * 1024 * 1024;
/// The size of a small one.
pub(crate) const SMALL: usize = 4 * 1024;
/// How many small ones there are.
pub(crate) const SMALL_COUNT: usize = 512;
/// The repository that holds them.
pub(crate) const REPOSITORY: &str = "bench/content";
/// The media type of an image's manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What the image of every repository of a listing is made of.
pub(crate) const EMPTY: &[u8] = b"{}";
/// The bytes at a blob's end that make it unlike any other.
const TAIL: usize = 32;

/// The hexadecimal sha256 of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that no compression would shorten, the same for the same seed.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// The small blobs.
pub(crate) fn small_blobs() -> Vec<Vec<u8>> {
    (0..SMALL_COUNT).map(|index| noise(1000 + index as u64, SMALL)).collect()
}

/// An image's manifest of about 1.4 KiB whose config and layers are the first of the blobs.
pub(crate) fn image(blobs: &[Vec<u8>]) -> String {
    let layers: Vec<String> =
        blobs[1..8].iter().map(|blob| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", blob)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", &blobs[0]);
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{}]}}"#, layers.join(","))
}

/// The smallest image that every registry takes.
pub(crate) fn smallest_image() -> String {
    let (config, layer) = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar");
    let (config, layer) = (descriptor(config, EMPTY), descriptor(layer, EMPTY));
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":{}}}"#, digest(bytes), bytes.len())
}

/// Blobs of one size, each unlike all others and made at no cost: they differ in their last bytes, and what is before is hashed once.
#[derive(Clone)]
pub(crate) struct Unique {
    body: Arc<Vec<u8>>,
    state: Sha256,
    next: Arc<AtomicU64>,
    salt: u64,
}

/// One of them.
pub(crate) struct Blob {
    body: Arc<Vec<u8>>,
    tail: [u8; TAIL],
    /// Its hexadecimal sha256.
    pub(crate) digest: String,
}

impl Unique {
    /// Blobs of this size, which no other run has made.
    pub(crate) fn new(size: usize) -> Self {
        let body = noise(size as u64, size.saturating_sub(TAIL));
        let state = Sha256::new().chain_update(&body);
        Self { body: Arc::new(body), state, next: Arc::default(), salt: rand::random() }
    }

    /// The next one.
    pub(crate) fn next(&self) -> Blob {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tail = [0; TAIL];
        tail[..8].copy_from_slice(&self.salt.to_le_bytes());
        tail[8..16].copy_from_slice(&number.to_le_bytes());
        let digest = hex(&self.state.clone().chain_update(tail).finalize());
        Blob { body: Arc::clone(&self.body), tail, digest }
    }
}

impl Blob {
    /// Its bytes, in two pieces.
    pub(crate) fn pieces(&self) -> [&[u8]; 2] {
        [&self.body, &self.tail]
    }

    /// How many they are.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.tail.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_blob_has_the_digest_of_its_bytes_and_no_twin() {
        let blobs = Unique::new(SMALL);
        let (one, other) = (blobs.next(), blobs.next());
        assert_eq!(one.digest, digest(&one.pieces().concat()));
        assert_eq!((one.size(), one.pieces().concat().len()), (SMALL, SMALL));
        assert_ne!(one.digest, other.digest);
        assert_ne!(one.digest, Unique::new(SMALL).next().digest, "another run makes others");
    }

    #[test]
    fn the_image_is_as_large_as_those_of_the_figures() {
        let image = image(&small_blobs());
        assert!((1200..1600).contains(&image.len()), "{}", image.len());
        serde_json::from_str::<serde_json::Value>(&image).unwrap();
        serde_json::from_str::<serde_json::Value>(&smallest_image()).unwrap();
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        assert_eq!(noise(7, 100), noise(7, 100));
        assert_ne!(noise(7, 100), noise(8, 100));
    }
}
