//! The local folder: `object_store`'s local file system, made durable and given compare-and-swap.
//!
//! What it adds: a write is in place under its name, whole, or not at all, and survives a crash once it is acknowledged; a delete
//! likewise; [`PutMode::Update`]; temporary files in one place, so that a start can clear them; a lock, so that one server owns the
//! folder and one thread of it can look and change.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use telemetry::Clock;

use crate::disk::Disk;
use crate::files::{Files, Staged, TEMPORARY};
use crate::lock;
use crate::op::{Done, Op, Refusal, When};
use crate::redo::{self, Redo};
use crate::writer::{Writer, play_back};

/// What is longer is synced under its own name: to write it to the log as well would cost more than it saves.
const LONG: usize = 64 * 1024;

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

struct Inner {
    /// Ends before the lock is let go of.
    writer: Writer,
    files: Arc<Files>,
    reader: LocalFileSystem,
    /// Held for as long as the folder is open.
    _lock: File,
}

impl Folder {
    /// Opens the folder, makes it if need be, locks it, makes it what it was before a crash and clears what that left unfinished.
    ///
    /// Nothing is touched in a folder that has other things in it.
    pub(crate) fn open(root: &FsPath, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, log_size: u64) -> Result<Self, FolderError> {
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
        let files = Arc::new(Files::new(root.clone(), Arc::clone(&disk), clock));
        let (mut redo, changes) = Redo::open(&root, disk, log_size)?;
        play_back(&files, &changes)?;
        if !changes.is_empty() {
            tracing::info!(objects = changes.len(), "what was written last before a crash is in its place");
            redo.settled(redo.next());
            redo.tell_floor()?;
        }
        let reader = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        let writer = Writer::start(Arc::clone(&files), redo)?;
        Ok(Self(Arc::new(Inner { writer, files, reader, _lock: lock })))
    }

    /// The file layer.
    pub(crate) fn disk(&self) -> &dyn Disk {
        self.0.files.disk()
    }

    /// A path for a file that may become an object later.
    pub(crate) fn temporary_path(&self) -> PathBuf {
        self.0.files.temporary_path()
    }

    /// Where an object lies.
    pub(crate) fn path(&self, location: &Path) -> PathBuf {
        self.0.files.path(location)
    }

    /// As [`Files::put_unsynced`].
    pub(crate) fn put_unsynced(&self, location: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.files.put_unsynced(location, bytes)
    }

    /// As [`Files::open_unsynced`].
    pub(crate) fn open_unsynced(&self, location: &Path) -> io::Result<File> {
        self.0.files.open_unsynced(location)
    }

    /// As [`Files::stage_synced`].
    pub(crate) fn stage_synced(&self, bytes: &[u8]) -> io::Result<Staged> {
        self.0.files.stage_synced(bytes)
    }

    /// What writes the bytes of a blob. Long ones are on disk when it returns, under no name yet.
    pub(crate) async fn put_blob(&self, location: Path, bytes: Bytes) -> io::Result<Op> {
        if bytes.len() <= LONG {
            return Ok(Op::Put(location, bytes, When::NotWhole));
        }
        let (folder, length) = (self.clone(), bytes.len() as u64);
        let staged = tokio::task::spawn_blocking(move || folder.stage_synced(&bytes)).await.map_err(io::Error::other)??;
        Ok(Op::Place(location, staged, length))
    }

    /// Does these operations in this order, durably: none of them can be seen, or survives a crash, without those before it.
    pub(crate) async fn write(&self, ops: Vec<Op>) -> Done {
        self.0.writer.write(ops).await
    }
}

/// Something in the folder that says that it is not a store's: it is not empty and has no layout.
fn stranger(root: &FsPath) -> io::Result<Option<PathBuf>> {
    // What was written first may stand in the log alone.
    if root.join("layout").exists() || redo::is_there(root) {
        return Ok(None);
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        // What a start leaves that ended before it wrote the layout, and what file systems put at their top.
        let ours = name == "lock"
            || redo::FILES.iter().any(|log| name == *log)
            || name == "lost+found"
            || (name == TEMPORARY && fs::read_dir(entry.path())?.next().is_none());
        if !ours {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "folder", source: Box::new(source) }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exists(key) => Self::AlreadyExists { path: key.to_string(), source: "the object exists".into() },
            Refusal::Changed(key) => Self::Precondition { path: key.to_string(), source: "the object has changed".into() },
            Refusal::Absent(key) => Self::NotFound { path: key.to_string(), source: "there is no such object".into() },
            Refusal::Io(source) => generic(source),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inner").field("root", &self.files.root()).finish_non_exhaustive()
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "folder {}", self.0.files.root().display())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let when = match options.mode {
            PutMode::Create => When::Absent,
            PutMode::Overwrite => When::Always,
            PutMode::Update(version) => When::Is(version.e_tag),
        };
        let e_tag = self.write(vec![Op::Put(location.clone(), payload.into(), when)]).await?;
        Ok(PutResult { e_tag, version: None, extensions: options.extensions })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Large content comes in through `adopt`, which needs no second copy.
        Err(Error::NotImplemented { operation: format!("multipart upload of {location}"), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.reader.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.0.reader.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let folder = self.clone();
        locations
            .then(move |location| {
                let folder = folder.clone();
                async move {
                    let location = location?;
                    folder.write(vec![Op::Remove(location.clone())]).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.reader.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.reader.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.reader.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let bytes = self.0.reader.get_opts(from, GetOptions::default()).await?.bytes().await?;
        self.put_opts(to, bytes.into(), mode.into()).await.map(|_| ())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, _: RenameOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: format!("rename of {from} to {to}"), implementer: self.to_string() })
    }
}
