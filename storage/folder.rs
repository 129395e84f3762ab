//! The local folder: `object_store`'s local file system, made durable and given compare-and-swap.
//!
//! What it adds: a write is in place under its name, whole, or not at all, and on disk with its directory entry before it is
//! acknowledged; a delete likewise; [`PutMode::Update`]; temporary files in one place, so that a start can clear them; a lock,
//! so that one server owns the folder and a mutex inside the process is enough to compare and swap.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use telemetry::Clock;
use uuid::Uuid;

use crate::disk::Disk;
use crate::lock;

/// Where unfinished files are; cleared at every start.
const TEMPORARY: &str = "tmp";
/// Writers of one key exclude each other; keys share this many mutexes.
const STRIPES: usize = 64;

/// Directories that are remembered to be on disk; beyond that they are synced anew.
const REMEMBERED_DIRECTORIES: usize = 100_000;

/// Why a folder cannot be opened.
#[derive(Debug)]
pub(crate) enum FolderError {
    /// It has something in it that is not a store's.
    Stranger(PathBuf),
    /// The file system says no.
    Io(io::Error),
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A local folder as an object store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    files: LocalFileSystem,
    stripes: Vec<Mutex<()>>,
    /// Directories whose own entries are known to be on disk.
    directories: Mutex<HashSet<PathBuf>>,
    /// Microseconds of the last modification time that was given out; see [`Inner::stamp`].
    last_stamp: AtomicU64,
    clock: Arc<dyn Clock>,
    /// Held for as long as the folder is open.
    _lock: File,
}

impl Folder {
    /// Opens the folder, makes it if need be, locks it and clears what a crash left unfinished.
    ///
    /// Nothing is touched in a folder that has other things in it.
    pub(crate) fn open(root: &FsPath, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Self, FolderError> {
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        if let Some(parent) = root.parent() {
            match disk.sync_directory(parent) {
                // A parent that we may not read was not made by us, nor the folder in it.
                Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        if let Some(stranger) = stranger(&root)? {
            return Err(FolderError::Stranger(stranger));
        }
        let lock = lock::take(&root)?;
        let temporary = root.join(TEMPORARY);
        if temporary.exists() {
            disk.remove_directory(&temporary)?;
        }
        disk.create_directory(&temporary)?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        let stripes = (0..STRIPES).map(|_| Mutex::new(())).collect();
        let directories = Mutex::new(HashSet::from([root.clone()]));
        Ok(Self(Arc::new(Inner { root, disk, files, stripes, directories, last_stamp: AtomicU64::new(0), clock, _lock: lock })))
    }

    /// The file layer.
    pub(crate) fn disk(&self) -> &dyn Disk {
        self.0.disk.as_ref()
    }

    /// A path for a file that [`Folder::adopt`] may take in later.
    pub(crate) fn temporary_path(&self) -> PathBuf {
        self.0.temporary_path()
    }

    /// Where an object lies.
    pub(crate) fn path(&self, location: &Path) -> PathBuf {
        self.0.path(location)
    }

    /// Writes an object whole but without waiting for the disk: for what may be lost with the machine, not with the process.
    pub(crate) fn put_unsynced(&self, location: &Path, bytes: &[u8]) -> io::Result<()> {
        let (target, temporary) = (self.path(location), self.temporary_path());
        let disk = self.disk();
        let written = disk.create(&temporary).and_then(|file| disk.write_at(&file, bytes, 0));
        let placed = written.and_then(|()| match disk.rename(&temporary, &target) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                self.0.make_directories(target.parent().unwrap_or(&self.0.root))?;
                disk.rename(&temporary, &target)
            }
            renamed => renamed,
        });
        placed.inspect_err(|_| self.0.discard(&temporary))
    }

    /// Makes the directories in which objects will lie, but leaves their syncs to [`Folder::sync_ways`]: once bytes were synced
    /// in between, most of them cost nothing.
    pub(crate) fn make_ways(&self, locations: &[Path]) -> io::Result<Ways> {
        let mut ways = Ways::default();
        for location in locations {
            self.0.make_way(self.path(location).parent().unwrap_or(&self.0.root), &mut ways.0)?;
        }
        Ok(ways)
    }

    /// Puts directories on disk that [`Folder::make_ways`] has made.
    pub(crate) fn sync_ways(&self, ways: &Ways) -> io::Result<()> {
        self.0.sync_ways(&ways.0)
    }

    /// Writes the bytes of an object to a temporary file, synced.
    pub(crate) fn stage(&self, payload: &PutPayload) -> io::Result<Staged> {
        self.0.stage(payload).map(|path| Staged { folder: self.clone(), path })
    }

    /// Gives a staged file its name, in place of what has it. The caller syncs the directory.
    pub(crate) fn place(&self, mut staged: Staged, location: &Path) -> io::Result<()> {
        let _guard = self.0.lock(location);
        self.disk().rename(&staged.path, &self.path(location))?;
        staged.path = PathBuf::new();
        Ok(())
    }

    /// Makes an object without content, or keeps the one that is there. The caller has made the way and syncs the directory.
    pub(crate) fn touch(&self, location: &Path) -> io::Result<()> {
        match self.disk().create(&self.path(location)) {
            Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(|_| ()),
        }
    }

    /// Is there an object?
    pub(crate) fn exists(&self, location: &Path) -> bool {
        self.path(location).exists()
    }

    /// Syncs the directory in which an object lies.
    pub(crate) fn sync_entry(&self, location: &Path) -> io::Result<()> {
        self.disk().sync_directory(self.path(location).parent().unwrap_or(&self.0.root))
    }

    /// Makes the synced `file`, which lies at `from` in this folder, the object `location`. An object of the same length that is there
    /// already is kept, for callers adopt only content-addressed bytes. The caller has made the way and syncs the directory.
    pub(crate) fn adopt(&self, from: &FsPath, file: &File, location: &Path) -> io::Result<()> {
        let target = self.path(location);
        let _guard = self.0.lock(location);
        match fs::metadata(&target) {
            Ok(there) if there.len() == file.metadata()?.len() => return self.0.remove_if_there(from),
            Ok(there) => tracing::error!(key = %location, size_bytes = there.len(), "a damaged blob is replaced"),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
        self.disk().rename(from, &target)
    }
}

/// Directories that were made and are not known to be on disk.
#[derive(Debug, Default)]
pub(crate) struct Ways(Vec<PathBuf>);

/// A synced file that has no name yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: Folder,
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            self.folder.0.discard(&self.path);
        }
    }
}

