//! Texts under keys of a map: reading them, and making them what they are to be.

use crate::yaml::{Change, Id, New, Refusal, Style, Tree, What};

/// The text under a key. `None` if the key is not there, or has no value. Refuses what is not edited.
pub(super) fn read(tree: &Tree, map: Id, key: &str) -> Result<Option<String>, Refusal> {
    let Some(value) = tree.get(map, key)? else { return Ok(None) };
    if tree.is_null(value) {
        return Ok(None);
    }
    plain_text(tree, value, key).map(|text| Some(text.to_owned()))
}

/// The text of a value, if it is one that can be edited.
pub(super) fn plain_text<'t>(tree: &'t Tree, value: Id, key: &str) -> Result<&'t str, Refusal> {
    let node = tree.node(value);
    if let What::Alias(_) = node.what {
        return Err(tree.refuse(value, format!("{key} is an alias; write its value out")));
    }
    if node.anchor != 0 || node.tag.is_some() {
        return Err(tree.refuse(value, format!("{key} has an anchor or a tag, and may be used elsewhere; write it without")));
    }
    let Some(text) = tree.text(value) else { return Err(tree.refuse(value, format!("{key} is no text"))) };
    if text.contains("{{") {
        return Err(tree.refuse(value, format!("{key} is a template, which is not edited")));
    }
    Ok(text)
}

/// Refuses a map or list that may stand elsewhere too, or is none.
pub(super) fn own(tree: &Tree, id: Id, what: &str) -> Result<(), Refusal> {
    let node = tree.node(id);
    match node.what {
        What::Alias(_) => Err(tree.refuse(id, format!("{what} is an alias; write its value out"))),
        _ if node.anchor != 0 || node.tag.is_some() => {
            Err(tree.refuse(id, format!("{what} has an anchor or a tag, and may be used elsewhere; write it without")))
        }
        _ => Ok(()),
    }
}

/// What has to be changed so that these keys of a map have these texts, or are not there. New keys stand behind those that are named
/// before them here; the first must be there.
pub(super) fn make(tree: &Tree, map: Id, wanted: &[(&'static str, Option<String>)]) -> Result<Vec<Change>, Refusal> {
    let (mut changes, mut after) = (Vec::new(), None);
    for (key, text) in wanted {
        let found = tree.find(map, key)?;
        let value = found.and_then(|index| Some(tree.map(map)?.get(index)?.1));
        match (found, value, text) {
            (Some(index), Some(value), Some(text)) => {
                if tree.is_null(value) || plain_text(tree, value, key)? != text || is_no_text(tree, value) {
                    changes.push(Change::Set { scalar: value, text: text.clone() });
                }
                after = Some(index);
            }
            (Some(index), Some(value), None) => {
                if !tree.is_null(value) {
                    plain_text(tree, value, key)?;
                    changes.push(Change::Remove { map, index });
                }
            }
            (_, _, Some(text)) => {
                let Some(after) = after else { return Err(tree.refuse(map, format!("{key} is not here"))) };
                let style = style_of(tree, key);
                changes.push(Change::Add { map, after, key, value: New::Text(text.clone(), style) });
            }
            (_, _, None) => {}
        }
    }
    Ok(changes)
}

/// Would others take it for a number or the like? Nothing with a slash is one, such as an image at an address.
pub(super) fn is_no_text(tree: &Tree, value: Id) -> bool {
    let may_be = |text: &str| !crate::yaml::is_plain(text) && !text.contains('/');
    matches!(&tree.node(value).what, What::Scalar { text, style: Style::Plain } if may_be(text))
}

/// How other values of such a key are written in this file.
pub(super) fn style_of(tree: &Tree, key: &str) -> Style {
    let entries = tree.ids().filter_map(|id| tree.map(id)).flatten();
    let mut styles =
        entries.filter(|(name, _)| tree.text(*name) == Some(key)).filter_map(|(_, value)| match tree.node(*value).what {
            What::Scalar { style, .. } if style != Style::Block => Some(style),
            _ => None,
        });
    styles.next().unwrap_or(Style::Plain)
}
