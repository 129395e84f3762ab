//! `index.json`: the names of a layout.

use bytes::Bytes;
use oci::{Annotations, Descriptor, Digest, ManifestView, Reference, RepositoryName, Tag, media_type};
use serde::{Deserialize, Serialize};

/// The annotation by which the tools of others select an image. [image-spec, Pre-Defined Annotation Keys]
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation from which containerd takes the name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A name of a layout. Of several with the same repository and reference the last counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The repository; `None` where only a tag is said, or nothing.
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) place: Place,
}

/// What a name says beside the repository, in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Tag(Tag),
    Digest(Digest),
}

impl Place {
    pub(crate) fn reference(&self) -> Reference {
        match self {
            Self::Tag(tag) => Reference::Tag(tag.clone()),
            Self::Digest(digest) => Reference::Digest(digest.clone()),
        }
    }
}

impl From<&Reference> for Place {
    fn from(reference: &Reference) -> Self {
        match reference {
            Reference::Tag(tag) => Self::Tag(tag.clone()),
            Reference::Digest(digest) => Self::Digest(digest.clone()),
        }
    }
}

/// The descriptors of an `index.json`. `ManifestInvalid` says what is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Descriptor>, oci::Error> {
    Ok(ManifestView::parse(bytes, Some(media_type::OCI_INDEX))?.manifests)
}

/// What a descriptor of an `index.json` is called; `None` if it has no name.
pub(crate) fn name_of(descriptor: &Descriptor) -> Option<Name> {
    let annotations = descriptor.annotations.as_ref()?;
    let names = || [CONTAINERD_NAME, REF_NAME].into_iter().filter_map(|key| annotations.get(key));
    if let Some(full) = names().find_map(|text| full_name(text, &descriptor.digest)) {
        return Some(full);
    }
    let text = annotations.get(REF_NAME).or_else(|| annotations.get(CONTAINERD_NAME))?;
    let place = Tag::parse(text).map_or_else(|_| Place::Digest(descriptor.digest.clone()), Place::Tag);
    Some(Name { repository: None, place })
}

/// `repository:tag` or `repository@digest`. Which digest that is, the descriptor says.
fn full_name(text: &str, digest: &Digest) -> Option<Name> {
    if let Some((repository, said)) = text.split_once('@') {
        // Between them may stand a tag, which then says nothing more.
        let repository = repository.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(repository, |(name, _)| name);
        Digest::parse(said).ok()?;
        return Some(Name { repository: Some(repository_name(repository)?), place: Place::Digest(digest.clone()) });
    }
    let (repository, tag) = text.rsplit_once(':')?;
    Some(Name { repository: Some(repository_name(repository)?), place: Place::Tag(Tag::parse(tag).ok()?) })
}

/// A host's port is written behind `_`, as the names of upstreams are.
fn repository_name(text: &str) -> Option<RepositoryName> {
    let (host, rest) = text.split_once('/').unwrap_or((text, ""));
    if rest.is_empty() || !host.contains(':') {
        return RepositoryName::parse(text).ok();
    }
    RepositoryName::parse(&format!("{}/{rest}", host.replacen(':', "_", 1))).ok()
}

/// A name as it is written.
fn written(name: &Name) -> String {
    let place = match &name.place {
        Place::Tag(tag) => format!(":{tag}"),
        Place::Digest(digest) => format!("@{digest}"),
    };
    match &name.repository {
        Some(repository) => format!("{repository}{place}"),
        None => place[1..].to_owned(),
    }
}

