//! The file layer of a local folder: every system call that changes it.
//!
//! A seam for tests, which record what is done and take the power away between two calls, or make the n-th one fail.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What changes files and directories. Nothing is durable before it is synced: the bytes of a file by [`Disk::sync`], its name by
/// [`Disk::sync_directory`] of the directory that it is in.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a file that is not there yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Opens a file for reading and writing, and makes it if `create` and it is not there.
    fn open(&self, path: &Path, create: bool) -> io::Result<File>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Keeps room for bytes that will be written, if the file system can do that. What it says of it is not asked: the write tells.
    fn reserve(&self, _file: &File, _offset: u64, _length: u64) {}

    /// Cuts a file, or makes it longer by zeros.
    fn set_length(&self, file: &File, length: u64) -> io::Result<()>;

    /// Returns once the bytes of the file are on disk.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Returns once the entries of the directory are on disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns once everything that was written to the file system of `root` before is on disk: bytes, names and directories.
    fn sync_all(&self, root: &Path) -> io::Result<()>;

    /// Gives a file or directory another name, in place of what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a directory, whose parent is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
}

/// The file systems of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

/// Room ahead of a file that grows. The file system then finds a place for many bytes at once and not for each page, and in one
/// piece; what is left over at the end is given back.
#[derive(Debug, Default)]
pub(crate) struct Room {
    end: u64,
}

impl Room {
    /// A file that stays below this gets none. It is also the smallest piece.
    const FIRST: u64 = 1024 * 1024;
    /// The largest piece. As much again as there is, up to this: nobody knows how long the file will be.
    const LARGEST: u64 = 64 * 1024 * 1024;

    /// Makes room for bytes that are written from `offset` to `end`, and some more.
    pub(crate) fn make(&mut self, disk: &dyn Disk, file: &File, offset: u64, end: u64) {
        if end <= self.end || end < Self::FIRST {
            return;
        }
        let length = end.min(Self::LARGEST).max(end - offset);
        disk.reserve(file, offset, length);
        self.end = offset + length;
    }

    /// Gives back what a file of this `size` does not need.
    pub(crate) fn trim(&mut self, disk: &dyn Disk, file: &File, size: u64) -> io::Result<()> {
        if self.end > size {
            disk.set_length(file, size)?;
            self.end = size;
        }
        Ok(())
    }
}

impl Disk for LocalDisk {
    #[cfg(target_os = "linux")]
    fn reserve(&self, file: &File, offset: u64, length: u64) {
        if let Err(error) = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length) {
            tracing::trace!(%error, "no room is kept ahead");
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        File::options().read(true).write(true).create(create).truncate(false).open(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // The length of a file counts as its data.
        file.sync_data()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn sync_all(&self, root: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(root)?)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_all(&self, _root: &Path) -> io::Result<()> {
        rustix::fs::sync();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}
