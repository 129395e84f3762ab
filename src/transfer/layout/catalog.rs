//! What a layout holds, as far as its names lead.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use oci::{Annotations, Descriptor, Digest, Hasher, Manifest, ManifestView, RepositoryName, media_type};

use crate::layout::blobs::Blobs;
use crate::layout::index::{self, Name};
use crate::layout::{Error, LARGEST_MANIFEST, MOST_MANIFESTS};

/// Bytes of the annotations of referrers, which are kept for listings.
const MOST_ANNOTATIONS: usize = 64 * 1024 * 1024;

/// Names, manifests and referrers of a layout.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) names: BTreeMap<Name, Digest>,
    pub(crate) manifests: BTreeMap<Digest, Held>,
    /// Manifests by their subjects, which may be absent.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Manifests that an index lists.
    listed: BTreeSet<Digest>,
    /// Bytes of the annotations that are kept.
    annotated: usize,
}

/// What is known of a manifest.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) subject: Option<Digest>,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
}

impl Catalog {
    /// Walks from the entries of an `index.json` to every manifest that they lead to. Manifests that only an index lists may be
    /// absent; all others are checked against their digests.
    pub(crate) fn walk(entries: Vec<Descriptor>, blobs: &Blobs) -> Result<Self, Error> {
        let mut catalog = Self::default();
        let mut left: Vec<(Descriptor, bool)> = Vec::new();
        let mut nameless = Vec::new();
        // Others may put there what is no manifest.
        for entry in entries.into_iter().filter(is_manifest) {
            match index::name_of(&entry) {
                Some(name) => drop(catalog.names.insert(name, entry.digest.clone())),
                None => nameless.push(entry.digest.clone()),
            }
            left.push((entry, true));
        }
        let mut met: HashSet<Digest> = left.iter().map(|(entry, _)| entry.digest.clone()).collect();
        while let Some((descriptor, must_be)) = left.pop() {
            if met.len() > MOST_MANIFESTS {
                return Err(Error::form(blobs.path(), format!("it has more than {MOST_MANIFESTS} manifests")));
            }
            if catalog.manifests.contains_key(&descriptor.digest) {
                continue;
            }
            let Some(view) = read(&descriptor, blobs)? else {
                if must_be {
                    return Err(Error::damaged(blobs.path(), &descriptor.digest, "is missing"));
                }
                continue;
            };
            let mut children = BTreeSet::new();
            for child in view.manifests.iter().filter(|child| is_manifest(child)) {
                // Strangers can list what is absent without end; only what is there is remembered.
                if blobs.size(&child.digest).map_err(Error::read(blobs.path()))?.is_none() {
                    continue;
                }
                children.insert(child.digest.clone());
                if met.insert(child.digest.clone()) {
                    left.push((child.clone(), false));
                }
            }
            catalog.add(&descriptor.digest, descriptor.size, view, children);
            if catalog.annotated > MOST_ANNOTATIONS {
                let reason = format!("its referrers have more than {MOST_ANNOTATIONS} bytes of annotations");
                return Err(Error::form(blobs.path(), reason));
            }
        }
        catalog.name_the_nameless(nameless);
        Ok(catalog)
    }

    /// Takes a manifest in.
    pub(crate) fn add(&mut self, digest: &Digest, size: u64, view: ManifestView, children: impl IntoIterator<Item = Digest>) {
        self.listed.extend(children);
        let subject = view.subject.map(|subject| subject.digest);
        if let Some(subject) = &subject {
            self.referrers.entry(subject.clone()).or_default().insert(digest.clone());
        }
        // Only a list of referrers repeats them.
        let annotations = view.annotations.filter(|_| subject.is_some());
        self.annotated += annotations.iter().flatten().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let held = Held { media_type: view.media_type, size, subject, artifact_type: view.artifact_type, annotations };
        self.manifests.insert(digest.clone(), held);
    }