/// The descriptor of something named.
pub(crate) fn named(mut descriptor: Descriptor, name: &Name) -> Descriptor {
    let text = written(name);
    let mut annotations = Annotations::from([(REF_NAME.to_owned(), text.clone())]);
    if name.repository.is_some() {
        annotations.insert(CONTAINERD_NAME.to_owned(), text);
    }
    descriptor.annotations = Some(annotations);
    descriptor
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

/// An `index.json` of these descriptors, in this order.
pub(crate) fn write(manifests: &[Descriptor]) -> Result<Bytes, serde_json::Error> {
    let wire = Wire { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    serde_json::to_vec(&wire).map(Bytes::from)
}

/// What stands in the file that marks a layout.
pub(crate) const MARK_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

/// Is this the mark of a layout that is understood? Else what is wrong with it.
pub(crate) fn check_mark(bytes: &[u8]) -> Result<(), String> {
    let parsed = serde_json::from_slice(bytes);
    let mark: Mark = parsed.map_err(|cause| {
        // It may repeat what stands there.
        let cause: String = cause.to_string().chars().take(200).collect();
        format!("its oci-layout cannot be read: {cause}")
    })?;
    if mark.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    let version: String = mark.image_layout_version.chars().take(40).collect();
    Err(format!("its version is {version:?}, only 1.x is understood"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::{Algorithm, Hasher};

    use super::*;

    fn descriptor(annotations: &[(&str, &str)]) -> Descriptor {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Descriptor {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            digest: Hasher::digest(Algorithm::Sha256, b"x"),
            size: 1,
            artifact_type: None,
            platform: None,
            annotations: Some(annotations),
        }
    }

    fn read(annotations: &[(&str, &str)]) -> Option<(Option<String>, String)> {
        let name = name_of(&descriptor(annotations))?;
        Some((name.repository.map(|name| name.to_string()), name.place.reference().to_string()))
    }

    #[test]
    fn names_of_ours_and_of_others_are_understood() {
        let digest = Hasher::digest(Algorithm::Sha256, b"x").to_string();
        let full = |name: &str, reference: &str| Some((Some(name.to_owned()), reference.to_owned()));
        assert_eq!(read(&[(REF_NAME, "docker.io/library/nginx:1")]), full("docker.io/library/nginx", "1"));
        assert_eq!(read(&[(REF_NAME, "localhost:5000/app:1")]), full("localhost_5000/app", "1"));
        assert_eq!(read(&[(REF_NAME, &format!("app@{digest}"))]), full("app", &digest));
        assert_eq!(read(&[(REF_NAME, &format!("app:1@{digest}"))]), full("app", &digest));
        // A name cannot lead to other content than it stands at.
        let other = Hasher::digest(Algorithm::Sha256, b"y").to_string();
        assert_eq!(read(&[(REF_NAME, &format!("app@{other}"))]), full("app", &digest));
        assert_eq!(
            read(&[(REF_NAME, "1"), (CONTAINERD_NAME, "docker.io/library/nginx:1")]),
            full("docker.io/library/nginx", "1")
        );
        assert_eq!(read(&[(REF_NAME, "latest")]), Some((None, "latest".to_owned())));
        assert_eq!(read(&[(REF_NAME, "../../etc")]), Some((None, digest.clone())));
        assert_eq!(read(&[(REF_NAME, "A B")]), Some((None, digest)));
        assert_eq!(read(&[("other", "x")]), None);
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let digest = descriptor(&[]).digest;
        for repository in [Some("micro/app"), None] {
            let repository = repository.map(|name| RepositoryName::parse(name).unwrap());
            for place in [Place::Tag(Tag::parse("v1").unwrap()), Place::Digest(digest.clone())] {
                let name = Name { repository: repository.clone(), place };
                if name.repository.is_none() && matches!(name.place, Place::Digest(_)) {
                    continue;
                }
                assert_eq!(name_of(&named(descriptor(&[]), &name)), Some(name));
            }
        }
    }

    #[test]
    fn only_the_first_version_of_layouts_is_understood() {
        assert!(check_mark(MARK_TEXT).is_ok());
        assert!(check_mark(b"{}").unwrap_err().contains("imageLayoutVersion"));
        assert!(check_mark(br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap_err().contains("2.0.0"));
    }
}
