use std::sync::Arc;
use std::time::Duration;

use roadstead_jobs::{Error, JobState, NewJob, Outcome, Submitted};
use serde_json::{Value, json};
use telemetry::Clock;

use crate::harness::{GRACE, LEASE, World, done, endless, settle, work};

#[tokio::test]
async fn a_waiting_job_ends_when_it_is_cancelled() {
    let world = World::default();
    let process = world.start(done());
    let due = world.clock.now() + Duration::from_secs(100);
    let Submitted::New(id) = process.jobs.submit(NewJob { due, ..world.job("a") }).await.unwrap() else { panic!() };
    let record = process.jobs.cancel(id, "me").await.unwrap();
    assert_eq!((record.state, record.cancelled_by.as_deref()), (JobState::Cancelled, Some("me")));
    assert_eq!(process.jobs.history("test", "a", 9).await.unwrap(), [record]);
    assert!(matches!(process.jobs.cancel(id, "me").await, Err(Error::Ended { .. })));
}

#[tokio::test]
async fn a_running_job_is_told_wherever_it_runs() {
    let world = World::default();
    let polite = work(|job| async move {
        job.save(json!("begun")).await.unwrap();
        job.cancelled().cancelled().await;
        assert!(job.is_cancelled() && !job.is_stopping());
        Outcome::Failed { reason: "told to".to_owned(), result: json!("half") }
    });
    let one = world.start(Arc::clone(&polite));
    let id = world.submit(&one, "a").await;
    settle().await;
    let two = world.start(polite);
    for asking in [&two, &one] {
        assert_eq!(asking.jobs.cancel(id, "me").await.unwrap().state, JobState::Running);
    }
    settle().await;
    let record = two.record(id).await;
    assert_eq!((record.state, &record.result, &record.checkpoint), (JobState::Cancelled, &json!("half"), &json!("begun")));
    assert!(record.log.iter().any(|line| line.text.contains("me asked")), "{:?}", record.log);

    // Elsewhere it is heard with the next renewal.
    let id = world.submit(&one, "b").await;
    settle().await;
    two.jobs.cancel(id, "me").await.unwrap();
    settle().await;
    assert_eq!(two.record(id).await.state, JobState::Running);
    world.pass(LEASE / 3).await;
    assert_eq!(two.record(id).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_work_that_does_not_listen_is_dropped_after_its_grace_period() {
    let world = World::default();
    let process = world.start(endless());
    let id = world.submit(&process, "a").await;
    settle().await;
    process.jobs.cancel(id, "me").await.unwrap();
    world.pass_almost(GRACE).await;
    assert_eq!(process.record(id).await.state, JobState::Running);
    world.pass(Duration::from_secs(1)).await;
    let record = process.record(id).await;
    assert_eq!(record.state, JobState::Cancelled);
    assert!(record.reason.unwrap().contains("did not end"));
}

#[tokio::test]
async fn what_is_done_nevertheless_is_done() {
    let world = World::default();
    let late = work(|job| async move {
        job.cancelled().cancelled().await;
        Outcome::Done(json!(1))
    });
    let process = world.start(late);
    let id = world.submit(&process, "a").await;
    settle().await;
    process.jobs.cancel(id, "me").await.unwrap();
    settle().await;
    assert_eq!(process.record(id).await.state, JobState::Done);
}

#[tokio::test]
async fn a_job_whose_holder_died_ends_when_it_is_cancelled() {
    let world = World::default();
    let dead = world.start(endless());
    let id = world.submit(&dead, "a").await;
    settle().await;
    drop(dead);
    let process = world.start(done());
    process.jobs.cancel(id, "me").await.unwrap();
    world.pass(LEASE + Duration::from_secs(7)).await;
    assert_eq!(process.record(id).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_process_that_stops_gives_its_jobs_away_at_once() {
    let world = World::default();
    let yields = work(|job| async move {
        if job.checkpoint().is_null() {
            job.cancelled().cancelled().await;
            assert!(job.is_stopping() && !job.is_cancelled());
            return Outcome::Yield(json!("half"));
        }
        Outcome::Done(job.checkpoint())
    });
    let mut one = world.start(Arc::clone(&yields));
    let id = world.submit(&one, "a").await;
    settle().await;
    one.stop.cancel();
    (&mut one.task).await.unwrap();
    let record = one.record(id).await;
    assert_eq!((record.state, record.lease.is_none(), record.attempts), (JobState::Waiting, true, 0));
    let two = world.start(yields);
    settle().await;
    let record = two.record(id).await;
    assert_eq!((record.state, record.result, record.lost), (JobState::Done, json!("half"), 0));
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_the_grace_period() {
    let world = World::default();
    let mut process = world.start(endless());
    let id = world.submit(&process, "a").await;
    settle().await;
    process.stop.cancel();
    world.pass_almost(GRACE).await;
    assert!(!process.task.is_finished());
    world.pass(Duration::from_secs(1)).await;
    (&mut process.task).await.unwrap();
    // Its lease is left to run out.
    let other = world.start(work(|_| async { Outcome::Done(Value::Null) }));
    world.pass_almost(LEASE).await;
    assert_eq!(other.record(id).await.state, JobState::Running);
    world.pass(Duration::from_secs(7)).await;
    assert_eq!(other.record(id).await.state, JobState::Done);
}
