//! What comes out of a kustomization, as far as it is known: its objects by their names, and the images that they run.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::validate::facts::{Mention, Object};
use crate::validate::kustomization::Entry;

/// What comes out of a kustomization.
#[derive(Clone, Debug, Default)]
pub(super) struct Built {
    /// The objects, and the files that they are from.
    pub(super) objects: BTreeMap<Object, Rc<str>>,
    pub(super) images: Vec<Placed>,
    /// The names of images that were replaced by others.
    pub(super) renames: Vec<Rename>,
    /// There may be more than is known.
    pub(super) is_open: bool,
}

/// An image, and the file and line that made it what it is.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) mention: Mention,
    pub(super) path: Rc<str>,
    /// Its tag is not known.
    pub(super) is_hidden: bool,
}

/// An entry that gave an image another name.
#[derive(Clone, Debug)]
pub(super) struct Rename {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) path: Rc<str>,
    pub(super) line: usize,
}

impl Built {
    pub(super) fn size(&self) -> usize {
        1 + self.objects.len() + self.images.len()
    }

    /// Replaces images as an entry says. A tag takes the digest away, and a digest the tag.
    ///
    /// Gives whether there was one to replace.
    pub(super) fn replace(&mut self, entry: &Entry, path: &Rc<str>) -> bool {
        let mut is_matched = false;
        for image in self.images.iter_mut().filter(|image| image.mention.name == entry.name) {
            is_matched = true;
            let mention = &mut image.mention;
            if let Some(name) = &entry.new_name {
                mention.name.clone_from(name);
            }
            if entry.tag.is_some() || entry.digest.is_some() {
                mention.tag.clone_from(&entry.tag);
                mention.digest.clone_from(&entry.digest);
            }
            image.is_hidden |= entry.is_suffixed;
            mention.line = entry.line;
            image.path = Rc::clone(path);
        }
        if let Some(to) = entry.new_name.as_ref().filter(|to| is_matched && **to != entry.name) {
            let (from, to) = (entry.name.clone(), to.clone());
            self.renames.push(Rename { from, to, path: Rc::clone(path), line: entry.line });
        }
        is_matched
    }

    /// What a patch says of a container counts.
    pub(super) fn patch(&mut self, images: &[Mention], path: &Rc<str>) {
        for mention in images {
            if let Some(container) = &mention.container {
                self.images.retain(|image| image.mention.container.as_ref() != Some(container));
            }
            self.images.push(Placed { mention: mention.clone(), path: Rc::clone(path), is_hidden: false });
        }
    }

    /// Gives every object another name or namespace. Gives one of two that became the same.
    pub(super) fn rename(&mut self, rename: impl Fn(&mut Object)) -> Option<Object> {
        let mut same = None;
        for (mut object, path) in std::mem::take(&mut self.objects) {
            rename(&mut object);
            if self.objects.insert(object.clone(), path).is_some() {
                same = Some(object);
            }
        }
        same
    }
}
