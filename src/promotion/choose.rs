//! Which of two images is the later one, and which of two tags says more.

use std::cmp::Ordering;

use oci::Tag;

use crate::ledger::Arrival;
use crate::rule::{Order, Rule};

impl Rule {
    /// Is `one` older than `other`, of the same age, or later? By the rule's order, and where that does not tell by when the tags were
    /// set, so that there is always one answer, the same whoever asks.
    pub(crate) fn compare(&self, one: &Arrival, other: &Arrival) -> Ordering {
        let (first, second) = (self.part(&one.tag), self.part(&other.tag));
        let known = match self.order {
            Order::Push => Ordering::Equal,
            // What is no version comes before all versions.
            Order::Version => oci::version(first).cmp(&oci::version(second)),
            Order::Number => oci::natural(first, second),
            Order::Date => digits(first).cmp(&digits(second)),
            Order::Name => first.cmp(second),
            Order::Created => one.created.cmp(&other.created),
        };
        known.then_with(|| pushed(one, other))
    }
}

/// Which was set later. Times of different servers may differ; how often one tag has moved does not.
fn pushed(one: &Arrival, other: &Arrival) -> Ordering {
    match (one.sequence, other.sequence) {
        (Some(first), Some(second)) if one.tag == other.tag && first != second => first.cmp(&second),
        _ => one.at.cmp(&other.at),
    }
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).collect()
}

/// Does `one` say more of an image than `other`? A whole version says more than a part of one, `main-abc1234` more than `main`, and
/// anything more than `latest`.
pub(crate) fn is_more_specific(one: &Tag, other: &Tag) -> bool {
    let weight = |tag: &Tag| {
        let text = tag.as_str();
        let parts = if oci::version(text).is_some() { text.split('.').count() } else { 0 };
        (text != "latest", parts.min(3), text.len())
    };
    weight(one) > weight(other)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci::{Digest, Selector};
    use proptest::prelude::*;

    use super::*;
    use crate::rule::tests::rule;

    fn arrival(tag: &str, at: u64) -> Arrival {
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        Arrival { tag: Tag::parse(tag).unwrap(), digest, at, sequence: None, created: None }
    }

    fn later(order: Order, regex: &str, one: &str, other: &str) -> bool {
        let rule = Rule { order, tags: vec![Selector::regex(regex).unwrap()], ..rule() };
        // The other one was pushed later, so that the order alone decides.
        rule.compare(&arrival(one, 1), &arrival(other, 2)) == Ordering::Greater
    }

    #[test]
    fn each_order_tells_which_is_later() {
        assert!(later(Order::Version, ".*", "v1.10.0", "v1.9.3") && !later(Order::Version, ".*", "1.0.0-rc.1", "1.0.0"));
        assert!(later(Order::Version, "(.*)-alpine", "1.10-alpine", "1.9-alpine"));
        assert!(later(Order::Number, "main-([0-9]+)-.*", "main-10-aaa", "main-9-fff"));
        assert!(later(Order::Date, ".*", "beta-20260222", "beta-2026-02-16"));
        assert!(later(Order::Name, ".*", "b", "a") && !later(Order::Name, ".*", "a", "b"));
        assert!(!later(Order::Push, ".*", "z", "a"));
    }

    #[test]
    fn of_one_tag_the_one_that_moved_it_last_is_later_whatever_the_clocks_say() {
        let set = |at, sequence| Arrival { sequence: Some(sequence), ..arrival("latest", at) };
        assert_eq!(rule().compare(&set(9, 1), &set(5, 2)), Ordering::Less);
        let other = Arrival { sequence: Some(7), ..arrival("main", 6) };
        assert_eq!(rule().compare(&set(5, 9), &other), Ordering::Less);
    }

    #[test]
    fn the_tag_that_says_more_wins() {
        let more = |one: &str, other: &str| is_more_specific(&Tag::parse(one).unwrap(), &Tag::parse(other).unwrap());
        for (one, other) in [("main", "latest"), ("main-abc1234", "main"), ("1.2.3", "1.2"), ("1.2", "1"), ("a", "latest")] {
            assert!(more(one, other) && !more(other, one), "{one} {other}");
        }
        assert!(!more("a", "a") && more("v1.2.3", "stable-release"));
    }

    proptest! {
        #[test]
        fn the_order_is_total(
            order in prop_oneof![Just(Order::Push), Just(Order::Version), Just(Order::Number), Just(Order::Date), Just(Order::Name)],
            tags in prop::collection::vec(("[a-z0-9.]{1,6}", 0_u64..4), 3),
        ) {
            let rule = Rule { order, ..rule() };
            let tags: Vec<Arrival> =
                tags.iter().filter(|(tag, _)| Tag::parse(tag).is_ok()).map(|(tag, at)| arrival(tag, *at)).collect();
            prop_assume!(tags.len() == 3);
            let (a, b, c) = (&tags[0], &tags[1], &tags[2]);
            prop_assert_eq!(rule.compare(a, b), rule.compare(b, a).reverse());
            if rule.compare(a, b).is_le() && rule.compare(b, c).is_le() {
                prop_assert!(rule.compare(a, c).is_le());
            }
        }
    }
}
