//! Values of a Helm chart.
//!
//! Every path must be there already: a chart that does not know a value would ignore it, and nothing would be deployed.

use crate::edit::fields::{is_no_text, own, plain_text};
use crate::edit::{Image, Plan, Values, Write, reference};
use crate::yaml::{Change, Id, Refusal, Tree};

/// Keys from the outermost map to a value.
type Path = Vec<String>;

/// Where a chart has its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Helm {
    /// Its parts are values of their own.
    Parts {
        /// Where the name is written, and which.
        name: Option<(Path, String)>,
        /// Where the tag is.
        tag: Path,
        /// Where the digest is; absent: `write` decides whether the tag carries it.
        digest: Option<Path>,
        /// What of the image is written.
        write: Write,
    },
    /// The whole is one value.
    Whole {
        /// Where it is.
        path: Path,
        /// The name that is written; absent: what is there stays.
        name: Option<String>,
        /// What of the image is written.
        write: Write,
    },
}

impl Helm {
    pub(super) fn plan(&self, tree: &Tree, image: Option<&Image>) -> Result<Plan, Refusal> {
        match self {
            Self::Whole { path, name, write } => {
                let value = find(tree, path)?;
                let old = if tree.is_null(value) { "" } else { plain_text(tree, value, &path.join("."))? };
                let before = reference(tree, value, old)?;
                let name = name.as_deref().or(before.name.as_deref()).unwrap_or_default();
                if image.is_some() && name.is_empty() {
                    return Err(tree.refuse(value, format!("{} is empty; write a name there, or give one", path.join("."))));
                }
                let new = image.map(|image| write.reference(name, image));
                let changes = new.filter(|new| new != old).map(|text| Change::Set { scalar: value, text });
                Ok(Plan { changes: changes.into_iter().collect(), before })
            }
            Self::Parts { name, tag, digest, write } => {
                let mut changes = Vec::new();
                let mut text = |path: &Path, new: Option<String>| -> Result<Option<String>, Refusal> {
                    let value = find(tree, path)?;
                    let old = if tree.is_null(value) { "" } else { plain_text(tree, value, &path.join("."))? };
                    if let Some(new) = new.filter(|new| new != old || (!new.is_empty() && is_no_text(tree, value))) {
                        changes.push(Change::Set { scalar: value, text: new });
                    }
                    Ok(Some(old.to_owned()).filter(|old| !old.is_empty()))
                };
                let write = match (write, digest) {
                    (Write::TagAndDigest, None) => Write::TagAtDigest,
                    (write, _) => *write,
                };
                let (new_tag, new_digest) = image.map(|image| write.fields(image)).unwrap_or_default();
                let is_asked = |new: Option<String>| image.map(|_| new.unwrap_or_default());
                let before = Values {
                    name: name.as_ref().map(|(path, name)| text(path, image.map(|_| name.clone()))).transpose()?.flatten(),
                    tag: text(tag, is_asked(new_tag))?,
                    digest: digest.as_ref().map(|path| text(path, is_asked(new_digest))).transpose()?.flatten(),
                };
                Ok(Plan { before, changes })
            }
        }
    }
}

/// The value at a path of the one document.
fn find(tree: &Tree, path: &Path) -> Result<Id, Refusal> {
    let [mut at] = tree.documents[..] else { return Err(Refusal::whole("values are one document")) };
    for (depth, key) in path.iter().enumerate() {
        own(tree, at, &path[..depth].join("."))?;
        let Some(next) = tree.get(at, key)? else {
            return Err(tree.refuse(at, format!("{} is not here; write it, or another path", path[..=depth].join("."))));
        };
        at = next;
    }
    Ok(at)
}
