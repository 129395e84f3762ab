//! What can be changed in a tree.

use super::scalar::Style;
use super::tree::Id;

/// A change of one value. Texts are written so that they are read as texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A scalar gets another text, in the style that it has.
    Set { scalar: Id, text: String },
    /// A key without a value gets one.
    Fill { null: Id, value: New },
    /// A map gets a key, behind the one at `after`.
    Add { map: Id, after: usize, key: &'static str, value: New },
    /// The outermost map gets a key at its end.
    AddLast { map: Id, key: &'static str, value: New },
    /// A list gets one more item, at its end.
    Append { list: Id, item: New },
    /// A map loses a key.
    Remove { map: Id, index: usize },
}

/// A value that was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum New {
    /// In this style where it is safe.
    Text(String, Style),
    /// At least one key.
    Map(Vec<(&'static str, New)>),
    /// At least one item.
    List(Vec<New>),
}
