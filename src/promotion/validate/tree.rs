//! The files of a commit, as far as they are known, and what a relative path leads to among them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::validate::KUSTOMIZATIONS;

/// The files of a commit: all their paths, and the bytes of those that were read.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<String, At>);

/// What is at a path.
#[derive(Clone, Debug)]
enum At {
    /// A file; `None`: its bytes are not here yet.
    File(Option<Vec<u8>>),
    /// A file that is too large to be looked at.
    Large,
    Link,
    Submodule,
}

/// The bytes of a file.
pub(super) enum Content<'t> {
    Bytes(&'t [u8]),
    /// There is such a file, and it was not read.
    Unread,
    /// It is not read, because it is too large.
    Large,
}

/// What a relative path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    File(String),
    Folder(String),
    /// Nothing is there.
    Missing(String),
    /// It leaves the repository, or begins at the root of a machine.
    Outside,
    /// A link is in its way.
    Link(String),
    /// It is in another repository.
    Submodule,
}

impl Tree {
    /// A tree without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file with its bytes, at a path from the root; in the place of what was there.
    pub fn add(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), At::File(Some(bytes.into())));
    }

    /// A file whose bytes were not read.
    pub fn add_unread(&mut self, path: impl Into<String>) {
        self.0.insert(path.into(), At::File(None));
    }

    /// A file that is too large to be looked at.
    pub fn add_large(&mut self, path: impl Into<String>) {
        self.0.insert(path.into(), At::Large);
    }

    /// A symbolic link. It is followed by nobody here.
    pub fn add_link(&mut self, path: impl Into<String>) {
        self.0.insert(path.into(), At::Link);
    }

    /// A commit of another repository: what is below this path is not known.
    pub fn add_submodule(&mut self, path: impl Into<String>) {
        self.0.insert(path.into(), At::Submodule);
    }

    /// Every path.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn content(&self, path: &str) -> Option<Content<'_>> {
        match self.0.get(path)? {
            At::File(Some(bytes)) => Some(Content::Bytes(bytes)),
            At::File(None) => Some(Content::Unread),
            At::Large => Some(Content::Large),
            At::Link | At::Submodule => None,
        }
    }

    /// Is a file below this folder? `""` is the root.
    pub(super) fn is_folder(&self, folder: &str) -> bool {
        folder.is_empty() || self.below(folder).next().is_some()
    }

    /// The paths below a folder.
    pub(super) fn below<'t>(&'t self, folder: &str) -> impl Iterator<Item = &'t str> + use<'t> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let range = self.0.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        range.map(|(path, _)| path.as_str()).take_while(move |path| path.starts_with(&start))
    }

    /// The paths of a folder's kustomizations: one at most is right.
    pub(super) fn kustomizations(&self, folder: &str) -> Vec<String> {
        let paths = KUSTOMIZATIONS.iter().map(|name| join(folder, name));
        paths.filter(|path| matches!(self.0.get(path), Some(At::File(_) | At::Large | At::Link))).collect()
    }

    pub(super) fn is_link(&self, path: &str) -> bool {
        matches!(self.0.get(path), Some(At::Link))
    }

    /// Is it a template of a Helm chart, which is no YAML before it is rendered?
    pub(super) fn is_in_chart(&self, path: &str) -> bool {
        let parts = path.match_indices("templates/");
        let mut folders = parts.map(|(at, _)| &path[..at]).filter(|folder| folder.is_empty() || folder.ends_with('/'));
        folders.any(|folder| self.0.contains_key(&format!("{folder}Chart.yaml")))
    }

    /// What `path` leads to from a folder.
    pub(super) fn target(&self, folder: &str, path: &str) -> Target {
        let Some(path) = within(folder, path) else { return Target::Outside };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            match self.0.get(&path[..end]) {
                Some(At::Link) => return Target::Link(path[..end].to_owned()),
                Some(At::Submodule) => return Target::Submodule,
                _ => {}
            }
        }
        match self.0.get(&path) {
            Some(_) => Target::File(path),
            None if self.is_folder(&path) => Target::Folder(path),
            None => Target::Missing(path),
        }
    }
}

/// A path from the root, without `.` and `..`; `None` if it is none within the repository.
pub(super) fn within(folder: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The folder of a path.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path below a folder.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_what_is_there_and_never_out_of_the_repository() {
        let mut tree = Tree::new();
        tree.add("a/b/c.yaml", "");
        tree.add_link("a/link");
        tree.add_submodule("a/sub");
        assert_eq!(tree.target("a/b", "c.yaml"), Target::File("a/b/c.yaml".to_owned()));
        assert_eq!(tree.target("a", ".//b/./c.yaml"), Target::File("a/b/c.yaml".to_owned()));
        assert_eq!(tree.target("a/b", ".."), Target::Folder("a".to_owned()));
        assert_eq!(tree.target("a/b", "../.."), Target::Folder(String::new()));
        assert_eq!(tree.target("a/b", "../../.."), Target::Outside);
        assert_eq!(tree.target("", "/etc/passwd"), Target::Outside);
        assert_eq!(tree.target("a", "bb"), Target::Missing("a/bb".to_owned()));
        assert_eq!(tree.target("a", "link/c.yaml"), Target::Link("a/link".to_owned()));
        assert_eq!(tree.target("a", "sub/c.yaml"), Target::Submodule);
    }

    #[test]
    fn a_template_is_one_only_below_a_chart() {
        let mut tree = Tree::new();
        tree.add("chart/Chart.yaml", "");
        assert!(tree.is_in_chart("chart/templates/a/b.yaml") && !tree.is_in_chart("chart/values.yaml"));
        assert!(!tree.is_in_chart("other/templates/b.yaml") && !tree.is_in_chart("chart/mytemplates/b.yaml"));
        tree.add("Chart.yaml", "");
        assert!(tree.is_in_chart("templates/b.yaml"));
    }
}
