//! A walk through kustomizations and what they name.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, Tag};

use crate::validate::files::join;
use crate::validate::image::{ours, split};
use crate::validate::{Files, Finding, Names, Report, TOLD, Wanted, application, get, is_yaml, items, parse, text, twice};
use crate::yaml::{Id, Style, Tree, What, is_plain};

/// Keys whose values are paths of files or folders.
const PATHS: [&str; 9] = [
    "resources",
    "bases",
    "components",
    "crds",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "patchesStrategicMerge",
];
/// Keys whose values are maps with a path.
const WITH_PATH: [&str; 3] = ["patches", "patchesJson6902", "replacements"];
/// What an entry of `images:` may have.
const IMAGE: [&str; 5] = ["name", "newName", "newTag", "tagSuffix", "digest"];

/// Group, kind, namespace and name.
type Object = (String, String, String, String);

/// A walk. Each file is looked at once.
pub(super) struct Walk<'f> {
    files: &'f Files,
    names: &'f Names,
    report: Report,
    /// Trees of files; `None` for what is no YAML.
    trees: BTreeMap<String, Option<Tree>>,
    /// Folders that were looked at, with the names of images in them.
    folders: BTreeMap<String, BTreeSet<String>>,
    /// The same, as they are before the folder's own `images:`.
    pub(super) before: BTreeMap<String, BTreeSet<String>>,
    /// Objects that a folder makes, as far as nothing is done to their names.
    objects: BTreeMap<String, BTreeSet<Object>>,
    /// Folders on the way to the one that is looked at.
    way: Vec<String>,
    /// Images of this registry as manifests have them, until it is known which are replaced.
    plain: Vec<(String, String, usize)>,
    /// Names that some kustomization replaces.
    replaced: BTreeSet<String>,
}

impl<'f> Walk<'f> {
    pub(super) fn new(files: &'f Files, names: &'f Names) -> Self {
        Self {
            files,
            names,
            report: Report::default(),
            trees: BTreeMap::new(),
            folders: BTreeMap::new(),
            before: BTreeMap::new(),
            objects: BTreeMap::new(),
            way: Vec::new(),
            plain: Vec::new(),
            replaced: BTreeSet::new(),
        }
    }

    pub(super) fn into_report(mut self) -> Report {
        for (path, reference, line) in std::mem::take(&mut self.plain) {
            let (name, tag, digest) = split(&reference);
            if !self.replaced.contains(name) {
                self.want(&path, line, name, tag, digest);
            }
        }
        let mut report = self.report;
        report.findings.sort();
        report.findings.dedup();
        let more = report.findings.len().saturating_sub(TOLD);
        if more > 0 {
            report.findings.truncate(TOLD);
            report.findings.push(Finding::new("…", None, format!("and {more} more")));
        }
        report
    }

    fn found(&mut self, path: &str, line: usize, what: impl Into<String>) {
        self.report.findings.push(Finding::new(path, Some(line), what));
    }

    /// A file: it parses, and what is in it is known.
    pub(super) fn file(&mut self, path: &str) {
        if self.trees.contains_key(path) {
            return;
        }
        let tree = match self.files.text(path).and_then(|bytes| parse(path, bytes)) {
            None => None,
            Some(Err(finding)) => {
                self.report.findings.push(finding);
                None
            }
            Some(Ok(tree)) => {
                self.report.findings.extend(twice(path, &tree));
                for document in &tree.documents {
                    self.report.findings.extend(application::check(self.files, self.names, path, &tree, *document));
                }
                Some(tree)
            }
        };
        self.trees.insert(path.to_owned(), tree);
        if !self.is_kustomization(path) {
            self.report.manifests += 1;
            let images = self.images(path);
            self.plain.extend(images.into_iter().map(|(reference, line)| (path.to_owned(), reference, line)));
        }
    }

    fn is_kustomization(&self, path: &str) -> bool {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.files.kustomizations(folder).iter().any(|own| own == path)
    }

    /// The images of containers in a file, wherever they stand.
    fn images(&self, path: &str) -> Vec<(String, usize)> {
        let Some(Some(tree)) = self.trees.get(path) else { return Vec::new() };
        let mut images = Vec::new();
        for map in tree.ids().filter(|id| tree.map(*id).is_some()) {
            for key in ["containers", "initContainers", "ephemeralContainers"] {
                for container in items(tree, get(tree, map, key)) {
                    if let Some(image) = get(tree, container, "image")
                        && let Some(reference) = tree.text(image).filter(|reference| !reference.contains("{{"))
                    {
                        images.push((reference.to_owned(), tree.node(image).line));
                    }
                }
            }
        }
        images
    }

