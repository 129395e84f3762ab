//! A layout in a folder, to be written.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci::{
    Blob, BlobStat, Descriptor, Digest, Discover, Error as OciError, Hasher, Listing, Manifest, ManifestStat, ManifestView, Page,
    Pull, Push, RangeSource, Reference, ReferrersList, RepositoryName, Tag,
};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::layout::blobs::{Blobs, blob_path};
use crate::layout::catalog::Catalog;
use crate::layout::index::{self, Name, Place};
use crate::layout::read::{Layout, failed};
use crate::layout::{Error, INDEX, MARK, blocking, tar_file};

/// A layout in a folder as a target; a source too. Repositories share what it holds.
pub struct Folder {
    layout: Arc<Layout>,
    path: PathBuf,
    /// Whether each push is synced and named at once, or all at the end.
    lasting: bool,
    /// Held while `index.json` is written.
    writing: tokio::sync::Mutex<()>,
}

impl Folder {
    /// Opens the layout in a folder, or makes one where there is nothing yet. What is pushed is on the disk when that is said.
    ///
    /// A folder with other things in it is refused.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let exists = fs::exists(path.join(MARK)).map_err(Error::read(path))?;
        let layout = if exists { Layout::open(path).await? } else { Self::make(path).await? };
        Ok(Self { layout: Arc::new(layout), path: path.to_owned(), lasting: true, writing: tokio::sync::Mutex::new(()) })
    }

    /// A layout in an empty folder that is only a step to something else: nothing is synced, and it is named by
    /// [`Folder::write_names`] alone.
    pub(crate) async fn passing(path: &Path) -> Result<Self, Error> {
        let layout = Arc::new(Self::make(path).await?);
        Ok(Self { layout, path: path.to_owned(), lasting: false, writing: tokio::sync::Mutex::new(()) })
    }

    async fn make(path: &Path) -> Result<Layout, Error> {
        let owned = path.to_owned();
        blocking(path, move || {
            let has_others = match fs::read_dir(&owned) {
                Ok(mut entries) => entries.next().is_some(),
                Err(cause) if cause.kind() == ErrorKind::NotFound => false,
                Err(cause) => return Err(Error::read(&owned)(cause)),
            };
            if has_others {
                return Err(Error::form(&owned, "it is a folder with other things in it"));
            }
            tar_file::make_folder(&owned)?;
            let index = index::write(&[]).map_err(io::Error::other).map_err(Error::written(&owned))?;
            // Last what says that it is a layout.
            for (name, content) in [(INDEX, index.as_ref()), (MARK, index::MARK_TEXT)] {
                replace(&owned.join(name), content, true).map_err(Error::written(&owned))?;
            }
            let catalog = RwLock::new(Catalog::default());
            Ok(Layout { blobs: Blobs::Folder(owned), catalog })
        })
        .await
    }

    /// The same, to be read.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Names an image that has no tag, so that it is found in its repository. The manifest was pushed before.
    pub async fn name_digest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let named = Name { repository: Some(name.clone()), place: Place::Digest(digest.clone()) };
        self.change(|catalog| drop(catalog.names.insert(named, digest.clone()))).await
    }

    /// Writes `index.json`.
    pub(crate) async fn write_names(&self) -> Result<(), Error> {
        let _one = self.writing.lock().await;
        self.write_index().await
    }

    /// Writes all of it as a tar file, see [`tar_file::write`].
    pub(crate) async fn write_tar(&self, out: &Path) -> Result<(), Error> {
        let (layout, index, owned) = (Arc::clone(&self.layout), self.index()?, out.to_owned());
        blocking(out, move || tar_file::write(&layout.blobs, &index, &owned)).await
    }

    /// Syncs what was written so far, so that it can be renamed to what lasts.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let (layout, path) = (Arc::clone(&self.layout), self.path.clone());
        blocking(&self.path, move || {
            let blobs = layout.blobs.all().map_err(Error::read(&path))?;
            let files = blobs.iter().map(|(digest, _)| blob_path(&path, digest));
            let folders = ["blobs/sha256", "blobs/sha512", "blobs", INDEX, MARK, ""].map(|name| path.join(name));
            for file in files.chain(folders) {
                File::open(&file).and_then(|file| file.sync_all()).map_err(Error::written(&file))?;
            }
            Ok(())
        })
        .await
    }

    async fn change(&self, change: impl FnOnce(&mut Catalog)) -> Result<(), Error> {
        let _one = self.writing.lock().await;
        change(&mut self.layout.catalog.write().unwrap_or_else(PoisonError::into_inner));
        if self.lasting { self.write_index().await } else { Ok(()) }
    }

    fn index(&self) -> Result<Bytes, Error> {
        let entries = self.layout.catalog().entries();
        index::write(&entries).map_err(io::Error::other).map_err(Error::written(&self.path))
    }

    async fn write_index(&self) -> Result<(), Error> {
        let (index, path, lasting) = (self.index()?, self.path.join(INDEX), self.lasting);
        let owned = path.clone();
        blocking(&path, move || replace(&owned, &index, lasting).map_err(Error::written(&owned))).await
    }

    /// Takes bytes from where they come until the last, then their digest is right or nothing is kept.
    async fn take(&self, digest: &Digest, source: Arc<dyn RangeSource>) -> Result<(), OciError> {
        let path = blob_path(&self.path, digest);
        let parts = path.parent().map(Path::to_owned).unwrap_or_default();
        let file = NamedTempFile::with_prefix_in(".part-", parts).map_err(unwritten)?;
        let mut out = tokio::fs::File::from_std(file.reopen().map_err(unwritten)?);
        out.set_max_buf_size(1024 * 1024);
        let (mut hasher, mut stream) = (Hasher::new(digest.algorithm()), source.open(0, None).await?);
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            hasher.update(&bytes);
            out.write_all(&bytes).await.map_err(unwritten)?;
        }
        out.flush().await.map_err(unwritten)?;
        let actual = hasher.finish();
        if actual != *digest {
            return Err(OciError::DigestInvalid { reason: format!("the content has the digest {actual}, not {digest}") });
        }
        let lasting = self.lasting;
        let kept = tokio::task::spawn_blocking(move || keep(file, &path, lasting)).await;
        kept.map_err(io::Error::other).and_then(|kept| kept).map_err(unwritten)
    }
}

