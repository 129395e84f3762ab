//! What a ledger forgets, and what events do to it.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::promotions::offered;

fn digest(number: u64) -> Digest {
    Digest::parse(&format!("sha256:{number:064x}")).unwrap()
}

fn arrival(number: u64) -> Arrival {
    let tag = Tag::parse(&format!("v{number}")).unwrap();
    Arrival { tag, digest: digest(number), at: number * 1000, sequence: None, created: None }
}

fn add(ledger: &mut Ledger, number: u64, phase: Phase, committed: Option<u64>) {
    let mut promotion = offered(format!("event {number}"), arrival(number), None, None, number);
    (promotion.phase, promotion.committed) = (phase, committed);
    ledger.add(promotion);
}

#[test]
fn what_stood_in_git_is_kept_longer_than_what_never_did() {
    let mut ledger = Ledger::default();
    add(&mut ledger, 1, Phase::Healthy, Some(1));
    for number in 2..500 {
        add(&mut ledger, number, Phase::Superseded, None);
    }
    assert_eq!(ledger.promotions.len(), ENDED + 1);
    assert!(ledger.promotion(1).is_some(), "it can be rolled back to");
    for number in 500..800 {
        add(&mut ledger, number, Phase::Committed, Some(number));
    }
    assert_eq!(ledger.promotions.len(), ENDED + LANDED_KEPT);
    assert!(ledger.promotion(799).is_some());
}

#[test]
fn the_oldest_that_waits_for_its_soak_is_not_thrown_out_by_what_comes_after_it() {
    let mut ledger = Ledger::default();
    for number in 1..=1000 {
        add(&mut ledger, number, Phase::Waiting, None);
    }
    let waiting: Vec<u64> = ledger.open().map(|promotion| promotion.number).collect();
    assert_eq!(waiting.len(), OPEN);
    assert!(waiting.contains(&1) && waiting.contains(&1000));
    // What is kept is spread over all ages.
    let widest = waiting.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    assert!(widest < 100, "{waiting:?}");
}

#[test]
fn images_of_which_it_is_not_known_what_became_of_them_are_remembered_for_a_while() {
    let mut ledger = Ledger::default();
    for number in 0..20 {
        ledger.writes(arrival(number).image());
        ledger.writes(arrival(number).image());
    }
    assert_eq!(ledger.writing.len(), WRITING);
    assert_eq!(ledger.writing.last(), Some(&arrival(19).image()));
}
