use std::sync::{Arc, Mutex};
use std::time::Duration;

use roadstead_jobs::{Error, JobState, Kind, NewJob, Outcome, Submitted};
use serde_json::json;
use telemetry::Clock;

use crate::harness::{POLL, World, done, endless, settle, work};
use crate::state::Answer;

#[tokio::test]
async fn a_job_is_done_at_once_and_its_result_is_in_the_history() {
    let world = World::default();
    let process = world.start(done());
    settle().await;
    let job = NewJob { input: json!({ "a": 1 }), ..world.job("team/app:v1") };
    let Submitted::New(id) = process.jobs.submit(job).await.unwrap() else { panic!() };
    settle().await;
    assert!(process.jobs.open().await.unwrap().is_empty());
    let history = process.jobs.history("test", "team/app:v1", 10).await.unwrap();
    assert_eq!(history, [process.record(id).await]);
    let record = &history[0];
    assert_eq!((record.id, record.state, &record.result), (id, JobState::Done, &json!({ "a": 1 })));
    assert_eq!((record.by.as_deref(), record.lease.is_none(), record.ended), (Some("somebody"), true, record.started));
    assert_eq!(process.jobs.keys("test").await.unwrap(), ["team/app:v1"]);
    let text = process.metrics.encode();
    assert!(text.contains(r#"roadstead_job_runs_total{kind="test",outcome="done"} 1"#), "{text}");
    assert!(text.contains(r#"roadstead_jobs_running{kind="test"} 0"#), "{text}");
}

#[tokio::test]
async fn one_job_is_open_per_key() {
    let world = World::default();
    let process = world.start(endless());
    let id = world.submit(&process, "a").await;
    assert_eq!(process.jobs.submit(world.job("a")).await.unwrap(), Submitted::Open(id));
    let other = world.submit(&process, "b").await;
    settle().await;
    let open: Vec<_> = process.jobs.open().await.unwrap().into_iter().map(|record| (record.id, record.state)).collect();
    assert_eq!(open, [(id, JobState::Running), (other, JobState::Running)]);
}

#[tokio::test]
async fn what_has_a_stamp_happens_once_whoever_asks() {
    let world = World::default();
    let processes = [world.start(done()), world.start(done()), world.start(done())];
    for stamp in [5, 7] {
        let asked = processes.iter().map(|process| process.jobs.submit(NewJob { stamp: Some(stamp), ..world.job("a") }));
        let answers = futures_util::future::join_all(asked).await;
        let new = answers.iter().filter(|answer| matches!(answer, Ok(Submitted::New(_)))).count();
        assert_eq!(new, 1, "{answers:?}");
        world.pass(POLL * 2).await;
        for process in &processes {
            for late in [stamp, stamp - 1] {
                let again = process.jobs.submit(NewJob { stamp: Some(late), ..world.job("a") }).await.unwrap();
                assert_eq!(again, Submitted::Past);
            }
        }
    }
    let history = processes[0].jobs.history("test", "a", 10).await.unwrap();
    assert_eq!(history.iter().map(|record| record.stamp).collect::<Vec<_>>(), [Some(7), Some(5)]);
    // Without a stamp it is made whatever was made before.
    assert!(matches!(processes[1].jobs.submit(world.job("a")).await.unwrap(), Submitted::New(_)));
}

#[tokio::test]
async fn a_stamp_is_not_used_up_while_another_job_is_open() {
    let world = World::default();
    let process = world.start(endless());
    let id = world.submit(&process, "a").await;
    let stamped = || NewJob { stamp: Some(3), ..world.job("a") };
    assert_eq!(process.jobs.submit(stamped()).await.unwrap(), Submitted::Open(id));
    settle().await;
    process.jobs.cancel(id, "me").await.unwrap();
    world.pass(Duration::from_secs(11)).await;
    assert!(matches!(process.jobs.submit(stamped()).await.unwrap(), Submitted::New(_)));
}

#[tokio::test]
async fn nothing_begins_before_it_is_due() {
    let world = World::default();
    let process = world.start_alone(done());
    let due = world.clock.now() + Duration::from_secs(100);
    let Submitted::New(id) = process.jobs.submit(NewJob { due, ..world.job("a") }).await.unwrap() else { panic!() };
    world.pass(Duration::from_secs(99)).await;
    assert_eq!(process.record(id).await.state, JobState::Waiting);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(process.record(id).await.state, JobState::Done);
}

#[tokio::test]
async fn what_is_due_first_comes_first_and_no_more_run_than_may() {
    let world = World::default();
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let clock = Arc::clone(&world.clock);
    let slow = work(move |job| {
        noted.lock().unwrap().push(job.key().to_owned());
        let clock = Arc::clone(&clock);
        async move {
            clock.sleep(Duration::from_secs(10)).await;
            Outcome::Done(json!(null))
        }
    });
    let now = world.clock.now();
    let early = world.start_with(true, Kind::default(), endless(), |options| options.concurrency = 0);
    for (key, late) in [("b", 40), ("a", 30), ("c", 10), ("d", 20)] {
        let job = NewJob { due: now + Duration::from_secs(late), ..world.job(key) };
        early.jobs.submit(job).await.unwrap();
    }
    drop(early);
    world.clock.advance(Duration::from_secs(100));
    let process = world.start_with(true, Kind { at_once: 2, ..Kind::default() }, slow, |options| options.concurrency = 3);
    for count in [2, 4] {
        settle().await;
        assert_eq!(order.lock().unwrap().len(), count);
        world.pass(Duration::from_secs(10)).await;
    }
    assert_eq!(*order.lock().unwrap(), ["c", "d", "a", "b"]);
    assert!(process.jobs.open().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_submission_that_is_told_late_and_wrongly_is_not_made_twice() {
    let world = World::default();
    let (one, two) = (world.start(done()), world.start(done()));
    settle().await;
    let told = one.line.hold_an_answer(Answer::Wrong);
    let (jobs, job) = (one.jobs.clone(), world.job("a"));
    let asking = tokio::spawn(async move { jobs.submit(job).await });
    world.pass(POLL * 9).await;
    assert_eq!(two.jobs.history("test", "a", 9).await.unwrap().len(), 1);
    told.notify_one();
    settle().await;
    assert!(matches!(asking.await.unwrap().unwrap(), Submitted::New(_)));
    world.pass(POLL * 9).await;
    assert_eq!(world.cloud.jobs().len(), 1);
}

#[tokio::test]
async fn a_job_whose_submission_was_dropped_is_done_or_was_never_made() {
    for turns in 0..40 {
        let world = World::default();
        let process = world.start_alone(done());
        process.line.disturb(5, 0.0);
        settle().await;
        let (jobs, job) = (process.jobs.clone(), world.job("a"));
        let asking = tokio::spawn(async move { jobs.submit(job).await });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        asking.abort();
        world.pass(POLL * 2).await;
        assert_eq!(world.cloud.jobs().len(), world.cloud.archived(), "dropped after {turns} turns");
    }
}

#[tokio::test]
async fn what_cannot_be_a_job_is_refused() {
    let world = World::default();
    let process = world.start(done());
    for (kind, key) in [("other", "a"), ("test", ""), ("../x", "a")] {
        let job = NewJob { kind: kind.to_owned(), ..world.job(key) };
        assert!(matches!(process.jobs.submit(job).await, Err(Error::Invalid { .. })), "{kind} {key}");
    }
    assert!(world.cloud.keys().is_empty());
}
