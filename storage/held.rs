//! Bytes that are kept in memory because they are few, out of an amount that all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// What one of them may hold; more goes to the disk.
const EACH: usize = 64 * 1024;
/// What all of them may hold together.
const ALL: usize = 16 * 1024 * 1024;

/// The bytes that are held now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<AtomicUsize>);

/// A few bytes on their way into the store.
#[derive(Debug)]
pub struct Held {
    bytes: Vec<u8>,
    memory: Memory,
}

impl Memory {
    pub(crate) fn hold(&self) -> Held {
        Held { bytes: Vec::new(), memory: self.clone() }
    }

    fn take(&self, length: usize) -> bool {
        let before = self.0.fetch_add(length, Ordering::Relaxed);
        let fits = before + length <= ALL;
        if !fits {
            self.give_back(length);
        }
        fits
    }

    fn give_back(&self, length: usize) {
        self.0.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Held {
    /// Takes in more bytes. `false`, and it stays as it is, if that were too many.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let fits = self.bytes.len() + bytes.len() <= EACH && self.memory.take(bytes.len());
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// Drops what comes after the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.memory.give_back(self.bytes.len().saturating_sub(length));
        self.bytes.truncate(length);
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, which count no more.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes);
        self.memory.give_back(bytes.len());
        bytes.into()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_one_holds_much_and_all_together_hold_no_more_than_they_may() {
        let memory = Memory::default();
        let mut held = memory.hold();
        assert!(held.push(&vec![1; EACH - 1]) && !held.push(&[2; 2]) && held.push(&[3]));
        assert_eq!((held.as_slice().len(), held.as_slice().last()), (EACH, Some(&3)));
        let mut others: Vec<Held> = Vec::new();
        loop {
            let mut other = memory.hold();
            if !other.push(&vec![0; EACH]) {
                break;
            }
            others.push(other);
        }
        assert_eq!((others.len() + 1) * EACH, ALL);
        held.truncate(10);
        assert!(memory.hold().push(&vec![0; EACH - 10]));
        assert_eq!(held.into_bytes().len(), 10);
        drop(others);
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
