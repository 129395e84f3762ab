use std::sync::Arc;
use std::time::Duration;

use roadstead_jobs::{JobState, Outcome};
use serde_json::json;
use telemetry::Clock;
use tokio::sync::Notify;

use crate::harness::{POLL, World, done, settle, work};
use crate::state::Answer;

#[tokio::test]
async fn idle_slots_are_not_read_by_the_only_process_and_seldom_by_others() {
    for (alone, most) in [(true, 50 * 2), (false, 50 * 2)] {
        let world = World::default();
        let process = if alone { world.start_alone(done()) } else { world.start(done()) };
        for number in 0..50 {
            world.submit(&process, &number.to_string()).await;
            settle().await;
        }
        let (reads, lists) = world.cloud.looks();
        // Twelve polls, two of which look at everything.
        world.pass(POLL * 12).await;
        let (more_reads, more_lists) = world.cloud.looks();
        assert!(more_reads - reads <= most + 50, "{} reads", more_reads - reads);
        assert!(more_lists - lists <= 3, "{} listings", more_lists - lists);
    }
}

#[tokio::test]
async fn a_job_that_another_process_left_is_found() {
    let world = World::default();
    let away = world.start(done());
    away.stop.cancel();
    settle().await;
    let process = world.start(done());
    settle().await;
    let id = world.submit(&away, "a").await;
    drop(away);
    world.pass(POLL * 9).await;
    assert_eq!(process.record(id).await.state, JobState::Done);
}

#[tokio::test]
async fn what_is_corrupt_does_not_stop_the_others() {
    let world = World::default();
    world.cloud.put("slots/test/broken", "{");
    world.cloud.put("slots/test/strange=zz", "{}");
    let process = world.start(done());
    let id = world.submit(&process, "a").await;
    world.pass(POLL * 8).await;
    assert_eq!(process.record(id).await.state, JobState::Done);
    assert!(process.jobs.open_at("test", "broken").await.is_err());
    assert!(process.jobs.open().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_job_is_followed_to_its_end_wherever_it_runs() {
    let world = World::default();
    let clock = Arc::clone(&world.clock);
    let steps = work(move |job| {
        let clock = Arc::clone(&clock);
        async move {
            for step in 1..=5 {
                job.progress(json!(step));
                clock.sleep(Duration::from_secs(12)).await;
            }
            Outcome::Done(json!("all"))
        }
    });
    let (one, two) = (world.start(Arc::clone(&steps)), world.start(steps));
    world.pass(POLL).await;
    let id = world.submit(&one, "a").await;
    settle().await;
    let follow = |process: &crate::harness::Process| {
        let mut watch = process.jobs.watch("test", "a");
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(record) = watch.next().await {
                seen.push(record.unwrap());
            }
            seen
        })
    };
    let (here, there) = (follow(&one), follow(&two));
    world.pass(Duration::from_secs(70)).await;
    for seen in [here.await.unwrap(), there.await.unwrap()] {
        assert!(seen.iter().all(|record| record.id == id));
        let last = seen.last().unwrap();
        assert_eq!((last.state, &last.result), (JobState::Done, &json!("all")));
        assert!(seen.len() >= 5, "{} changes were seen", seen.len());
    }
    assert!(one.jobs.watch("test", "a").next().await.is_none());
    assert!(one.jobs.watch("test", "").next().await.unwrap().is_err());
}

#[tokio::test]
async fn an_end_is_seen_before_it_is_in_the_history() {
    let (world, go) = (World::default(), Arc::new(Notify::new()));
    let told = Arc::clone(&go);
    let process = world.start(work(move |_| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            Outcome::Done(json!("all"))
        }
    }));
    let id = world.submit(&process, "a").await;
    settle().await;
    let mut watch = process.jobs.watch("test", "a");
    let end = tokio::spawn(async move {
        while let Some(record) = watch.next().await {
            let record = record.unwrap();
            if record.state.is_ended() {
                return record;
            }
        }
        panic!("no end was seen");
    });
    settle().await;
    let end_is_written = process.line.hold_an_answer(Answer::Right);
    go.notify_one();
    settle().await;
    let history_is_written = process.line.hold_an_answer(Answer::Right);
    end_is_written.notify_one();
    // No time passes, and the history is not answered for.
    let record = end.await.unwrap();
    assert_eq!((record.id, record.result), (id, json!("all")));
    assert_eq!(process.record(id).await.state, JobState::Done);
    history_is_written.notify_one();
    settle().await;
    assert_eq!(process.jobs.history("test", "a", 9).await.unwrap().len(), 1);
}
