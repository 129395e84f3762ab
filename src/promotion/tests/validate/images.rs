//! Which images of this registry are deployed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use oci::{Digest, Error, Platform, RepositoryName, Tag};
use roadstead_promotion::{Arrival, Content, Found, Scope, Wanted, missing};

use crate::files::{NONE, deployment, folder, report};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A registry of a few images, which counts what it is asked.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) tags: BTreeMap<String, &'static str>,
    pub(crate) asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Content for Shelf {
    async fn tagged(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Arrival>, Error> {
        let name = format!("{repository}:{tag}");
        self.asked.lock().unwrap().push(name.clone());
        if name.contains("broken") {
            return Err(Error::internal("looking", std::io::Error::other("broken")));
        }
        let digest = self.tags.get(&name).map(|digest| Digest::parse(digest).unwrap());
        Ok(digest.map(|digest| Arrival { tag: tag.clone(), digest, at: 0, sequence: None, created: None }))
    }

    async fn tags(&self, _: &RepositoryName) -> Result<Vec<Tag>, Error> {
        Ok(Vec::new())
    }

    async fn look(&self, repository: &RepositoryName, digest: &Digest, _: &[Platform]) -> Result<Found, Error> {
        let digest = digest.to_string();
        let is_here = self.tags.iter().any(|(name, held)| name.starts_with(&format!("{repository}:")) && *held == digest);
        let missing = if is_here { Vec::new() } else { vec![format!("the manifest {digest}")] };
        Ok(Found { missing, ..Found::default() })
    }
}

/// `path:line image` of each image that is wanted.
fn wanted(files: &[(&str, &str)], scope: &Scope) -> Vec<String> {
    let shown = |image: &Wanted| {
        let tag = image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = image.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}:{} {}{tag}{digest}", image.path, image.line, image.repository)
    };
    report(files, scope).wanted.iter().map(shown).collect()
}

const OURS: &str = "registry.example.org/micro/app";

#[test]
fn an_image_of_a_manifest_is_wanted_as_it_stands_unless_it_is_replaced() {
    let manifest = deployment("x", &format!("{OURS}:v1"));
    let plain = [("plain/x.yaml", manifest.as_str())];
    assert_eq!(wanted(&plain, &Scope::All), ["plain/x.yaml:10 micro/app:v1"]);
    assert_eq!(wanted(&plain, &folder("plain")), ["plain/x.yaml:10 micro/app:v1"]);
    let entry = format!("resources: [x.yaml]\nimages:\n- name: {OURS}\n  newTag: v2\n");
    let replaced = [("plain/x.yaml", manifest.as_str()), ("plain/kustomization.yaml", entry.as_str())];
    assert_eq!(wanted(&replaced, &Scope::All), ["plain/kustomization.yaml:3 micro/app:v2"]);
    let others = deployment("x", "docker.io/ghost/x:v1") + &deployment("y", "registry.example.organ/x:v1");
    assert_eq!(wanted(&[("a.yaml", &others)], &Scope::All), NONE);
    let fetched = deployment("x", "registry.example.org/docker.io/library/nginx:1");
    assert_eq!(wanted(&[("a.yaml", &fetched)], &Scope::All), NONE, "it is fetched when it is asked for");
}

#[test]
fn what_is_deployed_in_the_end_is_wanted_and_nothing_that_is_replaced_on_the_way() {
    let base = "resources: [x.yaml]\nimages:\n- name: ghost/x\n  newName: 127.0.0.1:5000/micro/x\n  newTag: base\n";
    let manifest = deployment("x", "ghost/x:latest");
    let dev = "resources: [../base]\nimages:\n- name: 127.0.0.1:5000/micro/x\n  newTag: dev\n";
    let prod = format!("resources: [../base]\nimages:\n- name: 127.0.0.1:5000/micro/x\n  newTag: prod\n  digest: {DIGEST}\n");
    let files = [
        ("base/kustomization.yaml", base),
        ("base/x.yaml", manifest.as_str()),
        ("dev/kustomization.yaml", dev),
        ("prod/kustomization.yaml", prod.as_str()),
    ];
    let (in_dev, in_prod) =
        ("dev/kustomization.yaml:3 micro/x:dev".to_owned(), format!("prod/kustomization.yaml:3 micro/x:prod@{DIGEST}"));
    assert_eq!(wanted(&files, &Scope::All), [in_dev.clone(), in_prod.clone()]);
    assert_eq!(wanted(&files, &folder("dev")), [in_dev]);
    assert_eq!(wanted(&files, &folder("prod")), [in_prod]);
    let in_base = "base/kustomization.yaml:3 micro/x:base".to_owned();
    assert_eq!(wanted(&files, &folder("base")), std::slice::from_ref(&in_base));
    // Where an Application deploys the base itself, it is an end too.
    let application = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec: {source: {repoURL: 'https://git.example.org/micro/app', path: base}}\n";
    let with = [&files[..], &[("app.yaml", application)]].concat();
    assert_eq!(wanted(&with, &Scope::All).first(), Some(&in_base));
}

