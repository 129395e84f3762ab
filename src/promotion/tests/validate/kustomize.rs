//! kustomize is asked whether it builds what we find nothing in, and whether it does not where we say so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use roadstead_promotion::{Report, Tree, validate};

use crate::files::{deployment, folder, names};

/// Repositories that are built. Each takes a tenth of a second.
const REPOSITORIES: usize = 150;
/// Values as people write them, most of them without quotes.
const TEXTS: [&str; 3] = [
    "12|1.5|1e3|1e|0x1f|0xfg|0o17|0o8|0b1|017|08|1_0|_1|+1|-1|.5|5.|.",
    "-|1.2.3|.inf|-.inf|.nan|y|Y|n|yes|on|Off|oFF|true|TRUE|tRUE|2026-02-16|12:30:45|v1",
    "=|é|!!str 12|\"12\"|'12'|null|99999999999999999999|0x99999999999999999|1E5|1e+5|1.e5|0.|+.5|++1|1-1",
];

/// Where `tests/tools/install` puts it, or where the system has it.
fn kubectl() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let tools = std::env::var_os("ROADSTEAD_TOOLS").map_or_else(|| cache.join("roadstead/tools"), PathBuf::from);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools.join("bin")).chain(std::env::split_paths(&search));
    let found = folders.map(|folder| folder.join("kubectl")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("kubectl is missing: run tests/tools/install"))
}

type Files = BTreeMap<String, String>;

/// What kustomize says about the folder `k`: its error, if it does not build it.
fn build(kubectl: &Path, files: &Files) -> Result<(), String> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let output = Command::new(kubectl).arg("kustomize").arg(root.path().join("k")).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn found(files: &Files) -> Report {
    let mut tree = Tree::new();
    for (path, text) in files {
        tree.add(path.as_str(), text.as_str());
    }
    validate(&tree, &folder("k"), &names())
}

/// Most often the first, else one of the others.
fn usually(first: &'static str, others: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    prop_oneof![8 => Just(first), 2 => prop::sample::select(others.to_vec())].prop_map(str::to_owned)
}

/// What an overlay names besides its resources.
fn uses() -> impl Strategy<Value = &'static str> {
    let good = prop::sample::select(vec![
        "",
        "components: [../c]\n",
        "patches: [{path: patch.yaml}]\n",
        "patchesStrategicMerge: [patch.yaml]\n",
        "configMapGenerator: [{name: m, files: [key=patch.yaml]}]\n",
        "commonLabels: {a: b}\n",
    ]);
    let bad = prop::sample::select(vec![
        "components: [../none]\n",
        "patches: [{path: none.yaml}]\n",
        "patchesStrategicMerge: [none.yaml]\n",
        "configMapGenerator: [{name: m, files: [key=none.yaml]}]\n",
        "configMapGenerator: [{name: m, envs: [none.env]}]\n",
        "crds: [none.json]\n",
        "generators: [none.yaml]\n",
        "bases: [../c]\n",
        "bases: [patch.yaml]\n",
    ]);
    prop_oneof![4 => good, 1 => bad]
}

/// A base, a component and an overlay that names them, each with something that may be wrong.
fn repositories() -> impl Strategy<Value = Files> {
    let base = usually(
        "resources: [one.yaml]\n",
        &[
            "resources: [one.yaml, none.yaml]\n",
            "resources: [one.yaml, one.yaml]\n",
            "resources: [../k]\n",
            "resources: []\n",
            "namespace: b\nresources: [one.yaml]\n",
        ],
    );
    let component = usually(
        "kind: Component\nlabels: [{pairs: {a: b}}]\n",
        &["kind: Component\n", "kind: Component\nnamePrefix: p-\n", "resources: []\nnamePrefix: a\n"],
    );
    let uses = uses();
    let tags =
        usually("v1", &["'20260216'", "2026-02-16", "~", "20260216", "1.10", "true", "0x1f", "0xzz", "[a]", "1e", "on", "a: b"]);
    let keys = usually("newTag", &["digest", "newName", "tag"]);
    let resources = usually(
        "[../b, two.yaml]",
        &[
            "[../b]",
            "[../b, two.yaml, three.yaml]",
            "[../b, none]",
            "[two.yaml, ../b/]",
            "[../b, .]",
            "[../b, ../c]",
            "[../b, ..]",
        ],
    );
    let odd = [deployment("one", "app:v1"), "a: b\n".to_owned(), "kind: X\nmetadata: {}\n".to_owned(), "a: [\n".to_owned()];
    let two = prop_oneof![8 => Just(deployment("two", "app:v1")), 2 => prop::sample::select(odd.to_vec())];
    (base, component, uses, tags, keys, resources, two).prop_map(|(base, component, uses, tag, key, resources, two)| {
        let overlay = format!("resources: {resources}\n{uses}images:\n  - name: app\n    {key}: {tag}\n");
        let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: one\nspec:\n  replicas: 2\n";
        let files = [
            ("b/kustomization.yaml", base),
            ("b/one.yaml", deployment("one", "app:v1")),
            ("c/kustomization.yaml", component),
            ("k/kustomization.yaml", overlay),
            ("k/two.yaml", two),
            ("k/patch.yaml", patch.to_owned()),
        ];
        files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect()
    })
}

#[test]
fn kustomize_fails_where_we_say_so_and_nowhere_else() {
    let kubectl = kubectl();
    let mut runner = TestRunner::new(Config::default());
    let (mut built, mut failed) = (0, 0);
    for _ in 0..REPOSITORIES {
        let files = repositories().new_tree(&mut runner).unwrap().current();
        let report = found(&files);
        let told = format!("{files:#?}\n{report}");
        match build(&kubectl, &files) {
            Ok(()) => {
                assert!(report.findings.is_empty(), "kustomize builds it: {told}");
                built += 1;
            }
            // Whether a patch finds what it is for is not looked at.
            Err(error) if error.contains("no resource matches strategic merge patch") || error.contains("no matches for Id") => {}
            Err(error) => {
                assert!(report.findings.iter().any(|finding| finding.is_fatal), "{error}: {told}");
                failed += 1;
            }
        }
    }
    assert!(built > REPOSITORIES / 10 && failed > REPOSITORIES / 10, "both were tried: {built} built, {failed} failed");
}

#[test]
fn kustomize_takes_for_a_text_what_we_take_for_one() {
    let kubectl = kubectl();
    for text in TEXTS.iter().flat_map(|line| line.split('|')) {
        let files = Files::from([
            ("k/kustomization.yaml".to_owned(), format!("resources: [x.yaml]\nimages:\n- name: app\n  newTag: {text}\n")),
            ("k/x.yaml".to_owned(), deployment("x", "app:v1")),
        ]);
        let report = found(&files);
        assert_eq!(build(&kubectl, &files).is_ok(), report.findings.is_empty(), "{text}: {report}");
    }
}
