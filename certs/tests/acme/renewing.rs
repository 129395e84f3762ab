use std::sync::Arc;
use std::time::{Duration, SystemTime};

use roadstead_certs::Problem;
use roadstead_certs::acme::{Challenge, Did, Settings};

use crate::front::{echoes, shown};
use crate::stage::{NAME, Stage};
use crate::store::Forward;

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_open_connections_go_on() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let client = stage.client().await;
    let (replica, other) = (stage.replica(), stage.replica());
    assert_eq!(replica.turn().await, Did::Ordered);
    assert_eq!(other.turn().await, Did::Took);
    stage.front.lead_to(&replica);
    let mut open = stage.front.connect(&client, NAME).await.unwrap();
    let old = shown(&open);
    let facts = replica.facts();
    let lifetime = facts.not_after.duration_since(facts.not_before).unwrap();

    stage.clock.advance(lifetime.mul_f64(0.65));
    assert!(matches!(replica.turn().await, Did::Nothing { .. }));
    assert_eq!(stage.orders(), 1);

    stage.clock.advance(lifetime.mul_f64(0.03));
    assert_eq!(replica.turn().await, Did::Ordered);
    assert_eq!(shown(&open), old);
    assert!(echoes(&mut open).await);
    let new = shown(&stage.front.connect(&client, NAME).await.unwrap());
    assert_ne!(new, old);
    assert!(echoes(&mut open).await);

    // The other replica takes it over, and orders none of its own.
    assert_eq!(other.turn().await, Did::Took);
    stage.front.lead_to(&other);
    assert_eq!(shown(&stage.front.connect(&client, NAME).await.unwrap()), new);
    assert_eq!(stage.orders(), 2);
}

#[tokio::test]
async fn a_clock_that_is_wrong_does_not_order_again_and_again() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    stage.clock.advance(Duration::from_hours(30 * 365 * 24));
    assert_eq!(replica.turn().await, Did::Ordered);
    assert!(matches!(replica.problems(stage.now())[..], [Problem::NotRenewed { .. }]));
    for _ in 0..5 {
        assert!(matches!(replica.turn().await, Did::Nothing { .. }));
        stage.clock.advance(Duration::from_hours(1));
    }
    assert_eq!(stage.orders(), 1);
}

#[tokio::test]
async fn a_clock_that_was_wrong_and_is_right_again_keeps_nothing_back() {
    let mut stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let years = Duration::from_hours(30 * 365 * 24);
    stage.clock.advance(years);
    stage.server.misbehave("/order-plz", 1, crate::server::problem(403, "caa", Vec::new()));
    stage.replica().failure().await;
    stage.clock = Arc::new(Forward::new());
    stage.clock.advance(Duration::from_secs(1));
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Ordered);

    stage.store.remove("certificates");
    stage.clock.advance(years);
    let ahead = stage.replica();
    assert_eq!(ahead.turn().await, Did::Ordered);
    stage.clock = Arc::new(Forward::new());
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Took);
    let Did::Nothing { renewal } = replica.turn().await else { panic!("the certificate is new") };
    assert!(renewal < replica.facts().not_after);
}

#[tokio::test]
async fn how_long_before_its_end_a_certificate_is_renewed_can_be_set() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let month = Duration::from_hours(30 * 24);
    let replica = stage.replica_of(&Settings { renew_before: Some(month), ..stage.settings.clone() });
    assert_eq!(replica.turn().await, Did::Ordered);
    let left = replica.facts().not_after.duration_since(stage.now()).unwrap();
    stage.clock.advance(left.checked_sub(month + Duration::from_hours(1)).unwrap());
    assert!(matches!(replica.turn().await, Did::Nothing { .. }));
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(replica.turn().await, Did::Ordered);
}

#[tokio::test]
async fn what_the_server_suggests_is_heard_and_told_what_is_replaced() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let window = ("2000-01-01T00:00:00Z".to_owned(), "2000-01-02T00:00:00Z".to_owned());
    *stage.server.window.lock().unwrap() = Some(window);
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Ordered);
    // Even so not at once.
    assert!(matches!(replica.turn().await, Did::Nothing { .. }));
    stage.clock.advance(Duration::from_hours(7));
    assert_eq!(replica.turn().await, Did::Ordered);
    let replaced = stage.server.replaced.lock().unwrap().clone();
    assert_eq!(replaced.len(), 1);
    assert!(replaced[0].split_once('.').is_some_and(|(authority, serial)| !authority.is_empty() && !serial.is_empty()));
}

#[tokio::test]
async fn a_server_that_does_not_take_what_is_replaced_is_asked_without_it() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    *stage.server.window.lock().unwrap() = Some(("2000-01-01T00:00:00Z".to_owned(), "2000-01-02T00:00:00Z".to_owned()));
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Ordered);
    stage.clock.advance(Duration::from_hours(7));
    stage.server.misbehave("/order-plz", 1, crate::server::problem(409, "alreadyReplaced", Vec::new()));
    assert_eq!(replica.turn().await, Did::Ordered);
    assert!(stage.orders() == 2 && stage.server.asked("/order-plz") >= 3);
}

#[tokio::test]
async fn a_certificate_that_could_not_be_renewed_is_told_of_with_the_reason() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Ordered);
    let facts = replica.facts();
    let lifetime = facts.not_after.duration_since(facts.not_before).unwrap();
    stage.clock.advance(lifetime.mul_f64(0.8));
    stage.server.misbehave("/order-plz", 1, crate::server::problem(403, "caa", Vec::new()));
    replica.failure().await;
    let soon = |now: SystemTime| replica.tls.problems(now, lifetime).iter().map(ToString::to_string).collect::<Vec<_>>();
    let told = soon(stage.now());
    assert!(told.len() == 1 && told[0].contains(NAME) && told[0].contains("CAA"), "{told:?}");
    // Served all the same.
    stage.front.connect(&stage.client().await, NAME).await.unwrap();
}
