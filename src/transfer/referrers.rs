//! What refers to the manifests of a copy: signatures, SBOMs, whatever refers to those again.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use oci::{Descriptor, Digest, ManifestStat, Page, Reference, ReferrersList, Tag};

use crate::error::{Error, Piece};
use crate::graph::{Copy, Node};

/// So long may a chain of referrers of referrers be.
const DEEPEST: usize = 8;
/// So many manifests may refer to one.
const MOST: usize = 10_000;

/// The tags under which clients without the referrers API keep what refers to `subject`: the list of its referrers, and what cosign
/// attaches. [distribution-spec, Unavailable referrers API]
pub(crate) fn attached_tags(subject: &Digest) -> Vec<Tag> {
    let attached = ["sig", "att", "sbom"].map(|kind| Tag::parse(&format!("{}-{}.{kind}", subject.algorithm(), subject.hex())));
    // Those of a long digest would be longer than a tag may be.
    let attached = attached.into_iter().filter_map(Result::ok);
    std::iter::once(Tag::referrers_fallback(subject)).chain(attached).collect()
}

impl Copy<'_> {
    /// Copies what refers to the manifests that this copy has met, round after round.
    pub(crate) async fn referrers(&self) -> Result<(), Error> {
        for _ in 0..DEEPEST {
            let round = self.take_fresh();
            if round.is_empty() {
                return Ok(());
            }
            let at_once = self.transfer.options.manifests_at_once.max(1);
            let lists: Vec<_> = round.iter().map(|subject| self.attached(subject).boxed()).collect();
            stream::iter(lists).buffer_unordered(at_once).try_collect::<()>().await?;
        }
        match self.take_fresh().first() {
            None => Ok(()),
            Some(last) => {
                let reason = format!("a chain of more than {DEEPEST} referrers ends in it");
                Err(Error::Unreasonable { piece: self.piece(last), reason })
            }
        }
    }

    async fn attached(&self, subject: &Digest) -> Result<(), Error> {
        for descriptor in self.listed(subject).await? {
            self.referrer(&descriptor).await?;
        }
        for tag in attached_tags(subject) {
            self.attached_tag(tag).await?;
        }
        Ok(())
    }

    /// All pages of the source's list.
    async fn listed(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let piece = || Piece::Referrers(self.from.clone(), subject.clone());
        let (mut found, mut query) = (Vec::new(), ReferrersList::default());
        loop {
            let page = self.transfer.patience.ask(|| self.transfer.source.referrers(self.from, subject, &query)).await;
            let page = page.map_err(|cause| self.source(piece(), cause))?;
            found.extend(page.entries);
            if found.len() > MOST {
                return Err(Error::Unreasonable { piece: piece(), reason: format!("it has more than {MOST} referrers") });
            }
            // A list that does not move on would never end.
            if page.next.is_none() || page.next == query.page.last {
                return Ok(found);
            }
            query.page = Page { limit: None, last: page.next };
        }
    }

    async fn referrer(&self, descriptor: &Descriptor) -> Result<(), Error> {
        if self.has_seen(&descriptor.digest) {
            return Ok(());
        }
        let node = Node { digest: &descriptor.digest, media_type: &descriptor.media_type, depth: 0, lenient: true, tags: &[] };
        match self.node(node).await {
            Ok(_) => {
                self.tally().referrers += 1;
                Ok(())
            }
            // A list may name what was deleted since.
            Err(Error::Source { piece, cause }) if cause.is_unknown() && piece == self.piece(&descriptor.digest) => {
                tracing::warn!(repository = %self.from, digest = %descriptor.digest, "a referrer is listed and not there");
                self.tally().absent.insert(descriptor.digest.clone());
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// Copies what the source has under this tag, if anything, under the same tag.
    async fn attached_tag(&self, tag: Tag) -> Result<(), Error> {
        let reference = Reference::Tag(tag);
        let found = self.transfer.patience.ask(|| self.transfer.source.resolve(self.from, &reference)).await;
        let Reference::Tag(tag) = &reference else { return Ok(()) };
        let stat: ManifestStat = match found {
            Ok(stat) => stat,
            Err(cause) if cause.is_unknown() => return Ok(()),
            Err(cause) => return Err(self.source(Piece::Manifest(self.from.clone(), reference), cause)),
        };
        let tags = self.moving(std::slice::from_ref(tag), &stat.digest).await?;
        let known = self.has_seen(&stat.digest);
        let node = Node { digest: &stat.digest, media_type: &stat.media_type, depth: 0, lenient: true, tags: &tags };
        let placed = self.node(node).await?;
        if !placed.pushed && !tags.is_empty() {
            let manifest = match placed.manifest {
                Some(manifest) => manifest,
                None => self.read(&stat.digest, true).await?,
            };
            self.push(&manifest, &tags).await?;
        }
        // The list of referrers is none of them.
        if !known && tag.as_str().contains('.') {
            self.tally().referrers += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::{Algorithm, Hasher};

    use super::*;

    #[test]
    fn attached_tags_are_those_that_clients_make() {
        let short = Hasher::digest(Algorithm::Sha256, b"");
        let tags: Vec<String> = attached_tags(&short).iter().map(ToString::to_string).collect();
        let base = format!("sha256-{}", short.hex());
        assert_eq!(tags, [base.clone(), format!("{base}.sig"), format!("{base}.att"), format!("{base}.sbom")]);
        let long = Digest::parse(&format!("sha512:{}", "a".repeat(128))).unwrap();
        assert_eq!(attached_tags(&long), [Tag::referrers_fallback(&long)]);
    }
}
