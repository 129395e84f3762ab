//! Bringing edits to a branch: on whatever its tip is by then.
//!
//! An edit is an intent, not a patch. Who loses a race reads the new tip, edits that, and pushes again, so that there are no
//! conflicts; and an edit whose values stand there already is done, whoever wrote them. That is what makes a crash or a lost answer
//! harmless: the next attempt finds its own commit and has nothing to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jobs::Random;
use telemetry::Clock;

use crate::backing::Backing;
use crate::edit::{Edit, Image, Values};
use crate::git::{Commit, File, GitError, Pushed, Signature, Tip};
use crate::validate::of_commit;
use crate::yaml::Refusal;

/// Names that kustomize takes for its file.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// For so long races may be lost, one after the other.
const PATIENCE: Duration = Duration::from_mins(5);
/// The longest wait after a lost race.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// What is to stand in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The file; for a kustomization its folder is enough.
    pub path: String,
    /// The place in it.
    pub edit: Edit,
    /// What is to be deployed.
    pub image: Image,
    /// What may stand there now: the values that we wrote last, and images that we were writing. `None` for anything.
    pub over: Option<Over>,
    /// The folder must be one that can be built after the edit.
    pub is_validated: bool,
}

/// What an intent may take the place of. Anything else was written by somebody else, and stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// What we wrote last.
    pub written: Values,
    /// What we were writing when we were last heard of.
    pub writing: Vec<Image>,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Our commit has it.
    Committed {
        /// Which.
        commit: Commit,
        /// The one on which it stands.
        parent: Commit,
        /// All files that it changes.
        paths: Vec<String>,
        /// The file that was changed for this intent.
        path: String,
        /// What stood there.
        before: Values,
        /// What stands there.
        after: Values,
    },
    /// It stood there already.
    Present {
        /// At the latest since this commit.
        commit: Commit,
        /// What stands there.
        values: Values,
    },
    /// The file is not there, or not edited, for this reason.
    Refused {
        /// The file.
        path: String,
        /// Why.
        refusal: Refusal,
    },
    /// Something stands there that is not ours, and was left as it is.
    Foreign {
        /// The file.
        path: String,
        /// What stands there.
        values: Values,
        /// The commit that was looked at.
        commit: Commit,
    },
}

/// What an intent would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What would become of it; a commit is that which was looked at.
    pub outcome: Outcome,
    /// The file as it is, and its bytes as they would be.
    pub changed: Option<(File, Vec<u8>)>,
}

/// Why nothing is known to have landed.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The server does not take the commit.
    #[error("the repository refused the commit: {0}")]
    Refused(String),
    /// Others were faster each time.
    #[error("for {} s somebody else changed the branch first each time, {attempts} times", PATIENCE.as_secs())]
    Lost {
        /// How often it was tried.
        attempts: u32,
    },
}

/// A change that a commit is about to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<'i> {
    /// What was wanted.
    pub intent: &'i Intent,
    /// The file.
    pub path: &'i str,
    /// What stood there.
    pub before: &'i Values,
    /// What will stand there.
    pub after: &'i Values,
}

/// An intent on the tip that was read.
enum Edited {
    Changed { path: String, before: Values, after: Values },
    Present { path: String, values: Values },
    Refused { path: String, refusal: Refusal },
    Foreign { path: String, values: Values },
}