impl Inner {
    fn path(&self, location: &Path) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(location.parts().map(|part| part.as_ref().to_owned()));
        path
    }

    fn temporary_path(&self) -> PathBuf {
        self.root.join(TEMPORARY).join(Uuid::now_v7().to_string())
    }

    fn lock(&self, location: &Path) -> std::sync::MutexGuard<'_, ()> {
        let hash = location.as_ref().bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.stripes[hash % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
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

    fn put(&self, location: &Path, payload: &PutPayload, mode: &PutMode) -> Result<()> {
        let target = self.path(location);
        // Looked at twice: here to spare the writing, below to be sure.
        self.check(location, &target, mode)?;
        let temporary = self.stage(payload).map_err(generic)?;
        let placed = self.place_if(location, &temporary, &target, mode);
        if placed.is_err() {
            self.discard(&temporary);
        }
        placed?;
        self.disk.sync_directory(target.parent().unwrap_or(&self.root)).map_err(generic)
    }

    fn place_if(&self, location: &Path, temporary: &FsPath, target: &FsPath, mode: &PutMode) -> Result<()> {
        self.ensure_directory(target.parent().unwrap_or(&self.root)).map_err(generic)?;
        let _guard = self.lock(location);
        self.check(location, target, mode)?;
        self.disk.rename(temporary, target).map_err(generic)
    }

    fn check(&self, location: &Path, target: &FsPath, mode: &PutMode) -> Result<()> {
        match mode {
            PutMode::Create if target.exists() => {
                // Whoever made it may have died before the sync, and "it exists" is as good as "written" to many callers.
                self.sync_entry(target).map_err(generic)?;
                Err(Error::AlreadyExists { path: location.to_string(), source: "the object exists".into() })
            }
            PutMode::Create | PutMode::Overwrite => Ok(()),
            PutMode::Update(version) => match entity_tag(target) {
                Ok(tag) if Some(&tag) == version.e_tag.as_ref() => Ok(()),
                _ => Err(Error::Precondition { path: location.to_string(), source: "the object has changed".into() }),
            },
        }
    }

    /// A temporary file with these bytes, synced.
    fn stage(&self, payload: &PutPayload) -> io::Result<PathBuf> {
        let path = self.temporary_path();
        let file = self.disk.create(&path)?;
        let mut offset = 0;
        let mut write = || {
            for chunk in payload {
                self.disk.write_at(&file, chunk, offset)?;
                offset += chunk.len() as u64;
            }
            file.set_modified(self.stamp())?;
            self.disk.sync(&file)
        };
        write().inspect_err(|_| self.discard(&path))?;
        Ok(path)
    }

    /// Removes a temporary file. One that stays is cleared at the next start; the failure that led here is what matters.
    fn discard(&self, path: &FsPath) {
        let _ = self.disk.remove(path);
    }

    fn remove_if_there(&self, path: &FsPath) -> io::Result<()> {
        match self.disk.remove(path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes sure that a file that is there stays there: its entry, and the entries of the directories that lead to it.
    fn sync_entry(&self, target: &FsPath) -> io::Result<()> {
        let directory = target.parent().unwrap_or(&self.root);
        self.ensure_directory(directory)?;
        self.disk.sync_directory(directory)
    }

    /// Makes a directory and its parents unless they are there, each synced into its parent, once in the life of this process: one
    /// that is there may have been made a moment ago by a writer that has not synced it yet.
    fn ensure_directory(&self, directory: &FsPath) -> io::Result<()> {
        let mut made = Vec::new();
        self.make_way(directory, &mut made)?;
        self.sync_ways(&made)
    }

    /// Makes a directory and its parents and adds those to `made` that are not known to be on disk, parents first.
    fn make_way(&self, directory: &FsPath, made: &mut Vec<PathBuf>) -> io::Result<()> {
        if self.directories.lock().unwrap_or_else(PoisonError::into_inner).contains(directory) {
            return Ok(());
        }
        let Some(parent) = directory.parent() else { return Ok(()) };
        self.make_way(parent, made)?;
        self.make_directory(directory)?;
        made.push(directory.to_owned());
        Ok(())
    }

    fn sync_ways(&self, made: &[PathBuf]) -> io::Result<()> {
        for directory in made {
            self.disk.sync_directory(directory.parent().unwrap_or(&self.root))?;
        }
        let mut known = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + made.len() > REMEMBERED_DIRECTORIES {
            known.clear();
            known.insert(self.root.clone());
        }
        known.extend(made.iter().cloned());
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

    fn delete(&self, location: &Path) -> Result<()> {
        let target = self.path(location);
        let _guard = self.lock(location);
        let removed = self.disk.remove(&target).and_then(|()| self.disk.sync_directory(target.parent().unwrap_or(&self.root)));
        removed.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: location.to_string(), source: Box::new(source) },
            _ => generic(source),
        })
    }
}

