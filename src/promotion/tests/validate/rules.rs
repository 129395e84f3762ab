//! Each rule, kept and broken.

use roadstead_promotion::{Scope, Tree, validate};

use crate::files::{NONE, built, clean, deployment, finds, folder, names, report, shown, tree};

const OTHER: &str = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: other}\n";

#[track_caller]
fn good(kustomization: &str, more: &[(&str, &str)]) {
    built(kustomization, more, clean);
}

/// kustomize does not build it.
#[track_caller]
fn bad(kustomization: &str, more: &[(&str, &str)], text: &str) {
    built(kustomization, more, |files| finds(files, text, true));
}

/// kustomize builds it, but hardly what is meant.
#[track_caller]
fn odd(kustomization: &str, more: &[(&str, &str)], text: &str) {
    built(kustomization, more, |files| finds(files, text, false));
}

#[test]
fn what_is_no_yaml_is_found_with_its_line() {
    good("resources:\n- x.yaml\n", &[]);
    good("\u{feff}resources:\t[x.yaml] # é\r\n---\n", &[("k/two.yaml", "---\n# nothing\n---\na: 1\n---\nb: 2\n...\n")]);
    bad("resources: [x.yaml\n", &[("k/x.yaml", "")], "k/kustomization.yaml:1: is not YAML");
    bad("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", "a: b\n c: [\n")], "k/y.yaml:2: is not YAML");
    let broken = [("k/kustomization.yaml", "resources: []\n"), ("other/a.yml", "a: b\n- c\n")];
    assert_eq!(shown(&report(&broken, &Scope::All)).len(), 1);
    assert!(report(&broken, &folder("k")).findings.is_empty(), "the folder has nothing to do with it");
    assert!(shown(&report(&broken, &folder("other")))[0].starts_with("other/a.yml:2: is not YAML"));
    assert!(shown(&report(&broken, &Scope::File("other/a.yml".to_owned())))[0].starts_with("other/a.yml:2: is not YAML"));
    let mut tree = tree(&[("a.yaml", "a: b\n")]);
    tree.add("a.yaml", b"a: b\nc: \xff\n".as_slice());
    assert_eq!(shown(&validate(&tree, &Scope::All, &names())), ["a.yaml:2: is not UTF-8"]);
}

#[test]
fn a_key_that_is_there_twice_is_found() {
    odd("resources: [x.yaml]\nimages: []\nimages: []\n", &[], "k/kustomization.yaml:3: the key images is here twice");
    bad(
        "resources: [x.yaml, y.yaml]\n",
        &[("k/y.yaml", "kind: A\nmetadata: {name: y}\nspec:\n  a: 1\n  a: 2\n")],
        "k/y.yaml:5: the key a is here twice",
    );
    good("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", "kind: A\nmetadata: {name: y}\nspec: [{a: 1}, {a: 2}]\n")]);
}

#[test]
fn templates_are_skipped_unless_kustomize_would_read_them() {
    let template = "{{- if .Values.on }}\nkind: A\n  name: {{ .x }}\n{{ end }}\n";
    let chart = [
        ("chart/Chart.yaml", "name: c\n"),
        ("chart/templates/a.yaml", template),
        ("chart/templates/b.yaml", "a: [\n"),
        ("jinja/a.yaml", template),
    ];
    assert_eq!(shown(&report(&chart, &Scope::All)), NONE);
    let none = [("other/templates/b.yaml", "a: [\n")];
    assert_eq!(report(&none, &Scope::All).findings.len(), 1, "without a chart it is a file as any other");
    bad("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", template)], "k/y.yaml:");
}