    /// A folder with a kustomization. Gives the names of images that its resources have.
    pub(super) fn folder(&mut self, folder: &str) -> BTreeSet<String> {
        if let Some(names) = self.folders.get(folder) {
            return names.clone();
        }
        let own = self.files.kustomizations(folder);
        let Some(path) = own.first().cloned() else {
            let what = "has no kustomization.yaml";
            self.report.findings.push(Finding::new(if folder.is_empty() { "." } else { folder }, None, what));
            return BTreeSet::new();
        };
        if own.len() > 1 {
            self.report.findings.push(Finding::new(folder, None, format!("has {}; kustomize takes only one", own.join(" and "))));
        }
        self.file(&path);
        self.report.kustomizations += 1;
        self.way.push(folder.to_owned());
        let mut names = BTreeSet::new();
        if let Some(Some(tree)) = self.trees.remove(&path) {
            if let [root] = tree.documents[..]
                && tree.map(root).is_some()
            {
                names = self.kustomization(folder, &path, &tree, root);
            } else {
                self.report.findings.push(Finding::new(&path, None, "is not one map"));
            }
            self.trees.insert(path, Some(tree));
        }
        self.way.pop();
        self.folders.insert(folder.to_owned(), names.clone());
        names
    }

    fn kustomization(&mut self, folder: &str, path: &str, tree: &Tree, root: Id) -> BTreeSet<String> {
        let (mut images, mut objects) = (BTreeSet::new(), BTreeSet::new());
        for key in PATHS {
            for item in items(tree, get(tree, root, key)) {
                let Some(named) = tree.text(item) else { continue };
                // A patch may stand there itself.
                let is_patch = named.contains(['\n', '{']) || (key == "patchesStrategicMerge" && named.contains(": "));
                if is_patch {
                    continue;
                }
                images.extend(self.named(folder, path, named, tree.node(item).line));
                if matches!(key, "resources" | "bases") {
                    self.once(folder, path, named, tree.node(item).line, &mut objects);
                }
            }
        }
        for key in WITH_PATH {
            for item in items(tree, get(tree, root, key)) {
                if let Some(value) = get(tree, item, "path")
                    && let Some(named) = tree.text(value)
                {
                    self.named(folder, path, named, tree.node(value).line);
                }
            }
        }
        for key in ["configMapGenerator", "secretGenerator"] {
            for generator in items(tree, get(tree, root, key)) {
                for kind in ["files", "envs", "env"] {
                    for item in items(tree, get(tree, generator, kind)) {
                        let Some(named) = tree.text(item) else { continue };
                        let named = if kind == "files" { named.split_once('=').map_or(named, |(_, path)| path) } else { named };
                        self.exists(folder, path, named, tree.node(item).line);
                    }
                }
            }
        }
        let is_renamed = ["namePrefix", "nameSuffix", "namespace"].iter().any(|key| get(tree, root, key).is_some());
        self.objects.insert(folder.to_owned(), if is_renamed { BTreeSet::new() } else { objects });
        self.before.insert(folder.to_owned(), images.clone());
        let renamed = self.entries(path, tree, root);
        images.into_iter().map(|name| renamed.get(&name).cloned().unwrap_or(name)).collect()
    }

    /// What a resource brings must not be there already.
    fn once(&mut self, folder: &str, path: &str, named: &str, line: usize, objects: &mut BTreeSet<Object>) {
        let Some(target) = join(folder, named) else { return };
        let brought = self.objects.get(&target).cloned().unwrap_or_else(|| self.objects_of(&target));
        for object in brought {
            let (_, kind, _, name) = &object;
            let what = format!("{named} has the {kind} {name}, which another resource has too; kustomize takes it once");
            if !objects.insert(object.clone()) {
                self.found(path, line, what);
            }
        }
    }

    /// The objects in a file.
    fn objects_of(&self, path: &str) -> BTreeSet<Object> {
        let Some(Some(tree)) = self.trees.get(path) else { return BTreeSet::new() };
        let object = |document: &Id| {
            let of = |map, key| text(tree, get(tree, map, key)).map(str::to_owned);
            let metadata = get(tree, *document, "metadata")?;
            let group = of(*document, "apiVersion").unwrap_or_default();
            let group = group.split_once('/').map_or("", |(group, _)| group).to_owned();
            Some((group, of(*document, "kind")?, of(metadata, "namespace").unwrap_or_default(), of(metadata, "name")?))
        };
        tree.documents.iter().filter_map(object).collect()
    }

    /// What is named must be there. Gives the names of images in it.
    fn named(&mut self, folder: &str, path: &str, named: &str, line: usize) -> BTreeSet<String> {
        let Some(target) = self.exists(folder, path, named, line) else { return BTreeSet::new() };
        if self.files.is_file(&target) {
            if is_yaml(&target) {
                self.file(&target);
            }
            return self.images(&target).iter().map(|(reference, _)| split(reference).0.to_owned()).collect();
        }
        if self.way.contains(&target) {
            self.found(path, line, format!("{named} leads back to this folder"));
            return BTreeSet::new();
        }
        self.folder(&target)
    }

