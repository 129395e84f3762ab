//! `images:` of a kustomization.
//!
//! kustomize takes `name` for the name in the manifests, to the letter: docker.io is not added or removed. A `newTag` without
//! `digest` takes a digest away that the manifests have, and the other way round, so what is not to be written must not stand there.

use crate::edit::fields::{self, make, own, read};
use crate::edit::{Image, Plan, Values, Write};
use crate::yaml::{Change, Id, New, Refusal, Style, Tree};

/// An entry of `images:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kustomization {
    /// The name in the manifests, to the letter.
    pub image: String,
    /// The name that is written for it; absent: what is there stays.
    pub new_name: Option<String>,
    /// What of the image is written.
    pub write: Write,
}

impl Kustomization {
    pub(super) fn plan(&self, tree: &Tree, image: Option<&Image>) -> Result<Plan, Refusal> {
        let root = root(tree)?;
        let images = tree.get(root, "images")?;
        let Some(images) = images else {
            let changes =
                image.map(|image| Change::AddLast { map: root, key: "images", value: New::List(vec![self.entry(tree, image)]) });
            return Ok(Plan { before: Values::default(), changes: changes.into_iter().collect() });
        };
        own(tree, images, "images")?;
        if tree.is_null(images) {
            let changes = image.map(|image| Change::Fill { null: images, value: New::List(vec![self.entry(tree, image)]) });
            return Ok(Plan { before: Values::default(), changes: changes.into_iter().collect() });
        }
        let Some(items) = tree.list(images) else { return Err(tree.refuse(images, "images is no list")) };
        if let Some(entry) = self.find(tree, items)? {
            return self.change(tree, entry, image);
        }
        let changes = image.map(|image| Change::Append { list: images, item: self.entry(tree, image) });
        Ok(Plan { before: Values::default(), changes: changes.into_iter().collect() })
    }

    /// The entry for our image.
    fn find(&self, tree: &Tree, items: &[Id]) -> Result<Option<Id>, Refusal> {
        let mut found = None;
        for item in items {
            own(tree, *item, "an entry of images")?;
            if tree.map(*item).is_none() {
                return Err(tree.refuse(*item, "an entry of images is no map"));
            }
            if read(tree, *item, "name")?.as_deref() == Some(&self.image) && found.replace(*item).is_some() {
                return Err(
                    tree.refuse(*item, format!("{} is here twice, and the last one counts; remove one of them", self.image))
                );
            }
        }
        Ok(found)
    }

    fn change(&self, tree: &Tree, entry: Id, image: Option<&Image>) -> Result<Plan, Refusal> {
        let before = Values {
            name: read(tree, entry, "newName")?,
            tag: read(tree, entry, "newTag")?,
            digest: read(tree, entry, "digest")?,
        };
        let Some(image) = image else { return Ok(Plan { before, changes: Vec::new() }) };
        if read(tree, entry, "tagSuffix")?.is_some() {
            return Err(tree.refuse(entry, "tagSuffix is added to every tag that is written, even twice; remove it"));
        }
        let (tag, digest) = self.write.fields(image);
        let name = self.new_name.clone().or_else(|| before.name.clone());
        let wanted = [("name", Some(self.image.clone())), ("newName", name), ("newTag", tag), ("digest", digest)];
        Ok(Plan { before, changes: make(tree, entry, &wanted)? })
    }

    /// An entry that is not there yet.
    fn entry(&self, tree: &Tree, image: &Image) -> New {
        let (tag, digest) = self.write.fields(image);
        let texts = [("name", Some(self.image.clone())), ("newName", self.new_name.clone()), ("newTag", tag), ("digest", digest)];
        let style = |key| if key == "name" { Style::Plain } else { fields::style_of(tree, key) };
        let entries = texts.into_iter().filter_map(|(key, text)| Some((key, New::Text(text?, style(key)))));
        New::Map(entries.collect())
    }
}

/// The map of a file that has one document.
fn root(tree: &Tree) -> Result<Id, Refusal> {
    let [root] = tree.documents[..] else {
        return Err(match tree.documents.get(1) {
            Some(second) => tree.refuse(*second, "has more than one document; kustomize reads one"),
            None => Refusal::whole("is empty; a kustomization has at least `resources:`"),
        });
    };
    own(tree, root, "the kustomization")?;
    if tree.map(root).is_none() {
        return Err(tree.refuse(root, "is no map"));
    }
    Ok(root)
}