fn unwritten(cause: io::Error) -> OciError {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            OciError::Internal { context: "writing a layout: the disk is full", source: cause.into() }
        }
        _ => OciError::internal("writing a layout", cause),
    }
}

/// Gives a file its name, so that a crash leaves all of it or nothing.
fn keep(file: NamedTempFile, path: &Path, lasting: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    if lasting {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|cause| cause.error)?;
    match path.parent() {
        Some(folder) if lasting => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn replace(path: &Path, content: &[u8], lasting: bool) -> io::Result<()> {
    let mut file = NamedTempFile::with_prefix_in(".part-", path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    keep(file, path, lasting)
}

#[async_trait]
impl Push for Folder {
    async fn has_blob(&self, _name: &RepositoryName, digest: &Digest) -> Result<bool, OciError> {
        Ok(self.layout.blobs.size(digest).map_err(failed)?.is_some())
    }

    async fn has_manifest(&self, _name: &RepositoryName, digest: &Digest) -> Result<bool, OciError> {
        Ok(self.layout.catalog().manifests.contains_key(digest))
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, OciError> {
        let name = Name { repository: Some(name.clone()), place: Place::Tag(tag.clone()) };
        Ok(self.layout.catalog().names.get(&name).cloned())
    }

    async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, _from: Option<&RepositoryName>) -> Result<bool, OciError> {
        self.has_blob(name, digest).await
    }

    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        _size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), OciError> {
        if self.has_blob(name, digest).await? {
            return Ok(());
        }
        self.take(digest, source).await
    }

    async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), OciError> {
        let actual = Hasher::digest(manifest.digest.algorithm(), &manifest.bytes);
        if actual != manifest.digest {
            let reason = format!("the content has the digest {actual}, not {}", manifest.digest);
            return Err(OciError::DigestInvalid { reason });
        }
        let view = ManifestView::parse(&manifest.bytes, Some(&manifest.media_type))?;
        let (path, bytes, lasting) = (blob_path(&self.path, &manifest.digest), manifest.bytes.clone(), self.lasting);
        let kept = tokio::task::spawn_blocking(move || replace(&path, &bytes, lasting)).await;
        kept.map_err(io::Error::other).and_then(|kept| kept).map_err(unwritten)?;
        let names = tags.iter().map(|tag| Name { repository: Some(name.clone()), place: Place::Tag(tag.clone()) });
        let changed = self.change(|catalog| catalog.push(manifest, view, names)).await;
        changed.map_err(|cause| OciError::internal("writing a layout", cause))
    }
}

#[async_trait]
impl Pull for Folder {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, OciError> {
        self.layout.resolve(name, reference).await
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, OciError> {
        self.layout.manifest(name, reference).await
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, OciError> {
        self.layout.stat_blob(name, digest).await
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, OciError> {
        self.layout.blob(name, digest).await
    }
}

#[async_trait]
impl Discover for Folder {
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, OciError> {
        self.layout.tags(name, page).await
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, OciError> {
        self.layout.referrers(name, subject, query).await
    }
}
