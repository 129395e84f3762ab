//! `kustomize.images` of an Argo CD Application.
//!
//! An entry is `[old=]new[:tag][@digest]`. Without `old=` Argo CD cuts the name at the first colon, which for a registry with a port
//! is that of the port, so that two of its images would be taken for one: what is written here has it always.

use crate::edit::fields::{own, plain_text};
use crate::edit::{Image, Plan, Values, Write, reference, split};
use crate::yaml::{Change, Id, New, Refusal, Style, Tree, What};

/// An entry of `images:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The Application's `metadata.name`; absent: the only one of the file.
    pub name: Option<String>,
    /// The name in the manifests.
    pub image: String,
    /// The name that is written for it; absent: what is there stays, or the same.
    pub new_name: Option<String>,
    /// What of the image is written.
    pub write: Write,
}

impl Application {
    pub(super) fn plan(&self, tree: &Tree, image: Option<&Image>) -> Result<Plan, Refusal> {
        let kustomize = self.kustomize(tree)?;
        let images = tree.get(kustomize, "images")?;
        let written = |name: &str| image.map(|image| format!("{}={}", self.image, self.write.reference(name, image)));
        let fresh = || written(self.new_name.as_deref().unwrap_or(&self.image)).map(|text| New::Text(text, Style::Plain));
        let Some(images) = images else {
            let last = tree.map(kustomize).map_or(0, |entries| entries.len().saturating_sub(1));
            let change = |item| Change::Add { map: kustomize, after: last, key: "images", value: New::List(vec![item]) };
            return Ok(Plan { before: Values::default(), changes: fresh().map(change).into_iter().collect() });
        };
        own(tree, images, "images")?;
        let Some(items) = tree.list(images) else { return Err(tree.refuse(images, "images is no list")) };
        let Some((entry, old)) = self.find(tree, items)? else {
            let changes = fresh().map(|item| Change::Append { list: images, item });
            return Ok(Plan { before: Values::default(), changes: changes.into_iter().collect() });
        };
        let before = reference(tree, entry, old.split_once('=').map_or(old, |(_, new)| new))?;
        let name = self.new_name.as_deref().or(before.name.as_deref()).unwrap_or(&self.image);
        let changes = written(name).filter(|new| new != old).map(|text| Change::Set { scalar: entry, text });
        Ok(Plan { changes: changes.into_iter().collect(), before })
    }

    fn find<'t>(&self, tree: &'t Tree, items: &[Id]) -> Result<Option<(Id, &'t str)>, Refusal> {
        let mut found = None;
        for item in items {
            let text = plain_text(tree, *item, "an entry of images")?;
            let key = match text.split_once('=') {
                Some((key, _)) => key.to_owned(),
                None => split(text).name.unwrap_or_default(),
            };
            if key == self.image && found.replace((*item, text)).is_some() {
                return Err(tree.refuse(*item, format!("{key} is here twice; remove one of them")));
            }
        }
        Ok(found)
    }

    /// The map `kustomize` of the Application's one source.
    fn kustomize(&self, tree: &Tree) -> Result<Id, Refusal> {
        let mut meant = Vec::new();
        for document in &tree.documents {
            if self.is_meant(tree, *document)? {
                meant.push(*document);
            }
        }
        let name = self.name.as_deref().unwrap_or("of any name");
        let [application] = meant[..] else {
            return Err(Refusal::whole(format!("has {} Applications {name}, not one", meant.len())));
        };
        let mut at = application;
        for key in ["spec", "source", "kustomize"] {
            let Some(next) = tree.get(at, key)?.filter(|next| !tree.is_null(*next)) else {
                return Err(
                    tree.refuse(at, format!("has no {key} here; an Application with one source and `kustomize:` is edited"))
                );
            };
            own(tree, next, key)?;
            at = next;
        }
        match &tree.node(at).what {
            What::Map { .. } => Ok(at),
            _ => Err(tree.refuse(at, "kustomize is no map")),
        }
    }

    fn is_meant(&self, tree: &Tree, document: Id) -> Result<bool, Refusal> {
        let text = |id: Option<Id>| id.and_then(|id| tree.text(id));
        if tree.map(document).is_none() || text(tree.get(document, "kind")?) != Some("Application") {
            return Ok(false);
        }
        let Some(metadata) = tree.get(document, "metadata")? else { return Ok(self.name.is_none()) };
        let name = text(tree.get(metadata, "name")?);
        Ok(self.name.is_none() || name == self.name.as_deref())
    }
}
