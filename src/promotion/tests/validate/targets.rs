//! Targets of promotions, looked at before anything is promoted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jobs::{Random, State, StateError, Version};
use oci::{Digest, RepositoryName, Selector};
use roadstead_promotion::{
    Check, Container, Edit, Gate, Helm, Kustomization, Ledgers, Login, Matched, Mode, Names, OperateError, Order, Parts, Place,
    PlaceSettings, Promotions, Remote, Rule, Template, Values, Verdicts, Write,
};
use telemetry::{Clock, Metrics, SystemClock};

use crate::files::{NONE, deployment};
use crate::images::Shelf;
use crate::repository::Bare;

/// Nothing is kept.
struct Nothing;

#[async_trait]
impl State for Nothing {
    async fn read(&self, _: &str) -> Result<Option<(Bytes, Version)>, StateError> {
        Ok(None)
    }

    async fn swap(&self, _: &str, _: Bytes, _: Option<&Version>) -> Result<Option<Version>, StateError> {
        Ok(None)
    }

    async fn remove(&self, _: &str) -> Result<(), StateError> {
        Ok(())
    }

    async fn list(&self, _: &str) -> Result<Vec<String>, StateError> {
        Ok(Vec::new())
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}

struct NoVerdicts;

#[async_trait]
impl Verdicts for NoVerdicts {
    async fn verdict(&self, _: &str, _: &RepositoryName, _: &Digest) -> Result<Option<String>, String> {
        Ok(None)
    }
}

fn rule(name: &str, path: &str, edit: Edit) -> Rule {
    Rule {
        name: name.to_owned(),
        repository: RepositoryName::parse("micro/app").unwrap(),
        tags: vec![Selector::glob("*").unwrap()],
        exclude: Vec::new(),
        order: Order::Push,
        branch: "branch".to_owned(),
        path: path.to_owned(),
        edit,
        message: Template::default(),
        gate: Gate::default(),
        breaker: None,
        mode: Mode::Commit,
        validates: true,
    }
}

fn images(image: &str) -> Edit {
    let new_name = Some("registry.example.org/micro/app".to_owned());
    Edit::Kustomization(Kustomization { image: image.to_owned(), new_name, write: Write::TagAndDigest })
}

fn promotions(bare: &Bare, folder: &tempfile::TempDir, rules: Vec<Rule>, shelf: Shelf) -> Promotions {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let settings = PlaceSettings {
        remote: Remote::new(&bare.url(), "main", Login::Nobody).unwrap(),
        program: "git".into(),
        search: std::env::var_os("PATH").unwrap(),
        contents: None,
        limit: Duration::from_mins(1),
        patience: Duration::from_mins(1),
        folder: folder.path().join("place"),
        name: "bot".to_owned(),
        email: "bot@localhost".to_owned(),
        signing_key: None,
        batch: Duration::ZERO,
    };
    let place = Place::new(settings, Arc::clone(&clock), Random::from_system());
    Promotions::new(Parts {
        rules,
        places: BTreeMap::from([("branch".to_owned(), place)]),
        ledgers: Ledgers::new(Arc::new(Nothing)),
        content: Arc::new(shelf),
        deployers: BTreeMap::new(),
        verdicts: Arc::new(NoVerdicts),
        clock,
        metrics: Metrics::new(),
        audit: telemetry::Audit::off(),
    })
}

/// What the check of one rule says, and its findings.
async fn check(files: &[(&str, &str)], rule: Rule) -> (Check, Vec<String>) {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    let (bare, folder, name) = (Bare::new(&files), tempfile::tempdir().unwrap(), rule.name.clone());
    let check = promotions(&bare, &folder, vec![rule], Shelf::default()).check(&name, &Names::default()).await.unwrap();
    let findings = check.report.findings.iter().map(ToString::to_string).collect();
    (check, findings)
}

#[tokio::test]
async fn a_target_that_is_right_is_said_to_be() {
    let manifest = deployment("x", "ghost/x:latest");
    let overlay = "resources: [../base]\nimages:\n- name: ghost/x\n  newName: other.example.org/x\n  newTag: v1\n";
    let files = [
        ("base/kustomization.yaml", "resources: [x.yaml]\n"),
        ("base/x.yaml", manifest.as_str()),
        ("k/kustomization.yaml", overlay),
    ];
    for path in ["k", "./k/", "k/kustomization.yaml"] {
        let (check, findings) = check(&files, rule("prod", path, images("ghost/x"))).await;
        assert_eq!(findings, NONE);
        assert_eq!((check.path.as_str(), check.matched, check.would_be_added), ("k/kustomization.yaml", Matched::Yes, false));
        assert_eq!(check.stands.unwrap().tag.as_deref(), Some("v1"));
        assert_eq!((check.report.kustomizations, check.report.manifests, check.commit.len()), (2, 1, 40));
    }
}

#[tokio::test]
async fn an_entry_that_is_not_there_would_be_added() {
    let manifest = deployment("x", "ghost/x:latest");
    let files = [("k/kustomization.yaml", "resources: [x.yaml]\n"), ("k/x.yaml", manifest.as_str())];
    let (check, findings) = check(&files, rule("prod", "k", images("ghost/x"))).await;
    assert_eq!((check.would_be_added, check.stands, check.matched, findings), (true, None, Matched::Yes, NONE.to_vec()));
}

#[tokio::test]
async fn an_image_that_no_manifest_has_would_not_be_deployed() {
    let manifest = deployment("x", "docker.io/ghost/x:latest");
    let files = [("k/kustomization.yaml", "resources: [x.yaml]\n"), ("k/x.yaml", manifest.as_str())];
    let (hub, findings) = check(&files, rule("prod", "k", images("ghost/x"))).await;
    assert_eq!(hub.matched, Matched::No);
    let text = "k/kustomization.yaml: no manifest of this folder has the image ghost/x, so that nothing would be deployed: they have docker.io/ghost/x, and kustomize takes names to the letter";
    assert_eq!(findings, [text]);
    let (_, findings) = check(&files, rule("prod", "k", images("other"))).await;
    assert!(findings[0].ends_with("nothing would be deployed: they have docker.io/ghost/x"), "{findings:?}");
    let (_, findings) = check(&[("k/kustomization.yaml", "namespace: a\n")], rule("prod", "k", images("other"))).await;
    assert!(findings[0].ends_with("they have none at all"), "{findings:?}");
    let (remote, findings) =
        check(&[("k/kustomization.yaml", "resources: [https://example.org/x.yaml]\n")], rule("prod", "k", images("x"))).await;
    assert_eq!((remote.matched, findings), (Matched::Unknown, NONE.to_vec()));
}

#[tokio::test]
async fn an_overlay_uses_the_name_that_its_base_gave() {
    let manifest = deployment("x", "ghost/x:latest");
    let base = "resources: [x.yaml]\nimages:\n- name: ghost/x\n  newName: other.example.org/x\n";
    let files = |overlay: &'static str| {
        [
            ("base/kustomization.yaml", base.to_owned()),
            ("base/x.yaml", manifest.clone()),
            ("k/kustomization.yaml", overlay.to_owned()),
        ]
    };
    let look = async |overlay, image| {
        let files = files(overlay);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let (check, findings) = check(&files, rule("prod", "k", images(image))).await;
        (check.matched, findings)
    };
    let overlay = "resources: [../base]\n";
    assert_eq!(look(overlay, "other.example.org/x").await, (Matched::Yes, NONE.to_vec()));
    let (matched, findings) = look(overlay, "ghost/x").await;
    assert_eq!(matched, Matched::No);
    assert!(
        findings[0].ends_with("base/kustomization.yaml:3 renames it to other.example.org/x before; use that name"),
        "{findings:?}"
    );
    // An earlier entry of the same file renames too, a later one does not.
    let before = "resources: [../base]\nimages:\n- {name: other.example.org/x, newName: z}\n- {name: other.example.org/x2}\n";
    assert_eq!(look(before, "other.example.org/y").await.0, Matched::No);
    assert_eq!(look(before, "z").await.0, Matched::Yes);
    let behind = "resources: [../base]\nimages:\n- {name: other.example.org/x}\n- {name: other.example.org/x2, newName: z}\n";
    assert_eq!(look(behind, "other.example.org/x").await.0, Matched::Yes);
}

