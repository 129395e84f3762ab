use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roadstead_jobs::{JobState, NewJob, Outcome, Submitted};
use serde_json::json;
use telemetry::Clock;

use crate::harness::{LEASE, POLL, World, done, endless, settle, work};
use crate::state::Answer;

#[tokio::test]
async fn the_job_of_a_process_that_died_is_taken_over_from_its_checkpoint_when_its_lease_is_over() {
    let world = World::default();
    let saves = work(|job| async move {
        job.save(json!("half")).await.unwrap();
        std::future::pending().await
    });
    let dead = world.start(saves);
    let id = world.submit(&dead, "a").await;
    settle().await;
    drop(dead);
    let process = world.start(work(|job| async move { Outcome::Done(job.checkpoint()) }));
    world.pass_almost(LEASE).await;
    assert_eq!(process.record(id).await.state, JobState::Running);
    world.pass(Duration::from_secs(1)).await;
    let record = process.record(id).await;
    assert_eq!((record.state, record.result, record.lost, record.epoch), (JobState::Done, json!("half"), 1, 2));
}

#[tokio::test]
async fn a_process_that_is_alone_takes_over_at_once() {
    let world = World::default();
    let dead = world.start_alone(endless());
    let id = world.submit(&dead, "a").await;
    settle().await;
    drop(dead);
    let process = world.start_alone(done());
    settle().await;
    assert_eq!(process.record(id).await.state, JobState::Done);
}

#[tokio::test]
async fn a_job_that_is_heard_of_is_left_alone_however_long_it_takes() {
    let world = World::default();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let long = work(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    });
    let (one, two) = (world.start(Arc::clone(&long)), world.start(long));
    let id = world.submit(&one, "a").await;
    world.pass(LEASE * 10).await;
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    let record = two.record(id).await;
    assert_eq!((record.epoch, record.lost), (1, 0));
    assert!(record.lease.unwrap().beat >= 29);
}

