//! Input: the files of a `GitOps` repository, each after a line `=== PATH`; a path that begins with `@` is that of a link.

use promotion::{Names, Report, Scope, Tree, validate};

pub(crate) fn target(data: &[u8]) {
    let tree = tree(data);
    let names = Names {
        hosts: vec!["registry.example.org".to_owned()],
        repositories: vec!["https://git.example.org/team/infra.git".to_owned()],
        ..Names::default()
    };
    let all = validate(&tree, &Scope::All, &names);
    sound(&all);
    assert_eq!(all, validate(&tree, &Scope::All, &names));
    for folder in ["", "a", "a/b", "../x"] {
        sound(&validate(&tree, &Scope::Folder(folder.to_owned()), &names));
    }
    sound(&validate(&tree, &Scope::File("a/one.yaml".to_owned()), &names));
}

fn tree(data: &[u8]) -> Tree {
    let mut tree = Tree::new();
    let (mut path, mut bytes) = ("kustomization.yaml".to_owned(), Vec::new());
    let mut put = |path: &str, bytes: Vec<u8>| match path.strip_prefix('@') {
        Some(link) => tree.add_link(link),
        None => tree.add(path, bytes),
    };
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        if let Some(next) = line.strip_prefix(b"=== ") {
            put(&path, std::mem::take(&mut bytes));
            String::from_utf8_lossy(next).trim().clone_into(&mut path);
        } else {
            bytes.extend_from_slice(line);
        }
    }
    put(&path, bytes);
    tree
}

fn sound(report: &Report) {
    assert!(report.findings.len() <= 100 && (report.more == 0 || report.findings.len() == 100));
    assert!(report.findings.is_sorted());
    for finding in &report.findings {
        assert!(finding.line != Some(0), "{finding}");
    }
    for wanted in &report.wanted {
        assert!(wanted.line > 0 && wanted.host == "registry.example.org", "{wanted:?}");
    }
}