#[tokio::test]
async fn a_target_that_is_not_there_or_not_readable_is_told() {
    let files = [
        ("k/kustomization.yaml", "images:\n- name: a\n  newTag: &t v1\nnamespace: *t\n"),
        ("two/kustomization.yaml", "namespace: a\n"),
        ("two/Kustomization", "namespace: a\n"),
        (
            "plain/x.yaml",
            "kind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: c, image: a:v1}]}}}\n",
        ),
        ("chart/values.yaml", "image: {tag: v1}\n"),
    ];
    let find = async |path: &str, edit: Edit| check(&files, rule("prod", path, edit)).await;
    for (path, text) in [
        ("none", "none: is not in the repository"),
        ("plain", "plain: is a folder without a kustomization"),
        ("two", "two: has two/kustomization.yaml and two/Kustomization"),
        ("../k", "../k: is no path within"),
    ] {
        let (check, findings) = find(path, images("a")).await;
        assert!(findings[0].starts_with(text) && check.stands.is_none() && !check.would_be_added, "{path}: {findings:?}");
    }
    let (_, findings) = find("k", images("a")).await;
    assert!(findings.iter().any(|text| text.starts_with("k/kustomization.yaml:3: newTag has an anchor")), "{findings:?}");
    let container = |name: &str| {
        let (kind, name, container) = ("Deployment".to_owned(), "x".to_owned(), name.to_owned());
        Edit::Container(Container { kind, name, container, new_name: None, write: Write::Tag })
    };
    let (good, findings) = find("plain/x.yaml", container("c")).await;
    assert_eq!((good.stands.unwrap().tag.as_deref(), good.matched, findings), (Some("v1"), Matched::Unknown, NONE.to_vec()));
    let (_, findings) = find("plain/x.yaml", container("none")).await;
    assert!(findings[0].starts_with("plain/x.yaml: has no container none"), "{findings:?}");
    let helm = |tag: &str| {
        let tag = tag.split('.').map(str::to_owned).collect();
        Edit::Helm(Helm::Parts { name: None, tag, digest: None, write: Write::Tag })
    };
    let (good, findings) = find("chart/values.yaml", helm("image.tag")).await;
    assert_eq!((good.stands, findings), (Some(Values { tag: Some("v1".to_owned()), ..Values::default() }), NONE.to_vec()));
    let (_, findings) = find("chart/values.yaml", helm("image.none")).await;
    assert!(findings[0].starts_with("chart/values.yaml:1: image.none is not here"), "{findings:?}");
}