    /// An image of others may stand there without a name; what refers to something, or is listed by something, is none.
    fn name_the_nameless(&mut self, nameless: Vec<Digest>) {
        let named: HashSet<Digest> = self.names.values().cloned().collect();
        for digest in nameless {
            let refers = self.manifests.get(&digest).is_some_and(|held| held.subject.is_some());
            if !refers && !named.contains(&digest) && !self.listed.contains(&digest) {
                let place = index::Place::Digest(digest.clone());
                self.names.insert(Name { repository: None, place }, digest);
            }
        }
    }

    /// Does the layout name anything in this repository? What is named without a repository is in any.
    pub(crate) fn has_repository(&self, name: &RepositoryName) -> bool {
        self.names.keys().any(|known| known.repository.as_ref().is_none_or(|repository| repository == name))
    }

    /// The descriptors of what refers to a manifest, in order of their digests.
    pub(crate) fn referrers(&self, subject: &Digest) -> Vec<Descriptor> {
        let digests = self.referrers.get(subject).into_iter().flatten();
        digests.filter_map(|digest| Some(self.manifests.get(digest)?.descriptor(digest, true))).collect()
    }

    /// The entries of the `index.json` that leads to all of this: named ones in order of their names, then what nothing else leads
    /// to.
    pub(crate) fn entries(&self) -> Vec<Descriptor> {
        let named = self.names.iter().filter_map(|(name, digest)| {
            let descriptor = self.manifests.get(digest)?.descriptor(digest, false);
            Some(index::named(descriptor, name))
        });
        let known: BTreeSet<&Digest> = self.names.values().collect();
        let rest = self.manifests.iter().filter(|(digest, _)| !known.contains(digest) && !self.listed.contains(*digest));
        named.chain(rest.map(|(digest, held)| held.descriptor(digest, false))).collect()
    }
}

impl Held {
    /// Its descriptor, where wanted with what a list of referrers says.
    fn descriptor(&self, digest: &Digest, annotated: bool) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: digest.clone(),
            size: self.size,
            artifact_type: self.artifact_type.clone().filter(|_| self.subject.is_some()),
            platform: None,
            annotations: self.annotations.clone().filter(|_| annotated),
        }
    }
}

/// Does the descriptor say that it is one of a manifest?
pub(crate) fn is_manifest(descriptor: &Descriptor) -> bool {
    media_type::MANIFESTS.contains(&descriptor.media_type.as_str())
}

/// A manifest, checked against its descriptor; `None` if it is not there.
fn read(descriptor: &Descriptor, blobs: &Blobs) -> Result<Option<ManifestView>, Error> {
    let (path, digest) = (blobs.path(), &descriptor.digest);
    let failed = |cause| Error::read(path)(cause);
    let Some(size) = blobs.size(digest).map_err(failed)? else { return Ok(None) };
    if size != descriptor.size {
        let reason = format!("has {size} bytes, its descriptor says {}", descriptor.size);
        return Err(Error::damaged(path, digest, reason));
    }
    if size > LARGEST_MANIFEST {
        return Err(Error::damaged(path, digest, format!("is a manifest of more than {LARGEST_MANIFEST} bytes")));
    }
    let Some(bytes) = blobs.bytes(digest).map_err(failed)? else { return Ok(None) };
    let actual = Hasher::digest(digest.algorithm(), &bytes);
    if actual != *digest {
        return Err(Error::damaged(path, digest, format!("has the digest {actual}")));
    }
    let parsed = ManifestView::parse(&bytes, Some(&descriptor.media_type));
    let view = parsed.map_err(|cause| Error::damaged(path, digest, format!("is no manifest: {cause}")))?;
    Ok(Some(view))
}

impl Catalog {
    /// Takes in a manifest that was pushed, and names it so.
    pub(crate) fn push(&mut self, manifest: &Manifest, view: ManifestView, names: impl IntoIterator<Item = Name>) {
        let children: Vec<Digest> = view.manifests.iter().map(|child| child.digest.clone()).collect();
        self.add(&manifest.digest, manifest.bytes.len() as u64, view, children);
        self.names.extend(names.into_iter().map(|name| (name, manifest.digest.clone())));
    }
}
