use std::sync::Arc;
use std::time::Duration;

use roadstead_jobs::{Error, JobState, Kind, Level, Outcome, Submitted};
use serde_json::{Value, json};

use crate::harness::{World, settle, work};

#[tokio::test]
async fn a_failure_is_tried_again_later_each_time_and_then_given_up() {
    let world = World::default();
    let fails = work(|job| async move {
        let reason = format!("attempt {} of {}", job.attempt(), job.record().epoch);
        Outcome::Retry { reason, after: None }
    });
    let kind = Kind { attempts: 4, backoff: Duration::from_secs(8), longest_backoff: Duration::from_secs(20), ..Kind::default() };
    let process = world.start_with(true, kind, fails, |_| {});
    let id = world.submit(&process, "a").await;
    settle().await;
    for (attempts, shortest, longest) in [(1, 4, 8), (2, 8, 16), (3, 10, 20)] {
        let record = process.record(id).await;
        assert_eq!((record.state, record.attempts), (JobState::Waiting, attempts));
        world.pass(Duration::from_secs(shortest - 1)).await;
        assert_eq!(process.record(id).await.attempts, attempts);
        world.pass(Duration::from_secs(longest - shortest + 1)).await;
    }
    let record = process.record(id).await;
    assert_eq!((record.state, record.reason.as_deref()), (JobState::Failed, Some("attempt 4 of 4")));
    assert!(record.log[0].text.contains("attempt 1 of 1") && record.log[0].level == Level::Warn);
}

#[tokio::test]
async fn a_failure_may_say_when_it_is_tried_again() {
    let world = World::default();
    let once = work(|job| async move {
        match job.attempt() {
            1 => Outcome::Retry { reason: "busy".to_owned(), after: Some(Duration::from_mins(5)) },
            _ => Outcome::Done(json!(null)),
        }
    });
    let process = world.start_alone(once);
    let id = world.submit(&process, "a").await;
    world.pass(Duration::from_secs(299)).await;
    assert_eq!(process.record(id).await.reason.as_deref(), Some("busy"));
    world.pass(Duration::from_secs(1)).await;
    let record = process.record(id).await;
    assert_eq!((record.state, record.reason), (JobState::Done, None));
}

#[tokio::test]
async fn what_is_put_off_does_not_count() {
    let world = World::default();
    let windows = work(|job| async move {
        let done = job.checkpoint().as_u64().unwrap_or(0);
        job.save(json!(done + 1)).await.unwrap();
        if done == 20 {
            return Outcome::Done(json!(job.attempt()));
        }
        Outcome::Later { after: Duration::from_hours(6), reason: "the quota is used up".to_owned() }
    });
    let process = world.start_alone(windows);
    let id = world.submit(&process, "a").await;
    for _ in 0..20 {
        settle().await;
        assert_eq!(process.record(id).await.reason.as_deref(), Some("the quota is used up"));
        world.clock.advance(Duration::from_hours(6));
    }
    settle().await;
    let record = process.record(id).await;
    assert_eq!((record.state, &record.result, record.epoch), (JobState::Done, &json!(1), 21));
}

#[tokio::test]
async fn a_panic_is_a_failure_and_others_go_on() {
    let world = World::default();
    let breaks = work(|job| async move {
        assert_ne!(job.key(), "a", "it is a");
        Outcome::Done(Value::Null)
    });
    let process = world.start(breaks);
    let id = world.submit(&process, "a").await;
    settle().await;
    let record = process.record(id).await;
    assert_eq!(record.state, JobState::Failed);
    assert!(record.reason.unwrap().contains("it is a"));
    let other = world.submit(&process, "b").await;
    settle().await;
    assert_eq!(process.record(other).await.state, JobState::Done);
}

#[tokio::test]
async fn a_job_that_failed_can_be_made_again_from_its_checkpoint() {
    let world = World::default();
    let twice = work(|job| async move {
        if job.checkpoint().is_null() {
            job.save(json!("half")).await.unwrap();
            return Outcome::Failed { reason: "no".to_owned(), result: json!("some") };
        }
        Outcome::Done(job.checkpoint())
    });
    let process = world.start(twice);
    let id = world.submit(&process, "a").await;
    settle().await;
    assert_eq!(process.record(id).await.result, json!("some"));
    let Submitted::New(again) = process.jobs.retry(id, "me").await.unwrap() else { panic!() };
    settle().await;
    let record = process.record(again).await;
    assert_eq!((record.state, record.retry_of, record.by.as_deref()), (JobState::Done, Some(id), Some("me")));
    assert_eq!(record.result, json!("half"));
    assert!(matches!(process.jobs.retry(again, "me").await, Err(Error::Done { .. })));
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    assert!(matches!(process.jobs.retry(unknown, "me").await, Err(Error::Unknown { .. })));
    assert!(process.jobs.job(unknown).await.unwrap().is_none());
}

#[tokio::test]
async fn the_log_keeps_the_last_lines_and_cuts_long_ones() {
    let world = World::default();
    let talks = work(|job| async move {
        for number in 0..1000 {
            job.log(Level::Info, format!("{number} {}", "ä".repeat(600)));
        }
        Outcome::Done(Value::Null)
    });
    let process = world.start(talks);
    let id = world.submit(&process, "a").await;
    settle().await;
    let log = process.record(id).await.log;
    assert_eq!(log.len(), 200);
    assert!(log[0].text.starts_with("800 ") && log[199].text.starts_with("999 "));
    assert!(log.iter().all(|line| line.text.len() <= 500 && line.text.ends_with('…')));
}

#[tokio::test]
async fn the_history_is_bounded_and_lists_the_latest_first() {
    let world = World::default();
    let counts = work(|job| async move { Outcome::Done(job.input().clone()) });
    let process = world.start_with(false, Kind { history: 3, ..Kind::default() }, Arc::clone(&counts), |_| {});
    for number in 0..7 {
        process.jobs.submit(roadstead_jobs::NewJob { input: json!(number), ..world.job("a") }).await.unwrap();
        world.pass(Duration::from_secs(1)).await;
    }
    let results = |records: Vec<roadstead_jobs::Record>| records.into_iter().map(|record| record.result).collect::<Vec<_>>();
    assert_eq!(results(process.jobs.history("test", "a", 10).await.unwrap()), [6, 5, 4]);
    assert_eq!(results(process.jobs.history("test", "a", 1).await.unwrap()), [6]);
}
