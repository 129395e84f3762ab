//! The way through the files: from where, in which order, and what is written down of each.

mod build;
mod built;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::validate::facts::{Facts, Mention, Source};
use crate::validate::kustomization::Role;
use crate::validate::tree::{Content, Target, Tree, folder_of, within};
use crate::validate::values::Named;
use crate::validate::walk::built::Built;
use crate::validate::{Finding, Findings, KUSTOMIZATIONS, Names, Report, SHOWN, Scope, Wanted};

/// Steps after which it is enough: those of a repository that people write are far fewer.
const STEPS: usize = 1_000_000;

/// A way through the files.
pub(super) struct Walk<'t> {
    tree: &'t Tree,
    names: &'t Names,
    facts: BTreeMap<String, Rc<Facts>>,
    built: BTreeMap<String, Rc<Built>>,
    /// Folders whose kustomizations name one another, down to the one that is being built.
    stack: Vec<String>,
    findings: Findings,
    /// Files that should have been read.
    unread: BTreeSet<String>,
    /// Entries of `images:` that replaced something, by their files and lines.
    matched: BTreeSet<(String, usize)>,
    kustomizations: BTreeSet<String>,
    manifests: BTreeSet<String>,
    wanted: BTreeSet<Wanted>,
    steps: usize,
    probe: Option<Probe>,
}

/// A question: does an entry of `images:` for this image replace anything?
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    /// The folder of the kustomization.
    pub(super) folder: String,
    /// The `name` of the entry.
    pub(super) image: String,
    /// The answer; `None` where nothing was built.
    pub(super) is_matched: Option<bool>,
    /// It may be matched by something that is not known.
    pub(super) is_open: bool,
    /// The images that are there.
    pub(super) names: BTreeSet<String>,
    /// What the image was renamed to before, and by which file and line.
    pub(super) renamed: Option<(String, String, usize)>,
}

impl<'t> Walk<'t> {
    pub(super) fn new(tree: &'t Tree, names: &'t Names) -> Self {
        Self {
            tree,
            names,
            facts: BTreeMap::new(),
            built: BTreeMap::new(),
            stack: Vec::new(),
            findings: Findings::default(),
            unread: BTreeSet::new(),
            matched: BTreeSet::new(),
            kustomizations: BTreeSet::new(),
            manifests: BTreeSet::new(),
            wanted: BTreeSet::new(),
            steps: STEPS,
            probe: None,
        }
    }

    pub(super) fn with(mut self, probe: Option<Probe>) -> Self {
        self.probe = probe;
        self
    }

    pub(super) fn run(&mut self, scope: &Scope) {
        match scope {
            Scope::All => self.all(),
            Scope::Folder(folder) => self.folder(folder),
            Scope::File(path) => self.file(path),
        }
        let of_file = |(path, facts): (&String, &Rc<Facts>)| {
            facts.sources.iter().map(|source| (path.clone(), source.clone())).collect::<Vec<_>>()
        };
        let sources: Vec<(String, Source)> = self.facts.iter().flat_map(of_file).collect();
        for (path, source) in sources {
            self.source(&path, &source);
        }
    }

    fn all(&mut self) {
        let tree = self.tree;
        let is_ours = |path: &&str| is_yaml(path) && !tree.is_in_chart(path);
        let files: Vec<&str> = tree.paths().filter(is_ours).collect();
        let (mut folders, mut starts, mut reached) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for path in files.iter().copied() {
            if is_kustomization(path) {
                folders.insert(folder_of(path).to_owned());
            }
            let Some(facts) = self.facts(path) else { continue };
            for used in facts.kustomization.uses.iter().filter(|used| used.role != Role::File) {
                if let Target::Folder(folder) = tree.target(folder_of(path), &used.path.text) {
                    reached.insert(folder);
                }
            }
            starts
                .extend(facts.sources.iter().filter(|source| self.is_here(source)).filter_map(|one| within("", &one.path.text)));
        }
        let is_start = |folder: &&String| !reached.contains(*folder) || starts.contains(*folder);
        for folder in folders.iter().filter(is_start) {
            let built = self.build(folder);
            if !self.is_component(folder) {
                self.collect(&built);
            }
        }
        // Those that only name each other in a circle.
        for folder in folders.iter().filter(|folder| !is_start(folder)) {
            self.build(folder);
        }
        for path in files.into_iter().filter(|path| !is_kustomization(path)) {
            self.stray(path);
        }
    }

