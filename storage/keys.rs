//! The layout: every key that is ever written is made here (DESIGN.md section 3).
//!
//! ```text
//! layout                                              version of this layout
//! blobs/<algorithm>/<first two hex>/<hex>             the bytes, once per digest (manifests too)
//! members/<algorithm>/<hex>/<name, its / as :>        that repository may serve this blob
//! repositories/<name>/_manifests/<algorithm>/<hex>    what is known of a manifest
//! repositories/<name>/_tags/<tag>                     where a tag points
//! repositories/<name>/_referrers/<algorithm>/<hex of the subject>/<algorithm>:<hex>
//! catalog/<name, its / as ., . as -, - as ,>          one entry per repository, in the order of the names
//! uploads/<id>/session, data, tail-<size>             an open upload
//! journal/<id>                                        a change of a tag that nobody has acted on yet
//! jobs/…                                              records of the room above that does durable work
//! ```
//!
//! A component of a repository name cannot begin with `_`, so the markers cannot collide with names.

use object_store::path::Path;
use oci::{Algorithm, Digest, RepositoryName, Tag};
use uuid::Uuid;

pub(crate) fn layout() -> Path {
    Path::from("layout")
}

pub(crate) fn blob(digest: &Digest) -> Path {
    Path::from(format!("blobs/{}/{}/{}", digest.algorithm(), &digest.hex()[..2], digest.hex()))
}

pub(crate) fn member(digest: &Digest, name: &RepositoryName) -> Path {
    Path::from(format!("members/{}/{}/{}", digest.algorithm(), digest.hex(), flat(name)))
}

pub(crate) fn members(digest: &Digest) -> Path {
    Path::from(format!("members/{}/{}", digest.algorithm(), digest.hex()))
}

pub(crate) fn manifests(name: &RepositoryName, algorithm: Algorithm) -> Path {
    Path::from(format!("repositories/{name}/_manifests/{algorithm}"))
}

pub(crate) fn manifest(name: &RepositoryName, digest: &Digest) -> Path {
    Path::from(format!("repositories/{name}/_manifests/{}/{}", digest.algorithm(), digest.hex()))
}

pub(crate) fn tag(name: &RepositoryName, tag: &Tag) -> Path {
    Path::from(format!("repositories/{name}/_tags/{tag}"))
}

pub(crate) fn tags(name: &RepositoryName) -> Path {
    Path::from(format!("repositories/{name}/_tags"))
}

pub(crate) fn referrer(name: &RepositoryName, subject: &Digest, referrer: &Digest) -> Path {
    Path::from(format!("{}/{}:{}", referrers(name, subject), referrer.algorithm(), referrer.hex()))
}

pub(crate) fn referrers(name: &RepositoryName, subject: &Digest) -> Path {
    Path::from(format!("repositories/{name}/_referrers/{}/{}", subject.algorithm(), subject.hex()))
}

pub(crate) fn catalog_entry(name: &RepositoryName) -> Path {
    Path::from(format!("catalog/{}", ordered(name.as_str())))
}

pub(crate) fn catalog() -> Path {
    Path::from("catalog")
}

pub(crate) fn journal() -> Path {
    Path::from("journal")
}

pub(crate) fn event(id: &str) -> Path {
    Path::from(format!("journal/{id}"))
}

pub(crate) fn uploads() -> Path {
    Path::from("uploads")
}

pub(crate) fn upload(id: Uuid) -> Path {
    Path::from(format!("uploads/{id}"))
}

pub(crate) fn session(id: Uuid) -> Path {
    Path::from(format!("uploads/{id}/session"))
}

pub(crate) fn upload_data(id: Uuid) -> Path {
    Path::from(format!("uploads/{id}/data"))
}

/// The last bytes of an upload of this size, which are too few for a part.
pub(crate) fn upload_tail(id: Uuid, size: u64) -> Path {
    Path::from(format!("uploads/{id}/tail-{size}"))
}

/// The name, or what a name could begin with, in one path segment; segments sort as their names do. Of the characters of a name only
/// these come before the digits, so each takes the place of the one before it.
pub(crate) fn ordered(name: &str) -> String {
    let segment = |letter| match letter {
        '/' => '.',
        '.' => '-',
        '-' => ',',
        other => other,
    };
    name.chars().map(segment).collect()
}

/// The name that [`ordered`] made this segment of; `None` for a foreign object.
pub(crate) fn unordered(segment: &str) -> Option<RepositoryName> {
    let letter = |letter| match letter {
        '.' => '/',
        '-' => '.',
        ',' => '-',
        other => other,
    };
    RepositoryName::parse(&segment.chars().map(letter).collect::<String>()).ok()
}

/// The name in one path segment. A name has no `:`, so this can be undone.
fn flat(name: &RepositoryName) -> String {
    name.as_str().replace('/', ":")
}

/// The name that [`flat`] made this segment of; `None` for a foreign object.
pub(crate) fn unflat(segment: &str) -> Option<RepositoryName> {
    RepositoryName::parse(&segment.replace(':', "/")).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_layout() {
        let digest = Digest::parse(&format!("sha256:ab{}", "0".repeat(62))).unwrap();
        let name = RepositoryName::parse("docker.io/library/alpine").unwrap();
        let hex = digest.hex();
        assert_eq!(blob(&digest).as_ref(), format!("blobs/sha256/ab/{hex}"));
        assert_eq!(member(&digest, &name).as_ref(), format!("members/sha256/{hex}/docker.io:library:alpine"));
        assert_eq!(
            referrer(&name, &digest, &digest).as_ref(),
            format!("repositories/docker.io/library/alpine/_referrers/sha256/{hex}/sha256:{hex}")
        );
        assert_eq!(unflat("docker.io:library:alpine").unwrap(), name);
        assert_eq!(unflat("Not A Name"), None);
        assert_eq!(catalog_entry(&name).as_ref(), "catalog/docker-io.library.alpine");
    }

    #[test]
    fn entries_of_the_catalog_sort_as_their_names_do() {
        let mut names = ["a", "a-b", "a.b", "a/b", "a0", "a/b-c", "a/b/c", "a_b", "a__b", "a/b0", "a--b", "b"]
            .map(|text| RepositoryName::parse(text).unwrap());
        names.sort();
        let mut entries: Vec<String> = names.iter().map(|name| ordered(name.as_str())).collect();
        assert!(entries.is_sorted(), "{entries:?}");
        let back: Vec<_> = entries.drain(..).filter_map(|entry| unordered(&entry)).collect();
        assert_eq!(back, names);
    }
}
