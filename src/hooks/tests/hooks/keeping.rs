use std::time::Duration;

use roadstead_hooks::{Dialect, Options};

use crate::harness::{World, endpoint, options, push, settle, until};
use crate::receiver::{Receiver, Reply};

#[tokio::test]
async fn a_server_that_is_killed_before_it_hears_the_answer_delivers_again_with_the_same_id() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    receiver.answer([Reply::Hang]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || receiver.received().len() == 1).await;
    drop(server);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    server.sweep(&world).await;
    world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
    assert_eq!(receiver.ids(), ["micro.a-1", "micro.a-1"]);
}

#[tokio::test]
async fn what_was_delivered_and_not_removed_is_delivered_again_with_the_same_id() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    world.records.fail_a_removal();
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || receiver.received().len() == 1).await;
    settle().await;
    assert_eq!(server.pending().await, 1);
    world.pass_until(Duration::from_mins(1), async || server.pending().await == 0).await;
    assert_eq!(receiver.ids(), ["micro.a-1", "micro.a-1"]);
    assert!(server.dead().await.is_empty());
}

#[tokio::test]
async fn a_state_that_fails_in_the_middle_loses_nothing() {
    for part in ["argo/queue", "argo/recent"] {
        let (world, receiver) = (World::default(), Receiver::start().await);
        let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
        server.hooks.enqueue(&push("micro/a", 1)).await.unwrap();
        let lanes = server.hooks.waiting().await.unwrap();
        world.records.fail_once(part);
        server.jobs.submit(lanes[0].job(telemetry::Clock::now(world.clock.as_ref()), "registry")).await.unwrap();
        world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
        assert_eq!(receiver.ids(), ["micro.a-1"], "{part}");
    }
}

#[tokio::test]
async fn a_server_that_stops_gives_the_lane_back_and_the_next_goes_on() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let mut server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    receiver.answer([Reply::Hang]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || receiver.received().len() == 1).await;
    server.stop.cancel();
    settle().await;
    assert!(!server.task.is_finished(), "the delivery under way had no time");
    world.clock.advance(Duration::from_secs(5));
    (&mut server.task).await.unwrap();
    assert_eq!(server.pending().await, 1);
    let next = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    world.pass_until(Duration::from_secs(30), async || next.pending().await == 0).await;
}

#[tokio::test]
async fn a_queue_that_is_full_gives_up_its_oldest_and_says_why() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let small = Options { queue: 3, dead: 2, ..options() };
    let hooks = world.hooks(vec![endpoint(&receiver, Dialect::Harbor)], small);
    for n in 1..=6 {
        hooks.enqueue(&push(&format!("micro/{n}"), n)).await.unwrap();
        assert!(hooks.pending("argo").await.unwrap() <= 3);
    }
    let lanes: Vec<String> = hooks.waiting().await.unwrap().iter().map(roadstead_hooks::Lane::key).collect();
    assert_eq!(lanes, ["argo/micro=4", "argo/micro=5", "argo/micro=6"]);
    let dead = hooks.dead("argo").await.unwrap();
    let ids: Vec<&str> = dead.iter().map(|dead| dead.id.as_str()).collect();
    // Of three that were given up two are kept.
    assert_eq!(ids, ["micro.2-2", "micro.3-3"]);
    assert_eq!(dead[0].reason, "more than 3 events waited for the endpoint");
}

#[tokio::test]
async fn a_long_queue_is_bounded_without_being_counted_for_every_event() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let hooks = world.hooks(vec![endpoint(&receiver, Dialect::Harbor)], Options { queue: 640, ..options() });
    for n in 1..=1000 {
        hooks.enqueue(&push("micro/a", n)).await.unwrap();
    }
    let (pending, dead) = (hooks.pending("argo").await.unwrap(), hooks.dead("argo").await.unwrap().len());
    assert!((630..=640).contains(&pending), "{pending}");
    assert_eq!(pending + dead, 1000);
    assert!(world.records.lists() < 1000, "{}", world.records.lists());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_hold_up_the_others() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    world.records.put("argo/queue/000000000001-broken=micro=a", "{");
    world.records.put("argo/queue/foreign", "{");
    world.records.put("argo/recent", "{");
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(1), async || server.pending().await == 0).await;
    assert_eq!(receiver.ids(), ["micro.a-1"]);
    assert_eq!(server.dead().await, [("broken".to_owned(), "its record could not be read".to_owned())]);
    assert_eq!(server.recent().await.len(), 1);
}