    fn folder(&mut self, folder: &str) {
        let Some(inside) = within("", folder).filter(|inside| self.tree.is_folder(inside)) else {
            return self.fatal(folder, None, "is no folder of the repository");
        };
        if !self.tree.kustomizations(&inside).is_empty() {
            let built = self.build(&inside);
            return self.collect(&built);
        }
        let files = self.tree.below(&inside).filter(|path| folder_of(path) == inside && is_yaml(path));
        for path in files.filter(|path| !self.tree.is_in_chart(path)).collect::<Vec<_>>() {
            self.stray(path);
        }
    }

    fn file(&mut self, path: &str) {
        let inside = within("", path).filter(|inside| self.tree.content(inside).is_some());
        match inside {
            Some(inside) if is_kustomization(&inside) => self.folder(folder_of(&inside)),
            Some(inside) => self.stray(&inside),
            None => self.fatal(path, None, "is no file of the repository"),
        }
    }

    /// A file that no kustomization names.
    fn stray(&mut self, path: &str) {
        if self.manifests.contains(path) {
            return;
        }
        let Some(facts) = self.facts(path).filter(|facts| !facts.is_template) else { return };
        self.manifests.insert(path.to_owned());
        self.tell(path, &facts, false);
        for image in &facts.images {
            self.want(image, path, image.line);
        }
    }

    /// An Application's folder is there.
    fn source(&mut self, path: &str, source: &Source) {
        if !self.is_here(source) {
            return;
        }
        let Source { path: Named { text, line }, .. } = source;
        match self.tree.target("", text) {
            Target::Folder(_) | Target::Submodule => {}
            Target::Link(link) => self.doubt(path, Some(*line), format!("the Application's path goes through the link {link}")),
            Target::File(_) => self.doubt(path, Some(*line), format!("the Application's path {text} is a file, and no folder")),
            Target::Missing(_) | Target::Outside => {
                self.doubt(path, Some(*line), format!("the Application's path {text} is no folder of this repository"));
            }
        }
    }

    /// Does it look into this repository, where we look too?
    fn is_here(&self, source: &Source) -> bool {
        let url = place_of(&source.repository);
        let is_branch = match (&self.names.branch, source.revision.as_str()) {
            (None, _) | (_, "" | "HEAD") => true,
            (Some(branch), revision) => revision.strip_prefix("refs/heads/").unwrap_or(revision) == branch,
        };
        is_branch && url.is_some() && self.names.repositories.iter().any(|ours| place_of(ours) == url)
    }

    /// What is known of a file; `None` where it cannot be.
    fn facts(&mut self, path: &str) -> Option<Rc<Facts>> {
        if let Some(facts) = self.facts.get(path) {
            return Some(Rc::clone(facts));
        }
        let bytes = match self.tree.content(path)? {
            Content::Bytes(bytes) => bytes,
            Content::Unread => {
                self.unread.insert(path.to_owned());
                return None;
            }
            Content::Large => {
                self.doubt(path, None, "is too large to be looked at");
                return None;
            }
        };
        let facts = Rc::new(Facts::of(bytes, is_kustomization(path)));
        if !self.step(1 + facts.images.len() + facts.objects.len() + facts.kustomization.uses.len()) {
            return None;
        }
        self.facts.insert(path.to_owned(), Rc::clone(&facts));
        Some(facts)
    }

    /// What is wrong with a file by itself. It `is_used` if a kustomization is built of it.
    fn tell(&mut self, path: &str, facts: &Facts, is_used: bool) {
        if let Some(refusal) = &facts.broken {
            self.fatal(path, refusal.line, refusal.why.as_str());
        }
        for key in &facts.duplicates {
            let what = format!("the key {} is here twice; remove one of them", key.text);
            self.say(path, Some(key.line), what, is_used);
        }
        for complaint in &facts.kustomization.complaints {
            self.say(path, Some(complaint.line), complaint.what.as_str(), complaint.is_fatal);
        }
    }

    fn fatal(&mut self, path: &str, line: Option<usize>, what: impl Into<String>) {
        self.say(path, line, what, true);
    }

    fn doubt(&mut self, path: &str, line: Option<usize>, what: impl Into<String>) {
        self.say(path, line, what, false);
    }

