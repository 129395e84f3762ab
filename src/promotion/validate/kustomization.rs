//! What a kustomization says: what it is built of, and which images it replaces.

use std::collections::BTreeSet;

use crate::validate::facts::{self, Mention, moves_objects, parts};
use crate::validate::values::{Named, Values};
use crate::yaml::Id;

/// The keys of an entry of `images:`.
const KEYS: [&str; 5] = ["name", "newName", "newTag", "digest", "tagSuffix"];
/// Lists of paths, and for what each is taken.
const LISTS: [(&str, Role); 9] = [
    ("resources", Role::Resource),
    ("bases", Role::Resource),
    ("components", Role::Component),
    ("crds", Role::File),
    ("configurations", Role::File),
    ("generators", Role::Either),
    ("transformers", Role::Either),
    ("validators", Role::Either),
    ("patchesStrategicMerge", Role::Patch),
];

/// A kustomization.
#[derive(Debug, Default)]
pub(super) struct Kustomization {
    pub(super) is_component: bool,
    /// What it names, in the order in which kustomize takes it.
    pub(super) uses: Vec<Use>,
    /// The entries of `images:`.
    pub(super) entries: Vec<Entry>,
    /// What is wrong with it.
    pub(super) complaints: Vec<Complaint>,
    /// Images of patches that stand in it.
    pub(super) images: Vec<Mention>,
    /// Objects or images may come of it that cannot be known from its files.
    pub(super) is_open: bool,
    /// Objects may get other names, or go.
    pub(super) is_unclear: bool,
    pub(super) namespace: Option<Named>,
    pub(super) prefix: String,
    pub(super) suffix: String,
}

/// For what a path is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Manifests, or the folder of a kustomization.
    Resource,
    /// The folder of a component.
    Component,
    /// A file.
    File,
    /// A file with a patch.
    Patch,
    /// A file, or the folder of a kustomization.
    Either,
}

/// A path that a kustomization names.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) role: Role,
    pub(super) field: &'static str,
    pub(super) path: Named,
}

/// An entry of `images:`.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) new_name: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
    /// What becomes of the tag is not known here.
    pub(super) is_suffixed: bool,
    pub(super) line: usize,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    pub(super) line: usize,
    pub(super) what: String,
    /// kustomize does not build it.
    pub(super) is_fatal: bool,
}

/// Reads a kustomization from its first document, as kustomize does.
pub(super) fn read(values: &Values<'_>) -> Kustomization {
    let mut reading = Reading { values, read: Kustomization::default() };
    reading.root();
    let order = |used: &Use| match used.role {
        Role::Resource => 0,
        Role::Component => 1,
        Role::File | Role::Patch | Role::Either => 2,
    };
    // Stable: each list keeps its order.
    reading.read.uses.sort_by_key(order);
    reading.read
}

struct Reading<'v, 't> {
    values: &'v Values<'t>,
    read: Kustomization,
}

impl Reading<'_, '_> {
    fn fatal(&mut self, line: usize, what: impl Into<String>) {
        self.read.complaints.push(Complaint { line, what: what.into(), is_fatal: true });
    }

    fn doubt(&mut self, line: usize, what: impl Into<String>) {
        self.read.complaints.push(Complaint { line, what: what.into(), is_fatal: false });
    }