/// The way into one branch.
#[derive(Debug)]
pub struct Branch {
    backing: Backing,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Branch {
    /// The branch that this leads to. One caller at a time.
    #[must_use]
    pub fn new(backing: impl Into<Backing>, clock: Arc<dyn Clock>, random: Random) -> Self {
        Self { backing: backing.into(), clock, random }
    }

    /// The way to it.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// What would become of an intent on the tip as it is now. Nothing is written.
    pub async fn preview(&self, intent: &Intent) -> Result<Preview, GitError> {
        let tip = self.backing.fetch().await?;
        let (edited, mut files) = edit(&self.backing, &tip, std::slice::from_ref(intent)).await?;
        let outcome = outcomes(edited, tip.commit(), &tip, &files).pop();
        let outcome = outcome.ok_or_else(|| GitError::Run(std::io::Error::other("an intent has an outcome")))?;
        let mut changed = None;
        if let Some(File { path, bytes, .. }) = files.pop() {
            changed = self.backing.read(&tip, &path).await?.map(|before| (before, bytes));
        }
        Ok(Preview { outcome, changed })
    }

    /// Brings an intent into a commit on the tip, at a branch of our own that is made anew: for a pull request. The outcome is as that of
    /// [`Branch::land`], with a commit that is not in this branch yet.
    pub async fn propose(
        &self,
        intent: &Intent,
        message: impl Fn(&[Changed<'_>]) -> String,
        by: &Signature,
        branch: &str,
    ) -> Result<Outcome, LandError> {
        let tip = self.backing.fetch().await?;
        let intents = std::slice::from_ref(intent);
        let (edited, files) = edit(&self.backing, &tip, intents).await?;
        let mut commit = tip.commit().clone();
        if !files.is_empty() {
            let text = message(&changed(intents, &edited));
            let made = self.backing.propose(&tip, &files, &text, by, branch).await?;
            commit = made.map_err(LandError::Refused)?;
        }
        let outcome = outcomes(edited, &commit, &tip, &files).pop();
        outcome.ok_or_else(|| GitError::Run(std::io::Error::other("an intent has an outcome")).into())
    }

    /// Brings all intents into one commit on the branch, and tells what became of each, in their order.
    ///
    /// `message` is asked for the text of the commit, with what it changes, and `by` for who makes it: more than once where races are
    /// lost. After an error it is not known that nothing has landed; asked again, what has landed is found there.
    pub async fn land(
        &self,
        intents: &[Intent],
        message: impl Fn(&[Changed<'_>]) -> String,
        by: impl Fn() -> Signature,
    ) -> Result<Vec<Outcome>, LandError> {
        let (start, mut attempts) = (self.clock.monotonic(), 0_u32);
        loop {
            let tip = self.backing.fetch().await?;
            let (edited, files) = edit(&self.backing, &tip, intents).await?;
            if files.is_empty() {
                return Ok(outcomes(edited, tip.commit(), &tip, &[]));
            }
            let text = message(&changed(intents, &edited));
            let (commit, pushed) = self.backing.land(&tip, &files, &text, &by()).await?;
            match pushed {
                Pushed::Landed => return Ok(outcomes(edited, &commit, &tip, &files)),
                Pushed::Refused(reason) => return Err(LandError::Refused(reason)),
                Pushed::Moved => attempts += 1,
            }
            if self.clock.monotonic().saturating_sub(start) > PATIENCE {
                return Err(LandError::Lost { attempts });
            }
            let longest = LONGEST_PAUSE.min(Duration::from_millis(10 << attempts.min(10)));
            self.clock.sleep(self.random.between(Duration::ZERO, longest)).await;
        }
    }
}

/// Files that were read, by their paths: as they were, and as they are to be.
type Files = BTreeMap<String, (File, Vec<u8>)>;

/// The files of the tip as they are to be, as far as they change. An intent that would leave a folder that cannot be built is refused,
/// and the others are as without it.
async fn edit(backing: &Backing, tip: &Tip, intents: &[Intent]) -> Result<(Vec<Edited>, Vec<File>), GitError> {
    let mut broken = BTreeMap::new();
    loop {
        let (edited, files) = edit_without(backing, tip, intents, &broken).await?;
        let found = validate(backing, tip, intents, &edited, &files).await?;
        if found.is_empty() {
            return Ok((edited, files));
        }
        broken.extend(found);
    }
}

/// Which intents change a folder that cannot be built then, by their numbers.
async fn validate(
    backing: &Backing,
    tip: &Tip,
    intents: &[Intent],
    edited: &[Edited],
    files: &[File],
) -> Result<BTreeMap<usize, Refusal>, GitError> {
    let is_meant = |(intent, edited): &(&Intent, &Edited)| intent.is_validated && matches!(edited, Edited::Changed { .. });
    let mut broken = BTreeMap::new();
    if !intents.iter().zip(edited).any(|pair| is_meant(&pair)) {
        return Ok(broken);
    }
    let Some(cache) = backing.git() else { return Ok(broken) };
    for (number, (_, edited)) in intents.iter().zip(edited).enumerate().filter(|(_, pair)| is_meant(pair)) {
        let Edited::Changed { path, .. } = edited else { continue };
        if let Some(first) = of_commit(cache, tip, files, path).await? {
            let why = format!("what is deployed from there cannot be built: {first}; mend it, or promote with validate = false");
            broken.insert(number, Refusal::whole(why));
        }
    }
    Ok(broken)
}

async fn edit_without(
    backing: &Backing,
    tip: &Tip,
    intents: &[Intent],
    broken: &BTreeMap<usize, Refusal>,
) -> Result<(Vec<Edited>, Vec<File>), GitError> {
    let (mut results, mut files): (Vec<Edited>, Files) = (Vec::new(), Files::new());
    for (number, intent) in intents.iter().enumerate() {
        if let Some(refusal) = broken.get(&number) {
            results.push(Edited::Refused { path: intent.path.clone(), refusal: refusal.clone() });
            continue;
        }
        let path = match find(backing, tip, intent, &mut files).await? {
            Ok(path) => path,
            Err(refusal) => {
                results.push(Edited::Refused { path: intent.path.clone(), refusal });
                continue;
            }
        };
        let bytes = files.get(&path).map(|(_, now)| now.as_slice()).unwrap_or_default();
        results.push(match intent.edit.apply(bytes, &intent.image) {
            Err(refusal) => Edited::Refused { path, refusal },
            Ok(edited) if edited.bytes == bytes => Edited::Present { path, values: edited.after },
            Ok(edited) if !may_replace(intent, &edited.before) => Edited::Foreign { path, values: edited.before },
            Ok(edited) => {
                if let Some((_, now)) = files.get_mut(&path) {
                    *now = edited.bytes;
                }
                Edited::Changed { path, before: edited.before, after: edited.after }
            }
        });
    }
    for (intent, result) in intents.iter().zip(&mut results) {
        overruled(intent, result, &files);
    }
    let changed = files.into_values().filter(|(before, now)| before.bytes != *now);
    Ok((results, changed.map(|(before, bytes)| File { bytes, ..before }).collect()))
}

/// Is what stands there ours to replace?
fn may_replace(intent: &Intent, values: &Values) -> bool {
    let Some(over) = &intent.over else { return true };
    let is_written = values.image() == over.written.image() && values.name == over.written.name;
    is_written || over.writing.iter().any(|image| intent.edit.has_written(image, values))
}

/// Refuses an intent of which another one has written the place.
fn overruled(intent: &Intent, result: &mut Edited, files: &Files) {
    let (Edited::Changed { path, after: meant, .. } | Edited::Present { path, values: meant }) = result else { return };
    let is = files.get(path).map(|(_, now)| intent.edit.read(now));
    if is != Some(Ok(meant.clone())) {
        let refusal = Refusal::whole("another promotion writes the same place in the same commit; keep one of them");
        *result = Edited::Refused { path: path.clone(), refusal };
    }
}

/// The file of an intent, read into `files`.
async fn find(backing: &Backing, tip: &Tip, intent: &Intent, files: &mut Files) -> Result<Result<String, Refusal>, GitError> {
    let names = match names(&intent.path, &intent.edit) {
        Ok(names) => names,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut found = Vec::new();
    for name in names {
        if files.contains_key(&name) {
            found.push(name);
            continue;
        }
        match backing.read(tip, &name).await {
            Ok(Some(file)) => {
                let bytes = file.bytes.clone();
                files.insert(name.clone(), (file, bytes));
                found.push(name);
            }
            Ok(None) => {}
            // Those stop no other intent.
            Err(error @ (GitError::NotAFile | GitError::TooLarge { .. })) => return Ok(Err(Refusal::whole(error.to_string()))),
            Err(other) => return Err(other),
        }
    }
    Ok(one_of(found))
}

/// The file of a place at a tip, and what stands in it; or why that cannot be read.
pub(crate) async fn place_at(
    backing: &Backing,
    tip: &Tip,
    path: &str,
    edit: &Edit,
) -> Result<(String, Result<Values, Refusal>), GitError> {
    let mut found = Vec::new();
    for name in match names(path, edit) {
        Ok(names) => names,
        Err(refusal) => return Ok((path.to_owned(), Err(refusal))),
    } {
        match backing.read(tip, &name).await {
            Ok(Some(file)) => found.push((name, file)),
            Ok(None) => {}
            Err(error @ (GitError::NotAFile | GitError::TooLarge { .. })) => {
                return Ok((name, Err(Refusal::whole(error.to_string()))));
            }
            Err(other) => return Err(other),
        }
    }
    let one = one_of(found.iter().map(|(name, _)| name.clone()).collect());
    Ok(match (one, found.pop()) {
        (Ok(name), Some((_, file))) => (name, edit.read(&file.bytes)),
        (Ok(_), None) => (path.to_owned(), Err(Refusal::whole("is not in the repository"))),
        (Err(refusal), _) => (path.to_owned(), Err(refusal)),
    })
}

fn one_of(mut found: Vec<String>) -> Result<String, Refusal> {
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Refusal::whole("is not in the repository")),
        _ => Err(Refusal::whole(format!("has {}, of which kustomize takes only one; remove the others", found.join(" and ")))),
    }
}

/// The paths at which the file of an intent may be.
fn names(path: &str, edit: &Edit) -> Result<Vec<String>, Refusal> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if path.starts_with('/') || parts.contains(&"..") || path.contains(char::is_control) {
        return Err(Refusal::whole("is no path within a repository"));
    }
    let path = parts.join("/");
    let is_file = Path::new(&path).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        || parts.last() == Some(&"Kustomization");
    match edit {
        Edit::Kustomization(_) if !is_file => {
            let folder = if path.is_empty() { path } else { format!("{path}/") };
            Ok(KUSTOMIZATIONS.map(|name| format!("{folder}{name}")).to_vec())
        }
        _ if path.is_empty() => Err(Refusal::whole("is no path of a file")),
        _ => Ok(vec![path]),
    }
}

fn changed<'i>(intents: &'i [Intent], edited: &'i [Edited]) -> Vec<Changed<'i>> {
    let pairs = intents.iter().zip(edited);
    let changed = pairs.filter_map(|(intent, edited)| match edited {
        Edited::Changed { path, before, after } => Some(Changed { intent, path, before, after }),
        Edited::Present { .. } | Edited::Refused { .. } | Edited::Foreign { .. } => None,
    });
    changed.collect()
}

fn outcomes(edited: Vec<Edited>, commit: &Commit, tip: &Tip, files: &[File]) -> Vec<Outcome> {
    let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let outcome = |edited| match edited {
        Edited::Changed { path, before, after } => {
            let (commit, parent, paths) = (commit.clone(), tip.commit().clone(), paths.clone());
            Outcome::Committed { commit, parent, paths, path, before, after }
        }
        Edited::Present { values, .. } => Outcome::Present { commit: commit.clone(), values },
        Edited::Refused { path, refusal } => Outcome::Refused { path, refusal },
        Edited::Foreign { path, values } => Outcome::Foreign { path, values, commit: commit.clone() },
    };
    edited.into_iter().map(outcome).collect()
}
