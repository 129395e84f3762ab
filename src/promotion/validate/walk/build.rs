//! Building a kustomization, without its bytes: in kustomize's order, with its rules for what may be named.

use std::rc::Rc;

use crate::validate::facts::Facts;
use crate::validate::kustomization::{Kustomization, Role, Use};
use crate::validate::tree::{Target, folder_of};
use crate::validate::walk::Walk;
use crate::validate::walk::built::{Built, Placed};

/// So many kustomizations may name one another in a row.
const DEEPEST: usize = 64;
/// Steps of one kustomization, whatever it says. Components are built anew wherever they are named.
const APPLIED: usize = 20;
/// So many names of images are told.
const NAMES: usize = 20;

/// Where a path is named.
struct Site<'s> {
    /// The kustomization's file.
    path: &'s Rc<str>,
    used: &'s Use,
}

impl Walk<'_> {
    /// What comes out of a folder that has a kustomization.
    pub(super) fn build(&mut self, folder: &str) -> Rc<Built> {
        if let Some(built) = self.built.get(folder) {
            return Rc::clone(built);
        }
        let mut built = Built::default();
        self.apply(folder, &mut built);
        let built = Rc::new(built);
        self.built.insert(folder.to_owned(), Rc::clone(&built));
        built
    }

    pub(super) fn is_component(&mut self, folder: &str) -> bool {
        let path = self.tree.kustomizations(folder).into_iter().next();
        path.and_then(|path| self.facts(&path)).is_some_and(|facts| facts.kustomization.is_component)
    }

    /// Adds what a folder's kustomization names, and does to all of it what it says.
    fn apply(&mut self, folder: &str, built: &mut Built) {
        let paths = self.tree.kustomizations(folder);
        let Some(path) = paths.first() else { return };
        if !self.step(APPLIED) {
            built.is_open = true;
            return;
        }
        if let Some(second) = paths.get(1) {
            self.fatal(second, None, format!("{path} is here too, and kustomize takes only one; remove one of them"));
        }
        if self.tree.is_link(path) {
            self.doubt(path, None, "is a link, which is not followed here");
        }
        let Some(facts) = self.facts(path) else {
            built.is_open = true;
            return;
        };
        self.kustomizations.insert(path.clone());
        self.tell(path, &facts, false);
        built.is_open |= facts.broken.is_some() || facts.kustomization.is_open;
        let path: Rc<str> = Rc::from(path.as_str());
        self.stack.push(folder.to_owned());
        let mut is_unclear = facts.kustomization.is_unclear;
        for used in &facts.kustomization.uses {
            is_unclear |= self.take(&Site { path: &path, used }, folder, built);
        }
        built.patch(&facts.kustomization.images, &path);
        self.transform(folder, &facts.kustomization, &path, built);
        if is_unclear {
            built.objects.clear();
        }
        self.stack.pop();
    }

    /// Takes what a path leads to. Gives whether it may change the names of objects.
    fn take(&mut self, site: &Site<'_>, folder: &str, built: &mut Built) -> bool {
        let Use { role, field, path } = site.used;
        let target = self.tree.target(folder, &path.text);
        if matches!(target, Target::Missing(_) | Target::Outside) && is_remote(&path.text) {
            built.is_open = true;
            return false;
        }
        match (target, role) {
            (Target::Submodule, _) => built.is_open = true,
            (Target::Link(link), _) => {
                self.at(
                    site,
                    format!("{field} names {}, which goes through the link {link}; name what it leads to", path.text),
                    false,
                );
                built.is_open = true;
            }
            (Target::Missing(missing), _) => {
                let what = format!("{field} names {}, and there is no {missing} in the repository", path.text);
                self.at(site, what, true);
            }
            (Target::Outside, _) => self.at(site, format!("{field} names {}, which leaves the repository", path.text), true),
            (Target::Folder(inner), Role::Resource | Role::Component | Role::Either) => self.enter(site, &inner, built),
            (Target::Folder(_), _) => self.at(site, format!("{field} names {}, which is a folder, and no file", path.text), true),
            (Target::File(_), Role::Component) => {
                self.at(site, format!("{field} names {}, which is a file; a component is a folder", path.text), true);
            }
            (Target::File(_), Role::File) => {}
            (Target::File(file), Role::Resource) => self.manifest(site, &file, built),
            (Target::File(file), Role::Patch | Role::Either) => return self.patch(*role, &file, built),
        }
        false
    }

    fn at(&mut self, site: &Site<'_>, what: String, is_fatal: bool) {
        self.say(site.path, Some(site.used.path.line), what, is_fatal);
    }

    /// The kustomization of a folder that another one names.
    fn enter(&mut self, site: &Site<'_>, folder: &str, built: &mut Built) {
        let Use { role, field, path } = site.used;
        let name = &path.text;
        let is_in = |outer: &str, inner: &str| {
            outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(inner) = self.stack.iter().find(|inner| is_in(folder, inner)) {
            let inner = if inner.is_empty() { "the repository's root" } else { inner };
            let what = format!("{field} names {name}, which is or has {inner}, of which it is a part: that is a cycle");
            return self.at(site, what, true);
        }
        if self.tree.kustomizations(folder).is_empty() {
            return self.at(site, format!("{field} names {name}, a folder without a kustomization"), true);
        }
        if self.stack.len() >= DEEPEST {
            built.is_open = true;
            return self.at(site, format!("{field} names {name}, the last of more than {DEEPEST} in a row"), false);
        }
        if *role == Role::Either {
            // What generates and transforms is no part of what is deployed.
            self.build(folder);
            return;
        }
        match (role, self.is_component(folder)) {
            (Role::Component, true) => return self.apply(folder, built),
            (Role::Component, false) => {
                return self.at(site, format!("{field} names {name}, which is no component; write it under resources"), true);
            }
            (_, true) => return self.at(site, format!("{field} names {name}, a component; write it under components"), true),
            (_, false) => {}
        }
        let inner = self.build(folder);
        if self.step(inner.size()) {
            self.merge(site, &inner, built);
        }
    }

    fn merge(&mut self, site: &Site<'_>, inner: &Built, built: &mut Built) {
        for (object, from) in &inner.objects {
            if let Some(other) = built.objects.get(object) {
                let (kind, name, text) = (&object.kind, &object.name, &site.used.path.text);
                let what = format!("{text} has the {kind} {name} ({from}), which is here already ({other}): remove one of them");
                self.at(site, what, true);
                break;
            }
            built.objects.insert(object.clone(), Rc::clone(from));
        }
        built.images.extend(inner.images.iter().cloned());
        built.renames.extend(inner.renames.iter().cloned());
        built.is_open |= inner.is_open;
    }

    /// A file of manifests.
    fn manifest(&mut self, site: &Site<'_>, path: &str, built: &mut Built) {
        let Some(facts) = self.used(path) else {
            built.is_open = true;
            return;
        };
        for stranger in &facts.strangers {
            self.fatal(path, Some(stranger.line), stranger.text.as_str());
        }
        let from: Rc<str> = Rc::from(path);
        let mut inner = Built { is_open: facts.broken.is_some(), ..Built::default() };
        for object in &facts.objects {
            if inner.objects.insert(object.clone(), Rc::clone(&from)).is_some() {
                let what = format!("has the {} {} twice; remove one of them", object.kind, object.name);
                self.fatal(path, None, what);
            }
        }
        let place = |mention| Placed { mention, path: Rc::clone(&from), is_hidden: false };
        inner.images = facts.images.iter().cloned().map(place).collect();
        if self.step(inner.size()) {
            self.merge(site, &inner, built);
        }
    }

    fn patch(&mut self, role: Role, path: &str, built: &mut Built) -> bool {
        let Some(facts) = self.used(path) else {
            built.is_open = true;
            return true;
        };
        if role == Role::Patch && self.step(built.size() * facts.images.len().max(1)) {
            built.patch(&facts.images, &Rc::from(path));
        }
        facts.is_unclear
    }

    /// What is known of a file of which a kustomization is built.
    fn used(&mut self, path: &str) -> Option<Rc<Facts>> {
        let facts = self.facts(path)?;
        self.manifests.insert(path.to_owned());
        self.tell(path, &facts, true);
        Some(facts)
    }

    fn transform(&mut self, folder: &str, kustomization: &Kustomization, path: &Rc<str>, built: &mut Built) {
        if let Some(namespace) = &kustomization.namespace {
            // It gets another name itself.
            built.objects.retain(|object, _| object.kind != "Namespace");
            let same = built.rename(|object| object.namespace.clone_from(&namespace.text));
            if let Some(same) = same {
                let what = format!("the namespace makes one of two objects: the {} {}; remove one of them", same.kind, same.name);
                self.fatal(path, Some(namespace.line), what);
            }
        }
        let (prefix, suffix) = (&kustomization.prefix, &kustomization.suffix);
        if !prefix.is_empty() || !suffix.is_empty() {
            built.rename(|object| object.name = format!("{prefix}{}{suffix}", object.name));
        }
        let is_probed = self.probe.as_ref().is_some_and(|probe| probe.folder == folder);
        let mut answered = !is_probed;
        for entry in &kustomization.entries {
            if !self.step(built.images.len()) {
                break;
            }
            if is_probed && self.probe.as_ref().is_some_and(|probe| probe.image == entry.name) {
                self.answer(built);
                answered = true;
            }
            if built.replace(entry, path) {
                self.matched.insert((path.to_string(), entry.line));
            }
        }
        if !answered {
            self.answer(built);
        }
    }

    /// Answers the question, with what there is to replace.
    fn answer(&mut self, built: &Built) {
        let Some(probe) = &mut self.probe else { return };
        let mut names = built.images.iter().map(|image| &image.mention.name);
        let is_matched = names.any(|name| *name == probe.image);
        probe.is_matched = Some(is_matched || probe.is_matched == Some(true));
        probe.is_open |= built.is_open;
        probe.names = built.images.iter().map(|image| image.mention.name.clone()).collect();
        while probe.names.len() > NAMES {
            probe.names.pop_last();
        }
        let renamed = built.renames.iter().rev().find(|rename| rename.from == probe.image);
        probe.renamed = renamed.map(|rename| (rename.to.clone(), rename.path.to_string(), rename.line));
    }
}

/// Does kustomize take this for something elsewhere, if it is not here?
fn is_remote(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let is_host = first.contains('.') && !first.starts_with('.') && !folder_of(path).is_empty();
    path.contains("://")
        || path.starts_with("git::")
        || path.starts_with("gh:")
        || first.contains(['@', ':'])
        || ["github.com", "gitlab.com", "bitbucket.org"].contains(&first)
        || (is_host && (path.contains("//") || path.contains(".git") || path.contains("?ref=") || path.contains("_git/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_elsewhere_is_known_by_its_name() {
        for path in [
            "https://example.org/a.yaml",
            "github.com/org/repo//path?ref=v1",
            "github.com/org/repo",
            "git@example.org:org/repo.git",
            "ssh://git@example.org/org/repo",
            "git::https://example.org/a",
            "127.0.0.1:3000/org/repo//a?ref=v1",
            "git.example.org/org/repo.git//a",
        ] {
            assert!(is_remote(path), "{path}");
        }
        for path in ["a.yaml", "../base", "./a//b.yaml", "base", "v1.2/base", "foo.example.org/a/b", "..//a"] {
            assert!(!is_remote(path), "{path}");
        }
    }
}
