//! The files of a folder: where each object lies, and how one gets there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path;
use telemetry::Clock;

use crate::disk::Disk;

/// Where unfinished files are; cleared at every start.
pub(crate) const TEMPORARY: &str = "tmp";
/// Directories that are remembered to be on disk; beyond that they are synced anew.
const REMEMBERED_DIRECTORIES: usize = 100_000;

/// A folder and its file layer.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    /// Directories whose own entries are known to be on disk.
    directories: Mutex<HashSet<PathBuf>>,
    /// Microseconds of the last modification time that was given out; see [`Files::stamp`].
    last_stamp: AtomicU64,
    /// The next temporary file; their folder is empty at every start.
    temporary: AtomicU64,
}

/// A file that has no name yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // One that stays is cleared at the next start; the failure that led here is what matters.
            let _ = self.disk.remove(&self.path);
        }
    }
}

impl Files {
    pub(crate) fn new(root: PathBuf, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Self {
        let directories = Mutex::new(HashSet::from([root.clone()]));
        Self { root, disk, clock, directories, last_stamp: AtomicU64::new(0), temporary: AtomicU64::new(0) }
    }

    pub(crate) fn root(&self) -> &FsPath {
        &self.root
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Where an object lies.
    pub(crate) fn path(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }

    /// A path for a file that has no name yet.
    pub(crate) fn temporary_path(&self) -> PathBuf {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        self.root.join(TEMPORARY).join(number.to_string())
    }

    /// The length of an object.
    pub(crate) fn length(&self, location: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(location)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Writes bytes to a file without a name, not synced.
    pub(crate) fn stage(&self, bytes: &[u8]) -> io::Result<Staged> {
        self.stage_file(bytes).map(|(staged, _)| staged)
    }

    /// Writes bytes to a file without a name, synced.
    pub(crate) fn stage_synced(&self, bytes: &[u8]) -> io::Result<Staged> {
        let (staged, file) = self.stage_file(bytes)?;
        self.disk.sync(&file)?;
        Ok(staged)
    }

    fn stage_file(&self, bytes: &[u8]) -> io::Result<(Staged, File)> {
        let path = self.temporary_path();
        let file = self.disk.create(&path)?;
        let staged = Staged { disk: Arc::clone(&self.disk), path };
        self.disk.write_at(&file, bytes, 0)?;
        file.set_modified(self.stamp())?;
        Ok((staged, file))
    }

    /// Gives a staged file its name, in place of what has it. Nothing is synced.
    pub(crate) fn place(&self, staged: &mut Staged, location: &Path) -> io::Result<()> {
        let target = self.path(location);
        self.on_its_way(&target, || self.disk.rename(&staged.path, &target))?;
        staged.path = PathBuf::new();
        Ok(())
    }

    /// Gives a synced file its name, in place of what has it, durably.
    pub(crate) fn place_synced(&self, staged: &mut Staged, location: &Path) -> io::Result<()> {
        let target = self.path(location);
        let directory = target.parent().unwrap_or(&self.root);
        self.ensure_directory(directory)?;
        self.disk.rename(&staged.path, &target)?;
        staged.path = PathBuf::new();
        self.disk.sync_directory(directory)
    }

    /// Makes the synced `file`, which lies at `from` in this folder, the object `location`, durably. An object of the same length that
    /// is there already is kept, for callers adopt only content-addressed bytes.
    pub(crate) fn adopt(&self, location: &Path, from: &FsPath, file: &File) -> io::Result<()> {
        let target = self.path(location);
        let directory = target.parent().unwrap_or(&self.root);
        self.ensure_directory(directory)?;
        match self.length(location)? {
            Some(there) if there == file.metadata()?.len() => return self.remove_if_there(from),
            Some(there) => tracing::error!(key = %location, size_bytes = there, "a damaged blob is replaced"),
            None => {}
        }
        self.disk.rename(from, &target)?;
        self.disk.sync_directory(directory)
    }

    /// Makes an object without content, or keeps the one that is there. Nothing is synced.
    pub(crate) fn touch(&self, location: &Path) -> io::Result<()> {
        let target = self.path(location);
        self.on_its_way(&target, || match self.disk.create(&target) {
            Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop),
        })
    }

    /// Removes an object. Nothing is synced.
    pub(crate) fn remove(&self, location: &Path) -> io::Result<()> {
        self.disk.remove(&self.path(location))
    }

    pub(crate) fn remove_if_there(&self, path: &FsPath) -> io::Result<()> {
        match self.disk.remove(path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Writes a file whole but without waiting for the disk and past the log: for what may be lost with the machine, not with the
    /// process.
    pub(crate) fn put_unsynced(&self, location: &Path, bytes: &[u8]) -> io::Result<()> {
        self.place(&mut self.stage(bytes)?, location)
    }

    /// Opens a file that is written past the log, as [`Files::put_unsynced`] does, and makes it if it is not there.
    pub(crate) fn open_unsynced(&self, location: &Path) -> io::Result<File> {
        let path = self.path(location);
        self.on_its_way(&path, || self.disk.open(&path, true))
    }

    /// Returns once everything that was written before is on disk.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.disk.sync_all(&self.root)
    }

    /// Does what needs the directory of `target`, making it first if that is what fails.
    fn on_its_way<T>(&self, target: &FsPath, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                self.make_directories(target.parent().unwrap_or(&self.root))?;
                work()
            }
            done => done,
        }
    }

    /// Makes a directory and its parents unless they are there, each synced into its parent, once in the life of this process: one
    /// that is there may have been made a moment ago without a sync.
    pub(crate) fn ensure_directory(&self, directory: &FsPath) -> io::Result<()> {
        if self.directories.lock().unwrap_or_else(PoisonError::into_inner).contains(directory) {
            return Ok(());
        }
        let Some(parent) = directory.parent() else { return Ok(()) };
        self.ensure_directory(parent)?;
        self.make_directory(directory)?;
        self.disk.sync_directory(parent)?;
        let mut known = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_DIRECTORIES {
            known.clear();
            known.insert(self.root.clone());
        }
        known.insert(directory.to_owned());
        Ok(())
    }

    /// Makes a directory and its parents, without a sync.
    fn make_directories(&self, directory: &FsPath) -> io::Result<()> {
        match self.make_directory(directory) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                self.make_directories(directory.parent().unwrap_or(&self.root))?;
                self.make_directory(directory)
            }
            made => made,
        }
    }

    fn make_directory(&self, directory: &FsPath) -> io::Result<()> {
        match self.disk.create_directory(directory) {
            Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// A modification time that no other write of this process was given.
    ///
    /// The entity tag is made of inode, size and modification time. The kernel's own times are a tick apart and inodes are used
    /// again, so that two versions of a small object could carry the same tag and a swap could succeed against the wrong one.
    fn stamp(&self) -> SystemTime {
        let now = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let last = self.last_stamp.fetch_max(now, Ordering::SeqCst);
        let stamp = if now > last { now } else { self.last_stamp.fetch_add(1, Ordering::SeqCst) + 1 };
        UNIX_EPOCH + Duration::from_micros(stamp)
    }
}

/// The tag that `object_store`'s local file system gives the file, so that what was read can be compared with what is there.
pub(crate) fn entity_tag(path: &FsPath) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(path)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Ok(format!("\"{:x}-{modified:x}-{:x}\"", metadata.ino(), metadata.len()))
}
