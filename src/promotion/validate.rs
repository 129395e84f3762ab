//! Would this repository deploy? What can be said of that without rendering anything.
//!
//! [`validate`] looks at the files of a commit in memory: whether the YAML is any, whether all is there that kustomizations and Argo CD
//! Applications name, and which images of this registry would be deployed in the end, which [`missing`] then looks for. It follows
//! kustomize's own rules, so that what kustomize builds has no finding that [is fatal](Finding::is_fatal). What is elsewhere, and what
//! only plugins and charts would make, is not looked at.

mod check;
mod facts;
mod held;
mod kustomization;
mod load;
mod tree;
mod values;
mod walk;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::validate::walk::Walk;

pub use check::{Check, Matched};
pub use held::missing;
pub use load::{of_commit, of_tip};
pub use tree::Tree;

/// Names that kustomize takes for its file.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// So many findings are shown.
const SHOWN: usize = 100;
/// So many are kept, of which those are taken that come first.
const KEPT: usize = 5000;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole repository.
    All,
    /// A folder, with all that its kustomization reaches; without one, the YAML in the folder. `""` is the root.
    Folder(String),
    /// One file.
    File(String),
}

/// By which names this server and the repository are known in the repository's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// How images of this registry begin: `registry.example.org`, `127.0.0.1:5000`.
    pub hosts: Vec<String>,
    /// First parts of the names of repositories that are pulled through when they are asked for, such as `docker.io`: they need not
    /// be here yet.
    pub fetched: Vec<String>,
    /// URLs of the repository. Scheme, user, port and a last `.git` do not matter.
    pub repositories: Vec<String>,
    /// The branch that is looked at; `None`: whatever an Application follows is taken for it.
    pub branch: Option<String>,
}

impl Names {
    /// Both.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.hosts.extend(other.hosts.iter().cloned());
        self.fetched.extend(other.fetched.iter().cloned());
        self.repositories.extend(other.repositories.iter().cloned());
        self.branch = self.branch.or_else(|| other.branch.clone());
        self
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file, or the folder, from the root of the repository.
    pub path: String,
    /// The line that is meant, from 1; none if it is the whole.
    pub line: Option<usize>,
    /// What is wrong, and what would help.
    pub what: String,
    /// It cannot be built, as it is. Else it can, and is hardly what was meant.
    pub is_fatal: bool,
}

/// An image of this registry that the repository deploys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Wanted {
    /// The file that says so.
    pub path: String,
    /// The line in it.
    pub line: usize,
    /// By which of its names this registry is meant.
    pub host: String,
    /// The repository here.
    pub repository: String,
    /// The tag; without one and without a digest, Kubernetes takes `latest`.
    pub tag: Option<String>,
    /// The digest, which counts where both are there.
    pub digest: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of their files and lines; the first hundred.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: usize,
    /// The images of this registry that would be deployed. Whether they are here is not looked at yet.
    pub wanted: Vec<Wanted>,
    /// How many kustomizations were looked at.
    pub kustomizations: usize,
    /// How many other files were.
    pub manifests: usize,
}

/// Looks at the files of a commit.
///
/// Files whose bytes are not in the tree are there, and what is in them is not known. Never panics, whatever the bytes are.
#[must_use]
pub fn validate(tree: &Tree, scope: &Scope, names: &Names) -> Report {
    let mut walk = Walk::new(tree, names);
    walk.run(scope);
    walk.report()
}

/// Findings as they come.
#[derive(Debug, Default)]
struct Findings {
    kept: BTreeSet<Finding>,
    dropped: usize,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        // Whether there is one that is fatal must not depend on how many others there are.
        let room = if finding.is_fatal { 2 * KEPT } else { KEPT };
        if self.kept.len() < room {
            self.kept.insert(finding);
        } else if !self.kept.contains(&finding) {
            self.dropped += 1;
        }
    }
}

impl Report {
    /// Takes more findings in, those that are not here yet.
    pub(crate) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        let mut all: BTreeSet<Finding> = self.findings.drain(..).collect();
        all.extend(findings);
        self.more += all.len().saturating_sub(SHOWN);
        self.findings = all.into_iter().take(SHOWN).collect();
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "." } else { &self.path };
        match self.line {
            Some(line) => write!(formatter, "{path}:{line}: {}", self.what),
            None => write!(formatter, "{path}: {}", self.what),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(formatter, "{finding}")?;
        }
        if self.more > 0 {
            writeln!(formatter, "and {} more", self.more)?;
        }
        Ok(())
    }
}