    /// The path that is meant, if it is there and of this repository.
    fn exists(&mut self, folder: &str, path: &str, named: &str, line: usize) -> Option<String> {
        let target = join(folder, named);
        let is_there = target.as_ref().is_some_and(|target| self.files.is_file(target) || self.files.is_folder(target));
        if is_there {
            return target.filter(|target| !self.files.is_link(target));
        }
        let is_remote = named.contains("://")
            || named.contains("?ref=")
            || named.starts_with("git@")
            || named.contains(".git")
            || named.starts_with("github.com/");
        let is_behind_link = target.as_ref().is_some_and(|target| self.files.is_link(target));
        if !is_remote && !is_behind_link {
            let what = if target.is_none() { "is outside of the repository" } else { "is not there" };
            self.found(path, line, format!("{named} {what}"));
        }
        None
    }

    /// The entries of `images:`. Gives what they make of names.
    fn entries(&mut self, path: &str, tree: &Tree, root: Id) -> BTreeMap<String, String> {
        let (mut renamed, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for entry in items(tree, get(tree, root, "images")) {
            let line = tree.node(entry).line;
            let Some(keys) = tree.map(entry) else {
                self.found(path, line, "an entry of images is no map");
                continue;
            };
            for (key, value) in keys {
                let Some(name) = tree.text(*key) else { continue };
                if !IMAGE.contains(&name) {
                    self.found(
                        path,
                        tree.node(*key).line,
                        format!("an entry of images has {name:?}, which kustomize does not know"),
                    );
                } else if is_number(tree, *value) {
                    let what = format!("{name} is not in quotes, so that YAML takes it for no text, and kustomize fails");
                    self.found(path, tree.node(*value).line, what);
                }
            }
            let of = |key| text(tree, get(tree, entry, key));
            let Some(name) = of("name").filter(|name| !name.is_empty()) else {
                self.found(path, line, "an entry of images has no name");
                continue;
            };
            if !seen.insert(name.to_owned()) {
                self.found(path, line, format!("{name} is here twice, and the last one counts"));
            }
            self.replaced.insert(name.to_owned());
            let new = of("newName").unwrap_or(name);
            let (tag, inside) = of("newTag").map_or((None, None), |tag| {
                tag.split_once('@').map_or((Some(tag), None), |(tag, digest)| (Some(tag), Some(digest)))
            });
            if tag.is_some() || of("digest").is_some() {
                self.want(path, line, new, tag, of("digest").or(inside));
            }
            renamed.insert(name.to_owned(), new.to_owned());
        }
        renamed
    }

    /// An image of this registry is wanted.
    fn want(&mut self, path: &str, line: usize, name: &str, tag: Option<&str>, digest: Option<&str>) {
        let repository = match ours(&self.names.hosts, name) {
            None => return,
            Some(Err(what)) => return self.found(path, line, what),
            Some(Ok(repository)) => repository,
        };
        let tag = match tag.map(Tag::parse).transpose() {
            Ok(tag) => tag,
            Err(error) => return self.found(path, line, format!("{name}: {error}")),
        };
        let digest = match digest.map(Digest::parse).transpose() {
            Ok(digest) => digest,
            Err(error) => return self.found(path, line, format!("{name}: {error}")),
        };
        // Without either it is `latest`, for whoever pulls it.
        let tag = if tag.is_none() && digest.is_none() { Tag::parse("latest").ok() } else { tag };
        self.report.wanted.push(Wanted { path: path.to_owned(), line, repository, tag, digest });
    }
}

/// A value that YAML takes for a number, a truth or the like.
fn is_number(tree: &Tree, value: Id) -> bool {
    let node = tree.node(value);
    match &node.what {
        What::Scalar { text, style: Style::Plain } => {
            node.tag.is_none() && !text.is_empty() && !tree.is_null(value) && !is_plain(text) && is_scalar_word(text)
        }
        _ => false,
    }
}

/// What [`is_plain`] would quote to be on the safe side, and what kustomize would really take for something else.
fn is_scalar_word(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_truth = matches!(lower.as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    let plain = text.replace('_', "");
    let digits = plain.trim_start_matches(['+', '-']);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_based = ["0x", "0o", "0b"].iter().any(|base| {
        digits
            .to_ascii_lowercase()
            .strip_prefix(base)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    let is_float = digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') && plain.parse::<f64>().is_ok();
    is_truth || is_integer || is_based || is_float
}
