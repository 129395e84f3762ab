//! Whether what is configured can work: the file is there, the entry is found, and some manifest has the image.

use oci::Reference;

use crate::edit::{Edit, Values};
use crate::operate::OperateError;
use crate::promotions::Promotions;
use crate::rule::Rule;
use crate::validate::{self, Finding, Names, Report, Wanted};

/// What was found of a promotion's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The commit that was looked at.
    pub commit: String,
    /// The file; `None` if it is not there.
    pub path: Option<String>,
    /// What stands in the place now.
    pub values: Option<Values>,
    /// What is wrong; nothing if it can be promoted into.
    pub findings: Vec<Finding>,
    /// Kustomizations that were looked at.
    pub kustomizations: usize,
    /// Other files that were looked at.
    pub manifests: usize,
}

impl Promotions {
    /// Looks at the place of a rule at the tip of its branch. Nothing is rendered and nothing written.
    pub async fn check(&self, name: &str, hosts: &[String]) -> Result<Check, OperateError> {
        let rule = self.rule(name).ok_or_else(|| OperateError::Unknown(name.chars().take(80).collect()))?;
        let place = self.place(rule).ok_or_else(|| OperateError::Unknown(name.to_owned()))?;
        let held = place.hold().await?;
        let backing = held.branch()?.backing();
        let tip = backing.fetch().await?;
        let files = backing.files(&tip).await?.ok_or_else(without_git)?;
        drop(held);
        let names = Names { hosts: hosts.to_vec(), repository: place.remote().url().to_owned() };
        let (path, mut findings) = match crate::land::place_of(&rule.path, &rule.edit, |path| files.is_file(path)) {
            Ok(path) => (Some(path), Vec::new()),
            Err(refusal) => (None, vec![Finding::new(&rule.path, refusal.line, refusal.why)]),
        };
        let mut report = Report::default();
        let mut values = None;
        if let Some(path) = &path {
            match files.text(path).map(|bytes| rule.edit.read(bytes)) {
                Some(Ok(found)) => values = Some(found),
                Some(Err(refusal)) => findings.push(Finding::new(path, refusal.line, refusal.why)),
                None => findings.push(Finding::new(path, None, "is no YAML file by its name")),
            }
            report = if let Edit::Kustomization(_) = &rule.edit {
                validate::folder(&files, path.rsplit_once('/').map_or("", |(folder, _)| folder), &names)
            } else {
                validate::file(&files, path, &names)
            };
            findings.extend(unmatched(rule, path, &report));
        }
        findings.append(&mut report.findings);
        for wanted in &report.wanted {
            findings.extend(self.missing(wanted).await?);
        }
        findings.sort();
        findings.dedup();
        let (kustomizations, manifests) = (report.kustomizations, report.manifests);
        Ok(Check { commit: tip.commit().as_str().to_owned(), path, values, findings, kustomizations, manifests })
    }

    /// Looks at everything in a commit of the repository of a rule.
    pub(crate) async fn look_over(&self, rule: &Rule, commit: &str, hosts: &[String]) -> Result<Report, OperateError> {
        let place = self.place(rule).ok_or_else(|| OperateError::Unknown(rule.name.clone()))?;
        let held = place.hold().await?;
        let backing = held.branch()?.backing();
        let tip = backing.fetch_commit(commit).await?.ok_or_else(without_git)?;
        let files = backing.files(&tip).await?.ok_or_else(without_git)?;
        drop(held);
        let names = Names { hosts: hosts.to_vec(), repository: place.remote().url().to_owned() };
        let mut report = validate::repository(&files, &names);
        for wanted in report.wanted.clone() {
            report.findings.extend(self.missing(&wanted).await?);
        }
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }

    /// What is wrong with an image that is said to be here.
    async fn missing(&self, wanted: &Wanted) -> Result<Option<Finding>, OperateError> {
        let (repository, content) = (&wanted.repository, &self.0.content);
        let at = |what: String| Some(Finding::new(&wanted.path, Some(wanted.line), what));
        let digest = match (&wanted.digest, &wanted.tag) {
            (Some(digest), _) => digest.clone(),
            (None, Some(tag)) => match content.tagged(repository, tag).await? {
                Some(arrival) => arrival.digest,
                None => return Ok(at(format!("{repository}:{tag} is not here"))),
            },
            (None, None) => return Ok(None),
        };
        let found = content.look(repository, &digest, &[]).await?;
        let reference = wanted.digest.clone().map(Reference::Digest).or(wanted.tag.clone().map(Reference::Tag));
        let shown = match reference {
            Some(Reference::Tag(tag)) => format!("{repository}:{tag}"),
            _ => format!("{repository}@{digest}"),
        };
        Ok(found.missing.first().and_then(|missing| at(format!("{shown} cannot be pulled: {missing} is not here"))))
    }
}

fn without_git() -> OperateError {
    OperateError::Conflict("a whole repository is looked at with git alone; this promotion uses the API of its forge".to_owned())
}

/// An image that no manifest has is replaced nowhere, and kustomize says nothing.
fn unmatched(rule: &Rule, path: &str, report: &Report) -> Option<Finding> {
    let Edit::Kustomization(place) = &rule.edit else { return None };
    if report.names.contains(&place.image) {
        return None;
    }
    let known: Vec<&str> = report.names.iter().map(String::as_str).collect();
    let known = if known.is_empty() { "they have none".to_owned() } else { format!("they have {}", known.join(", ")) };
    let image = &place.image;
    Some(Finding::new(
        path,
        None,
        format!("no manifest of this folder has the image {image}, so that nothing would be deployed; {known}"),
    ))
}
