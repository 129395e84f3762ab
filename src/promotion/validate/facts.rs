//! What is known of one file once it was parsed: of the text itself nothing is kept.

use crate::validate::kustomization::{self, Kustomization};
use crate::validate::values::{Named, Values};
use crate::yaml::{Id, Refusal, Tree};

/// So many documents that are none are told of one file.
const MOST: usize = 100;

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Why it is no YAML.
    pub(super) broken: Option<Refusal>,
    /// It is no YAML, and has `{{`.
    pub(super) is_template: bool,
    /// Keys that are in a map twice.
    pub(super) duplicates: Vec<Named>,
    /// What is no object of Kubernetes, and why.
    pub(super) strangers: Vec<Named>,
    /// The objects of its documents.
    pub(super) objects: Vec<Object>,
    /// The images of their containers.
    pub(super) images: Vec<Mention>,
    /// Where Argo CD Applications look.
    pub(super) sources: Vec<Source>,
    /// It may take objects away or rename them, as a patch.
    pub(super) is_unclear: bool,
    /// What it says as a kustomization.
    pub(super) kustomization: Kustomization,
}

/// An object, as kustomize tells one from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// An image that is named somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) line: usize,
    /// The container, of which there is one: what a patch says of it counts.
    pub(super) container: Option<String>,
}

/// A source of an Application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) repository: String,
    pub(super) revision: String,
    pub(super) path: Named,
}

impl Facts {
    pub(super) fn of(bytes: &[u8], is_kustomization: bool) -> Self {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = line_of(&bytes[..error.valid_up_to()]).min(lines_of(&String::from_utf8_lossy(bytes)));
                return Self { broken: Some(Refusal::at(line, "is not UTF-8")), ..Self::default() };
            }
        };
        let tree = match parse(text) {
            Ok(tree) => tree,
            Err(refusal) => {
                let line = refusal.line.filter(|_| !text.is_empty()).map(|line| line.min(lines_of(text)).max(1));
                let is_template = text.contains("{{");
                return Self { broken: Some(Refusal { line, ..refusal }), is_template, ..Self::default() };
            }
        };
        let values = Values::new(&tree, lines_of(text));
        let mut facts = Self { duplicates: values.duplicates(), ..Self::default() };
        if is_kustomization {
            facts.kustomization = kustomization::read(&values);
        } else {
            facts.documents(&values);
        }
        facts
    }

    fn documents(&mut self, values: &Values<'_>) {
        self.images = images(values);
        for document in &values.tree.documents {
            if let Some(items) = items(values, *document) {
                for item in items {
                    self.object(values, *item);
                }
            } else {
                self.object(values, *document);
            }
        }
        for value in values.tree.ids().filter_map(|id| values.tree.text(id)) {
            self.is_unclear |= moves_objects(value);
        }
    }

    fn object(&mut self, values: &Values<'_>, document: Id) {
        if values.is_null(document) {
            return;
        }
        let text = |key| values.text_at(document, key).map(|named| named.text);
        let metadata = values.entry(document, "metadata").map(|(_, metadata)| metadata);
        let about = |key| metadata.and_then(|metadata| values.text_at(metadata, key)).map(|named| named.text);
        let (version, kind) = (text("apiVersion").unwrap_or_default(), text("kind"));
        if kind.as_deref() == Some("Application") && version.starts_with("argoproj.io/") {
            self.sources.extend(sources(values, document));
        }
        match (kind, about("name")) {
            (Some(kind), Some(name)) => {
                let namespace = about("namespace").filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
                self.objects.push(Object { version, kind, namespace, name });
            }
            (kind, _) if self.strangers.len() < MOST => {
                let missing = if kind.is_some() { "metadata.name" } else { "kind" };
                let text = format!("is no object of Kubernetes: it has no {missing}");
                self.strangers.push(Named { text, line: values.line(document) });
            }
            _ => {}
        }
    }
}

/// Does a patch with this text take objects away, or give them other names?
pub(super) fn moves_objects(text: &str) -> bool {
    ["$patch", "/metadata/name", "/kind"].iter().any(|word| text.contains(word)) || text == "delete"
}

