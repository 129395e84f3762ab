//! Every way in which an application can look, and what is to be thought of it.

use jiff::{SignedDuration, Timestamp};
use roadstead_promotion::rollout::{HealthStatus, Note, Observed, Operation, Phase, Resource, SyncStatus, Verdict, judge};

use crate::cluster::OLD;
use crate::stage::{DIGEST, IMAGE, NEW, wanted};

/// A commit of somebody else, on top of ours.
const NEXT: &str = "77777777777777777777777777777777777777aa";

/// Our commit landed at second zero.
fn second(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_767_225_600 + seconds)
}

fn operation(phase: Phase, revision: &str, finished: i64) -> Operation {
    Operation { phase, revisions: vec![revision.to_owned()], finished_at: Some(second(finished)), message: "so it is".to_owned() }
}

/// Deployed and healthy.
fn good() -> Observed {
    Observed {
        application: "tinybird".to_owned(),
        sync: SyncStatus::Synced,
        revisions: vec![NEW.to_owned()],
        is_requested: false,
        operation: Some(operation(Phase::Succeeded, NEW, 10)),
        health: HealthStatus::Healthy,
        health_message: String::new(),
        reconciled_at: Some(second(12)),
        images: vec!["redis:7".to_owned(), format!("{IMAGE}:latest@{DIGEST}")],
        conditions: Vec::new(),
        resources: Vec::new(),
    }
}

#[track_caller]
fn verdict(seen: &Observed) -> Verdict {
    let verdict = judge(seen, &wanted(second(0)), |revision| revision == NEW || revision == NEXT);
    assert!(!verdict.message().is_empty());
    verdict
}

#[track_caller]
fn waits(seen: &Observed, word: &str) {
    let verdict = verdict(seen);
    assert!(matches!(&verdict, Verdict::Waiting { message } if message.contains(word)), "{word:?} in {verdict:?}");
}

#[track_caller]
fn is_stale(seen: &Observed) {
    let verdict = verdict(seen);
    assert!(matches!(&verdict, Verdict::Stale { message } if message.contains("refresh")), "{verdict:?}");
}

#[track_caller]
fn is_healthy(seen: &Observed, expected: Option<Note>) {
    let verdict = verdict(seen);
    assert!(matches!(verdict, Verdict::Healthy { note, .. } if note == expected), "{verdict:?}");
}

#[test]
fn our_commit_a_descendant_and_one_of_several_sources_are_deployed() {
    is_healthy(&good(), None);
    is_healthy(
        &Observed { revisions: vec![NEXT.to_owned()], operation: Some(operation(Phase::Succeeded, NEXT, 10)), ..good() },
        None,
    );
    is_healthy(&Observed { revisions: vec!["15.2.1".to_owned(), NEW.to_owned()], ..good() }, None);
    is_healthy(&Observed { reconciled_at: Some(second(10)), ..good() }, None);
}

#[test]
fn a_cluster_that_has_our_commit_without_a_sync_of_its_own_is_deployed() {
    is_healthy(&Observed { operation: Some(operation(Phase::Succeeded, OLD, -100)), ..good() }, None);
}

#[test]
fn another_revision_is_waited_for_and_one_of_before_wants_a_refresh() {
    let other = Observed { revisions: vec![OLD.to_owned()], operation: Some(operation(Phase::Succeeded, OLD, -100)), ..good() };
    waits(&other, "follows another branch");
    is_stale(&Observed { reconciled_at: Some(second(-1)), ..other.clone() });
    is_stale(&Observed { reconciled_at: None, ..other.clone() });
    waits(&Observed { revisions: Vec::new(), ..other.clone() }, "does not know which revision");
    // What is the matter with the other revision is not ours.
    for health in [HealthStatus::Degraded, HealthStatus::Missing] {
        waits(&Observed { health, ..other.clone() }, "follows another branch");
    }
    waits(&Observed { operation: Some(operation(Phase::Failed, OLD, 10)), ..other }, "follows another branch");
}

#[test]
fn a_sync_that_has_not_ended_is_waited_for_whatever_the_health_is() {
    for health in [HealthStatus::Healthy, HealthStatus::Degraded] {
        let seen = Observed { health, ..good() };
        waits(&Observed { operation: Some(operation(Phase::Running, NEW, 10)), ..seen.clone() }, "is syncing: so it is");
        waits(&Observed { operation: Some(operation(Phase::Terminating, NEW, 10)), ..seen.clone() }, "being ended");
        waits(&Observed { operation: Some(operation(Phase::Unknown, NEW, 10)), ..seen.clone() }, "not known how far");
        waits(&Observed { operation: Some(operation(Phase::Failed, OLD, -9)), ..seen.clone() }, "of another one, failed");
        waits(&Observed { operation: None, ..seen.clone() }, "never synced");
        waits(&Observed { is_requested: true, ..seen }, "about to sync");
    }
}

