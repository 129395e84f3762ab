//! What is wrong with a repository is found, and what is right is not.

use proptest::prelude::*;
use roadstead_promotion::validate::{self, Files, Names, Report};

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  template:\n    spec:\n      containers:\n        - name: app\n          image: ghost/app:latest\n";

fn files(texts: &[(&str, &str)]) -> Files {
    let mut files = Files::new();
    for (path, text) in texts {
        files.add(path, Some(text.as_bytes().to_vec()));
    }
    files
}

fn names() -> Names {
    Names { hosts: vec!["registry.example.org".to_owned()], repository: "https://git.example.org/micro/infra.git".to_owned() }
}

fn told(report: &Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

fn repository(texts: &[(&str, &str)]) -> Vec<String> {
    told(&validate::repository(&files(texts), &names()))
}

/// A base and an overlay of this text.
fn overlay(text: &str) -> Vec<String> {
    let all = [
        ("base/kustomization.yaml", "resources: [app.yaml]\n"),
        ("base/app.yaml", DEPLOYMENT),
        ("prod/limits.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n"),
        ("prod/kustomization.yaml", text),
    ];
    repository(&all)
}

#[test]
fn the_overlay_of_the_first_pipeline_is_right_and_the_script_breaks_it() {
    let right = "kind: Kustomization\nbases:\n  - ../base\n\nimages:\n  - name: ghost/app\n    newTag: latest\n\npatchesStrategicMerge:\n  - limits.yaml\n";
    assert_eq!(overlay(right), [""; 0]);
    // `sed '/^images:/,/^[a-z]/d'` takes the next key with it, and its entry becomes one of the list before.
    let cut = "kind: Kustomization\nbases:\n  - ../base\n\n  - limits.yaml\nimages:\n  - name: ghost/app\n    newTag: 1234567\n";
    let found = overlay(cut);
    assert!(found[0].contains(":5: limits.yaml has the Deployment app, which another resource has too"), "{found:?}");
    assert!(found[1].contains(":8: newTag is not in quotes") && found.len() == 2, "{found:?}");
}

#[test]
fn what_a_kustomization_names_must_be_there() {
    for (text, expected) in [
        ("resources: [../base, gone.yaml]", "prod/kustomization.yaml:1: gone.yaml is not there"),
        ("resources:\n  - ../base\n  - ../../../etc", "prod/kustomization.yaml:3: ../../../etc is outside of the repository"),
        ("resources: [../base]\npatches:\n  - path: no.yaml", "prod/kustomization.yaml:3: no.yaml is not there"),
        (
            "resources: [../base]\nconfigMapGenerator:\n  - name: x\n    files: [a=no.txt]",
            "prod/kustomization.yaml:4: no.txt is not there",
        ),
        ("resources: [../prod]", "prod/kustomization.yaml:1: ../prod leads back to this folder"),
        ("resources: [..]", ".: has no kustomization.yaml"),
        ("- a", "prod/kustomization.yaml: is not one map"),
    ] {
        assert_eq!(overlay(text), [expected], "{text}");
    }
    for text in [
        "resources: [../base, 'https://example.org/x.yaml', 'github.com/a/b//c?ref=v1']",
        "resources: [../base]\npatches:\n  - patch: |-\n      kind: X\n",
        "resources: [../base]\npatchesStrategicMerge:\n  - |-\n    kind: X\n    metadata: {name: y}\n",
    ] {
        assert_eq!(overlay(text), [""; 0], "{text}");
    }
}

#[test]
fn entries_of_images_are_as_kustomize_takes_them() {
    let with = |entry: &str| overlay(&format!("resources: [../base]\nimages:\n  - {entry}\n"));
    for fine in [
        "{name: a, newTag: v1}",
        "{name: a, newTag: '20260216'}",
        "{name: a, newName: b, digest: 'sha256:1'}",
        "{name: a, newTag: 1.2.3}",
    ] {
        assert_eq!(with(fine), [""; 0], "{fine}");
    }
    for (wrong, expected) in [
        ("{name: a, newTag: 20260216}", "not in quotes"),
        ("{name: a, newTag: 1.10}", "not in quotes"),
        ("{name: a, newTag: 1234e56}", "not in quotes"),
        ("{name: a, newTag: 12_34}", "not in quotes"),
        ("{name: a, newTag: 0x1f}", "not in quotes"),
        ("{name: a, newTag: true}", "not in quotes"),
        ("{name: a, tag: v1}", "which kustomize does not know"),
        ("{newTag: v1}", "has no name"),
        ("{name: a, newTag: v1}\n  - {name: a, newTag: v2}", "is here twice"),
    ] {
        let found = with(wrong);
        assert!(found.len() == 1 && found[0].contains(expected), "{wrong}: {found:?}");
    }
}

#[test]
fn yaml_that_is_none_is_found_and_templates_are_passed_over() {
    let found = repository(&[
        ("a.yaml", "a: [1\n"),
        ("b.yaml", "a: 1\na: 2\n"),
        ("chart/Chart.yaml", "name: x\n"),
        ("chart/templates/c.yaml", "{{- if .Values.x }}\na: [\n"),
        ("d.yml", "a: {{ x }}\nb: [\n"),
        ("e.txt", "a: ["),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.yaml:") && found[1] == "b.yaml:2: the key a is here twice", "{found:?}");
}

#[test]
fn folders_of_applications_must_be_there_where_they_are_of_this_repository() {
    let application = |url: &str, path: &str| {
        let text = format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  source:\n    repoURL: {url}\n    path: {path}\n"
        );
        repository(&[("app.yaml", &text), ("base/kustomization.yaml", "resources: []\n")])
    };
    for url in [
        "https://git.example.org/micro/infra",
        "ssh://git@git.example.org:22/micro/infra.git",
        "git@git.example.org:micro/infra.git",
    ] {
        assert_eq!(application(url, "base"), [""; 0], "{url}");
        assert_eq!(application(url, "gone"), ["app.yaml:6: the path gone is not in this repository"], "{url}");
    }
    assert_eq!(application("https://git.example.org/micro/other", "gone"), [""; 0]);
}

#[test]
fn images_of_this_registry_are_gathered_unless_they_are_replaced() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let manifest = DEPLOYMENT.replace("ghost/app:latest", "registry.example.org/micro/plain:v1");
    let manifest = manifest.replace("{name: app}", "{name: other}");
    let replaced = DEPLOYMENT.replace("ghost/app:latest", "registry.example.org/micro/app");
    let overlay = format!(
        "resources: [app.yaml, other.yaml]\nimages:\n  - name: registry.example.org/micro/app\n    newTag: v2\n    digest: {digest}\n"
    );
    let all = files(&[("k/kustomization.yaml", &overlay), ("k/app.yaml", &replaced), ("k/other.yaml", &manifest)]);
    let report = validate::folder(&all, "k/", &names());
    assert_eq!(told(&report), [""; 0]);
    let wanted: Vec<(String, Option<String>, bool, usize)> = report
        .wanted
        .iter()
        .map(|one| (one.repository.to_string(), one.tag.as_ref().map(ToString::to_string), one.digest.is_some(), one.line))
        .collect();
    let expected = [("micro/app", "v2", true, 3), ("micro/plain", "v1", false, 9)];
    assert_eq!(wanted, expected.map(|(name, tag, digest, line)| (name.to_owned(), Some(tag.to_owned()), digest, line)));
    assert!(report.names.contains("registry.example.org/micro/app") && report.names.len() == 2);
}

#[test]
fn an_overlay_sees_the_names_that_its_base_has_made() {
    let all = files(&[
        ("base/kustomization.yaml", "resources: [app.yaml]\nimages: [{name: ghost/app, newName: other/app}]\n"),
        ("base/app.yaml", DEPLOYMENT),
        ("prod/kustomization.yaml", "resources: [../base]\n"),
    ]);
    let seen = validate::folder(&all, "prod", &names()).names;
    assert_eq!(seen.iter().collect::<Vec<_>>(), ["other/app"]);
    assert_eq!(validate::folder(&all, "base", &names()).names.iter().collect::<Vec<_>>(), ["ghost/app"]);
}

proptest! {
    #[test]
    fn whatever_is_in_a_repository_has_an_answer(
        texts in prop::collection::btree_map(
            prop_oneof![Just("kustomization.yaml"), Just("a/kustomization.yaml"), Just("a/b.yaml"), Just("b/Kustomization"), Just("c.yml")],
            prop_oneof![
                "[a-z:\\- \\[\\]{}\n&*<!|>'\"#.]{0,80}",
                "(resources|images|patches|bases):( \\[(\\.\\./)?(a|b|a/b\\.yaml|\\.)\\]|\n  - (a|\\.\\.|\\{name: a, newTag: [0-9a-f]{1,7}\\}))\n",
            ],
            0..5,
        ),
    ) {
        let mut all = Files::new();
        for (path, text) in &texts {
            all.add(path, Some(text.clone().into_bytes()));
        }
        for report in [validate::repository(&all, &names()), validate::folder(&all, "a", &names())] {
            for finding in report.findings {
                let lines = texts.get(finding.path.as_str()).map_or(usize::MAX, |text| text.lines().count().max(1) + 1);
                prop_assert!(finding.line.is_none_or(|line| line >= 1 && line <= lines), "{}", finding);
            }
        }
    }
}
