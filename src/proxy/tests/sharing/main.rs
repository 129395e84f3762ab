//! A model check of how fills are shared: every order in which the steps of readers and fills can happen, as far as two
//! preemptions lead, or as many as `ROADSTEAD_PREEMPTIONS` says.
//!
//! What is checked is `sharing.rs` itself, with loom's locks. Around it stands a model of the rest: of the channel by which a fill
//! tells its progress, of the cache, and of the loop in `blobs.rs` by which a reader comes to a fill.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../sharing.rs"]
mod sharing;

/// The locks of the model checker, in the place of the standard library's.
mod sync {
    pub(crate) use loom::sync::{Arc, Mutex};
}

mod model;

use loom::model::Builder;
use loom::thread;

use model::{Server, Upstream};

/// Looks and starts before a reader gives up, as in `blobs.rs`.
const ATTEMPTS: usize = 4;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let bound = std::env::var("ROADSTEAD_PREEMPTIONS").map_or(2, |text| text.parse().unwrap());
    let mut builder = Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(model);
}

#[test]
fn readers_share_one_fetch_and_each_is_given_the_blob() {
    check(|| {
        let server = Server::new(Upstream::Sends);
        let second = thread::spawn({
            let server = server.clone();
            move || assert_eq!(server.read(ATTEMPTS), Ok(()))
        });
        assert_eq!(server.read(ATTEMPTS), Ok(()));
        second.join().unwrap();
        assert_eq!(server.fetches(), 1, "the upstream was asked once");
        assert!(server.is_idle_at_the_end());
    });
}

#[test]
fn a_fill_that_fails_fails_its_readers_and_leaves_nothing_to_wait_for() {
    check(|| {
        let server = Server::new(Upstream::Fails);
        let second = thread::spawn({
            let server = server.clone();
            move || assert_eq!(server.read(ATTEMPTS), Err("failed"))
        });
        assert_eq!(server.read(ATTEMPTS), Err("failed"));
        second.join().unwrap();
        assert!((1..=2).contains(&server.fetches()), "whoever comes after the failure asks again");
        assert!(server.is_idle_at_the_end());
    });
}

#[test]
fn what_cannot_be_kept_is_given_to_its_readers_all_the_same() {
    check(|| {
        let server = Server::new(Upstream::SendsInVain);
        let second = thread::spawn({
            let server = server.clone();
            move || assert_eq!(server.read(ATTEMPTS), Ok(()))
        });
        assert_eq!(server.read(ATTEMPTS), Ok(()));
        second.join().unwrap();
        assert!((1..=2).contains(&server.fetches()), "whoever comes later asks again");
        assert!(server.is_idle_at_the_end());
    });
}

#[test]
fn a_reader_that_leaves_takes_no_other_with_it() {
    check(|| {
        let server = Server::new(Upstream::Sends);
        let leaver = thread::spawn({
            let server = server.clone();
            move || server.start_and_leave()
        });
        assert_eq!(server.read(2), Ok(()), "two looks are enough");
        leaver.join().unwrap();
        assert_eq!(server.fetches(), 1);
        assert!(server.is_idle_at_the_end());
    });
}