#[test]
fn everything_that_is_named_is_there() {
    let fields = [
        ("resources: [x.yaml, {}]\n", "resources"),
        ("resources: [x.yaml]\nbases: [{}]\n", "bases"),
        ("resources: [x.yaml]\ncomponents: [{}]\n", "components"),
        ("resources: [x.yaml]\ncrds: [{}]\n", "crds"),
        ("resources: [x.yaml]\nconfigurations: [{}]\n", "configurations"),
        ("resources: [x.yaml]\ngenerators: [{}]\n", "generators"),
        ("resources: [x.yaml]\ntransformers: [{}]\n", "transformers"),
        ("resources: [x.yaml]\npatches: [{path: {}}]\n", "patches"),
        ("resources: [x.yaml]\npatchesStrategicMerge: [{}]\n", "patchesStrategicMerge"),
        ("resources: [x.yaml]\npatchesJson6902: [{target: {kind: A, name: a}, path: {}}]\n", "patchesJson6902"),
        ("resources: [x.yaml]\nreplacements: [{path: {}}]\n", "replacements"),
        ("resources: [x.yaml]\nconfigMapGenerator: [{name: a, files: [{}]}]\n", "configMapGenerator"),
        ("resources: [x.yaml]\nconfigMapGenerator: [{name: a, files: [key={}]}]\n", "configMapGenerator"),
        ("resources: [x.yaml]\nconfigMapGenerator: [{name: a, envs: [{}]}]\n", "configMapGenerator"),
        ("resources: [x.yaml]\nsecretGenerator: [{name: a, env: {}}]\n", "secretGenerator"),
    ];
    for (text, field) in fields {
        let missing = text.replace("{}", "none.yaml");
        bad(
            &missing,
            &[],
            &format!("k/kustomization.yaml:{}: {field} names none.yaml, and there is no k/none.yaml", text.lines().count()),
        );
        bad(
            &text.replace("{}", "../../out"),
            &[],
            &format!("k/kustomization.yaml:{}: {field} names ../../out, which leaves", text.lines().count()),
        );
        match field {
            "components" => good(&text.replace("{}", "../c"), &[("c/kustomization.yaml", "kind: Component\nnamePrefix: p-\n")]),
            _ => good(&text.replace("{}", "./../c/other.yaml"), &[("c/other.yaml", OTHER)]),
        }
    }
}

#[test]
fn what_is_elsewhere_is_not_looked_at() {
    for remote in [
        "https://example.org/a.yaml",
        "github.com/org/repo//path?ref=v1",
        "git@example.org:org/repo.git",
        "10.0.0.1:3000/org/repo//path?ref=v1",
        "git.example.org/org/repo.git//a?ref=v1",
    ] {
        good(&format!("resources:\n- x.yaml\n- {remote}\n"), &[]);
    }
    bad("resources: [x.yaml, example.org/a]\n", &[], "k/kustomization.yaml:1: resources names example.org/a");
}

#[test]
fn a_patch_may_stand_where_it_is_named() {
    let inline =
        "resources: [x.yaml]\npatchesStrategicMerge:\n- |-\n  apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: x}\n";
    good(inline, &[]);
    bad(&inline.replace("{name: x}", "{name: x"), &[], "k/kustomization.yaml:4: the YAML that stands here is none");
    let json = "resources: [x.yaml]\npatches:\n- target: {kind: Deployment}\n  patch: |-\n    - {op: add, path: /metadata/labels, value: {a: b}}\n";
    good(json, &[]);
    good("resources: [x.yaml]\ntransformers:\n- |-\n  kind: A\n  metadata: {name: x}\n", &[]);
}

#[test]
fn a_folder_that_is_named_has_one_kustomization() {
    let base = ("base/kustomization.yml", "resources: [other.yaml]\n");
    good("resources: [x.yaml, ../base]\n", &[base, ("base/other.yaml", OTHER)]);
    bad(
        "resources: [x.yaml, ../base]\n",
        &[("base/other.yaml", OTHER)],
        "k/kustomization.yaml:1: resources names ../base, a folder without",
    );
    bad(
        "resources: [x.yaml, ../base]\n",
        &[base, ("base/other.yaml", OTHER), ("base/Kustomization", "resources: [other.yaml]\n")],
        "base/Kustomization: base/kustomization.yml is here too",
    );
    bad(
        "resources: [x.yaml]\ncrds: [../base]\n",
        &[base, ("base/other.yaml", OTHER)],
        "k/kustomization.yaml:2: crds names ../base, which is a folder",
    );
}

