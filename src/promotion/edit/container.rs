//! `image:` of a container in a manifest, which may be one of several in a file.

use crate::edit::fields::{own, plain_text};
use crate::edit::{Image, Plan, Write, reference};
use crate::yaml::{Change, Id, Refusal, Tree};

/// Where the containers of the kinds of Kubernetes are.
const PODS: [&[&str]; 4] =
    [&["spec", "template", "spec"], &["spec"], &["spec", "jobTemplate", "spec", "template", "spec"], &["template", "spec"]];

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The kind of the manifest, such as `Deployment`.
    pub kind: String,
    /// Its `metadata.name`.
    pub name: String,
    /// The container's name.
    pub container: String,
    /// The name of the image that is written; absent: what is there stays.
    pub new_name: Option<String>,
    /// What of the image is written.
    pub write: Write,
}

impl Container {
    pub(super) fn plan(&self, tree: &Tree, image: Option<&Image>) -> Result<Plan, Refusal> {
        let value = self.find(tree)?;
        let old = if tree.is_null(value) { "" } else { plain_text(tree, value, "image")? };
        let before = reference(tree, value, old)?;
        let name = self.new_name.as_deref().or(before.name.as_deref()).unwrap_or_default();
        if image.is_some() && name.is_empty() {
            return Err(tree.refuse(value, "image is empty; write a name, or give `new_name`"));
        }
        let new = image.map(|image| self.write.reference(name, image));
        let changes = new.filter(|new| new != old).map(|text| Change::Set { scalar: value, text });
        Ok(Plan { changes: changes.into_iter().collect(), before })
    }

    fn find(&self, tree: &Tree) -> Result<Id, Refusal> {
        let mut found = None;
        for document in &tree.documents {
            if !self.is_meant(tree, *document)? {
                continue;
            }
            for image in self.images(tree, *document)? {
                if found.replace(image).is_some() {
                    return Err(tree.refuse(
                        image,
                        format!("the container {} of {} {} is here twice", self.container, self.kind, self.name),
                    ));
                }
            }
        }
        found.ok_or_else(|| {
            Refusal::whole(format!("has no container {} with an image in a {} {}", self.container, self.kind, self.name))
        })
    }

    fn is_meant(&self, tree: &Tree, document: Id) -> Result<bool, Refusal> {
        let is = |id: Option<Id>, text: &str| id.and_then(|id| tree.text(id)) == Some(text);
        if tree.map(document).is_none() || !is(tree.get(document, "kind")?, &self.kind) {
            return Ok(false);
        }
        let Some(metadata) = tree.get(document, "metadata")? else { return Ok(false) };
        Ok(is(tree.get(metadata, "name")?, &self.name))
    }

    /// Each image of a container with our name.
    fn images(&self, tree: &Tree, document: Id) -> Result<Vec<Id>, Refusal> {
        let mut images = Vec::new();
        for path in PODS {
            let Some(pod) = walk(tree, document, path)? else { continue };
            for list in ["containers", "initContainers"] {
                let Some(containers) = tree.get(pod, list)? else { continue };
                own(tree, containers, list)?;
                for container in tree.list(containers).unwrap_or_default() {
                    if tree.map(*container).is_none() {
                        own(tree, *container, "a container")?;
                        continue;
                    }
                    let name = tree.get(*container, "name")?.and_then(|name| tree.text(name));
                    if name == Some(&self.container) {
                        own(tree, *container, "the container")?;
                        images.extend(tree.get(*container, "image")?);
                    }
                }
            }
        }
        Ok(images)
    }
}

/// The map at a path; `None` where it is not.
fn walk(tree: &Tree, from: Id, path: &[&str]) -> Result<Option<Id>, Refusal> {
    let mut at = from;
    for key in path {
        if tree.map(at).is_none() {
            return Ok(None);
        }
        let Some(next) = tree.get(at, key)? else { return Ok(None) };
        own(tree, next, key)?;
        at = next;
    }
    Ok(tree.map(at).map(|_| at))
}
