//! `edit` of a promotion: the place in a file.

use promotion::{Application, Container, Edit, Helm, Kustomization, Write};

use super::reader::Section;
use super::value::Value;

/// The kinds of files, each named by the key that has its path, with the keys that belong to it beside `write` and `new_name`.
const KINDS: [(&str, &[&str]); 4] = [
    ("kustomization", &["image"]),
    ("helm", &["value", "tag", "digest", "name"]),
    ("manifest", &["kind", "object", "container"]),
    ("application", &["object", "image"]),
];

/// The path and the place in it.
pub(super) fn edit(mut section: Section<'_, '_>) -> Option<(String, Edit)> {
    let given: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).filter(|kind| section.given(kind).is_some()).collect();
    match given[..] {
        [] => section.missing(
            "kustomization",
            None,
            "is missing; write edit = { kustomization = \"FOLDER\", image = \"NAME\" }, or one with helm, manifest or application",
        ),
        [_] => {}
        [_, second, ..] => section.wrong(second, format!("stands beside `{}`; write two promotions for two files", given[0])),
    }
    let parts = Parts::read(&mut section);
    if let [kind] = given[..] {
        check(&section, kind);
    }
    section.finish();
    let [kind] = given[..] else { return None };
    parts.place(kind)
}

/// Do both write the same place of one file? What they write there does not matter.
pub(super) fn is_same_place(one: &Edit, other: &Edit) -> bool {
    match (one, other) {
        (Edit::Kustomization(one), Edit::Kustomization(other)) => one.image == other.image,
        (Edit::Helm(one), Edit::Helm(other)) => {
            let path = |helm: &Helm| match helm {
                Helm::Parts { tag, .. } => tag.clone(),
                Helm::Whole { path, .. } => path.clone(),
            };
            path(one) == path(other)
        }
        (Edit::Container(one), Edit::Container(other)) => {
            (&one.kind, &one.name, &one.container) == (&other.kind, &other.name, &other.container)
        }
        (Edit::Application(one), Edit::Application(other)) => (&one.name, &one.image) == (&other.name, &other.image),
        _ => false,
    }
}

/// Every key of the table.
struct Parts {
    paths: [Option<String>; 4],
    image: Option<String>,
    new_name: Option<String>,
    write: Write,
    value: Option<Vec<String>>,
    tag: Option<Vec<String>>,
    digest: Option<Vec<String>>,
    name: Option<Vec<String>>,
    kind: Option<String>,
    object: Option<String>,
    container: Option<String>,
}

impl Parts {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let text = |value: &Value<'_>| value.text().map(str::to_owned);
        let dotted = |value: &Value<'_>| {
            let keys: Vec<String> = value.text()?.split('.').map(str::to_owned).collect();
            if keys.iter().any(String::is_empty) {
                return Err("has an empty key; write the keys with dots between them, such as \"image.tag\"".to_owned());
            }
            Ok(keys)
        };
        Self {
            paths: [
                section.optional("kustomization", path),
                section.optional("helm", path),
                section.optional("manifest", path),
                section.optional("application", path),
            ],
            image: section.optional("image", text),
            new_name: section.optional("new_name", text),
            write: section.value("write", Write::default(), write),
            value: section.optional("value", dotted),
            tag: section.optional("tag", dotted),
            digest: section.optional("digest", dotted),
            name: section.optional("name", dotted),
            kind: section.optional("kind", text),
            object: section.optional("object", text),
            container: section.optional("container", text),
        }
    }

    fn place(self, kind: &str) -> Option<(String, Edit)> {
        let Self { paths, image, new_name, write, value, tag, digest, name, kind: object_kind, object, container } = self;
        let [kustomization, helm, manifest, application] = paths;
        Some(match kind {
            "kustomization" => (kustomization?, Edit::Kustomization(Kustomization { image: image?, new_name, write })),
            "helm" => {
                let helm_edit = match value {
                    Some(path) => Helm::Whole { path, name: new_name, write },
                    None => Helm::Parts { name: name.zip(new_name), tag: tag?, digest, write },
                };
                (helm?, Edit::Helm(helm_edit))
            }
            "manifest" => {
                let kind = object_kind.unwrap_or_else(|| "Deployment".to_owned());
                (manifest?, Edit::Container(Container { kind, name: object?, container: container?, new_name, write }))
            }
            _ => (application?, Edit::Application(Application { name: object, image: image?, new_name, write })),
        })
    }
}

/// What is missing beside the path of the file, and what belongs to others.
fn check(section: &Section<'_, '_>, kind: &str) {
    let own = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, keys)| *keys).unwrap_or_default();
    for key in KINDS.iter().flat_map(|(_, keys)| *keys).filter(|key| !own.contains(key)) {
        if section.given(key).is_some() {
            section.wrong(key, format!("is of no use with `{kind}`; remove it"));
        }
    }
    let needed: &[(&str, &str)] = match kind {
        "kustomization" | "application" => &[("image", "is missing; write the image's name as the manifests have it")],
        "manifest" => &[
            ("object", "is missing; write the metadata.name of the manifest"),
            ("container", "is missing; write the name of the container"),
        ],
        _ => &[],
    };
    for (key, text) in needed.iter().filter(|(key, _)| section.given(key).is_none()) {
        section.missing(key, None, text);
    }
    if kind != "helm" {
        return;
    }
    match (section.given("value"), section.given("tag")) {
        (Some(_), Some(_)) => section.wrong("tag", "stands beside `value`, which has the whole image; keep one".to_owned()),
        (None, None) => section.missing(
            "tag",
            None,
            "is missing; write where the values have the tag, such as \"image.tag\", or with `value` where they have the whole",
        ),
        (Some(_), None) => {
            for key in ["digest", "name"].into_iter().filter(|key| section.given(key).is_some()) {
                section.wrong(key, "is of no use with `value`, which has the whole image; remove it".to_owned());
            }
        }
        (None, Some(_)) => {
            if section.given("name").is_some() != section.given("new_name").is_some() {
                let text = "`name` says where the image's name is written and `new_name` what; write both, or none";
                section.wrong(if section.given("name").is_some() { "name" } else { "new_name" }, text.to_owned());
            }
        }
    }
}

/// A path within a repository.
fn path(value: &Value<'_>) -> Result<String, String> {
    let text = value.text()?;
    if text.starts_with('/') || text.split('/').any(|part| part == "..") || text.contains(char::is_control) {
        return Err(format!("{text:?} is no path within the repository; write one such as \"k8s/overlays/prod\""));
    }
    Ok(text.to_owned())
}

fn write(value: &Value<'_>) -> Result<Write, String> {
    match value.text()? {
        "tag" => Ok(Write::Tag),
        "digest" => Ok(Write::Digest),
        "tag+digest" => Ok(Write::TagAndDigest),
        "tag@digest" => Ok(Write::TagAtDigest),
        other => Err(format!("{other:?} is not known; write \"tag\", \"digest\", \"tag+digest\" or \"tag@digest\"")),
    }
}
