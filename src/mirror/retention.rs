//! Which dated tags go.

use std::time::Duration;

use crate::memory::Dated;

/// Those of one source tag that are too many or too old. `dated` is in the order in which they were written; `keep` and `keep_for`
/// count for each template by itself. The newest of each template stays, however old it is.
pub(crate) fn surplus(dated: &[Dated], keep: Option<usize>, keep_for: Option<Duration>, now: u64) -> Vec<Dated> {
    let age = keep_for.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let mut surplus = Vec::new();
    for (index, entry) in dated.iter().enumerate() {
        let newer = dated[index + 1..].iter().filter(|other| other.template == entry.template).count();
        let too_many = keep.is_some_and(|keep| newer >= keep.max(1));
        let too_old = age.is_some_and(|age| newer > 0 && now.saturating_sub(entry.at) > age);
        if too_many || too_old {
            surplus.push(entry.clone());
        }
    }
    surplus
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::{Digest, Tag};

    use super::*;

    fn dated(entries: &[(&str, &str, u64)]) -> Vec<Dated> {
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let entry = |(tag, template, at): &(&str, &str, u64)| Dated {
            tag: Tag::parse(tag).unwrap(),
            digest: digest.clone(),
            template: (*template).to_owned(),
            at: *at,
        };
        entries.iter().map(entry).collect()
    }

    fn gone(dated: &[Dated], keep: Option<usize>, age: Option<u64>) -> Vec<String> {
        surplus(dated, keep, age.map(Duration::from_millis), 100).iter().map(|entry| entry.tag.to_string()).collect()
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dated = dated(&[("1", "a", 10), ("2", "a", 20), ("3", "a", 30)]);
        assert_eq!(gone(&dated, None, None), [""; 0]);
        assert_eq!(gone(&dated, Some(3), None), [""; 0]);
        assert_eq!(gone(&dated, Some(1), None), ["1", "2"]);
        assert_eq!(gone(&dated, Some(0), None), ["1", "2"], "the newest stays");
    }

    #[test]
    fn what_is_too_old_goes_but_not_the_newest() {
        let dated = dated(&[("1", "a", 10), ("2", "a", 60), ("3", "a", 70)]);
        assert_eq!(gone(&dated, None, Some(50)), ["1"]);
        assert_eq!(gone(&dated, None, Some(5)), ["1", "2"]);
        assert_eq!(gone(&dated, Some(2), Some(35)), ["1", "2"]);
    }

    #[test]
    fn templates_are_counted_each_by_itself() {
        let dated = dated(&[("1", "a", 10), ("x", "b", 10), ("2", "a", 20)]);
        assert_eq!(gone(&dated, Some(1), Some(1)), ["1"]);
    }
}
