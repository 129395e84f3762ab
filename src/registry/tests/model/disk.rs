//! A disk that is quick, because it never syncs, and that can die in the middle of a request.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use storage::{Disk, LocalDisk};

/// After so many more calls nothing works any more.
#[derive(Debug)]
pub(crate) struct Mortal(AtomicUsize);

impl Mortal {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    pub(crate) fn die_after(&self, calls: usize) {
        self.0.store(calls, Ordering::SeqCst);
    }

    fn call<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let count = |left: usize| Some(if left == usize::MAX { left } else { left.saturating_sub(1) });
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) {
            Ok(0) | Err(_) => Err(io::Error::other("this disk has died")),
            Ok(_) => call(),
        }
    }
}

impl Disk for Mortal {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call(|| LocalDisk.create(path))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        self.call(|| LocalDisk.open(path, create))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.call(|| LocalDisk.write_at(file, bytes, offset))
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.call(|| LocalDisk.set_length(file, length))
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        self.call(|| Ok(()))
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.call(|| Ok(()))
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        self.call(|| Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| LocalDisk.rename(from, to))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.call(|| LocalDisk.create_directory(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| LocalDisk.remove(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.call(|| LocalDisk.remove_directory(path))
    }
}
