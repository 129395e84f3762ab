//! What can be said of a promotion's target before anything is promoted.

use serde::Serialize;

use crate::backing::Backing;
use crate::edit::{Edit, Helm, Kustomization, Values};
use crate::git::{Cache, GitError, Tip};
use crate::operate::OperateError;
use crate::promotions::Promotions;
use crate::rule::Rule;
use crate::validate::load::{Files, too_many};
use crate::validate::tree::{Target, folder_of, join};
use crate::validate::walk::Probe;
use crate::validate::{Finding, Names, Report, Scope, missing};

/// How a promotion's target is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The promotion.
    pub promotion: String,
    /// The commit that was looked at.
    pub commit: String,
    /// The file; that of the configuration, if it was not found.
    pub path: String,
    /// What stands there; `None`: nothing, or it cannot be read, and then that is one of the findings.
    pub stands: Option<Values>,
    /// Nothing stands there yet: it would be added.
    pub would_be_added: bool,
    /// Would what is written be deployed?
    pub matched: Matched,
    /// What was found in the folder, and that nothing would be deployed.
    pub report: Report,
}

/// Does a manifest have an image that the entry of a kustomization is for?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Matched {
    /// One has.
    Yes,
    /// None has: nothing would be deployed, and kustomize says nothing about that.
    No,
    /// None that is known, and some are not: they are elsewhere, or made by a chart or a plugin.
    #[default]
    Unknown,
}

impl Promotions {
    /// By which names the repository of a branch and this server are known, as far as the rules tell.
    fn names(&self, branch: &str) -> Names {
        let mut names = Names::default();
        if let Some(place) = self.0.places.get(branch) {
            names.repositories.push(place.remote().url().to_owned());
            names.branch = Some(place.remote().branch().to_owned());
        }
        for rule in self.all() {
            let host = new_name(&rule.edit).and_then(|name| name.strip_suffix(rule.repository.as_str())?.strip_suffix('/'));
            if let Some(host) = host.filter(|host| !host.is_empty() && !names.hosts.iter().any(|known| known == host)) {
                names.hosts.push(host.to_owned());
            }
        }
        names
    }

    /// Whether what is configured can work: the file is there, the place in it is found, what is written would be deployed, and the
    /// images of this registry are here. Nothing is rendered and nothing written. `names` are known beside those that the rules tell.
    pub async fn check(&self, name: &str, names: &Names) -> Result<Check, OperateError> {
        let rule = self.rule(name).ok_or_else(|| OperateError::Unknown(name.chars().take(80).collect()))?;
        let place = self.place(rule).ok_or_else(|| OperateError::Unknown(rule.name.clone()))?;
        let held = place.hold().await?;
        let backing = held.branch()?.backing();
        let mut check = match backing.git() {
            Some(cache) => {
                let tip = cache.fetch().await?;
                of_target(cache, &tip, rule, &self.names(&rule.branch).and(names)).await?
            }
            None => of_place(backing, rule).await?,
        };
        drop(held);
        check.report.add(missing(&*self.0.content, &check.report.wanted).await?);
        let written = self.ledger(&rule.name).await?.written;
        if let (Some(written), Some(stands)) = (written, &check.stands)
            && (written.values.image() != stands.image() || written.values.name != stands.name)
        {
            let what = format!(
                "has {}, which somebody else wrote after {}; the next promotion will be held",
                crate::work::shown(stands),
                crate::work::shown(&written.values)
            );
            let path = check.path.clone();
            check.report.add([Finding { path, line: None, what, is_fatal: false }]);
        }
        Ok(check)
    }

    /// Looks at everything in a commit of the repository of a rule, which need not be in the branch.
    pub(crate) async fn look_over(&self, rule: &Rule, commit: &str, names: &Names) -> Result<Report, OperateError> {
        let place = self.place(rule).ok_or_else(|| OperateError::Unknown(rule.name.clone()))?;
        let held = place.hold().await?;
        let cache = held.branch()?.backing().git().ok_or_else(without_git)?;
        let tip = cache.fetch_commit(commit).await?;
        let mut report = super::of_tip(cache, &tip, &Scope::All, &self.names(&rule.branch).and(names)).await?;
        drop(held);
        report.add(missing(&*self.0.content, &report.wanted).await?);
        Ok(report)
    }
}

fn without_git() -> OperateError {
    OperateError::Conflict("a whole repository is looked at with git alone; this promotion uses the API of its forge".to_owned())
}

/// Looks at the place alone, where a whole repository cannot be had.
async fn of_place(backing: &Backing, rule: &Rule) -> Result<Check, OperateError> {
    let tip = backing.fetch().await?;
    let (path, stands) = crate::land::place_at(backing, &tip, &rule.path, &rule.edit).await?;
    let mut check = Check {
        promotion: rule.name.clone(),
        commit: tip.commit().as_str().to_owned(),
        path,
        stands: None,
        would_be_added: false,
        matched: Matched::default(),
        report: Report::default(),
    };
    match stands {
        Ok(values) => {
            check.would_be_added = values == Values::default();
            check.stands = Some(values).filter(|_| !check.would_be_added);
        }
        Err(refusal) => check.report.add([fatal(&check.path, refusal.line, refusal.why)]),
    }
    Ok(check)
}

