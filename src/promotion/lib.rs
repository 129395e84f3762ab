//! Promotions: a tag that arrives becomes a commit in the `GitOps` repository.
//!
//! What is here so far is the edit: the bytes of a file in, the bytes of the file after the change out, or the reason why that is
//! not safe ([`Edit`]). Rules, commits and what follows them come on top of it.

mod edit;
mod yaml;

pub use edit::{Application, Container, Edit, Edited, Helm, Image, Kustomization, Values, Write};
pub use yaml::Refusal;
