//! Applications of Argo CD.

use crate::validate::files::join;
use crate::validate::{Files, Finding, Names, get, items, text};
use crate::yaml::{Id, Tree};

/// The folders that an Application names must be there, as far as they are in this repository.
pub(super) fn check(files: &Files, names: &Names, path: &str, tree: &Tree, document: Id) -> Vec<Finding> {
    let is_argo = text(tree, get(tree, document, "apiVersion")).is_some_and(|version| version.starts_with("argoproj.io/"));
    if !is_argo || text(tree, get(tree, document, "kind")) != Some("Application") {
        return Vec::new();
    }
    let Some(spec) = get(tree, document, "spec") else { return Vec::new() };
    let sources = items(tree, get(tree, spec, "source")).into_iter().chain(items(tree, get(tree, spec, "sources")));
    let mut findings = Vec::new();
    for source in sources {
        let is_here = text(tree, get(tree, source, "repoURL")).is_some_and(|url| is_same(url, &names.repository));
        let Some(value) = get(tree, source, "path").filter(|_| is_here) else { continue };
        let Some(folder) = tree.text(value) else { continue };
        let exists = join("", folder).is_some_and(|folder| files.is_folder(&folder) || files.is_file(&folder));
        if !exists && !folder.contains("{{") {
            findings.push(Finding::new(
                path,
                Some(tree.node(value).line),
                format!("the path {folder} is not in this repository"),
            ));
        }
    }
    findings
}

/// Host and path alone: the scheme, the user, the port and `.git` may differ.
fn is_same(one: &str, other: &str) -> bool {
    let parts = |url: &str| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let (host, path) = rest.split_once(['/', ':']).unwrap_or((rest, ""));
        let path = path.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_matches('/');
        let path =
            if rest.contains(':') && !path.contains('/') { rest.split_once('/').map_or(path, |(_, path)| path) } else { path };
        (host.to_ascii_lowercase(), path.trim_matches('/').trim_end_matches(".git").to_owned())
    };
    parts(one) == parts(other)
}
