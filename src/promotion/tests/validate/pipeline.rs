//! The first pipeline's overlay, and what its script makes of it.

use roadstead_promotion::{Edit, Image, Kustomization, Scope, Write};

use crate::files::{NONE, deployment, folder, report, shown};

const OVERLAY: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: tinybird

bases:
  - ../../base

images:
  - name: tinybirdco/tinybird-local
    newTag: latest
  - name: ghost/traffic-analytics
    newTag: latest  # by the build

patchesStrategicMerge:
  - resource-limits.yaml
";

const LIMITS: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: tinybird
spec:
  template:
    spec:
      containers:
        - name: main
          resources: {limits: {memory: 2Gi}}
";

const APPLICATION: &str = "apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: tinybird}
spec:
  source: {repoURL: 'https://git.example.org/micro/app', targetRevision: main, path: k8s/overlays/prod}
";

/// Findings and images of the repository with this overlay.
fn with(overlay: &str) -> Vec<String> {
    let (tinybird, analytics) =
        (deployment("tinybird", "tinybirdco/tinybird-local:latest"), deployment("analytics", "ghost/traffic-analytics:latest"));
    let files = [
        ("argocd-app.yaml", APPLICATION),
        ("k8s/base/kustomization.yaml", "resources: [tinybird.yaml, analytics.yaml]\n"),
        ("k8s/base/tinybird.yaml", tinybird.as_str()),
        ("k8s/base/analytics.yaml", analytics.as_str()),
        ("k8s/overlays/prod/kustomization.yaml", overlay),
        ("k8s/overlays/prod/resource-limits.yaml", LIMITS),
    ];
    let all = report(&files, &Scope::All);
    assert_eq!((all.kustomizations, all.manifests), (2, 4));
    let built = report(&files, &folder("k8s/overlays/prod"));
    assert_eq!(all.findings, built.findings);
    shown(&all)
}

/// `sed -i '/^images:/,/^[a-z]/d'`: from the line of `images:` to the next that begins with a letter, with both.
fn sed(text: &str) -> String {
    let (mut kept, mut is_inside) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        if is_inside {
            is_inside = !line.starts_with(|first: char| first.is_ascii_lowercase());
        } else if line.starts_with("images:") {
            is_inside = true;
        } else {
            kept.push_str(line);
        }
    }
    kept
}

#[test]
fn the_overlay_is_clean_before_and_after_our_edit() {
    assert_eq!(with(OVERLAY), NONE);
    let edit =
        Edit::Kustomization(Kustomization { image: "ghost/traffic-analytics".to_owned(), new_name: None, write: Write::Tag });
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().unwrap();
    let edited = edit.apply(OVERLAY.as_bytes(), &Image { tag: "20260216".parse().unwrap(), digest }).unwrap();
    assert_eq!(with(std::str::from_utf8(&edited.bytes).unwrap()), NONE);
}

#[test]
fn after_the_script_the_patch_is_a_base_and_that_is_found() {
    let broken = format!("{}images:\n  - name: ghost/traffic-analytics\n    newTag: main-abc1234\n", sed(OVERLAY));
    assert!(broken.contains("bases:\n  - ../../base\n\n  - resource-limits.yaml\n"), "{broken}");
    let found = with(&broken);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert!(
        finding.starts_with("k8s/overlays/prod/kustomization.yaml:8: resource-limits.yaml has the Deployment tinybird"),
        "{finding}"
    );
}

#[test]
fn a_number_that_a_script_wrote_without_quotes_is_found() {
    let found = with(&OVERLAY.replace("newTag: latest  # by the build", "newTag: 20260216"));
    assert!(matches!(&found[..], [one] if one.contains(":12: newTag is a number")), "{found:?}");
}