/// Something in the folder that says that it is not a store's: it is not empty and has no layout.
fn stranger(root: &FsPath) -> io::Result<Option<PathBuf>> {
    if root.join("layout").exists() {
        return Ok(None);
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        // What a start leaves that ended before it wrote the layout, and what file systems put at their top.
        let ours = name == "lock" || name == "lost+found" || (name == TEMPORARY && fs::read_dir(entry.path())?.next().is_none());
        if !ours {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The tag that [`LocalFileSystem`] gives the file, so that what was read can be compared with what is there.
fn entity_tag(path: &FsPath) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(path)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Ok(format!("\"{:x}-{modified:x}-{:x}\"", metadata.ino(), metadata.len()))
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "folder", source: Box::new(source) }
}

/// File work may wait for the disk: never on a thread that serves connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::JoinError { source })?
}

impl fmt::Display for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "folder {}", self.0.root.display())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (folder, location) = (Arc::clone(&self.0), location.clone());
        blocking(move || {
            folder.put(&location, &payload, &options.mode)?;
            let e_tag = entity_tag(&folder.path(&location)).ok();
            Ok(PutResult { e_tag, version: None, extensions: options.extensions })
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Large content comes in through `adopt`, which needs no second copy.
        Err(Error::NotImplemented { operation: format!("multipart upload of {location}"), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.0.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let folder = Arc::clone(&self.0);
        locations
            .then(move |location| {
                let folder = Arc::clone(&folder);
                async move {
                    let location = location?;
                    blocking(move || folder.delete(&location).map(|()| location)).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let bytes = self.0.files.get_opts(from, GetOptions::default()).await?.bytes().await?;
        self.put_opts(to, bytes.into(), mode.into()).await.map(|_| ())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, _: RenameOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: format!("rename of {from} to {to}"), implementer: self.to_string() })
    }
}
