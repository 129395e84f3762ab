//! A layout to be read.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use oci::{
    Blob, BlobStat, Content, Descriptor, Digest, Discover, Error as OciError, Listing, Manifest, ManifestStat, Page, Pull,
    Reference, ReferrersList, RepositoryName, Tag,
};

use crate::bundle::Image;
use crate::layout::blobs::Blobs;
use crate::layout::catalog::Catalog;
use crate::layout::index::{self, Name, Place};
use crate::layout::{Error, INDEX, LARGEST_INDEX, MARK, blocking, tar_file};
use crate::referrers::attached_tags;

/// The most entries of one page of a listing.
const PAGE: usize = 10_000;

/// A layout in a folder or a tar file, opened for reading.
pub struct Layout {
    pub(crate) blobs: Blobs,
    pub(crate) catalog: RwLock<Catalog>,
}

impl Layout {
    /// Opens the layout that a folder or a tar file holds. Its names and manifests are read and checked; its blobs are not, see
    /// [`Layout::verify`].
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let owned = path.to_owned();
        blocking(path, move || {
            let found = fs::metadata(&owned).map_err(Error::read(&owned))?;
            if found.is_dir() { Self::open_folder(&owned) } else { Self::open_tar(&owned) }
        })
        .await
    }

    fn open_folder(path: &Path) -> Result<Self, Error> {
        let small = |name: &str| {
            let path = path.join(name);
            let size = fs::metadata(&path).map_err(Error::read(&path))?.len();
            if size > LARGEST_INDEX {
                return Err(Error::form(&path, format!("it has more than {LARGEST_INDEX} bytes")));
            }
            fs::read(&path).map_err(Error::read(&path))
        };
        let (mark, index) = (small(MARK)?, small(INDEX)?);
        Self::of(Blobs::Folder(path.to_owned()), &mark, &index)
    }

    fn open_tar(path: &Path) -> Result<Self, Error> {
        let scanned = tar_file::scan(path)?;
        Self::of(scanned.blobs, &scanned.mark, &scanned.index)
    }

    fn of(blobs: Blobs, mark: &[u8], index: &[u8]) -> Result<Self, Error> {
        index::check_mark(mark).map_err(|reason| Error::form(blobs.path(), reason))?;
        let entries =
            index::parse(index).map_err(|cause| Error::form(blobs.path(), format!("its index.json is wrong: {cause}")))?;
        let catalog = Catalog::walk(entries, &blobs)?;
        Ok(Self { blobs, catalog: RwLock::new(catalog) })
    }

    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images that the layout names, in order of their names. Tags of signatures are not among them: they go with what they sign.
    #[must_use]
    pub fn images(&self) -> Vec<Image> {
        let catalog = self.catalog();
        let attached: std::collections::HashSet<Tag> = catalog.manifests.keys().flat_map(attached_tags).collect();
        let is_image = |name: &Name| !matches!(&name.place, Place::Tag(tag) if attached.contains(tag));
        let images = catalog.names.iter().filter(|(name, _)| is_image(name));
        images
            .map(|(name, digest)| Image {
                repository: name.repository.clone(),
                reference: name.place.reference(),
                digest: digest.clone(),
            })
            .collect()
    }

    /// What a reference means; what is named without a repository is in any.
    fn find(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, OciError> {
        let catalog = self.catalog();
        let digest = match reference {
            Reference::Digest(digest) => Some(digest.clone()).filter(|_| catalog.has_repository(name)),
            Reference::Tag(_) => {
                let in_repository =
                    |repository: Option<&RepositoryName>| Name { repository: repository.cloned(), place: reference.into() };
                catalog.names.get(&in_repository(Some(name))).or_else(|| catalog.names.get(&in_repository(None))).cloned()
            }
        };
        let held = digest.and_then(|digest| Some((catalog.manifests.get(&digest)?, digest)));
        match held {
            Some((held, digest)) => {
                Ok(ManifestStat { digest, media_type: held.media_type.clone(), size: held.size, warning: None })
            }
            None if catalog.has_repository(name) => Err(OciError::ManifestUnknown { reference: reference.to_string() }),
            None => Err(OciError::NameUnknown { name: name.to_string() }),
        }
    }

    fn known(&self, name: &RepositoryName) -> Result<(), OciError> {
        if self.catalog().has_repository(name) { Ok(()) } else { Err(OciError::NameUnknown { name: name.to_string() }) }
    }
}

/// Files of the layout could not be read.
pub(crate) fn failed(cause: io::Error) -> OciError {
    OciError::internal("reading a layout", cause)
}

#[async_trait]
impl Pull for Layout {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, OciError> {
        self.find(name, reference)
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, OciError> {
        let stat = self.find(name, reference)?;
        let bytes = self.blobs.bytes(&stat.digest).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| OciError::ManifestUnknown { reference: reference.to_string() })?;
        Ok(Manifest { digest: stat.digest, media_type: stat.media_type, bytes, warning: None })
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, OciError> {
        self.known(name)?;
        let size = self.blobs.size(digest).map_err(failed)?;
        let size = size.ok_or_else(|| OciError::BlobUnknown { digest: digest.clone() })?;
        Ok(BlobStat { digest: digest.clone(), size: Some(size) })
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, OciError> {
        self.known(name)?;
        let section = self.blobs.section(digest).map_err(failed)?;
        let section = section.ok_or_else(|| OciError::BlobUnknown { digest: digest.clone() })?;
        Ok(Blob { digest: digest.clone(), size: Some(section.length), content: Content::Source(Arc::new(section)) })
    }
}

#[async_trait]
impl Discover for Layout {
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, OciError> {
        self.known(name)?;
        let catalog = self.catalog();
        let here = |known: &&Name| known.repository.as_ref().is_none_or(|repository| repository == name);
        let tags: std::collections::BTreeSet<Tag> = catalog
            .names
            .keys()
            .filter(here)
            .filter_map(|known| match &known.place {
                Place::Tag(tag) => Some(tag.clone()),
                Place::Digest(_) => None,
            })
            .collect();
        Ok(Listing::cut(tags, page, PAGE, Tag::to_string))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, OciError> {
        let catalog = self.catalog();
        let found = if catalog.has_repository(name) { catalog.referrers(subject) } else { Vec::new() };
        let wanted = |descriptor: &Descriptor| {
            query.artifact_type.is_none() || descriptor.artifact_type.as_ref() == query.artifact_type.as_ref()
        };
        let found = found.into_iter().filter(wanted);
        Ok(Listing::cut(found, &query.page, PAGE, |descriptor| descriptor.digest.to_string()))
    }
}