#[test]
fn a_sync_that_failed_at_our_commit_has_failed() {
    for phase in [Phase::Failed, Phase::Error] {
        for sync in [SyncStatus::OutOfSync, SyncStatus::Synced, SyncStatus::Unknown] {
            let seen = Observed { sync, operation: Some(operation(phase, NEW, 10)), ..good() };
            let verdict = verdict(&seen);
            assert!(matches!(&verdict, Verdict::Failed { message } if message.contains("so it is")), "{verdict:?}");
        }
    }
}

#[test]
fn a_sync_that_failed_and_is_asked_for_again_is_waited_for() {
    waits(&Observed { is_requested: true, operation: Some(operation(Phase::Failed, NEW, 10)), ..good() }, "about to sync");
}

#[test]
fn a_sync_of_which_the_revision_is_not_said_counts_only_if_it_ended_after_our_commit() {
    let of = |finished_at| {
        let operation = Operation { phase: Phase::Error, finished_at, ..Operation::default() };
        verdict(&Observed { operation: Some(operation), ..good() })
    };
    assert!(matches!(of(Some(second(1))), Verdict::Failed { .. }));
    assert!(matches!(of(Some(second(-1))), Verdict::Waiting { .. }));
    assert!(matches!(of(None), Verdict::Waiting { .. }));
}

#[test]
fn health_of_before_the_end_of_the_sync_says_nothing() {
    for health in [HealthStatus::Healthy, HealthStatus::Degraded, HealthStatus::Progressing] {
        is_stale(&Observed { health, reconciled_at: Some(second(9)), ..good() });
        is_stale(&Observed { health, reconciled_at: None, ..good() });
        let unsaid = Operation { finished_at: None, ..good().operation.unwrap() };
        is_stale(&Observed { health, operation: Some(unsaid), ..good() });
    }
}

#[test]
fn degraded_at_our_commit_fails_at_once_and_says_what() {
    let resource = |name: &str, health| Resource {
        kind: "Deployment".to_owned(),
        name: name.to_owned(),
        health,
        message: "exceeded its progress deadline".to_owned(),
    };
    let resources = vec![resource("other", HealthStatus::Progressing), resource("tinybird", HealthStatus::Degraded)];
    for sync in [SyncStatus::Synced, SyncStatus::OutOfSync] {
        let verdict = verdict(&Observed { sync, health: HealthStatus::Degraded, resources: resources.clone(), ..good() });
        let Verdict::Degraded { message } = &verdict else { panic!("{verdict:?}") };
        assert!(
            message.contains("Deployment tinybird (exceeded its progress deadline)") && !message.contains("other"),
            "{message}"
        );
    }
}

#[test]
fn degraded_before_our_commit_is_applied_is_not_ours() {
    let operation = Some(operation(Phase::Succeeded, OLD, -100));
    waits(
        &Observed { health: HealthStatus::Degraded, sync: SyncStatus::OutOfSync, operation, ..good() },
        "not yet what the commit says",
    );
}

#[test]
fn what_is_neither_well_nor_ill_is_waited_for_with_its_own_words() {
    for (health, word) in [
        (HealthStatus::Progressing, "on their way"),
        (HealthStatus::Suspended, "somebody has to resume it"),
        (HealthStatus::Missing, "missing in the cluster"),
        (HealthStatus::Unknown, "cannot tell its health"),
    ] {
        waits(&Observed { health, ..good() }, word);
    }
    let conditions = vec!["ComparisonError: repository not found".to_owned()];
    waits(
        &Observed { sync: SyncStatus::Unknown, conditions, ..good() },
        "cannot compare the cluster with the commit (ComparisonError",
    );
    waits(&Observed { sync: SyncStatus::OutOfSync, ..good() }, "something changes it back");
}

#[test]
fn the_image_is_ours_by_its_digest_whatever_its_name() {
    let with = |images: &[&str]| Observed { images: images.iter().map(|&image| image.to_owned()).collect(), ..good() };
    is_healthy(&with(&[&format!("mirror.local:5000/x@{DIGEST}")]), None);
    is_healthy(&with(&[&format!("{IMAGE}@{DIGEST}")]), None);
    is_healthy(&with(&[&format!("{IMAGE}:old@sha256:{}", "1".repeat(64)), &format!("{IMAGE}@{DIGEST}")]), None);
    is_healthy(&with(&[&format!("{IMAGE}:latest")]), Some(Note::TagOnly));
    is_healthy(&with(&[]), Some(Note::ImagesUnknown));
    is_healthy(&with(&["redis:7"]), Some(Note::ImagesUnknown));
    waits(&with(&[&format!("{IMAGE}:latest@sha256:{}", "1".repeat(64))]), "not with ours");
    waits(&with(&[&format!("{IMAGE}:older")]), "older and not with ours");
    waits(&with(&[IMAGE]), "no tag and not with ours");
    waits(&with(&[&format!("docker.io/{IMAGE}:older")]), "not with ours");
    is_healthy(&with(&["localhost:5000/x:latest", ""]), Some(Note::ImagesUnknown));
}
