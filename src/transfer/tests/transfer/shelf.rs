use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci::{
    Blob, BlobStat, Content, Descriptor, Digest, Discover, Error, Hasher, Listing, Manifest, ManifestStat, ManifestView, Page,
    Pull, Push, RangeSource, Reference, ReferrersList, RepositoryName, Tag, media_type,
};

/// A registry in memory that keeps the rules of one, writes down what it was asked to change, and fails where it is told to.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<State>);

#[derive(Default)]
struct State {
    repositories: BTreeMap<RepositoryName, Repository>,
    log: Vec<String>,
    asked: Vec<String>,
    faults: Vec<(String, Misdeed)>,
    pushing: usize,
    most_pushing: usize,
}

/// What a repository holds, to be compared.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Repository {
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    pub(crate) manifests: BTreeMap<Digest, (String, Bytes)>,
    pub(crate) tags: BTreeMap<Tag, Digest>,
}

/// One thing that goes wrong, once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misdeed {
    /// It cannot be done now.
    Unavailable,
    /// It may not be done.
    Denied,
    /// A blob is read in half and then lost.
    LoseHalf,
    /// A blob is read from the beginning, lost, and read again from its middle.
    Rewind,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The next change whose line in the log begins so goes wrong.
    pub(crate) fn fault(&self, line: &str, misdeed: Misdeed) {
        self.lock().faults.push((line.to_owned(), misdeed));
    }

    /// What was changed, in order: `blob`, `mount`, `manifest`, each with its digest; a manifest also with its tags.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// What it was asked for as a source, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.log.clear();
        state.asked.clear();
        state.most_pushing = 0;
    }

    /// The most blobs that were pushed at the same time.
    pub(crate) fn most_pushing(&self) -> usize {
        self.lock().most_pushing
    }

    pub(crate) fn held(&self, name: &str) -> Repository {
        self.lock().repositories.get(&crate::name(name)).cloned().unwrap_or_default()
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.lock().repositories.keys().map(ToString::to_string).collect()
    }

    /// Puts content there as a source has it, without any rules.
    pub(crate) fn put(&self, name: &str, change: impl FnOnce(&mut Repository)) {
        change(self.lock().repositories.entry(crate::name(name)).or_default());
    }

    fn strike(&self, line: &str) -> Option<Misdeed> {
        let mut state = self.lock();
        let at = state.faults.iter().position(|(begin, _)| line.starts_with(begin))?;
        Some(state.faults.remove(at).1)
    }

    /// Writes a change down; or it goes wrong.
    fn change(&self, line: String) -> Result<Option<Misdeed>, Error> {
        let misdeed = self.strike(&line);
        match misdeed {
            Some(Misdeed::Unavailable) => return Err(lost()),
            Some(Misdeed::Denied) => return Err(Error::Denied { reason: "not here".to_owned() }),
            _ => self.lock().log.push(line),
        }
        Ok(misdeed)
    }

    fn repository<T>(
        &self,
        name: &RepositoryName,
        find: impl FnOnce(&Repository) -> Option<T>,
        unknown: Error,
    ) -> Result<T, Error> {
        let state = self.lock();
        let repository = state.repositories.get(name).ok_or_else(|| Error::NameUnknown { name: name.to_string() })?;
        find(repository).ok_or(unknown)
    }
}

fn lost() -> Error {
    Error::Unavailable { reason: "the shelf fell".to_owned(), source: None }
}

async fn read(source: &Arc<dyn RangeSource>, start: u64) -> Result<Vec<u8>, Error> {
    let mut stream = source.open(start, None).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
        // Others have their turn, as with a disk or a network.
        tokio::task::yield_now().await;
    }
    Ok(bytes)
}

#[async_trait]
impl Push for Shelf {
    async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        Ok(self.held(name.as_str()).blobs.contains_key(digest))
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        Ok(self.held(name.as_str()).manifests.contains_key(digest))
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Error> {
        Ok(self.held(name.as_str()).tags.get(tag).cloned())
    }