    fn say(&mut self, path: &str, line: Option<usize>, what: impl Into<String>, is_fatal: bool) {
        self.findings.add(Finding { path: path.to_owned(), line, what: what.into(), is_fatal });
    }

    /// Takes steps; `false` when there are none left.
    fn step(&mut self, steps: usize) -> bool {
        let Some(left) = self.steps.checked_sub(steps) else {
            self.steps = 0;
            self.doubt("", None, "there is more in this repository than is looked at");
            return false;
        };
        self.steps = left;
        true
    }

    /// The images that are deployed in the end.
    fn collect(&mut self, built: &Built) {
        for image in built.images.iter().filter(|image| !image.is_hidden) {
            self.want(&image.mention, &image.path, image.mention.line);
        }
    }

    fn want(&mut self, image: &Mention, path: &str, line: usize) {
        let of_host = |host: &String| {
            let repository = image.name.strip_prefix(host.as_str())?.strip_prefix('/')?;
            Some((host.clone(), repository)).filter(|(_, repository)| !repository.is_empty())
        };
        let Some((host, repository)) = self.names.hosts.iter().find_map(of_host) else { return };
        let is_below = |first: &String| repository.strip_prefix(first.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if self.names.fetched.iter().any(is_below) {
            return;
        }
        self.wanted.insert(Wanted {
            path: path.to_owned(),
            line,
            host,
            repository: repository.to_owned(),
            tag: image.tag.clone(),
            digest: image.digest.clone(),
        });
    }

    /// Entries that replaced nothing that is known may replace what is not.
    fn collect_unmatched(&mut self) {
        for path in self.kustomizations.clone() {
            let Some(facts) = self.facts.get(&path).cloned() else { continue };
            for entry in &facts.kustomization.entries {
                let is_matched = self.matched.contains(&(path.clone(), entry.line));
                if is_matched || entry.is_suffixed || (entry.tag.is_none() && entry.digest.is_none()) {
                    continue;
                }
                let name = entry.new_name.clone().unwrap_or_else(|| entry.name.clone());
                let image = Mention { name, tag: entry.tag.clone(), digest: entry.digest.clone(), ..Mention::default() };
                self.want(&image, &path, entry.line);
            }
        }
    }

    pub(super) fn report(&mut self) -> Report {
        self.collect_unmatched();
        let findings = std::mem::take(&mut self.findings);
        Report {
            more: findings.dropped + findings.kept.len().saturating_sub(SHOWN),
            findings: findings.kept.into_iter().take(SHOWN).collect(),
            wanted: std::mem::take(&mut self.wanted).into_iter().collect(),
            kustomizations: self.kustomizations.len(),
            manifests: self.manifests.len(),
        }
    }

    /// The first finding that is fatal.
    pub(super) fn first_fatal(&self) -> Option<&Finding> {
        self.findings.kept.iter().find(|finding| finding.is_fatal)
    }

    /// Files whose bytes were missed.
    pub(super) fn unread(&self) -> &BTreeSet<String> {
        &self.unread
    }

    pub(super) fn probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }
}

fn is_kustomization(path: &str) -> bool {
    KUSTOMIZATIONS.contains(&path.rsplit('/').next().unwrap_or(path))
}

fn is_yaml(path: &str) -> bool {
    is_kustomization(path) || path.rsplit_once('.').is_some_and(|(_, end)| matches!(end, "yaml" | "yml"))
}

/// Host and path of the URL of a repository; `None` if it is none.
fn place_of(url: &str) -> Option<(String, String)> {
    let url = url.trim();
    let (host, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => url.split_once(':')?,
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(host, _)| host);
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    (!path.is_empty()).then(|| (host.to_ascii_lowercase(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_same_by_any_of_its_urls() {
        let place = place_of("https://git.example.org/micro/app.git");
        assert!(place.is_some());
        for url in [
            "http://git.example.org:3000/micro/app",
            "ssh://git@GIT.example.org:22/micro/app.git",
            "git@git.example.org:micro/app.git",
            "https://bot@git.example.org/micro/app/",
        ] {
            assert_eq!(place_of(url), place, "{url}");
        }
        assert_ne!(place_of("https://git.example.org/micro/other"), place);
        for url in ["", "git.example.org", "https://git.example.org", "https://git.example.org/"] {
            assert_eq!(place_of(url), None, "{url}");
        }
        assert_eq!(place_of("file:///srv/a.git"), place_of("file:///srv/a"));
    }
}