#[tokio::test]
async fn the_images_of_this_registry_are_looked_for() {
    let manifest = deployment("x", "app:v1");
    let overlay = "resources: [x.yaml]\nimages:\n- name: app\n  newName: registry.example.org/micro/app\n  newTag: v1\n";
    let files = [("k/kustomization.yaml", overlay.as_bytes()), ("k/x.yaml", manifest.as_bytes())];
    let (bare, folder) = (Bare::new(&files), tempfile::tempdir().unwrap());
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let full = Shelf { tags: BTreeMap::from([("micro/app:v1".to_owned(), digest)]), ..Shelf::default() };
    let rules = || vec![rule("prod", "k", images("app"))];
    for (shelf, expected) in [(full, 0), (Shelf::default(), 1)] {
        let promotions = promotions(&bare, &folder, rules(), shelf);
        let check = promotions.check("prod", &Names::default()).await.unwrap();
        assert_eq!(check.report.findings.len(), expected, "{}", check.report);
        for finding in check.report.findings {
            assert_eq!(finding.to_string(), "k/kustomization.yaml:3: registry.example.org/micro/app:v1 is not here");
        }
    }
    let promotions = promotions(&bare, &folder, rules(), Shelf::default());
    assert!(matches!(promotions.check("none", &Names::default()).await, Err(OperateError::Unknown(_))));
}
