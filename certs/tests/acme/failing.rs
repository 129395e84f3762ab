use std::sync::atomic::Ordering;
use std::time::Duration;

use roadstead_certs::acme::{Challenge, Did, Error, Settings};

use crate::server::{Instead, problem};
use crate::stage::{NAME, Stage};

#[tokio::test]
async fn a_server_that_is_down_is_told_of_and_tried_again_later_each_time() {
    let mut stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    // Nobody listens there any more.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    stage.settings.directory = format!("https://127.0.0.1:{port}/dir");
    let replica = stage.replica();
    let (text, first) = replica.failure().await;
    assert!(text.contains(&stage.settings.directory) && text.contains("acme.ca"), "{text}");
    assert!(first >= Duration::from_mins(1) && first <= Duration::from_mins(2), "{first:?}");
    assert!(replica.problem(stage.now()).contains("cannot be reached"));

    let exchanges = stage.exchanges();
    let Did::Waits { trouble } = replica.turn().await else { panic!("it has to wait") };
    assert_eq!(trouble, text);
    // Nor does another replica, or this one after a restart.
    assert!(matches!(stage.replica().turn().await, Did::Waits { .. }));
    assert_eq!(stage.exchanges(), exchanges);

    stage.clock.advance(first);
    let (_, second) = replica.failure().await;
    assert!(second >= Duration::from_mins(4), "{second:?}");
    // It was down for long: now it is tried each quarter of an hour, and without an order none is counted.
    for _ in 0..10 {
        stage.clock.advance(Duration::from_mins(20));
        let (_, again) = replica.failure().await;
        assert!(again <= Duration::from_mins(22), "{again:?}");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_verified_is_told_and_then_proven_the_other_way() {
    let stage = Stage::new(&[Challenge::Http01, Challenge::TlsAlpn01]).await;
    stage.front.lies.store(true, Ordering::Relaxed);
    let replica = stage.replica();
    let turn = replica.acme.turn().await;
    let error = turn.outcome.unwrap_err();
    assert!(matches!(&error, Error::Unverified { domain, challenge: Challenge::Http01, .. } if domain == NAME), "{error}");
    assert!(error.to_string().contains("port 80"), "{error}");
    assert!(turn.again >= Duration::from_mins(1));
    assert!(replica.problem(stage.now()).contains("HTTP-01"));
    stage.clock.advance(turn.again);
    assert_eq!(replica.turn().await, Did::Ordered);
    assert_eq!(stage.orders(), 2);
}

#[tokio::test]
async fn orders_that_fail_are_few_in_an_hour_however_often_it_is_asked() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    stage.front.is_deaf.store(true, Ordering::Relaxed);
    let replicas = [stage.replica(), stage.replica()];
    for _ in 0..58 {
        for replica in &replicas {
            let outcome = replica.acme.turn().await.outcome;
            assert!(matches!(&outcome, Err(Error::Unverified { .. }) | Ok(Did::Waits { .. })), "{outcome:?}");
        }
        stage.clock.advance(Duration::from_mins(1));
    }
    assert!((3..=4).contains(&stage.orders()), "{}", stage.orders());
}

#[tokio::test]
async fn orders_that_were_cut_off_count_like_those_that_failed() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    stage.server.misbehave("/order-plz", usize::MAX, Instead::Silence);
    for count in 1..=4 {
        let replica = stage.replica();
        let turn = replica.acme.turn();
        tokio::pin!(turn);
        while stage.server.asked("/order-plz") < count {
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut turn).await.is_err());
        }
        stage.clock.advance(Duration::from_mins(5));
    }
    // As a server that is killed and started again and again.
    for _ in 0..7 {
        assert!(matches!(stage.replica().turn().await, Did::Waits { .. }));
        stage.clock.advance(Duration::from_mins(5));
    }
    assert_eq!(stage.server.asked("/order-plz"), 4);
}

#[tokio::test]
async fn a_server_that_names_a_time_is_left_alone_until_then() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    stage.server.misbehave("/order-plz", 1, problem(429, "rateLimited", vec![("retry-after", "7200".to_owned())]));
    let replica = stage.replica();
    let turn = replica.acme.turn().await;
    let error = turn.outcome.unwrap_err();
    assert!(matches!(error, Error::RateLimited { retry: Some(retry), .. } if retry == Duration::from_hours(2)), "{error}");
    assert!(turn.again >= Duration::from_hours(2), "{:?}", turn.again);
    let exchanges = stage.exchanges();
    stage.clock.advance(Duration::from_mins(119));
    assert!(matches!(replica.turn().await, Did::Waits { .. }));
    assert_eq!(stage.exchanges(), exchanges);
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(replica.turn().await, Did::Ordered);
}

#[tokio::test]
async fn a_nonce_that_is_refused_is_replaced_at_once() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    for path in ["/sign-me-up", "/order-plz", "/authZ/", "/finalize-order/"] {
        stage.server.misbehave(path, 1, problem(400, "badNonce", Vec::new()));
    }
    assert_eq!(stage.replica().turn().await, Did::Ordered);
    assert!(stage.orders() == 1 && stage.server.asked("/order-plz") >= 2);
}

#[tokio::test]
async fn an_account_that_the_server_has_forgotten_is_made_anew() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    assert_eq!(stage.replica().turn().await, Did::Ordered);
    stage.server.misbehave("/order-plz", 1, problem(400, "accountDoesNotExist", Vec::new()));
    let domains = vec!["mirror.example.test".to_owned()];
    let other = stage.replica_of(&Settings { domains, ..stage.settings.clone() });
    assert_eq!(other.turn().await, Did::Ordered);
    assert_eq!(stage.server.made("/sign-me-up"), 2);
}

#[tokio::test]
async fn what_is_no_acme_server_is_told_as_such() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let page = || "<html>a login page</html>".to_owned();
    for answer in [
        Instead::Answer(200, Vec::new(), page()),
        Instead::Answer(502, Vec::new(), page()),
        Instead::Answer(302, vec![("location", "https://elsewhere.example/".to_owned())], String::new()),
        Instead::Answer(
            200,
            Vec::new(),
            r#"{"newNonce":"http://127.0.0.1:1/","newAccount":"http://127.0.0.1:1/","newOrder":"http://127.0.0.1:1/"}"#
                .to_owned(),
        ),
    ] {
        stage.server.misbehave("/dir", 1, answer);
        let (text, again) = stage.replica().failure().await;
        assert!(text.contains("ACME server") && text.contains("acme.directory"), "{text}");
        stage.clock.advance(again);
    }
    assert_eq!(stage.replica().turn().await, Did::Ordered);
}

#[tokio::test]
async fn a_refusal_is_told_with_the_words_of_the_server_and_what_to_do() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    stage.server.misbehave("/order-plz", 1, problem(403, "rejectedIdentifier", Vec::new()));
    let (text, _) = stage.replica().failure().await;
    for part in ["because of a test", "rejectedIdentifier", "acme.domains"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn an_order_without_an_end_is_given_up() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    stage.server.misbehave("/order-plz", 1, Instead::Silence);
    let replica = stage.replica();
    let forward = async {
        while stage.server.asked("/order-plz") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.clock.advance(Duration::from_secs(239));
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.clock.advance(Duration::from_secs(1));
    };
    let (failure, ()) = tokio::join!(replica.failure(), forward);
    assert!(failure.0.contains("240 s"), "{}", failure.0);
    stage.clock.advance(failure.1);
    assert_eq!(replica.turn().await, Did::Ordered);
}
