use std::time::Duration;

use roadstead_hooks::{AttemptOutcome, Dialect, Endpoint, Options};
use url::Url;

use crate::harness::{World, endpoint, options, push, settle, until};
use crate::receiver::{Receiver, Reply};

#[tokio::test]
async fn a_receiver_that_hangs_is_left_when_its_time_is_over_and_asked_again() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let short = Endpoint { timeout: Duration::from_secs(4), ..endpoint(&receiver, Dialect::Harbor) };
    let server = world.start(vec![short]);
    receiver.answer([Reply::Hang]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || receiver.received().len() == 1).await;
    world.clock.advance(Duration::from_secs(3));
    settle().await;
    assert!(server.recent().await.is_empty());
    world.clock.advance(Duration::from_secs(1));
    until(async || server.recent().await.len() == 1).await;
    let first = &server.recent().await[0];
    assert_eq!((first.outcome, first.status, first.duration_ms), (AttemptOutcome::Failed, None, 4000));
    assert_eq!(first.reason.as_deref(), Some("there was no answer within 4000 ms"));
    world.pass_until(Duration::from_secs(10), async || server.pending().await == 0).await;
    assert_eq!(receiver.ids(), ["micro.a-1", "micro.a-1"]);
}

#[tokio::test]
async fn a_retry_after_is_waited_for_and_not_less() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
    receiver.answer([Reply::Status(429, "Retry-After: 120\r\n", String::new())]);
    server.tell(&world, &push("micro/a", 1)).await;
    until(async || server.recent().await.len() == 1).await;
    for _ in 0..119 {
        world.clock.advance(Duration::from_secs(1));
    }
    settle().await;
    assert_eq!(receiver.received().len(), 1);
    world.clock.advance(Duration::from_secs(1));
    until(async || server.pending().await == 0).await;
}

#[tokio::test]
async fn a_redirect_is_never_followed_and_accepted_only_where_it_always_was() {
    let (world, receiver, elsewhere) = (World::default(), Receiver::start().await, Receiver::start().await);
    let lines: &'static str = Box::leak(format!("Location: {}\r\n", elsewhere.url).into_boxed_str());
    receiver.always(Reply::Status(302, lines, String::new()));
    let named = |name: &str, dialect| Endpoint { name: name.to_owned(), ..endpoint(&receiver, dialect) };
    let server = world.start(vec![named("argo", Dialect::Harbor), named("keel", Dialect::Distribution)]);
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(2), async || !server.dead().await.is_empty()).await;
    let (_, reason) = &server.dead().await[0];
    assert!(reason.contains("answered 302") && reason.contains("redirect"), "{reason}");
    assert_eq!(server.hooks.pending("keel").await.unwrap(), 0);
    assert!(server.hooks.dead("keel").await.unwrap().is_empty());
    assert!(elsewhere.received().is_empty());
    // Three of the one, one of the other.
    assert_eq!(receiver.received().len(), 4);
}

#[tokio::test]
async fn what_is_refused_is_given_up_after_a_few_attempts_and_the_next_goes_on() {
    for status in [400, 401, 403, 404, 410, 413, 422] {
        let (world, receiver) = (World::default(), Receiver::start().await);
        let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
        receiver.answer(vec![Reply::Status(status, "", "unsupported\nevent \u{7}type".to_owned()); 3]);
        for n in 1..=2 {
            server.tell(&world, &push("micro/a", n)).await;
        }
        world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
        assert_eq!(receiver.ids(), ["micro.a-1", "micro.a-1", "micro.a-1", "micro.a-2"], "{status}");
        let reason = format!("it answered {status}: unsupported event type");
        assert_eq!(server.dead().await, [("micro.a-1".to_owned(), reason)]);
    }
}

#[tokio::test]
async fn what_is_only_for_now_is_tried_until_it_is_too_often() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let (world, receiver) = (World::default(), Receiver::start().await);
        let server = world.start_with(vec![endpoint(&receiver, Dialect::Harbor)], Options { attempts: 6, ..options() });
        receiver.answer(vec![Reply::status(status); 6]);
        for n in 1..=2 {
            server.tell(&world, &push("micro/a", n)).await;
        }
        world.pass_until(Duration::from_mins(10), async || server.pending().await == 0).await;
        assert_eq!(receiver.received().len(), 7, "{status}");
        assert_eq!(server.dead().await, [("micro.a-1".to_owned(), format!("it answered {status}"))]);
    }
}

