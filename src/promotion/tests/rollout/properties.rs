use std::cell::Cell;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use roadstead_promotion::rollout::{Observed, Verdict, judge};
use serde_json::{Value, json};

use crate::cluster::OLD;
use crate::stage::{DIGEST, IMAGE, NEW, wanted};

/// One of these texts, mostly.
fn one(texts: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let text = proptest::sample::select(texts).prop_map(Value::from);
    prop_oneof![20 => text, 1 => Just(Value::Null), 1 => Just(json!("")), 1 => Just(json!("what?")), 1 => any::<i64>().prop_map(Value::from)]
}

/// Answers, right and wrong.
fn applications() -> impl Strategy<Value = Value> {
    const TIMES: &[&str] = &["2026-01-01T00:00:05Z", "2026-01-01T01:00:09+01:00", "2025-12-31T23:59:59Z"];
    let revision = || one(&[NEW, NEW, OLD]);
    let texts = (
        one(&["Synced", "Synced", "OutOfSync"]),
        revision(),
        one(&["Healthy", "Healthy", "Degraded", "Progressing", "Missing", "Suspended"]),
        one(&["Succeeded", "Succeeded", "Succeeded", "Failed", "Error", "Running"]),
        revision(),
        (one(TIMES), one(TIMES)),
        any::<String>(),
    );
    let revisions = prop_oneof![3 => Just(Value::Null), 1 => Just(json!(["15.2.1", NEW]))];
    let ours = json!(["redis:7", format!("{IMAGE}:latest@{DIGEST}")]);
    let images = prop_oneof![Just(Value::Null), Just(json!([])), Just(ours), Just(json!([format!("{IMAGE}:older")]))];
    let made = (texts, revisions, images, proptest::bool::weighted(0.1));
    made.prop_map(|((sync, compared, health, phase, synced, (finished, reconciled), message), revisions, images, is_asked)| {
        json!({
            "metadata": { "name": "tinybird" },
            "operation": if is_asked { json!({}) } else { Value::Null },
            "status": {
                "sync": { "status": sync, "revision": compared, "revisions": revisions },
                "health": { "status": health, "message": message },
                "operationState": { "phase": phase, "finishedAt": finished, "syncResult": { "revision": synced } },
                "reconciledAt": reconciled,
                "summary": { "images": images },
            },
        })
    })
}

fn since() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic_and_whatever_is_read_can_be_judged(bytes in any::<Vec<u8>>()) {
        for seen in [Observed::parse(&bytes).ok(), Observed::from_report(&bytes).ok()].into_iter().flatten() {
            prop_assert!(!judge(&seen, &wanted(since()), |_| true).message().is_empty());
        }
    }

    #[test]
    fn a_report_with_everything_is_judged_as_a_look_is(application in applications()) {
        let Ok(seen) = Observed::parse(application.to_string().as_bytes()) else { return Ok(()) };
        let status = &application["status"];
        let report = json!({
            "application": "tinybird",
            "revision": status["sync"]["revision"],
            "revisions": status["sync"]["revisions"],
            "operation_revision": status["operationState"]["syncResult"]["revision"],
            "health": status["health"]["status"],
            "health_message": status["health"]["message"],
            "sync": status["sync"]["status"],
            "phase": status["operationState"]["phase"],
            "finished_at": status["operationState"]["finishedAt"],
            "reconciled_at": status["reconciledAt"],
            "images": status["summary"]["images"],
        });
        if let Ok(reported) = Observed::from_report(report.to_string().as_bytes()) {
            prop_assert_eq!(reported, Observed { is_requested: false, ..seen });
        }
    }
}

#[test]
fn nothing_is_said_for_good_without_every_sign_of_it() {
    let said = [const { Cell::new(0) }; 5];
    let property = |application: Value| {
        let Ok(seen) = Observed::parse(application.to_string().as_bytes()) else { return Ok(()) };
        let verdict = judge(&seen, &wanted(since()), |revision| revision == NEW);
        prop_assert!(!verdict.message().is_empty() && !verdict.message().chars().any(char::is_control));
        let status = &application["status"];
        let is = |pointer: &str, text: &str| status.pointer(pointer).and_then(Value::as_str) == Some(text);
        let is_compared = is("/sync/revision", NEW) || status["sync"]["revisions"].is_array();
        let is_synced = is("/operationState/syncResult/revision", NEW);
        let is_fresh = || Some(seen.reconciled_at? >= seen.operation.as_ref()?.finished_at?);
        let index = match verdict {
            Verdict::Healthy { note, .. } => {
                prop_assert!(is_compared && is("/sync/status", "Synced") && is("/health/status", "Healthy"));
                prop_assert!(is("/operationState/phase", "Succeeded") && application["operation"].is_null());
                prop_assert_eq!(is_fresh(), Some(true));
                prop_assert_eq!(note.is_none(), status["summary"]["images"][0] == "redis:7");
                0
            }
            Verdict::Degraded { .. } => {
                prop_assert!(is_compared && is("/health/status", "Degraded") && is("/operationState/phase", "Succeeded"));
                prop_assert!(is_fresh() == Some(true) && (is_synced || is("/sync/status", "Synced")));
                1
            }
            Verdict::Failed { .. } => {
                prop_assert!(is("/operationState/phase", "Failed") || is("/operationState/phase", "Error"));
                prop_assert!(is_synced || is_compared);
                2
            }
            Verdict::Waiting { .. } => 3,
            Verdict::Stale { .. } => 4,
        };
        said[index].set(said[index].get() + 1);
        Ok(())
    };
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })
        .run(&applications(), property)
        .unwrap();
    let said = said.map(Cell::into_inner);
    assert!(said.iter().all(|count| *count > 20), "each verdict is reached: {said:?}");
}

#[test]
fn a_short_report_wants_a_look_and_a_whole_one_says_the_last_word() {
    let short =
        json!({ "application": "tinybird", "revision": NEW, "health": "Healthy", "sync": "Synced", "phase": "Succeeded" });
    let judged =
        |report: &Value| judge(&Observed::from_report(report.to_string().as_bytes()).unwrap(), &wanted(since()), |it| it == NEW);
    assert!(matches!(judged(&short), Verdict::Stale { .. }));
    let mut whole = short;
    whole["finished_at"] = json!("2026-01-01T00:00:05Z");
    whole["reconciled_at"] = json!("2026-01-01T00:00:05Z");
    whole["images"] = json!([format!("{IMAGE}:latest@{DIGEST}")]);
    assert!(matches!(judged(&whole), Verdict::Healthy { note: None, .. }));
    whole["health"] = json!("Degraded");
    assert!(matches!(judged(&whole), Verdict::Degraded { .. }));
    whole["phase"] = json!("Failed");
    assert!(matches!(judged(&whole), Verdict::Failed { .. }));
}

#[test]
fn a_report_that_lacks_something_says_what() {
    let whole =
        json!({ "application": "tinybird", "revision": NEW, "health": "Healthy", "sync": "Synced", "phase": "Succeeded" });
    assert!(Observed::from_report(whole.to_string().as_bytes()).is_ok());
    for key in ["application", "revision", "health", "sync", "phase"] {
        let mut report = whole.clone();
        report.as_object_mut().unwrap().remove(key);
        let error = Observed::from_report(report.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
