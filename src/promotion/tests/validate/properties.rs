//! Whatever the files are, it comes to an end, and says nothing of lines that are not there.

use std::fmt::Write as _;

use proptest::prelude::*;
use roadstead_promotion::{Report, Scope, Tree, validate};

use crate::files::names;

const PATHS: [&str; 10] = [
    "kustomization.yaml",
    "a/kustomization.yaml",
    "a/kustomization.yml",
    "a/b/Kustomization",
    "b/kustomization.yaml",
    "a/x.yaml",
    "a/b/y.yml",
    "b/x.yaml",
    "c/Chart.yaml",
    "c/templates/t.yaml",
];

/// Parts of files, most of them half right.
const PARTS: [&str; 30] = [
    "resources: [x.yaml]\n",
    "resources: [x.yaml, ../a, ../b, ., .., a/b]\n",
    "resources:\n- b\n- ../../a\n- \n",
    "components: [../b, c]\n",
    "kind: Component\n",
    "kind: Deployment\nmetadata: {name: x}\nspec: {containers: [{name: c, image: 127.0.0.1:5000/a:v1}]}\n",
    "kind: Application\napiVersion: argoproj.io/v1\nspec: {source: {repoURL: 'git@git.example.org:micro/app', path: a/b}}\n",
    "images:\n- name: a\n  newName: 127.0.0.1:5000/b\n  newTag: 1\n",
    "images: [{name: 127.0.0.1:5000/a, digest: 'sha256:00'}, a, {b: c}, ]\n",
    "images: *i\n",
    "x: &i [*i]\n",
    "x: &i {<<: *i}\n",
    "<<: *i\n",
    "namespace: n\nnamePrefix: p-\n",
    "patches:\n- path: x.yaml\n- patch: |\n    kind: A\n    metadata: {name: b\n",
    "patchesStrategicMerge: [x.yaml, 'a: b']\n",
    "configMapGenerator: [{files: [k=x.yaml, y], envs: [z], env: e}]\n",
    "---\n",
    "...\n",
    "kind: List\nitems: [{kind: A, metadata: {name: a}}, 1, []]\n",
    "- path: /a/image\n  value: 127.0.0.1:5000/c\n",
    "metadata: {name: é}\n",
    "? [a]\n: b\n",
    "\u{feff}",
    "\t",
    "a: |+\n\n\n",
    "'\n",
    "{{ x }}\n",
    "\r\n\r",
    "- ",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..6).prop_map(|parts| parts.concat().into_bytes()),
        1 => "[-a-z:#'\"{}\\[\\]&*|>! \n\t?,%@`\\\\]{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// Each place that a finding or an image names is there.
fn check(tree: &[(usize, Vec<u8>)], report: &Report) -> Result<(), TestCaseError> {
    let lines = report.findings.iter().map(|finding| (&finding.path, finding.line));
    let lines = lines.chain(report.wanted.iter().map(|image| (&image.path, Some(image.line))));
    for (path, line) in lines {
        // The last of those with one path is the one that is there.
        let file = tree.iter().rev().find(|(index, _)| PATHS[*index] == path.as_str());
        match (file, line) {
            (Some((_, bytes)), Some(line)) => {
                let count = String::from_utf8_lossy(bytes).lines().count();
                prop_assert!(line >= 1 && line <= count.max(1), "{path}:{line} of {count}: {report}");
            }
            (Some(_), None) => {}
            (None, line) => prop_assert!(line.is_none(), "{path} is not there: {report}"),
        }
    }
    let mut sorted = report.findings.clone();
    sorted.sort();
    prop_assert_eq!(&sorted, &report.findings);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn no_repository_makes_it_panic_and_lines_are_within_their_files(
        files in prop::collection::vec((0..PATHS.len(), text()), 0..8),
        link in 0..3 * PATHS.len(),
    ) {
        let mut tree = Tree::new();
        for (index, bytes) in &files {
            tree.add(PATHS[*index], bytes.as_slice());
        }
        let mut files = files;
        if let Some(path) = PATHS.get(link) {
            tree.add_link(*path);
            files.retain(|(index, _)| *index != link);
        }
        for scope in [Scope::All, Scope::Folder("a".to_owned()), Scope::Folder(String::new()), Scope::File("a/x.yaml".to_owned())] {
            let report = validate(&tree, &scope, &names());
            check(&files, &report)?;
            prop_assert_eq!(validate(&tree, &scope, &names()), report, "it says the same each time");
        }
    }

    #[test]
    fn no_bytes_of_a_kustomization_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for path in [0, 5] {
            let mut tree = Tree::new();
            tree.add(PATHS[path], bytes.as_slice());
            check(&[(path, bytes.clone())], &validate(&tree, &Scope::All, &names()))?;
        }
    }
}

/// It ends in time, and says that it has not looked at all.
fn is_left(tree: &Tree, folder: &str) {
    let report = validate(tree, &Scope::Folder(folder.to_owned()), &names());
    assert!(report.findings.iter().any(|finding| finding.what.contains("more in this repository than is looked at")), "{report}");
}

#[test]
fn a_repository_that_grows_without_end_when_it_is_built_is_left_in_time() {
    // Each level names the one below twice: 2^30 objects.
    let mut tree = Tree::new();
    tree.add("l0/kustomization.yaml", "resources: [x.yaml]\n");
    tree.add("l0/x.yaml", crate::files::deployment("x", "127.0.0.1:5000/a:v1"));
    for level in 1..=30 {
        tree.add(format!("l{level}/kustomization.yaml"), format!("resources: [../l{level}a, ../l{level}b]\n"));
        for side in ["a", "b"] {
            let text = format!("resources: [../l{}]\nnamePrefix: {side}\n", level - 1);
            tree.add(format!("l{level}{side}/kustomization.yaml"), text);
        }
    }
    is_left(&tree, "l30");
    let mut tree = Tree::new();
    for level in 0..=30 {
        let text = format!("kind: Component\ncomponents: [../c{0}, ../c{0}]\n", level + 1);
        tree.add(format!("c{level}/kustomization.yaml"), text);
    }
    tree.add("c31/kustomization.yaml", "kind: Component\nnamespace: a\n");
    is_left(&tree, "c0");
}

#[test]
fn a_large_map_that_is_merged_into_many_others_is_read_in_a_moment() {
    let keys: String = (0..60_000).map(|number| format!("k{number}: ,")).collect::<Vec<_>>().concat();
    let maps = "- <<: *a\n".repeat(50_000);
    for list in ["x", "images", "containers", "resources"] {
        for path in ["a/kustomization.yaml", "a/x.yaml"] {
            let mut tree = Tree::new();
            tree.add(path, format!("kind: List\na: &a {{{keys}}}\nitems: *b\n{list}: &b\n{maps}"));
            let report = validate(&tree, &Scope::All, &names());
            assert_eq!(report.kustomizations + report.manifests, 1, "{report}");
        }
    }
}

#[test]
fn a_text_of_aliases_to_aliases_is_read_in_a_moment() {
    let mut text = String::from("a0: &a0 {containers: [{image: 127.0.0.1:5000/a}]}\n");
    for level in 1..60 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} {{<<: [{below}]}}").unwrap();
    }
    let text = format!("{text}kind: A\nmetadata: {{<<: *a59}}\nimages: {{<<: *a59}}\n<<: *a59\n");
    for path in ["a/kustomization.yaml", "a/x.yaml"] {
        let mut tree = Tree::new();
        tree.add(path, text.as_str());
        let report = validate(&tree, &Scope::All, &names());
        assert_eq!(report.wanted.is_empty(), path == "a/kustomization.yaml", "{report}");
    }
}
