//! Repositories in memory, and what is found in them.

use roadstead_promotion::{Names, Report, Scope, Tree, validate};

/// No findings.
pub(crate) const NONE: [String; 0] = [];

/// The registry, by its names, and the repository.
pub(crate) fn names() -> Names {
    Names {
        hosts: vec!["registry.example.org".to_owned(), "127.0.0.1:5000".to_owned()],
        fetched: vec!["docker.io".to_owned()],
        repositories: vec!["https://git.example.org/micro/app.git".to_owned()],
        branch: Some("main".to_owned()),
    }
}

pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (path, text) in files {
        tree.add(*path, *text);
    }
    tree
}

pub(crate) fn report(files: &[(&str, &str)], scope: &Scope) -> Report {
    validate(&tree(files), scope, &names())
}

pub(crate) fn shown(report: &Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

pub(crate) fn folder(path: &str) -> Scope {
    Scope::Folder(path.to_owned())
}

/// There is nothing wrong in the folder `k`, nor in the whole repository.
#[track_caller]
pub(crate) fn clean(files: &[(&str, &str)]) {
    for scope in [folder("k"), Scope::All] {
        assert_eq!(shown(&report(files, &scope)), NONE, "{scope:?}");
    }
}

/// Just this is found in the folder `k`, and in the whole repository: the beginning of the text, and whether it is fatal.
#[track_caller]
pub(crate) fn finds(files: &[(&str, &str)], text: &str, is_fatal: bool) {
    for scope in [folder("k"), Scope::All] {
        let report = report(files, &scope);
        let shown = shown(&report);
        assert!(matches!(&shown[..], [one] if one.starts_with(text)), "{scope:?}: {shown:#?} and not {text}");
        assert_eq!(report.findings[0].is_fatal, is_fatal, "{shown:?}");
    }
}

pub(crate) fn deployment(name: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  template:\n    spec:\n      containers:\n        - name: main\n          image: {image}\n"
    )
}

/// A kustomization with `x.yaml` beside it, and more.
#[track_caller]
pub(crate) fn built(kustomization: &str, more: &[(&str, &str)], check: impl Fn(&[(&str, &str)])) {
    let manifest = deployment("x", "app:v1");
    let mut files = vec![("k/kustomization.yaml", kustomization), ("k/x.yaml", manifest.as_str())];
    files.extend_from_slice(more);
    check(&files);
}