    fn root(&mut self) {
        let values = self.values;
        let Some(root) = values.tree.documents.first().copied().filter(|root| !values.is_null(*root)) else {
            return self.fatal(1, "is empty, and kustomize takes no empty kustomization");
        };
        if values.map(root).is_none() {
            return self.fatal(values.line(root), "is no map, and kustomize takes it for empty");
        }
        if let Some(second) = values.tree.documents.get(1).filter(|second| !values.is_null(**second)) {
            self.doubt(values.line(*second), "is a second document, of which kustomize takes no notice");
        }
        if self.is_empty(root) {
            return self.fatal(values.line(root), "says nothing, and kustomize takes no empty kustomization");
        }
        self.kind(root);
        for (field, role) in LISTS {
            self.paths(root, field, role);
        }
        self.patches(root);
        self.generators(root);
        self.images(root);
        let text = |key| values.field(root, key).and_then(|(_, value)| values.named(value));
        self.read.namespace = text("namespace").filter(|name| !name.text.is_empty());
        self.read.prefix = text("namePrefix").map(|named| named.text).unwrap_or_default();
        self.read.suffix = text("nameSuffix").map(|named| named.text).unwrap_or_default();
        let has = |key: &&str| values.field(root, key).is_some_and(|(_, value)| !values.is_null(value));
        let open =
            ["helmCharts", "helmChartInflationGenerator", "generators", "transformers", "configurations", "replacements", "vars"];
        self.read.is_open |= open.iter().any(has);
        self.read.is_unclear |= ["transformers", "replacements"].iter().any(has);
    }

    /// Its version and kind alone are nothing.
    fn is_empty(&self, root: Id) -> bool {
        let entries = self.values.map(root).unwrap_or_default();
        let says = |(key, value): &(Id, Id)| {
            let key = self.values.text(*key).unwrap_or_default();
            let is_head = key.eq_ignore_ascii_case("apiVersion") || key.eq_ignore_ascii_case("kind");
            !is_head && !self.values.is_null(*value) && self.values.text(*value) != Some("")
        };
        !entries.iter().any(says)
    }

    fn kind(&mut self, root: Id) {
        let Some((key, value)) = self.values.field(root, "kind") else { return };
        match self.values.text(value) {
            Some("Component") => self.read.is_component = true,
            Some("Kustomization" | "") | None => {}
            Some(_) => self.fatal(self.values.line(key), "has a kind that is neither Kustomization nor Component"),
        }
    }

    /// The items of a list under a key; none where there is nothing.
    fn items(&mut self, map: Id, field: &str) -> Vec<Id> {
        let Some((key, value)) = self.values.field(map, field) else { return Vec::new() };
        if self.values.is_null(value) {
            return Vec::new();
        }
        let Some(items) = self.values.list(value) else {
            self.fatal(self.values.line(key), format!("{field} is no list"));
            return Vec::new();
        };
        items.to_vec()
    }

    /// The text of an item of a list.
    fn item(&mut self, item: Id, field: &str) -> Option<Named> {
        if let Some(strange) = self.values.strange(item) {
            self.fatal(self.values.line(item), format!("an entry of {field} is {strange}; write it as a text, in quotes"));
            return None;
        }
        let named = self.values.named(item).filter(|named| !named.text.is_empty());
        if named.is_none() {
            self.fatal(self.values.line(item), format!("an entry of {field} is empty"));
        }
        named
    }

    fn uses(&mut self, role: Role, field: &'static str, path: Named) {
        self.read.uses.push(Use { role, field, path });
    }

    fn paths(&mut self, root: Id, field: &'static str, role: Role) {
        for item in self.items(root, field) {
            let Some(path) = self.item(item, field) else { continue };
            let takes_inline = matches!(role, Role::Either | Role::Patch);
            if takes_inline && is_inline(&path.text) {
                self.inline(&path, role == Role::Patch);
            } else {
                self.uses(role, field, path);
            }
        }
    }

    /// YAML that stands in the kustomization itself.
    fn inline(&mut self, text: &Named, is_patch: bool) {
        let Ok(tree) = facts::parse(&text.text) else {
            return self.fatal(text.line, "the YAML that stands here is none");
        };
        if is_patch {
            let images = facts::images(&Values::new(&tree, usize::MAX));
            self.read.images.extend(images.into_iter().map(|image| Mention { line: text.line, ..image }));
            self.read.is_unclear |= moves_objects(&text.text);
        }
    }

