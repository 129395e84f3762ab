use std::time::Duration;

use roadstead_hooks::{AttemptOutcome, Dialect, Endpoint, EndpointError, HookError, Hooks};

use crate::harness::{World, endpoint, options, push, registry, settle, until};
use crate::receiver::{Receiver, Reply};

#[tokio::test]
async fn a_dead_delivery_is_made_again_when_an_operator_asks_for_it() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    receiver.answer(vec![Reply::status(410); 3]);
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
    let dead = &server.hooks.dead("argo").await.unwrap()[0];
    assert_eq!((dead.attempts, dead.event.as_ref()), (3, Some(&push("micro/a", 1))));
    let lane = server.hooks.redeliver("argo", "micro.a-1").await.unwrap();
    assert!(server.dead().await.is_empty());
    server.jobs.submit(lane.job(telemetry::Clock::now(world.clock.as_ref()), "operator")).await.unwrap();
    world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
    assert_eq!(receiver.ids(), ["micro.a-1"; 4]);
    let outcomes: Vec<AttemptOutcome> = server.recent().await.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::Delivered, AttemptOutcome::Dead, AttemptOutcome::Failed, AttemptOutcome::Failed]);
}

#[tokio::test]
async fn what_is_not_there_cannot_be_shown_or_made_again() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let hooks = world.hooks(vec![endpoint(&receiver, Dialect::Harbor)], options());
    assert!(matches!(hooks.pending("other").await, Err(HookError::Unknown { .. })));
    assert!(matches!(hooks.dead("other").await, Err(HookError::Unknown { .. })));
    assert!(matches!(hooks.recent("../argo").await, Err(HookError::Unknown { .. })));
    assert!(matches!(hooks.redeliver("argo", "1").await, Err(HookError::NotDead { .. })));
}

#[tokio::test]
async fn the_last_attempts_are_shown_and_no_more_than_twenty() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    for n in 1..=25 {
        server.hooks.enqueue(&push("micro/a", n)).await.unwrap();
    }
    server.sweep(&world).await;
    until(async || server.pending().await == 0).await;
    let recent = server.recent().await;
    assert_eq!(recent.len(), 20);
    assert_eq!((recent[0].id.as_str(), recent[19].id.as_str()), ("micro.a-25", "micro.a-6"));
}

#[tokio::test]
async fn the_events_of_an_endpoint_that_is_not_configured_any_more_are_kept() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    receiver.answer([Reply::status(500)]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || server.recent().await.len() == 1).await;
    drop(server);
    let without = world.start(Vec::new());
    for _ in 0..60 {
        world.clock.advance(Duration::from_secs(1));
        settle().await;
    }
    assert!(without.hooks.waiting().await.unwrap().is_empty());
    drop(without);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    server.sweep(&world).await;
    world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn two_endpoints_of_one_name_are_refused() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let twice: Vec<Endpoint> = vec![endpoint(&receiver, Dialect::Harbor), endpoint(&receiver, Dialect::DockerHub)];
    let refused = Hooks::new(twice, registry(), std::sync::Arc::new(world.records.clone()), world.clock(), options());
    assert!(matches!(refused, Err(EndpointError::Twice { .. })));
}
