//! What people do with promotions.

use std::collections::BTreeSet;

use oci::{Digest, Tag};

use crate::git::{File, GitError};
use crate::land::{Outcome, Preview};
use crate::ledger::{Arrival, Ledger, LedgerError, Note, Phase, Written};
use crate::promotions::{Promotions, offered};
use crate::rule::Rule;
use crate::turn::{Next, SELF, TurnError};
use crate::work::intent;

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no such rule.
    #[error("there is no promotion {0:?} in the configuration")]
    Unknown(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Conflict(String),
    /// The ledger cannot be had.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What is held here cannot be looked at.
    #[error("what is held here cannot be looked at")]
    Content(#[from] oci::Error),
    /// The repository cannot be looked at.
    #[error("the repository cannot be looked at")]
    Git(#[from] GitError),
}

impl From<TurnError> for OperateError {
    fn from(error: TurnError) -> Self {
        match error {
            TurnError::Ledger(error) => Self::Ledger(error),
            TurnError::Content(error) => Self::Content(error),
        }
    }
}

/// What a promotion would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The image; `None`: there is nothing to promote.
    pub image: Option<Arrival>,
    /// What would become of it, in words.
    pub says: String,
    /// The change of the file, as `diff -u` writes it; empty if there is none.
    pub diff: String,
}

impl Promotions {
    fn known(&self, name: &str) -> Result<&Rule, OperateError> {
        self.rule(name).ok_or_else(|| OperateError::Unknown(name.chars().take(80).collect()))
    }

    /// Writes nothing more for this rule until it is released.
    pub async fn hold(&self, name: &str, by: &str, why: &str) -> Result<Ledger, OperateError> {
        let rule = self.known(name)?;
        let note = Note { by: by.to_owned(), at: self.now(), why: why.to_owned() };
        Ok(self.0.ledgers.update(&rule.name, |ledger| ledger.hold = Some(note.clone())).await?.0)
    }

    /// Lets a rule go on, whatever held it: what stands in Git now may be replaced, and the last promotion that was held is offered
    /// again. With a digest, that one is not refused any more, and nothing else changes.
    pub async fn release(&self, name: &str, digest: Option<&Digest>) -> Result<Ledger, OperateError> {
        let rule = self.known(name)?;
        let now = self.now();
        let (ledger, done) = self.0.ledgers.update(&rule.name, |ledger| release(ledger, digest, now)).await?;
        if done {
            return Ok(ledger);
        }
        Err(OperateError::Conflict(match digest {
            Some(digest) => format!("{digest} is not refused"),
            None => format!("{name} is not held; a digest that is refused is released with its --digest"),
        }))
    }

    /// Lets the image of this digest pass where the rule asks for approval. Another image under the same tag needs its own.
    pub async fn approve(&self, name: &str, digest: &Digest, by: &str) -> Result<Ledger, OperateError> {
        let rule = self.known(name)?;
        if !rule.gate.approval {
            return Err(OperateError::Conflict(format!("{name} asks for no approval")));
        }
        let note = Note { by: by.to_owned(), at: self.now(), why: "approved".to_owned() };
        let approve = |ledger: &mut Ledger| {
            let waits = ledger.open().any(|promotion| promotion.image.digest == *digest);
            if waits {
                ledger.approved.insert(digest.clone(), note.clone());
                for promotion in ledger.promotions.iter_mut().filter(|promotion| promotion.image.digest == *digest) {
                    promotion.not_before = 0;
                }
            }
            waits
        };
        let (ledger, waits) = self.0.ledgers.update(&rule.name, approve).await?;
        if waits { Ok(ledger) } else { Err(OperateError::Conflict(format!("no promotion with {digest} waits"))) }
    }

    /// Offers what a tag stands for now, though something later may stand in Git; without a tag, the latest of those that the rule
    /// wants. Gives the number of the promotion.
    pub async fn promote(&self, name: &str, tag: Option<&Tag>, by: &str, event: &str) -> Result<u64, OperateError> {
        let rule = self.known(name)?;
        if let Some(tag) = tag.filter(|tag| !rule.wants(tag)) {
            return Err(OperateError::Conflict(format!(
                "{tag} is none of its tags; what `tags` and `exclude` let through can be named"
            )));
        }
        if let Some(note) = self.ledger(name).await?.hold {
            let text = format!("{name} is held by {}: {}; release it first, nothing was asked for", note.by, note.why);
            return Err(OperateError::Conflict(text));
        }
        let (image, is_forced) = self.current(rule, tag).await?;
        let now = self.now();
        let offer = |ledger: &mut Ledger| {
            let is_same = |other: &Arrival| other.digest == image.digest && other.tag == image.tag;
            if let Some(written) = ledger.written.as_ref().filter(|written| !is_forced && is_same(&written.image)) {
                return written.number;
            }
            let number = ledger.open().find(|one| is_same(&one.image)).map(|open| open.number);
            let number =
                number.unwrap_or_else(|| ledger.add(offered(event.to_owned(), image.clone(), Some(by.to_owned()), None, now)));
            if let Some(promotion) = ledger.promotion_mut(number) {
                promotion.is_forced |= is_forced;
                promotion.not_before = 0;
            }
            number
        };
        Ok(self.0.ledgers.update(&rule.name, offer).await?.1)
    }

    /// The image that a tag stands for, or the latest one that the rule wants; and whether somebody asked for just this one.
    async fn current(&self, rule: &Rule, tag: Option<&Tag>) -> Result<(Arrival, bool), OperateError> {
        if let Some(tag) = tag {
            let image = self.0.content.tagged(&rule.repository, tag).await?;
            let missing = || OperateError::Conflict(format!("{}:{tag} is not here", rule.repository));
            return image.map(|image| (image, true)).ok_or_else(missing);
        }
        let mut latest: Option<Arrival> = None;
        for tag in self.0.content.tags(&rule.repository).await?.iter().filter(|tag| rule.wants(tag)) {
            let Some(image) = self.0.content.tagged(&rule.repository, tag).await? else { continue };
            if latest.as_ref().is_none_or(|latest| rule.compare(&image, latest).is_gt()) {
                latest = Some(image);
            }
        }
        let latest =
            latest.ok_or_else(|| OperateError::Conflict(format!("{} has none of the tags that are wanted", rule.repository)))?;
        Ok((latest, false))
    }

    /// Writes the image again that stood there before, refuses the one that stands there, and holds the rule, so that the next push
    /// does not undo it. With a digest, that one of the earlier images.
    pub async fn rollback(&self, name: &str, to: Option<&Digest>, by: &str, event: &str) -> Result<u64, OperateError> {
        let rule = self.known(name)?;
        let now = self.now();
        let (_, number) = self.0.ledgers.update(&rule.name, |ledger| rollback(ledger, to, by, event, now)).await?;
        number.map_err(OperateError::Conflict)
    }

    /// What would be promoted now, and how the file would change. Nothing is written.
    pub async fn plan(&self, name: &str, tag: Option<&Tag>) -> Result<Plan, OperateError> {
        let rule = self.known(name)?;
        let ledger = self.ledger(name).await?;
        let next = match tag {
            None => self.next(rule, true).await?,
            Some(_) => None,
        };
        let next = match next {
            Some(next) => next,
            None => match self.current(rule, tag).await {
                Ok((image, _)) => {
                    let promotion = offered(String::new(), image, None, None, self.now());
                    Next { rule, promotion, ledger: ledger.clone(), found: crate::content::Found::default() }
                }
                Err(OperateError::Conflict(says)) => return Ok(Plan { image: None, says, diff: String::new() }),
                Err(other) => return Err(other),
            },
        };
        let place = self.place(rule).ok_or_else(|| OperateError::Unknown(name.to_owned()))?;
        let held = place.hold().await?;
        let Preview { outcome, changed } = held.branch()?.preview(&intent(&next)).await?;
        let says = match &outcome {
            Outcome::Committed { path, .. } => format!("would change {path}"),
            Outcome::Present { commit, .. } => format!("stands there already, since {} at the latest", commit.as_str()),
            Outcome::Refused { path, refusal } => format!("{path}: {refusal}"),
            Outcome::Foreign { path, values, .. } => {
                format!("would be held: {path} has {}, which somebody else wrote", crate::work::shown(values))
            }
        };
        let says = match &ledger.hold {
            Some(note) => format!("{says}; the promotion is held by {}: {}", note.by, note.why),
            None => says,
        };
        let diff = changed.map(|(before, after)| diff(&before, &after)).unwrap_or_default();
        Ok(Plan { image: Some(next.promotion.image), says, diff })
    }
}

fn release(ledger: &mut Ledger, digest: Option<&Digest>, now: u64) -> bool {
    if let Some(digest) = digest {
        return ledger.refused.remove(digest).is_some();
    }
    if ledger.hold.take().is_none() {
        return false;
    }
    ledger.landed.clear();
    // What somebody wrote is known, and may be replaced.
    ledger.written = ledger.written.take().filter(|written| {
        let held = ledger.promotions.iter().any(|one| one.phase == Phase::Held && one.number > written.number);
        !held
    });
    if let Some(held) = ledger.promotions.iter_mut().rev().find(|promotion| promotion.phase == Phase::Held) {
        held.becomes(Phase::Waiting, None, now);
    }
    for held in ledger.promotions.iter_mut().filter(|promotion| promotion.phase == Phase::Held) {
        held.becomes(Phase::Superseded, Some("a later one was released".to_owned()), now);
    }
    true
}

/// Offers an earlier image again. The rule is held by this, and what is offered passes all the same.
pub(crate) fn rollback(ledger: &mut Ledger, to: Option<&Digest>, by: &str, event: &str, now: u64) -> Result<u64, String> {
    let Some(Written { number, image: current, .. }) = ledger.written.clone() else {
        return Err("nothing of this promotion stands in Git".to_owned());
    };
    let mut tried = BTreeSet::from([current.digest.clone()]);
    let earlier = ledger.promotions.iter().rev().filter(|one| one.committed.is_some() && tried.insert(one.image.digest.clone()));
    let mut earlier = earlier.filter(|one| match to {
        Some(digest) => one.image.digest == *digest,
        None => !ledger.refused.contains_key(&one.image.digest) && one.phase != Phase::Degraded,
    });
    let Some(target) = earlier.next().map(|one| one.image.clone()) else {
        return Err(match to {
            Some(digest) => format!("{digest} is none of the images that stood there before"),
            None => "no earlier image of this promotion is known; promote one by its tag".to_owned(),
        });
    };
    let why = format!("rolled back from {} to {}", current.tag, target.tag);
    let note = Note { by: by.to_owned(), at: now, why: why.clone() };
    ledger.refused.remove(&target.digest);
    ledger.refused.insert(current.digest, note.clone());
    if let Some(taken_back) = ledger.promotion_mut(number) {
        taken_back.becomes(Phase::RolledBack, Some(why.clone()), now);
    }
    if by != SELF {
        ledger.hold = Some(note);
    }
    let promotion = offered(event.to_owned(), target, Some(by.to_owned()), None, now);
    let number = ledger.add(promotion);
    if let Some(promotion) = ledger.promotion_mut(number) {
        (promotion.is_forced, promotion.is_rollback) = (true, true);
        promotion.why = Some(why);
    }
    Ok(number)
}

/// The lines that differ, with three around them, as `diff -u` shows them.
fn diff(before: &File, after: &[u8]) -> String {
    let (old, new) = (String::from_utf8_lossy(&before.bytes), String::from_utf8_lossy(after));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let start = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(one, other)| one == other).count();
    if start == old.len() && start == new.len() {
        return String::new();
    }
    let (from, around) = (start.saturating_sub(3), end.min(3));
    let (old_end, new_end) = (old.len() - end, new.len() - end);
    let mut text = format!(
        "--- a/{path}\n+++ b/{path}\n@@ -{},{} +{},{} @@\n",
        from + 1,
        old_end + around - from,
        from + 1,
        new_end + around - from,
        path = before.path
    );
    let mut put = |mark: char, lines: &[&str]| {
        for line in lines {
            text.push(mark);
            text.push_str(line);
            if !line.ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    };
    put(' ', &old[from..start]);
    put('-', &old[start..old_end]);
    put('+', &new[start..new_end]);
    put(' ', &old[old_end..old_end + around]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_changes_and_a_little_around_it() {
        let before =
            File { path: "k.yaml".to_owned(), bytes: b"1\n2\n3\n4\nold\n5\n6\n7\n8".to_vec(), is_program: false, version: None };
        let text = diff(&before, b"1\n2\n3\n4\nnew\nmore\n5\n6\n7\n8");
        assert_eq!(text, "--- a/k.yaml\n+++ b/k.yaml\n@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-old\n+new\n+more\n 5\n 6\n 7\n");
        assert_eq!(diff(&before, &before.bytes), "");
        let last = diff(&before, b"1\n2\n3\n4\nold\n5\n6\n7\n9");
        assert!(last.ends_with("-8\n\\ No newline at end of file\n+9\n\\ No newline at end of file\n"), "{last}");
    }
}