    async fn mount_blob(&self, name: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<bool, Error> {
        let found = {
            let state = self.lock();
            let mut serving = state.repositories.iter().filter(|(known, _)| from.is_none_or(|from| *known == from));
            serving.find_map(|(_, repository)| repository.blobs.get(digest).cloned())
        };
        let Some(bytes) = found else { return Ok(false) };
        self.change(format!("mount {digest}"))?;
        self.put(name.as_str(), |repository| drop(repository.blobs.insert(digest.clone(), bytes)));
        Ok(true)
    }

    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        source: Arc<dyn RangeSource>,
    ) -> Result<(), Error> {
        {
            let mut state = self.lock();
            state.pushing += 1;
            state.most_pushing = state.most_pushing.max(state.pushing);
        }
        let read = match self.change(format!("blob {digest}")) {
            Ok(Some(Misdeed::LoseHalf)) => {
                let mut stream = source.open(0, None).await?;
                let _ = stream.next().await;
                Err(lost())
            }
            Ok(Some(Misdeed::Rewind)) => match read(&source, 0).await {
                Ok(whole) => {
                    let half = whole.len() / 2;
                    read(&source, half as u64).await.map(|rest| [&whole[..half], &rest].concat())
                }
                failed => failed,
            },
            Ok(_) => read(&source, 0).await,
            Err(error) => Err(error),
        };
        self.lock().pushing -= 1;
        let bytes = Bytes::from(read?);
        if Hasher::digest(digest.algorithm(), &bytes) != *digest {
            return Err(Error::DigestInvalid { reason: format!("the content is not {digest}") });
        }
        assert!(size.is_none_or(|size| size == bytes.len() as u64), "the size was told wrongly");
        self.put(name.as_str(), |repository| drop(repository.blobs.insert(digest.clone(), bytes)));
        Ok(())
    }

    async fn push_manifest(&self, name: &RepositoryName, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        let line = std::iter::once(manifest.digest.to_string()).chain(tags.iter().map(Tag::to_string)).collect::<Vec<_>>();
        self.change(format!("manifest {}", line.join(" ")))?;
        let view = ManifestView::parse(&manifest.bytes, Some(&manifest.media_type))?;
        assert_eq!(Hasher::digest(manifest.digest.algorithm(), &manifest.bytes), manifest.digest);
        let held = self.held(name.as_str());
        let needed = view.blobs.iter().filter(|blob| !media_type::is_nondistributable(&blob.media_type));
        for blob in needed {
            if !held.blobs.contains_key(&blob.digest) {
                return Err(Error::ManifestBlobUnknown { digest: blob.digest.clone() });
            }
        }
        self.put(name.as_str(), |repository| {
            let stored = (manifest.media_type.clone(), manifest.bytes.clone());
            repository.manifests.insert(manifest.digest.clone(), stored);
            repository.tags.extend(tags.iter().map(|tag| (tag.clone(), manifest.digest.clone())));
        });
        Ok(())
    }
}

#[async_trait]
impl Pull for Shelf {
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, Error> {
        let unknown = Error::ManifestUnknown { reference: reference.to_string() };
        let find = |repository: &Repository| {
            let digest = match reference {
                Reference::Digest(digest) => digest.clone(),
                Reference::Tag(tag) => repository.tags.get(tag)?.clone(),
            };
            let (media_type, bytes) = repository.manifests.get(&digest)?.clone();
            Some(ManifestStat { digest, media_type, size: bytes.len() as u64, warning: None })
        };
        self.repository(name, find, unknown)
    }

    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error> {
        let stat = self.resolve(name, reference).await?;
        self.lock().asked.push(format!("manifest {}", stat.digest));
        let (media_type, bytes) = self.held(name.as_str()).manifests[&stat.digest].clone();
        Ok(Manifest { digest: stat.digest, media_type, bytes, warning: None })
    }

    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error> {
        let blob =
            self.repository(name, |held| held.blobs.get(digest).cloned(), Error::BlobUnknown { digest: digest.clone() })?;
        Ok(BlobStat { digest: digest.clone(), size: Some(blob.len() as u64) })
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error> {
        self.lock().asked.push(format!("blob {digest}"));
        let blob =
            self.repository(name, |held| held.blobs.get(digest).cloned(), Error::BlobUnknown { digest: digest.clone() })?;
        Ok(Blob { digest: digest.clone(), size: Some(blob.len() as u64), content: Content::Bytes(blob) })
    }
}

#[async_trait]
impl Discover for Shelf {
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error> {
        let tags = self.repository(name, |held| Some(held.tags.clone()), Error::NameUnknown { name: name.to_string() })?;
        Ok(Listing::cut(tags.into_keys(), page, 3, Tag::to_string))
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error> {
        let held = self.held(name.as_str());
        let descriptors = held.manifests.iter().filter_map(|(digest, (media_type, bytes))| {
            let view = ManifestView::parse(bytes, Some(media_type)).unwrap();
            (view.subject?.digest == *subject).then(|| Descriptor {
                media_type: media_type.clone(),
                digest: digest.clone(),
                size: bytes.len() as u64,
                artifact_type: view.artifact_type,
                platform: None,
                annotations: view.annotations,
            })
        });
        // In small pages, so that whoever reads them has to turn them.
        Ok(Listing::cut(descriptors, &query.page, 2, |descriptor| descriptor.digest.to_string()))
    }
}