#[test]
fn components_and_resources_are_not_mixed_up() {
    let component = ("c/kustomization.yaml", "kind: Component\nresources: [other.yaml]\n");
    let other = ("c/other.yaml", OTHER);
    good("resources: [x.yaml]\ncomponents: [../c]\n", &[component, other]);
    bad("resources: [x.yaml, ../c]\n", &[component, other], "k/kustomization.yaml:1: resources names ../c, a component");
    let plain = ("c/kustomization.yaml", "resources: [other.yaml]\n");
    bad(
        "resources: [x.yaml]\ncomponents: [../c]\n",
        &[plain, other],
        "k/kustomization.yaml:2: components names ../c, which is no component",
    );
    bad("resources: [x.yaml]\ncomponents: [x.yaml]\n", &[], "k/kustomization.yaml:2: components names x.yaml, which is a file");
}

#[test]
fn a_cycle_is_found_and_ends() {
    let a = ("k/kustomization.yaml", "resources: [../l]\n");
    finds(
        &[a, ("l/kustomization.yaml", "resources: [../m]\n"), ("m/kustomization.yaml", "resources: [../k]\n")],
        "m/kustomization.yaml:1: resources names ../k",
        true,
    );
    // A folder that has the one that names it is one too.
    bad(
        "resources: [x.yaml, ..]\n",
        &[("kustomization.yaml", "resources: []\nnamespace: a\n")],
        "k/kustomization.yaml:1: resources names ..",
    );
    // Two ways to one folder are none.
    clean(&[
        ("k/kustomization.yaml", "resources: [../b, ../c]\n"),
        ("b/kustomization.yaml", "resources: [../d]\nnamePrefix: b-\n"),
        ("c/kustomization.yaml", "resources: [../d]\nnamePrefix: c-\n"),
        ("d/kustomization.yaml", "resources: [x.yaml]\n"),
        ("d/x.yaml", OTHER),
    ]);
}

#[test]
fn a_row_of_kustomizations_that_is_too_long_ends() {
    let mut tree = Tree::new();
    for number in 0..5000 {
        tree.add(format!("a{number}/kustomization.yaml"), format!("resources: [../a{}]\n", number + 1));
    }
    let report = validate(&tree, &folder("a0"), &names());
    assert!(shown(&report)[0].contains("in a row"), "{report}");
}

#[test]
fn an_entry_of_images_that_kustomize_does_not_take_is_found() {
    let with = |entry: &str| format!("resources: [x.yaml]\nimages:\n- name: a\n- name: app\n  {entry}\n");
    for entry in [
        "newTag: v1",
        "newTag: '20260216'",
        "newTag: 2026-02-16",
        "newTag:",
        "digest: sha256:00",
        "newName: b",
        "newTag: !!str 12",
    ] {
        good(&with(entry), &[]);
    }
    for entry in
        ["newTag: 20260216", "newTag: 1.10", "newTag: 0012345", "newTag: 1234e56", "newTag: true", "digest: 12", "newName: [a]"]
    {
        let key = entry.split(':').next().unwrap();
        bad(&with(entry), &[], &format!("k/kustomization.yaml:5: {key} is "));
    }
    bad(&with("tag: v1"), &[], "k/kustomization.yaml:5: an entry of images has the key \"tag\"");
    odd(&with("newtag: v1"), &[], "k/kustomization.yaml:5: the key newtag is newTag");
    odd(&with("newName: b:v9"), &[], "k/kustomization.yaml:4: newName has the tag v9");
    odd(&format!("{}- name: a\n  newTag: v2\n", with("newTag: v1")), &[], "k/kustomization.yaml:6: images has a twice");
    odd("resources: [x.yaml]\nimages:\n- newTag: v1\n", &[], "k/kustomization.yaml:3: an entry of images has no name");
    odd("resources: [x.yaml]\nimages:\n- name: ''\n", &[], "k/kustomization.yaml:3: an entry of images has no name");
    bad("resources: [x.yaml]\nimages:\n- app:v1\n", &[], "k/kustomization.yaml:3: an entry of images is no map");
    bad("resources: [x.yaml]\nimages: {}\n", &[], "k/kustomization.yaml:2: images is no list");
    bad("resources: [12]\n", &[], "k/kustomization.yaml:1: an entry of resources is a number");
    bad("resources: ['', x.yaml]\n", &[], "k/kustomization.yaml:1: an entry of resources is empty");
}

