//! The proof that a text was changed as it was meant to, and nowhere else.

use super::Refusal;
use super::change::{Change, New};
use super::scalar::{self, Style};
use super::tree::{Id, Tree, What};

/// A value without its place. Two texts that say the same have equal ones.
#[derive(Debug, PartialEq, Eq)]
enum Model {
    Scalar {
        text: String,
        /// It may be a number or the like; in quotes it is a text.
        is_plain: bool,
        mark: Mark,
    },
    Map(Vec<(Model, Model)>, Mark),
    List(Vec<Model>, Mark),
    Alias(usize),
}

/// Anchor and tag.
type Mark = (usize, Option<String>);

/// Parses `after`, and refuses it unless it is `before` with these changes.
pub(crate) fn check(before: &Tree, changes: &[Change], after: &str) -> Result<Tree, Refusal> {
    let defect = |why: &str| Refusal::whole(format!("cannot be edited safely: after the change {why}; nothing was written"));
    let after = Tree::parse(after).map_err(|error| defect(&format!("it is not YAML any more ({error})")))?;
    let meant: Vec<Model> = before.documents.iter().map(|id| meant(before, changes, *id)).collect();
    let is: Vec<Model> = after.documents.iter().map(|id| meant_as_it_is(&after, *id)).collect();
    if meant == is && before.has_end == after.has_end { Ok(after) } else { Err(defect("it would say something else elsewhere")) }
}

fn meant_as_it_is(tree: &Tree, id: Id) -> Model {
    meant(tree, &[], id)
}

/// What a value is to be once these changes are made.
fn meant(tree: &Tree, changes: &[Change], id: Id) -> Model {
    let node = tree.node(id);
    let mark = (node.anchor, node.tag.clone());
    for change in changes {
        match change {
            Change::Set { scalar, text } if *scalar == id => return text_model(text.clone(), mark),
            Change::Fill { null, value } if *null == id => return new(value),
            _ => {}
        }
    }
    match &node.what {
        What::Alias(anchor) => Model::Alias(*anchor),
        What::Scalar { text, style } => {
            Model::Scalar { text: text.clone(), is_plain: *style == Style::Plain && !scalar::is_plain(text), mark }
        }
        What::List { items, .. } => {
            let mut models: Vec<Model> = items.iter().map(|item| meant(tree, changes, *item)).collect();
            models.extend(changes.iter().filter_map(|change| match change {
                Change::Append { list, item } if *list == id => Some(new(item)),
                _ => None,
            }));
            Model::List(models, mark)
        }
        What::Map { entries, .. } => Model::Map(meant_map(tree, changes, id, entries), mark),
    }
}

fn meant_map(tree: &Tree, changes: &[Change], id: Id, entries: &[(Id, Id)]) -> Vec<(Model, Model)> {
    let added = |key: &str, value: &New| (text_model(key.to_owned(), (0, None)), new(value));
    let mut models = Vec::new();
    for (index, (key, value)) in entries.iter().enumerate() {
        let is_removed = |change: &Change| *change == Change::Remove { map: id, index };
        if !changes.iter().any(is_removed) {
            models.push((meant(tree, changes, *key), meant(tree, changes, *value)));
        }
        models.extend(changes.iter().filter_map(|change| match change {
            Change::Add { map, after, key, value } if (*map, *after) == (id, index) => Some(added(key, value)),
            _ => None,
        }));
    }
    models.extend(changes.iter().filter_map(|change| match change {
        Change::AddLast { map, key, value } if *map == id => Some(added(key, value)),
        _ => None,
    }));
    models
}

fn text_model(text: String, mark: Mark) -> Model {
    Model::Scalar { text, is_plain: false, mark }
}

fn new(value: &New) -> Model {
    match value {
        New::Text(text, _) => text_model(text.clone(), (0, None)),
        New::Map(entries) => Model::Map(
            entries.iter().map(|(key, value)| (text_model((*key).to_owned(), (0, None)), new(value))).collect(),
            (0, None),
        ),
        New::List(items) => Model::List(items.iter().map(new).collect(), (0, None)),
    }
}