/// The name that an edit writes.
fn new_name(edit: &Edit) -> Option<&str> {
    match edit {
        Edit::Kustomization(place) => place.new_name.as_deref(),
        Edit::Container(place) => place.new_name.as_deref(),
        Edit::Application(place) => place.new_name.as_deref(),
        Edit::Helm(Helm::Whole { name, .. }) => name.as_deref(),
        Edit::Helm(Helm::Parts { name, .. }) => name.as_ref().map(|(_, name)| name.as_str()),
    }
}

async fn of_target(cache: &Cache, tip: &Tip, rule: &Rule, names: &Names) -> Result<Check, GitError> {
    let mut check = Check {
        promotion: rule.name.clone(),
        commit: tip.commit().as_str().to_owned(),
        path: rule.path.clone(),
        stands: None,
        would_be_added: false,
        matched: Matched::default(),
        report: Report::default(),
    };
    let Some(mut files) = Files::of(cache, tip).await? else { return Ok(Check { report: too_many(), ..check }) };
    let path = match find(&files, rule) {
        Ok(path) => path,
        Err(what) => {
            check.report.add([fatal(&rule.path, None, what)]);
            return Ok(check);
        }
    };
    check.path.clone_from(&path);
    let folder = folder_of(&path).to_owned();
    let is_built = !files.tree().kustomizations(&folder).is_empty();
    let scope = if is_built { Scope::Folder(folder.clone()) } else { Scope::File(path.clone()) };
    let image = match &rule.edit {
        Edit::Kustomization(Kustomization { image, .. }) => Some(image.clone()),
        Edit::Helm(_) | Edit::Container(_) | Edit::Application(_) => None,
    };
    let probe = image.clone().map(|image| Probe { folder, image, ..Probe::default() });
    let looked = files.look(&scope, names, probe).await?;
    check.report = looked.report;
    if let (Some(probe), Some(image)) = (looked.probe, image) {
        check.matched = match probe.is_matched {
            Some(true) => Matched::Yes,
            Some(false) if !probe.is_open => Matched::No,
            _ => Matched::Unknown,
        };
        if check.matched == Matched::No {
            check.report.add([unmatched(&path, &image, &probe)]);
        }
    }
    let file = match cache.read(tip, &path).await {
        Err(error @ (GitError::NotAFile | GitError::TooLarge { .. })) => {
            check.report.add([fatal(&path, None, error.to_string())]);
            None
        }
        file => file?,
    };
    if let Some(file) = file {
        match rule.edit.read(&file.bytes) {
            Ok(values) => {
                check.would_be_added = values == Values::default();
                check.stands = Some(values).filter(|_| !check.would_be_added);
            }
            Err(refusal) => {
                let line = refusal.line.map(|line| line.min(String::from_utf8_lossy(&file.bytes).lines().count().max(1)));
                check.report.add([fatal(&path, line, refusal.why)]);
            }
        }
    }
    Ok(check)
}

fn fatal(path: &str, line: Option<usize>, what: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, what: what.into(), is_fatal: true }
}

/// The file of a rule, or why there is none.
fn find(files: &Files<'_>, rule: &Rule) -> Result<String, String> {
    match (files.tree().target("", &rule.path), &rule.edit) {
        (Target::File(path), _) => Ok(path),
        (Target::Folder(folder), Edit::Kustomization(_)) => {
            let paths = files.tree().kustomizations(&folder);
            match &paths[..] {
                [path] => Ok(path.clone()),
                [] => Err(format!("is a folder without a kustomization; write {}", join(&folder, "kustomization.yaml"))),
                _ => Err(format!("has {}, of which kustomize takes only one; remove the others", paths.join(" and "))),
            }
        }
        (Target::Folder(_), _) => Err("is a folder, and no file".to_owned()),
        (Target::Link(link), _) => Err(format!("goes through the link {link}, which is not followed")),
        (Target::Submodule, _) => Err("is in another repository, a submodule of this one".to_owned()),
        (Target::Missing(_), _) => Err("is not in the repository".to_owned()),
        (Target::Outside, _) => Err("is no path within a repository".to_owned()),
    }
}

/// Nothing would be deployed, and why that may be.
fn unmatched(path: &str, image: &str, probe: &Probe) -> Finding {
    let prefixes = ["docker.io/library/", "docker.io/", "index.docker.io/", "registry-1.docker.io/"];
    let bare = |name: &str| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned();
    let similar = probe.names.iter().find(|name| bare(name) == bare(image));
    let why = match (&probe.renamed, similar) {
        (Some((to, by, line)), _) => format!("{by}:{line} renames it to {to} before; use that name"),
        (None, Some(other)) => format!("they have {other}, and kustomize takes names to the letter"),
        (None, None) if probe.names.is_empty() => "they have none at all".to_owned(),
        (None, None) => format!("they have {}", probe.names.iter().cloned().collect::<Vec<_>>().join(", ")),
    };
    let what = format!("no manifest of this folder has the image {image}, so that nothing would be deployed: {why}");
    Finding { path: path.to_owned(), line: None, what, is_fatal: false }
}
