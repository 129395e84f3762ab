//! Content to serve: large bytes that need no file, and layers that unpack.

use bytes::Bytes;

/// `size` bytes that depend on `seed` alone and do not compress.
#[must_use]
pub fn deterministic_bytes(size: usize, seed: u64) -> Bytes {
    // xorshift64*, eight bytes at a time; zero is its only fixed point.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    Bytes::from(bytes)
}

/// A tar archive with one regular file, as a layer that every client can unpack.
pub(crate) fn tar(path: &str, content: &[u8]) -> Bytes {
    const BLOCK: usize = 512;
    let mut header = [0_u8; BLOCK];
    let mut field = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    field(0, path.as_bytes());
    field(100, b"0000644\0");
    field(108, b"0000000\0");
    field(116, b"0000000\0");
    field(124, format!("{:011o}\0", content.len()).as_bytes());
    field(136, b"00000000000\0");
    field(148, b"        ");
    field(156, b"0");
    field(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    Bytes::from(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        assert_eq!(deterministic_bytes(1001, 7), deterministic_bytes(1001, 7));
        assert_ne!(deterministic_bytes(1001, 7), deterministic_bytes(1001, 8));
        assert_eq!(deterministic_bytes(1001, 7).len(), 1001);
        assert!(deterministic_bytes(0, 7).is_empty());
    }
}