#[test]
fn a_kustomization_is_one_map_of_its_kind() {
    bad("# nothing\n", &[], "k/kustomization.yaml:1: is empty");
    bad(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n",
        &[],
        "k/kustomization.yaml:1: says nothing",
    );
    good("resources: []\n", &[]);
    bad("- x.yaml\n", &[], "k/kustomization.yaml:1: is no map");
    bad("resources: [x.yaml]\nkind: Deployment\n", &[], "k/kustomization.yaml:2: has a kind");
    odd("resources: [x.yaml]\n---\nimages: []\n", &[], "k/kustomization.yaml:3: is a second document");
    good("commonAnnotations: {a: &t v1}\nresources: [x.yaml]\nimages: [{name: app, newTag: *t}]\n", &[]);
}

#[test]
fn an_object_is_there_once() {
    let (one, two) = (deployment("y", "b:v1"), deployment("x", "b:v1"));
    good("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", &one)]);
    bad(
        "resources:\n- x.yaml\n- y.yaml\n",
        &[("k/y.yaml", &two)],
        "k/kustomization.yaml:3: y.yaml has the Deployment x (k/y.yaml), which is here already (k/x.yaml)",
    );
    bad("resources: [x.yaml, ./x.yaml]\n", &[], "k/kustomization.yaml:1: ./x.yaml has the Deployment x");
    bad("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", &format!("{one}---\n{one}"))], "k/y.yaml: has the Deployment y twice");
    let base = ("base/kustomization.yaml", "resources: [y.yaml]\nnamePrefix: other-\n");
    good("resources: [x.yaml, ../base]\n", &[base, ("base/y.yaml", &two)]);
    let apart = two.replace("name: x\n", "name: x\n  namespace: apart\n");
    good("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", &apart)]);
    bad(
        "resources: [x.yaml, y.yaml]\nnamespace: one\n",
        &[("k/y.yaml", &apart)],
        "k/kustomization.yaml:2: the namespace makes one of two objects",
    );
    // Taken away below, and put there again.
    let gone = (
        "base/kustomization.yaml",
        "resources: [y.yaml]\npatches:\n- patch: |-\n    kind: Deployment\n    apiVersion: apps/v1\n    metadata: {name: x}\n    $patch: delete\n",
    );
    good("resources: [../base, x.yaml]\n", &[gone, ("base/y.yaml", &two)]);
    let by_file = ("base/kustomization.yaml", "resources: [y.yaml]\npatches: [{path: p.yaml}]\n");
    let patch = "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\n$patch: delete\n";
    good("resources: [../base, x.yaml]\n", &[by_file, ("base/y.yaml", &two), ("base/p.yaml", patch)]);
}

#[test]
fn what_is_built_is_made_of_objects() {
    bad("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", "a: b\n")], "k/y.yaml:1: is no object of Kubernetes: it has no kind");
    bad(
        "resources: [x.yaml, y.yaml]\n",
        &[("k/y.yaml", "---\nkind: A\n")],
        "k/y.yaml:2: is no object of Kubernetes: it has no metadata.name",
    );
    good("resources: [x.yaml, y.yaml]\n", &[("k/y.yaml", "kind: List\nitems:\n- {kind: A, metadata: {name: a}}\n")]);
    good("resources: [x.yaml]\nconfigurations: [y.yaml]\n", &[("k/y.yaml", "images: []\n")]);
}

