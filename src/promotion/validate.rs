//! Whether what a repository says can be deployed: its YAML parses, what its kustomizations name is there, the images of this registry are
//! here, and the folders of Argo CD's Applications exist.
//!
//! Nothing is rendered. What cannot be judged without that (patches of patches, generators, charts) is passed over, so that what is
//! found is really wrong.

mod application;
mod files;
mod image;
mod kustomization;

use std::collections::BTreeSet;
use std::fmt;

pub use files::Files;
pub use image::Wanted;

use crate::yaml::{Id, Tree, What};

pub(crate) use files::is_yaml;
use kustomization::Walk;

/// Findings of one look that are told.
const TOLD: usize = 100;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// The line, from 1; `None` for the file as a whole.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub what: String,
}

/// What a look at a repository found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, by file and line; the first hundred.
    pub findings: Vec<Finding>,
    /// Images that are said to be at this registry.
    pub wanted: Vec<Wanted>,
    /// Names of images in the manifests that the folder reaches, as they are before its own `images:`.
    pub names: BTreeSet<String>,
    /// Kustomizations that were looked at.
    pub kustomizations: usize,
    /// Other files that were looked at.
    pub manifests: usize,
}

/// What is known of the surroundings of a repository.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// What manifests call this registry: `registry.example.org`, `10.0.0.1:5000`.
    pub hosts: Vec<String>,
    /// Where the repository is, as an Argo CD Application may name it.
    pub repository: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: Option<usize>, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.what)
    }
}

/// Looks at a whole repository.
#[must_use]
pub fn repository(files: &Files, names: &Names) -> Report {
    let mut walk = Walk::new(files, names);
    for path in files.yaml() {
        walk.file(path);
    }
    for folder in files.kustomized() {
        walk.folder(&folder);
    }
    walk.into_report()
}

/// Looks at a folder with a kustomization, and at all that it reaches.
#[must_use]
pub fn folder(files: &Files, folder: &str, names: &Names) -> Report {
    let (mut walk, folder) = (Walk::new(files, names), folder.trim_matches('/'));
    walk.folder(folder);
    let images = walk.before.remove(folder).unwrap_or_default();
    Report { names: images, ..walk.into_report() }
}

/// Looks at one file alone.
#[must_use]
pub fn file(files: &Files, path: &str, names: &Names) -> Report {
    let mut walk = Walk::new(files, names);
    walk.file(path);
    walk.into_report()
}

/// What is wrong with a text as YAML. `None` for a template, which is none.
fn parse(path: &str, bytes: &[u8]) -> Option<Result<Tree, Finding>> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Some(Err(Finding::new(path, None, "is not UTF-8"))) };
    match Tree::parse(text) {
        Ok(tree) => Some(Ok(tree)),
        Err(_) if text.contains("{{") => None,
        Err(refusal) => Some(Err(Finding::new(path, refusal.line, refusal.why.replace("that can be edited safely", "")))),
    }
}

/// Keys that stand in one map twice.
fn twice(path: &str, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for map in tree.ids().filter_map(|id| tree.map(id)) {
        let mut seen = BTreeSet::new();
        for (key, _) in map {
            if let Some(name) = tree.text(*key).filter(|name| *name != "<<")
                && !seen.insert(name)
            {
                findings.push(Finding::new(path, Some(tree.node(*key).line), format!("the key {name} is here twice")));
            }
        }
    }
    findings
}

/// The value of a key that is there once; `None` too where nothing can be said.
fn get(tree: &Tree, map: Id, key: &str) -> Option<Id> {
    tree.get(map, key).ok().flatten().filter(|value| !tree.is_null(*value))
}

/// The text of a value, unless it stands for another one.
fn text(tree: &Tree, value: Option<Id>) -> Option<&str> {
    value.and_then(|value| tree.text(value))
}

/// The items of a list, or the one value that stands in its place.
fn items(tree: &Tree, value: Option<Id>) -> Vec<Id> {
    let Some(value) = value else { return Vec::new() };
    match &tree.node(value).what {
        What::List { items, .. } => items.clone(),
        What::Scalar { .. } | What::Map { .. } => vec![value],
        What::Alias(_) => Vec::new(),
    }
}
