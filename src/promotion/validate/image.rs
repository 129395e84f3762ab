//! Images in manifests.

use oci::{Digest, RepositoryName, Tag};

/// An image that is said to be at this registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The file that says so.
    pub path: String,
    /// And the line.
    pub line: usize,
    /// The repository here.
    pub repository: RepositoryName,
    /// The tag, where there is one.
    pub tag: Option<Tag>,
    /// The digest, where there is one.
    pub digest: Option<Digest>,
}

/// The name, tag and digest of a reference.
pub(super) fn split(reference: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = reference.split_once('@').map_or((reference, None), |(rest, digest)| (rest, Some(digest)));
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

/// The repository here that a name stands for, if it is one of this registry. `Err` if it could be none.
pub(super) fn ours(hosts: &[String], name: &str) -> Option<Result<RepositoryName, String>> {
    let rest = hosts.iter().find_map(|host| name.strip_prefix(host.as_str())?.strip_prefix('/'))?;
    Some(RepositoryName::parse(rest).map_err(|error| format!("{name} cannot be a repository: {error}")))
}