    fn patches(&mut self, root: Id) {
        for (field, role) in [("patches", Role::Patch), ("patchesJson6902", Role::Patch), ("replacements", Role::File)] {
            for item in self.items(root, field) {
                if let Some(path) = self.value(item, "path") {
                    self.uses(role, field, path);
                }
                if let Some(patch) = self.value(item, "patch") {
                    self.inline(&patch, true);
                }
                let options = self.values.field(item, "options").and_then(|(_, options)| self.values.map(options));
                self.read.is_unclear |= options.is_some_and(|options| !options.is_empty());
            }
        }
        if let Some((_, api)) = self.values.field(root, "openapi")
            && let Some(path) = self.value(api, "path")
        {
            self.uses(Role::File, "openapi", path);
        }
    }

    /// The text of a key, where it has one.
    fn value(&self, map: Id, key: &str) -> Option<Named> {
        let (_, value) = self.values.field(map, key)?;
        self.values.named(value).filter(|named| !named.text.is_empty())
    }

    /// The files of which config maps and secrets are made.
    fn generators(&mut self, root: Id) {
        for field in ["configMapGenerator", "secretGenerator"] {
            for generator in self.items(root, field) {
                for list in ["files", "envs"] {
                    for item in self.items(generator, list) {
                        let Some(Named { text, line }) = self.item(item, field) else { continue };
                        // `key=path`
                        let file = text.split_once('=').filter(|_| list == "files").map(|(_, file)| file.to_owned());
                        self.uses(Role::File, field, Named { text: file.unwrap_or(text), line });
                    }
                }
                if let Some(path) = self.value(generator, "env") {
                    self.uses(Role::File, field, path);
                }
            }
        }
    }

    fn images(&mut self, root: Id) {
        let mut names = BTreeSet::new();
        for item in self.items(root, "images") {
            if self.values.is_null(item) {
                continue;
            }
            let line = self.values.line(item);
            if self.values.map(item).is_none() {
                self.fatal(line, "an entry of images is no map; write `name:` and `newTag:`");
                continue;
            }
            let entry = self.entry(item);
            if entry.name.is_empty() {
                self.doubt(line, "an entry of images has no name, and replaces nothing");
            } else if !names.insert(entry.name.clone()) {
                self.doubt(line, format!("images has {} twice, and the last one counts; remove one of them", entry.name));
            }
            self.read.entries.push(entry);
        }
    }

    fn entry(&mut self, item: Id) -> Entry {
        for (key, value) in self.values.map(item).unwrap_or_default() {
            let name = self.values.text(*key).unwrap_or_default();
            let line = self.values.line(*key);
            if name == "<<" {
                continue;
            }
            let Some(known) = KEYS.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                let known = KEYS.join(", ");
                self.fatal(
                    line,
                    format!("an entry of images has the key {name:?}, which kustomize does not know: it knows {known}"),
                );
                continue;
            };
            if *known != name {
                self.doubt(line, format!("the key {name} is {known}; write it so, as others take it for another one"));
            }
            if let Some(strange) = self.values.strange(*value) {
                let why = format!("{known} is {strange}, and kustomize takes only a text; write it in quotes");
                self.fatal(self.values.line(*value), why);
            }
        }
        let text = |key| self.value(item, key).map(|named| named.text);
        let (tag, inner) = match text("newTag") {
            Some(tag) => match tag.split_once('@') {
                Some((tag, digest)) => (Some(tag.to_owned()).filter(|tag| !tag.is_empty()), Some(digest.to_owned())),
                None => (Some(tag), None),
            },
            None => (None, None),
        };
        let line = self.values.line(item);
        let entry = Entry {
            name: text("name").unwrap_or_default(),
            new_name: text("newName"),
            tag,
            digest: text("digest").or(inner),
            is_suffixed: text("tagSuffix").is_some(),
            line,
        };
        if let Some(tag) = entry.new_name.as_deref().and_then(|name| parts(name).1) {
            self.doubt(line, format!("newName has the tag {tag} in it, and kustomize writes another one behind it"));
        }
        entry
    }
}

/// Is this YAML itself, and no path?
fn is_inline(text: &str) -> bool {
    text.contains('\n') || text.contains(": ") || text.starts_with(['{', '['])
}