#[tokio::test]
async fn a_holder_that_cannot_reach_the_state_drops_its_work_before_another_begins() {
    let world = World::default();
    let working = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let guarded = {
        let (working, most) = (Arc::clone(&working), Arc::clone(&most));
        work(move |job| {
            let (working, most) = (Arc::clone(&working), Arc::clone(&most));
            async move {
                struct Leaves(Arc<AtomicUsize>);
                impl Drop for Leaves {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                most.fetch_max(working.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let _leaves = Leaves(working);
                job.save(json!(job.record().epoch)).await.unwrap();
                if job.record().epoch == 1 {
                    std::future::pending::<()>().await;
                }
                Outcome::Done(job.checkpoint())
            }
        })
    };
    let (one, two) = (world.start(Arc::clone(&guarded)), world.start(guarded));
    let id = world.submit(&one, "a").await;
    settle().await;
    one.line.cut(true);
    world.pass_almost(LEASE * 5 / 6).await;
    assert_eq!(working.load(Ordering::Relaxed), 1);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(working.load(Ordering::Relaxed), 0);
    assert_eq!(two.record(id).await.epoch, 1);
    world.pass(LEASE + POLL).await;
    assert_eq!((working.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (0, 1));
    let record = two.record(id).await;
    assert_eq!((record.state, record.result), (JobState::Done, json!(2)));
    let text = one.metrics.encode();
    assert!(text.contains(r#"roadstead_job_leases_lost_total{kind="test"} 1"#), "{text}");
    // It can be reached again: the loop has gone on.
    one.line.cut(false);
    drop(two);
    world.pass(POLL * 2).await;
    let id = world.submit(&one, "b").await;
    settle().await;
    assert_eq!(one.record(id).await.state, JobState::Running);
}

#[tokio::test]
async fn a_result_is_written_when_the_state_can_be_reached_again() {
    let world = World::default();
    let process = world.start(work(|job| async move {
        job.cancelled().cancelled().await;
        Outcome::Done(json!("all"))
    }));
    let id = world.submit(&process, "a").await;
    settle().await;
    process.jobs.cancel(id, "me").await.unwrap();
    process.line.cut(true);
    world.pass(LEASE * 5).await;
    process.line.cut(false);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(process.record(id).await.state, JobState::Done);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_again() {
    let world = World::default();
    let saves = work(|job| async move {
        job.save(json!(1)).await.unwrap();
        job.cancelled().cancelled().await;
        Outcome::Done(job.checkpoint())
    });
    let process = world.start(saves);
    settle().await;
    // Of a claim.
    let due = world.clock.now() + Duration::from_secs(1);
    let Submitted::New(id) = process.jobs.submit(NewJob { due, ..world.job("a") }).await.unwrap() else { panic!() };
    process.line.lose_an_answer();
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(process.record(id).await.checkpoint, json!(1));
    // Of a renewal.
    process.line.lose_an_answer();
    world.pass(LEASE).await;
    // Of the end, which is tried again at another time.
    process.jobs.cancel(id, "me").await.unwrap();
    process.line.lose_an_answer();
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(process.record(id).await.state, JobState::Done);
    let text = process.metrics.encode();
    assert!(text.contains(r#"roadstead_job_runs_total{kind="test",outcome="done"} 1"#), "{text}");
    assert!(!text.contains("roadstead_job_leases_lost_total{"), "{text}");
    assert_eq!(process.jobs.history("test", "a", 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_end_that_another_process_brought_to_the_history_meanwhile_is_no_lost_lease() {
    let world = World::default();
    let waits = work(|job| async move {
        job.cancelled().cancelled().await;
        Outcome::Done(json!(1))
    });
    let (one, two) = (world.start(Arc::clone(&waits)), world.start(waits));
    let id = world.submit(&one, "a").await;
    world.pass(POLL * 2).await;
    one.jobs.cancel(id, "me").await.unwrap();
    let told = one.line.hold_an_answer(Answer::Wrong);
    world.pass(POLL * 2).await;
    assert_eq!(two.record(id).await.state, JobState::Done);
    told.notify_one();
    world.pass(Duration::from_secs(2)).await;
    let text = one.metrics.encode();
    assert!(text.contains(r#"roadstead_job_runs_total{kind="test",outcome="done"} 1"#), "{text}");
}

#[tokio::test]
async fn a_lease_counts_from_when_its_renewal_was_sent_not_from_when_it_was_answered() {
    let world = World::default();
    let alive = Arc::new(());
    let held = Arc::downgrade(&alive);
    let holds = work(move |_| {
        let alive = Arc::clone(&alive);
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Outcome::Yield(json!(null))
        }
    });
    let process = world.start(holds);
    world.submit(&process, "a").await;
    settle().await;
    let told = process.line.hold_an_answer(Answer::Right);
    // It is sent after a third, and answered shortly before the first lease is given up.
    world.pass_almost(LEASE * 5 / 6).await;
    process.line.cut(true);
    told.notify_one();
    world.pass(LEASE / 3).await;
    assert_eq!(held.strong_count(), 2);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(held.strong_count(), 1);
}

#[tokio::test]
async fn a_state_that_takes_no_writes_is_not_asked_without_end() {
    let world = World::default();
    let process = world.start_alone(done());
    let due = world.clock.now() + Duration::from_secs(1);
    process.jobs.submit(NewJob { due, ..world.job("a") }).await.unwrap();
    settle().await;
    process.line.cut(true);
    let before = process.line.calls();
    world.pass(Duration::from_mins(1)).await;
    let calls = process.line.calls() - before;
    assert!((20..200).contains(&calls), "{calls} calls");
    process.line.cut(false);
    world.pass(POLL).await;
    assert!(process.jobs.open().await.unwrap().is_empty());
}

#[tokio::test]
async fn progress_and_lines_are_written_with_the_next_renewal() {
    let world = World::default();
    let one = world.start(work(|job| async move {
        job.progress(json!({ "bytes": 7 }));
        job.log(roadstead_jobs::Level::Warn, "slow");
        std::future::pending().await
    }));
    let two = world.start(endless());
    let id = world.submit(&one, "a").await;
    settle().await;
    assert_eq!(one.record(id).await.progress, json!({ "bytes": 7 }));
    assert!(two.record(id).await.progress.is_null());
    world.pass(LEASE / 3).await;
    let record = two.record(id).await;
    assert_eq!((record.progress, record.log[0].text.as_str()), (json!({ "bytes": 7 }), "slow"));
}
