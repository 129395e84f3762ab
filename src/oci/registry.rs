//! What a registry can be asked, whoever holds the content: the specification's categories *pull* and *content discovery*.

use async_trait::async_trait;

use crate::content::{Blob, BlobStat};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{Manifest, ManifestStat};
use crate::name::RepositoryName;
use crate::reference::{Reference, Tag};

/// Pulling: the local registry, an upstream, the pull-through between them. [distribution-spec, Pull]
#[async_trait]
pub trait Pull: Send + Sync {
    /// Digest, media type and size of a manifest, without its bytes (HEAD).
    ///
    /// `NameUnknown` or `ManifestUnknown` if it is not there.
    async fn resolve(&self, name: &RepositoryName, reference: &Reference) -> Result<ManifestStat, Error>;

    /// A manifest, byte for byte as it was pushed. Errors as [`Pull::resolve`].
    async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Manifest, Error>;

    /// Size of a blob (HEAD). `NameUnknown` or `BlobUnknown` if it is not there.
    async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobStat, Error>;

    /// A blob. Errors as [`Pull::stat_blob`].
    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob, Error>;
}

/// Listing. [distribution-spec, Content Discovery]
#[async_trait]
pub trait Discover: Send + Sync {
    /// Tags of a repository in byte order. `NameUnknown` if the repository is not there; a known one may be empty.
    async fn tags(&self, name: &RepositoryName, page: &Page) -> Result<Listing<Tag>, Error>;

    /// Descriptors of the manifests whose `subject` is this digest, in order of their digests. Empty, not an error, if there
    /// are none or the subject or repository is unknown.
    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        query: &ReferrersList,
    ) -> Result<Listing<Descriptor>, Error>;
}

/// Which part of a listing is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many entries; `None` leaves it to the server.
    pub limit: Option<usize>,
    /// Only entries after this one, which need not exist.
    pub last: Option<String>,
}

/// Which referrers are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersList {
    /// Only those of this artifact type.
    pub artifact_type: Option<String>,
    /// Which part of them.
    pub page: Page,
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The entries, in order.
    pub entries: Vec<T>,
    /// What to pass as [`Page::last`] for the next part; `None` at the end.
    pub next: Option<String>,
    /// Set when the listing comes from a copy because its origin did not answer.
    pub warning: Option<String>,
}

impl<T> Listing<T> {
    /// Cuts one page out of `sorted`, which is in the order of `key`.
    pub fn cut(sorted: impl IntoIterator<Item = T>, page: &Page, cap: usize, key: impl Fn(&T) -> String) -> Self {
        let limit = page.limit.unwrap_or(cap).min(cap);
        let after = |entry: &T| page.last.as_ref().is_none_or(|last| key(entry).as_str() > last.as_str());
        let mut rest = sorted.into_iter().filter(after);
        let entries: Vec<T> = rest.by_ref().take(limit).collect();
        let more = limit > 0 && rest.next().is_some();
        let next = if more { entries.last().map(&key) } else { None };
        Self { entries, next, warning: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: Option<usize>, last: Option<&str>) -> (Vec<&'static str>, Option<String>) {
        let page = Page { limit, last: last.map(str::to_owned) };
        let listing = Listing::cut(["a", "b", "d"], &page, 100, |tag| (*tag).to_owned());
        (listing.entries, listing.next)
    }

    #[test]
    fn pages_follow_one_another_and_end_without_next() {
        assert_eq!(cut(None, None), (vec!["a", "b", "d"], None));
        assert_eq!(cut(Some(2), None), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(cut(Some(2), Some("b")), (vec!["d"], None));
        assert_eq!(cut(Some(1), Some("c")), (vec!["d"], None));
        assert_eq!(cut(Some(0), None), (vec![], None));
        assert_eq!(cut(Some(3), None), (vec!["a", "b", "d"], None));
    }
}
