//! Where an image is written in a file, and how it is changed there.

mod application;
mod container;
mod fields;
mod helm;
mod kustomization;

pub use application::Application;
pub use container::Container;
pub use helm::Helm;
pub use kustomization::Kustomization;

use oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

use crate::yaml::{self, Change, Id, Refusal, Tree};

/// A file that is longer is no configuration.
const LONGEST: usize = 1 << 20;

/// What is to be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The tag that stands for it.
    pub tag: Tag,
    /// What it is.
    pub digest: Digest,
}

/// What of an image is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Write {
    /// The tag alone.
    Tag,
    /// The digest alone.
    Digest,
    /// Both, each in its place.
    #[default]
    TagAndDigest,
    /// Both in the place of the tag, as `tag@digest`.
    TagAtDigest,
}

/// One place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The `images:` of a kustomization.
    Kustomization(Kustomization),
    /// Values of a Helm chart.
    Helm(Helm),
    /// `image:` of a container in a manifest.
    Container(Container),
    /// `kustomize.images` of an Argo CD Application.
    Application(Application),
}

/// What stands in a place. Absent: nothing is written there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// The name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Values {
    /// The tag and the digest, wherever they are written.
    #[must_use]
    pub fn image(&self) -> (Option<&str>, Option<&str>) {
        let tag = self.tag.as_deref().unwrap_or_default();
        let (tag, digest) = tag.split_once('@').unwrap_or((tag, ""));
        let digest = self.digest.as_deref().unwrap_or(digest);
        (Some(tag).filter(|tag| !tag.is_empty()), Some(digest).filter(|digest| !digest.is_empty()))
    }
}

/// A file after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The whole file. The bytes outside the values that changed are those of before.
    pub bytes: Vec<u8>,
    /// What stood in the place before.
    pub before: Values,
    /// What stands there now.
    pub after: Values,
}

impl Write {
    /// The tag and the digest that are written; `None` for what must not stand there.
    fn fields(self, image: &Image) -> (Option<String>, Option<String>) {
        let (tag, digest) = (image.tag.to_string(), image.digest.to_string());
        match self {
            Self::Tag => (Some(tag), None),
            Self::Digest => (None, Some(digest)),
            Self::TagAndDigest => (Some(tag), Some(digest)),
            Self::TagAtDigest => (Some(format!("{tag}@{digest}")), None),
        }
    }

    /// Is this what is in a place after the image was written there?
    fn has_written(self, image: &Image, values: &Values) -> bool {
        let (tag, digest) = (image.tag.as_str(), image.digest.to_string());
        let (there, there_digest) = values.image();
        let tag_fits = there == Some(tag);
        let digest_fits = there_digest == Some(digest.as_str());
        match self {
            Self::Tag => tag_fits && there_digest.is_none(),
            Self::Digest => digest_fits && there.is_none(),
            Self::TagAndDigest | Self::TagAtDigest => tag_fits && digest_fits,
        }
    }

    /// `name`, `:tag` and `@digest` in one text.
    fn reference(self, name: &str, image: &Image) -> String {
        match self {
            Self::Tag => format!("{name}:{}", image.tag),
            Self::Digest => format!("{name}@{}", image.digest),
            Self::TagAndDigest | Self::TagAtDigest => format!("{name}:{}@{}", image.tag, image.digest),
        }
    }
}

/// What a place makes of a file.
struct Plan {
    before: Values,
    changes: Vec<Change>,
}

impl Edit {
    /// Writes an image into a file.
    ///
    /// Gives the file with the same bytes if it says that already. [`Refusal`] if it cannot be said for sure that this and nothing
    /// else would change: then nothing is to be written.
    pub fn apply(&self, file: &[u8], image: &Image) -> Result<Edited, Refusal> {
        let text = text(file)?;
        let tree = Tree::parse(text)?;
        let Plan { before, changes } = self.plan(&tree, Some(image))?;
        if changes.is_empty() {
            return Ok(Edited { bytes: file.to_vec(), after: before.clone(), before });
        }
        let (bytes, tree) = yaml::apply(text, &tree, &changes)?;
        let after = self.plan(&tree, None)?.before;
        Ok(Edited { bytes: bytes.into_bytes(), before, after })
    }

    /// What stands in the file.
    pub fn read(&self, file: &[u8]) -> Result<Values, Refusal> {
        Ok(self.plan(&Tree::parse(text(file)?)?, None)?.before)
    }

    /// Are these the values of a place after the image was written there?
    #[must_use]
    pub fn has_written(&self, image: &Image, values: &Values) -> bool {
        self.write().has_written(image, values)
    }

    /// The name that is written, or that is in the manifests; `None` where the file alone knows it.
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        match self {
            Self::Kustomization(place) => Some(place.new_name.as_deref().unwrap_or(&place.image)),
            Self::Helm(Helm::Parts { name, .. }) => name.as_ref().map(|(_, name)| name.as_str()),
            Self::Helm(Helm::Whole { name, .. }) => name.as_deref(),
            Self::Container(place) => place.new_name.as_deref(),
            Self::Application(place) => Some(place.new_name.as_deref().unwrap_or(&place.image)),
        }
    }

    /// What of an image is written.
    #[must_use]
    pub fn write(&self) -> Write {
        match self {
            Self::Kustomization(place) => place.write,
            Self::Helm(Helm::Parts { write, .. } | Helm::Whole { write, .. }) => *write,
            Self::Container(place) => place.write,
            Self::Application(place) => place.write,
        }
    }

    fn plan(&self, tree: &Tree, image: Option<&Image>) -> Result<Plan, Refusal> {
        match self {
            Self::Kustomization(place) => place.plan(tree, image),
            Self::Helm(place) => place.plan(tree, image),
            Self::Container(place) => place.plan(tree, image),
            Self::Application(place) => place.plan(tree, image),
        }
    }
}

fn text(file: &[u8]) -> Result<&str, Refusal> {
    if file.len() > LONGEST {
        return Err(Refusal::whole(format!("is longer than {LONGEST} bytes")));
    }
    std::str::from_utf8(file).map_err(|error| {
        let line = String::from_utf8_lossy(&file[..error.valid_up_to()]).matches('\n').count() + 1;
        Refusal::at(line, "is not UTF-8")
    })
}

/// As [`split`], for a value that is to be changed: refuses what is no reference of an image.
fn reference(tree: &Tree, value: Id, text: &str) -> Result<Values, Refusal> {
    let values = split(text);
    let is_of = |text: &str, more: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
    let is_name = |name: &str| is_of(name, b"._-/:") && name.rsplit('/').next().is_some_and(|last| !last.contains(':'));
    let is_good = values.name.as_deref().is_none_or(is_name)
        && values.tag.as_deref().is_none_or(|tag| is_of(tag, b"._-"))
        && values.digest.as_deref().is_none_or(|digest| is_of(digest, b"._-+:"));
    if is_good { Ok(values) } else { Err(tree.refuse(value, "is no reference of an image; write name:tag")) }
}

/// The name, tag and digest of a reference in one text.
fn split(reference: &str) -> Values {
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.to_owned())),
        None => (reference, None),
    };
    // A colon before a slash is that of a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
        _ => (rest, None),
    };
    Values { name: Some(name.to_owned()).filter(|name| !name.is_empty()), tag, digest }
}
