//! Looking at a commit: its files are read as they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::git::{Cache, Entry, EntryKind, File, GitError, LARGEST_OF_MANY, Tip};
use crate::validate::tree::{Tree, folder_of};
use crate::validate::walk::{Probe, Walk};
use crate::validate::{Finding, Names, Report, Scope};

/// Bytes of all files together.
const MOST: u64 = 64 << 20;
/// Each time at least one file is read that was not known to be needed before. So many may name one another in a row, and a few more.
const ROUNDS: usize = 80;

/// The files of the tip of a branch.
pub(super) struct Files<'c> {
    cache: &'c Cache,
    entries: BTreeMap<String, Entry>,
    tree: Tree,
    left: u64,
}

/// What came of looking.
pub(super) struct Looked {
    pub(super) report: Report,
    pub(super) fatal: Option<Finding>,
    pub(super) probe: Option<Probe>,
}

/// Looks at the tip of a branch. Whether its images are here is another question: [`crate::missing`].
pub async fn of_tip(cache: &Cache, tip: &Tip, scope: &Scope, names: &Names) -> Result<Report, GitError> {
    let Some(mut files) = Files::of(cache, tip).await? else { return Ok(too_many()) };
    Ok(files.look(scope, names, None).await?.report)
}

/// Looks at what a commit would make of the tip, and tells for what reason the folder of one of its files could not be built: the first
/// one; `None` if it could, or if that cannot be known.
///
/// Of a file in a folder without a kustomization only that file is looked at.
pub async fn of_commit(cache: &Cache, tip: &Tip, changed: &[File], path: &str) -> Result<Option<Finding>, GitError> {
    let Some(mut files) = Files::of(cache, tip).await? else {
        tracing::warn!(commit = tip.commit().as_str(), "the repository has too many files to be validated before a commit");
        return Ok(None);
    };
    for file in changed {
        files.tree.add(file.path.as_str(), file.bytes.as_slice());
    }
    let folder = folder_of(path);
    let is_built = !files.tree.kustomizations(folder).is_empty();
    let scope = if is_built { Scope::Folder(folder.to_owned()) } else { Scope::File(path.to_owned()) };
    Ok(files.look(&scope, &Names::default(), None).await?.fatal)
}

pub(super) fn too_many() -> Report {
    let what = "the repository has more files than can be looked at".to_owned();
    let finding = Finding { path: String::new(), line: None, what, is_fatal: false };
    Report { findings: vec![finding], ..Report::default() }
}

impl<'c> Files<'c> {
    /// The files of the tip, none of them read yet; `None` if there are too many.
    pub(super) async fn of(cache: &'c Cache, tip: &Tip) -> Result<Option<Self>, GitError> {
        let Some(list) = cache.list(tip).await? else { return Ok(None) };
        let (mut tree, mut entries) = (Tree::new(), BTreeMap::new());
        for entry in list {
            let path = entry.path.clone();
            match entry.kind {
                EntryKind::Link => tree.add_link(path),
                EntryKind::Submodule => tree.add_submodule(path),
                EntryKind::File | EntryKind::Program => {
                    if entry.size > LARGEST_OF_MANY {
                        tree.add_large(path);
                    } else {
                        tree.add_unread(path);
                    }
                    entries.insert(entry.path.clone(), entry);
                }
            }
        }
        Ok(Some(Self { cache, entries, tree, left: MOST }))
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Validates, and reads what is missed for it, until nothing is.
    pub(super) async fn look(&mut self, scope: &Scope, names: &Names, probe: Option<Probe>) -> Result<Looked, GitError> {
        let mut round = 0;
        loop {
            let (looked, unread) = self.walk(scope, names, probe.clone()).await?;
            if unread.is_empty() || round == ROUNDS {
                return Ok(looked);
            }
            self.read(&unread).await?;
            round += 1;
        }
    }

    /// Where it takes no other's time: a large repository takes seconds.
    async fn walk(&mut self, scope: &Scope, names: &Names, probe: Option<Probe>) -> Result<(Looked, BTreeSet<String>), GitError> {
        let (tree, scope, names) = (std::mem::take(&mut self.tree), scope.clone(), names.clone());
        let work = move || {
            let mut walk = Walk::new(&tree, &names).with(probe);
            walk.run(&scope);
            let (fatal, probe, unread) = (walk.first_fatal().cloned(), walk.probe().cloned(), walk.unread().clone());
            let looked = Looked { report: walk.report(), fatal, probe };
            (tree, looked, unread)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (tree, looked, unread) = done.map_err(|error| GitError::Run(io::Error::other(error)))?;
        self.tree = tree;
        Ok((looked, unread))
    }

    async fn read(&mut self, paths: &BTreeSet<String>) -> Result<(), GitError> {
        let entries: Vec<&Entry> = paths.iter().filter_map(|path| self.entries.get(path)).collect();
        let files = self.cache.read_many(&entries, self.left).await?;
        for (entry, bytes) in entries.into_iter().zip(files) {
            match bytes {
                Some(bytes) => {
                    self.left = self.left.saturating_sub(entry.size);
                    self.tree.add(entry.path.as_str(), bytes);
                }
                None => self.tree.add_large(entry.path.as_str()),
            }
        }
        Ok(())
    }
}
