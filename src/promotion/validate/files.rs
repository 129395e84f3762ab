//! The files of a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Names that kustomize takes for its file.
pub(crate) const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// The files of a commit: all paths, and the bytes of those that are YAML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, Vec<u8>>,
    /// Links and submodules: what they lead to is not looked at.
    links: BTreeSet<String>,
}

/// Is this the path of a file that should be YAML?
pub(crate) fn is_yaml(path: &str) -> bool {
    let is_kustomization = path.rsplit('/').next() == Some("Kustomization");
    is_kustomization || Path::new(path).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

impl Files {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file is there; its bytes are of interest only if it is YAML.
    pub fn add(&mut self, path: &str, bytes: Option<Vec<u8>>) {
        self.paths.insert(path.to_owned());
        if let Some(bytes) = bytes {
            self.texts.insert(path.to_owned(), bytes);
        }
    }

    /// A link or submodule is there.
    pub fn add_link(&mut self, path: &str) {
        self.paths.insert(path.to_owned());
        self.links.insert(path.to_owned());
    }

    /// All files that should be YAML and are no templates of a chart.
    pub(crate) fn yaml(&self) -> impl Iterator<Item = &String> {
        self.texts.keys().filter(|path| is_yaml(path) && !self.is_template(path))
    }

    /// All folders with a kustomization.
    pub(crate) fn kustomized(&self) -> BTreeSet<String> {
        let folder = |path: &String| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            KUSTOMIZATIONS.contains(&name).then(|| folder.to_owned())
        };
        self.paths.iter().filter_map(folder).collect()
    }

    /// The kustomizations of a folder; kustomize wants one.
    pub(crate) fn kustomizations(&self, folder: &str) -> Vec<String> {
        KUSTOMIZATIONS
            .iter()
            .map(|name| join(folder, name).unwrap_or_default())
            .filter(|path| self.paths.contains(path))
            .collect()
    }

    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    pub(crate) fn is_link(&self, path: &str) -> bool {
        // Also what lies behind one.
        self.links.contains(path)
            || self.links.iter().any(|link| path.strip_prefix(link.as_str()).is_some_and(|rest| rest.starts_with('/')))
    }

    pub(crate) fn is_folder(&self, path: &str) -> bool {
        path.is_empty() || {
            let prefix = format!("{path}/");
            self.paths.range(prefix.clone()..).next().is_some_and(|first| first.starts_with(&prefix))
        }
    }

    pub(crate) fn text(&self, path: &str) -> Option<&[u8]> {
        self.texts.get(path).map(Vec::as_slice)
    }

    /// Does it lie below `templates/` of a chart?
    fn is_template(&self, path: &str) -> bool {
        let mut rest = path;
        while let Some(at) = rest.rfind("/templates/") {
            if self.paths.contains(&format!("{}/Chart.yaml", &path[..at])) {
                return true;
            }
            rest = &rest[..at];
        }
        path.starts_with("templates/") && self.paths.contains("Chart.yaml")
    }
}

/// A path as it is named in a folder. `None` if it leads out of the repository.
pub(crate) fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}