/// As YAML is read elsewhere: a tab may follow a colon.
pub(super) fn parse(text: &str) -> Result<Tree, Refusal> {
    let first = Tree::parse(text);
    if first.is_ok() || !text.contains('\t') {
        return first;
    }
    let mut inside = false;
    let spaced = text.chars().map(|character| {
        inside = character != '\n' && (inside || !character.is_whitespace());
        if character == '\t' && inside { ' ' } else { character }
    });
    Tree::parse(&spaced.collect::<String>()).or(first)
}

/// The images of the containers of a text, wherever they are: so kustomize looks for them. Those of a list of patches too.
pub(super) fn images(values: &Values<'_>) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for document in &values.tree.documents {
        for step in values.list(*document).unwrap_or_default() {
            let is_image = values.text_at(*step, "path").is_some_and(|path| path.text.ends_with("/image"));
            mentions.extend(values.text_at(*step, "value").filter(|_| is_image).map(|value| mention(&value)));
        }
    }
    let mut documents = values.tree.documents.iter().copied().peekable();
    let mut owner = None;
    for id in values.tree.ids() {
        // The values of a document come between it and the next.
        if let Some(document) = documents.next_if_eq(&id) {
            owner = owner_of(values, document);
        }
        if values.tree.map(id).is_none() {
            continue;
        }
        for list in ["containers", "initContainers"] {
            let Some((_, containers)) = values.entry(id, list) else { continue };
            for container in values.list(containers).unwrap_or_default() {
                let Some(image) = values.text_at(*container, "image") else { continue };
                let name = values.text_at(*container, "name");
                let container = owner.as_ref().zip(name).map(|(owner, name)| format!("{owner}/{}", name.text));
                mentions.push(Mention { container, ..mention(&image) });
            }
        }
    }
    mentions
}

fn owner_of(values: &Values<'_>, document: Id) -> Option<String> {
    let kind = values.text_at(document, "kind")?.text;
    if kind == "List" {
        return None;
    }
    let (_, metadata) = values.entry(document, "metadata")?;
    Some(format!("{kind}/{}", values.text_at(metadata, "name")?.text))
}

fn mention(image: &Named) -> Mention {
    let (name, tag, digest) = parts(&image.text);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Mention { name: name.to_owned(), tag: owned(tag), digest: owned(digest), line: image.line, container: None }
}

/// The name, tag and digest of an image in one text.
pub(super) fn parts(reference: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = reference.split_once('@').map_or((reference, None), |(rest, digest)| (rest, Some(digest)));
    // A colon before a slash is that of a port.
    match rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag), digest),
        None => (rest, None, digest),
    }
}

/// The objects of a list of objects.
fn items<'t>(values: &Values<'t>, document: Id) -> Option<&'t [Id]> {
    let kind = values.text_at(document, "kind")?;
    let (_, items) = values.entry(document, "items").filter(|_| kind.text.ends_with("List"))?;
    values.list(items)
}

/// Where an Application looks for manifests.
fn sources(values: &Values<'_>, document: Id) -> Vec<Source> {
    let Some((_, spec)) = values.entry(document, "spec") else { return Vec::new() };
    let several = values.entry(spec, "sources").and_then(|(_, list)| values.list(list)).unwrap_or_default();
    let one = values.entry(spec, "source").map(|(_, source)| source);
    let all = one.into_iter().chain(several.iter().copied());
    let source = |source| {
        let text = |key| values.text_at(source, key).map(|named| named.text).unwrap_or_default();
        let path = values.text_at(source, "path")?;
        Some(Source { repository: text("repoURL"), revision: text("targetRevision"), path })
    };
    all.filter_map(source).collect()
}

fn line_of(before: &[u8]) -> usize {
    String::from_utf8_lossy(before).matches('\n').count() + 1
}

/// How many lines a text has, at least one.
fn lines_of(text: &str) -> usize {
    text.lines().count().max(1)
}