#[test]
fn a_link_that_is_used_is_found_and_no_other() {
    let mut tree = tree(&[("k/kustomization.yaml", "resources: [x.yaml, sub/a]\n"), ("k/x.yaml", OTHER)]);
    tree.add_link("k/unused.yaml");
    tree.add_submodule("k/sub");
    assert_eq!(shown(&validate(&tree, &Scope::All, &names())), NONE, "a submodule is not known");
    tree.add_link("k/x.yaml");
    let report = validate(&tree, &Scope::All, &names());
    assert!(
        shown(&report)[0].starts_with("k/kustomization.yaml:1: resources names x.yaml, which goes through the link k/x.yaml"),
        "{report}"
    );
}

#[test]
fn what_was_not_read_is_not_judged() {
    let mut tree = tree(&[("k/kustomization.yaml", "resources: [x.yaml, large.yaml]\n")]);
    tree.add_unread("k/x.yaml");
    tree.add_large("k/large.yaml");
    assert_eq!(shown(&validate(&tree, &folder("k"), &names())), ["k/large.yaml: is too large to be looked at"]);
}

#[test]
fn the_paths_of_applications_are_folders_here() {
    let application = |url: &str, revision: &str, path: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: a}}\nspec:\n  source:\n    repoURL: {url}\n    targetRevision: {revision}\n    path: {path}\n"
        )
    };
    let ours = "ssh://git@git.example.org:22/micro/app";
    let found = |text: &str| shown(&report(&[("app.yaml", text), ("k/kustomization.yaml", "namespace: a\n")], &Scope::All));
    for revision in ["main", "HEAD", "refs/heads/main", ""] {
        assert_eq!(found(&application(ours, revision, "k")), NONE);
        assert_eq!(
            found(&application(ours, revision, "none")),
            ["app.yaml:8: the Application's path none is no folder of this repository"]
        );
    }
    assert_eq!(found(&application(ours, "main", "./k/")), NONE);
    assert_eq!(
        found(&application(ours, "main", "app.yaml")),
        ["app.yaml:8: the Application's path app.yaml is a file, and no folder"]
    );
    assert_eq!(found(&application(ours, "main", "../k")).len(), 1);
    assert_eq!(found(&application(ours, "v1", "none")), NONE, "another revision");
    assert_eq!(found(&application("https://git.example.org/micro/other", "main", "none")), NONE, "another repository");
    let several = application(ours, "main", "k").replace("  source:\n    repo", "  sources:\n  - repo")
        + "  - repoURL: https://git.example.org/micro/app\n    path: none\n  - {repoURL: https://charts.example.org, chart: c}\n";
    assert_eq!(found(&several), ["app.yaml:10: the Application's path none is no folder of this repository"]);
    let not_argo = application(ours, "main", "none").replace("argoproj.io/v1alpha1", "example.org/v1");
    assert_eq!(found(&not_argo), NONE);
}

#[test]
fn a_scope_that_is_not_there_is_told() {
    let files = [("k/kustomization.yaml", "namespace: a\n")];
    for scope in [folder("none"), folder("../k"), Scope::File("none.yaml".to_owned())] {
        let report = report(&files, &scope);
        assert!(report.findings.len() == 1 && report.findings[0].is_fatal, "{report}");
    }
    let report = report(&files, &folder("./k/"));
    assert!(report.findings.is_empty() && report.kustomizations == 1 && report.manifests == 0, "{report:?}");
}

#[test]
fn a_hundred_findings_are_shown_and_the_others_counted() {
    let resources = (0..250).map(|number| format!("- {number:03}.yaml\n")).collect::<Vec<_>>().concat();
    let report = report(&[("k/kustomization.yaml", &format!("resources:\n{resources}"))], &folder("k"));
    assert_eq!((report.findings.len(), report.more), (100, 150));
    assert_eq!(report.findings[0].line, Some(2));
    assert!(report.to_string().ends_with("and 150 more\n"), "{report}");
}