#[tokio::test]
async fn what_is_too_old_is_given_up_at_its_next_failure() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let young = Options { age: Duration::from_mins(1), ..options() };
    let server = world.start_with(vec![endpoint(&receiver, Dialect::Harbor)], young);
    receiver.always(Reply::status(500));
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(5), async || server.pending().await == 0).await;
    let dead = &server.hooks.dead("argo").await.unwrap()[0];
    assert!(dead.at - dead.since >= 60_000 && dead.attempts > 2, "{dead:?}");
}

#[tokio::test]
async fn the_waits_grow_and_stay_within_their_bounds() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let server = world.start_with(vec![endpoint(&receiver, Dialect::Harbor)], Options { attempts: 6, ..options() });
    receiver.always(Reply::status(500));
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(10), async || server.pending().await == 0).await;
    let mut times: Vec<u64> = server.recent().await.iter().map(|attempt| attempt.at / 1000).collect();
    times.reverse();
    for (n, pair) in times.windows(2).enumerate() {
        let (wait, longest) = (pair[1] - pair[0], 5 << n);
        // The clock is moved in steps of a second, and the jobs may see that a step late.
        assert!((longest / 2..=longest + 2).contains(&wait), "{n}: {wait}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    for (status, is_taken) in [(200, true), (500, false)] {
        let (world, receiver) = (World::default(), Receiver::start().await);
        let server = world.start(vec![endpoint(&receiver, Dialect::Harbor)]);
        receiver.answer([Reply::Endless(status)]);
        server.tell(&world, &push("micro/a", 1)).await;
        until(async || server.recent().await.len() == 1).await;
        let attempt = &server.recent().await[0];
        assert_eq!(attempt.status, Some(status));
        assert_eq!(attempt.outcome == AttemptOutcome::Delivered, is_taken);
    }
}

#[tokio::test]
async fn a_receiver_that_sends_our_secrets_back_does_not_bring_them_into_the_records() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let mut told = Endpoint {
        authorization: Some("Bearer hidden-1".into()),
        secret: Some("hidden-2".into()),
        ..endpoint(&receiver, Dialect::Harbor)
    };
    told.url.set_query(Some("secret=hidden-3"));
    let server = world.start(vec![told]);
    let echoes = ["got Bearer hidden-1", "got hidden-2", "POST /hook?secret=hidden-3"];
    receiver.answer(echoes.map(|echo| Reply::Status(400, "", echo.to_owned())));
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
    assert_eq!(receiver.received()[0].path, "/hook?secret=hidden-3");
    assert_eq!(server.dead().await, [("micro.a-1".to_owned(), "it answered 400".to_owned())]);
    let everything = format!("{:?} {:?}", server.recent().await, server.jobs.open().await.unwrap());
    assert!(!everything.contains("hidden"), "{everything}");
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_where_it_is_resolved() {
    let (world, receiver) = (World::default(), Receiver::start().await);
    let port = receiver.url.port().unwrap();
    for name in ["localhost", "a.localhost"] {
        let url = Url::parse(&format!("http://{name}:{port}/hook")).unwrap();
        let strict = Endpoint::new("argo", url, Dialect::Harbor);
        let refused = roadstead_hooks::Hooks::new(
            vec![strict],
            crate::harness::registry(),
            std::sync::Arc::new(world.records.clone()),
            world.clock(),
            options(),
        );
        assert!(refused.unwrap_err().to_string().contains("may not be reached"), "{name}");
    }
    let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let own = own.trim();
    let local = |address: std::net::SocketAddr| {
        address.ip().is_loopback() || matches!(address.ip(), std::net::IpAddr::V4(it) if it.is_private())
    };
    let leads_home = tokio::net::lookup_host((own, 0)).await.is_ok_and(|mut found| found.any(local));
    if !leads_home {
        eprintln!("the name of this machine leads nowhere that is refused: only the names of loopback were tried");
        return;
    }
    let url = Url::parse(&format!("http://{own}:{port}/hook")).unwrap();
    let server = world.start(vec![Endpoint { timeout: Duration::from_secs(30), ..Endpoint::new("argo", url, Dialect::Harbor) }]);
    server.tell(&world, &push("micro/a", 1)).await;
    world.pass_until(Duration::from_mins(2), async || server.pending().await == 0).await;
    assert!(server.dead().await[0].1.contains("allow_local"), "{:?}", server.dead().await);
    assert!(receiver.received().is_empty());
}
