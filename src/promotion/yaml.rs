//! YAML as bytes: a tree that knows where each value stands, changes of single values, and the proof that nothing else changed.
//!
//! The text is parsed by saphyr-parser; where scalars end is found out here, because its spans run over blanks and comments behind
//! them. A change is a splice of the text. Afterwards the text is parsed again, and must be the tree that was meant: what a splice
//! does in a corner of YAML that was not thought of is refused there, not committed.

mod change;
mod guard;
mod scalar;
mod splice;
mod tree;

pub(crate) use change::{Change, New};
pub(crate) use scalar::{Style, is_plain};
pub(crate) use tree::{Id, Tree, What};

/// Why a file is not changed. Nothing is written then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct Refusal {
    /// The line that is meant, from 1; none if it is the file as a whole.
    pub line: Option<usize>,
    /// What cannot be done, why, and what would help.
    pub why: String,
}

impl Refusal {
    pub(crate) fn whole(why: impl Into<String>) -> Self {
        Self { line: None, why: why.into() }
    }

    pub(crate) fn at(line: usize, why: impl Into<String>) -> Self {
        Self { line: Some(line), why: why.into() }
    }
}

/// Makes these changes in a text that was parsed as `tree`.
///
/// Gives the text after them, and its tree. The bytes outside the values that are meant are the same; the text parses as the tree with exactly
/// these changes. Anything else is a [`Refusal`].
pub(crate) fn apply(text: &str, tree: &Tree, changes: &[Change]) -> Result<(String, Tree), Refusal> {
    let after = splice::splice(text, tree, changes)?;
    let tree = guard::check(tree, changes, &after)?;
    Ok((after, tree))
}
