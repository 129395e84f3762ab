//! Checking a whole layout before anything of it is believed.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use oci::{Digest, Hasher, ManifestView, media_type};

use crate::layout::{Error, Layout, blocking};
use crate::progress::Progress;
use crate::source::Section;

/// So much is read of a file at once.
const PIECE: usize = 1024 * 1024;

impl Layout {
    /// Checks that every blob has its digest and that every image has all its blobs, each as long as is said of it.
    ///
    /// `Damaged` names the first blob that is not right. Manifests that an index lists may be absent, and layers that need not be
    /// distributed.
    pub async fn verify(self: &Arc<Self>, progress: &Progress) -> Result<(), Error> {
        let (layout, progress) = (Arc::clone(self), progress.clone());
        let path = self.blobs.path().to_owned();
        blocking(&path, move || {
            layout.check_graph()?;
            layout.check_digests(&progress)
        })
        .await
    }

    fn check_graph(&self) -> Result<(), Error> {
        let path = self.blobs.path();
        for (digest, held) in &self.catalog().manifests {
            let bytes = self.blobs.bytes(digest).map_err(Error::read(path))?;
            let bytes = bytes.ok_or_else(|| Error::damaged(path, digest, "is missing"))?;
            let parsed = ManifestView::parse(&bytes, Some(&held.media_type));
            let view = parsed.map_err(|cause| Error::damaged(path, digest, format!("is no manifest: {cause}")))?;
            for blob in view.blobs.iter().filter(|blob| !media_type::is_nondistributable(&blob.media_type)) {
                match self.blobs.size(&blob.digest).map_err(Error::read(path))? {
                    None => return Err(Error::damaged(path, &blob.digest, format!("of the manifest {digest} is missing"))),
                    Some(size) if size != blob.size => {
                        let reason = format!("has {size} bytes, the manifest {digest} says {}", blob.size);
                        return Err(Error::damaged(path, &blob.digest, reason));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn check_digests(&self, progress: &Progress) -> Result<(), Error> {
        let path = self.blobs.path();
        for (digest, _) in self.blobs.all().map_err(Error::read(path))? {
            let section = self.blobs.section(&digest).map_err(Error::read(path))?;
            let section = section.ok_or_else(|| Error::damaged(path, &digest, "is missing"))?;
            check(path, &digest, &section, progress)?;
        }
        Ok(())
    }
}

fn check(path: &Path, digest: &Digest, section: &Section, progress: &Progress) -> Result<(), Error> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; PIECE.min(usize::try_from(section.length).unwrap_or(PIECE))];
    let mut done = 0;
    while done < section.length {
        let length = usize::try_from(section.length - done).unwrap_or(PIECE).min(PIECE);
        let piece = &mut buffer[..length];
        section.file.read_exact_at(piece, section.start + done).map_err(Error::read(path))?;
        hasher.update(piece);
        done += length as u64;
        progress.bytes_verified(length as u64);
    }
    let actual = hasher.finish();
    if actual == *digest { Ok(()) } else { Err(Error::damaged(path, digest, format!("has the digest {actual}"))) }
}