#[test]
fn an_entry_takes_the_tag_or_the_digest_away_that_it_does_not_have() {
    let with = |entry: &str| {
        let manifest = deployment("x", &format!("{OURS}:v1@{DIGEST}"));
        let file = format!("resources: [x.yaml]\nimages:\n- name: {OURS}\n  {entry}\n");
        wanted(&[("k/kustomization.yaml", &file), ("k/x.yaml", &manifest)], &folder("k"))
    };
    assert_eq!(with("newTag: v2"), ["k/kustomization.yaml:3 micro/app:v2"]);
    assert_eq!(with("digest: sha256:00"), ["k/kustomization.yaml:3 micro/app@sha256:00"]);
    assert_eq!(with("newTag: v2@sha256:00"), ["k/kustomization.yaml:3 micro/app:v2@sha256:00"]);
    assert_eq!(with("newName: 127.0.0.1:5000/b"), [format!("k/kustomization.yaml:3 b:v1@{DIGEST}")]);
    assert_eq!(with("tagSuffix: -x"), NONE, "what becomes of it is not known");
}

#[test]
fn entries_for_what_is_not_known_are_wanted_as_they_stand() {
    let entry = "images:\n- name: app\n  newName: registry.example.org/micro/app\n  newTag: v1\n";
    let remote = format!("resources: [https://example.org/x.yaml]\n{entry}");
    assert_eq!(wanted(&[("k/kustomization.yaml", &remote)], &folder("k")), ["k/kustomization.yaml:3 micro/app:v1"]);
    let component = format!("kind: Component\n{entry}");
    assert_eq!(wanted(&[("k/kustomization.yaml", &component)], &Scope::All), ["k/kustomization.yaml:3 micro/app:v1"]);
}

#[test]
fn a_component_and_a_patch_change_what_is_deployed() {
    let manifest = deployment("x", &format!("{OURS}:v1"));
    let component = format!("kind: Component\nimages:\n- name: {OURS}\n  newTag: v2\n");
    let files = [
        ("k/kustomization.yaml", "resources: [x.yaml]\ncomponents: [../c]\n"),
        ("k/x.yaml", manifest.as_str()),
        ("c/kustomization.yaml", component.as_str()),
    ];
    assert_eq!(wanted(&files, &Scope::All), ["c/kustomization.yaml:3 micro/app:v2"]);
    let patch = deployment("x", &format!("{OURS}:v3"));
    let files = [
        ("k/kustomization.yaml", "resources: [x.yaml]\npatches: [{path: p.yaml}]\n"),
        ("k/x.yaml", manifest.as_str()),
        ("k/p.yaml", patch.as_str()),
    ];
    assert_eq!(wanted(&files, &Scope::All), ["k/p.yaml:10 micro/app:v3"]);
}

#[test]
fn init_containers_lists_and_aliases_are_seen() {
    let text = "kind: List\nitems:\n- kind: Pod\n  metadata: {name: x}\n  spec:\n    initContainers: [{name: a, image: &i 127.0.0.1:5000/a:1}]\n    containers:\n    - {name: b, image: *i}\n    - {name: c, image: '127.0.0.1:5000/c'}\n";
    assert_eq!(wanted(&[("a.yaml", text)], &Scope::All), ["a.yaml:6 a:1", "a.yaml:8 a:1", "a.yaml:9 c"]);
}

#[tokio::test]
async fn what_is_not_here_is_found_where_it_is_named_and_asked_for_once() {
    let shelf = Shelf { tags: BTreeMap::from([("micro/app:v1".to_owned(), DIGEST)]), ..Shelf::default() };
    let image = |line, tag: Option<&str>, digest: Option<&str>| Wanted {
        path: "a.yaml".to_owned(),
        line,
        host: "registry.example.org".to_owned(),
        repository: "micro/app".to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    };
    let other = DIGEST.replace("e3", "e4");
    let wanted = [
        image(1, Some("v1"), None),
        image(2, Some("v2"), None),
        image(3, Some("v2"), None),
        image(4, None, None),
        image(5, Some("gone"), Some(DIGEST)),
        image(6, Some("v1"), Some(&other)),
        image(7, Some("feature/a"), None),
        image(8, None, Some("sha256:00")),
        Wanted { repository: "Micro".to_owned(), ..image(9, None, None) },
    ];
    let found: Vec<String> = missing(&shelf, &wanted).await.unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "a.yaml:2: registry.example.org/micro/app:v2 is not here".to_owned(),
        "a.yaml:3: registry.example.org/micro/app:v2 is not here".to_owned(),
        "a.yaml:4: registry.example.org/micro/app:latest is not here".to_owned(),
        format!("a.yaml:6: registry.example.org/micro/app@{other} is not here whole: the manifest {other} is missing"),
        "a.yaml:7: \"feature/a\" is no tag that an image can have".to_owned(),
        "a.yaml:8: \"sha256:00\" is no digest that an image can have".to_owned(),
        "a.yaml:9: registry.example.org/Micro:latest is no name that a repository can have".to_owned(),
    ];
    assert_eq!(found, expected);
    assert_eq!(shelf.asked.lock().unwrap().as_slice(), ["micro/app:v1", "micro/app:v2", "micro/app:latest"]);
    missing(&shelf, &[Wanted { repository: "broken".to_owned(), ..image(1, None, None) }]).await.unwrap_err();
}
