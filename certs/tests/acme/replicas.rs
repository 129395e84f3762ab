use roadstead_certs::acme::{Challenge, Did};

use crate::front::shown;
use crate::stage::{NAME, Stage};

#[tokio::test]
async fn of_two_replicas_one_orders_and_both_serve_what_was_issued() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let client = stage.client().await;
    let (one, other) = (stage.replica(), stage.replica());
    let mut did = [one.turn(), other.turn()].map(Box::pin);
    let [first, second] = &mut did;
    let (first, second) = tokio::join!(first, second);
    let mut both = [first, second];
    both.sort_by_key(|did| *did == Did::Ordered);
    assert_eq!(both, [Did::Another, Did::Ordered]);
    assert_eq!((stage.orders(), stage.server.made("/sign-me-up")), (1, 1));

    let mut certificates = Vec::new();
    for replica in [&one, &other] {
        replica.turn().await;
        stage.front.lead_to(replica);
        certificates.push(shown(&stage.front.connect(&client, NAME).await.unwrap()));
        assert!(matches!(replica.turn().await, Did::Nothing { .. }));
    }
    assert_eq!(certificates[0], certificates[1]);
    assert_eq!(stage.orders(), 1);
}

#[tokio::test]
async fn a_challenge_is_answered_by_the_replica_that_did_not_order() {
    for challenge in [Challenge::TlsAlpn01, Challenge::Http01] {
        let stage = Stage::new(&[challenge]).await;
        let orders = stage.replica();
        let answers = stage.replica();
        // Strangers have asked before, and in vain.
        assert_eq!(answers.acme.answer("/.well-known/acme-challenge/unknown").await, None);
        assert_eq!(orders.turn().await, Did::Ordered);
        assert_eq!(answers.turn().await, Did::Took);
    }
}

#[tokio::test]
async fn what_a_replica_has_ordered_another_takes_over_when_that_one_is_gone() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let (one, other) = (stage.replica(), stage.replica());
    stage.server.misbehave("/order-plz", 1, crate::server::Instead::Silence);
    {
        let turn = one.acme.turn();
        tokio::pin!(turn);
        while stage.server.asked("/order-plz") == 0 {
            assert!(tokio::time::timeout(std::time::Duration::from_millis(20), &mut turn).await.is_err());
        }
    }
    // It stopped in the middle, and nobody knows.
    assert_eq!(other.turn().await, Did::Another);
    stage.clock.advance(std::time::Duration::from_mins(5));
    assert_eq!(other.turn().await, Did::Ordered);
}

#[tokio::test]
async fn strangers_do_not_make_the_store_busy() {
    let stage = Stage::new(&[Challenge::Http01]).await;
    let replica = stage.replica();
    for count in 0..1000 {
        assert_eq!(replica.acme.answer(&format!("/.well-known/acme-challenge/token{count}")).await, None);
    }
    // Twice in a second at most, and this takes far less.
    assert!(stage.store.reads("challenges") <= 3, "{}", stage.store.reads("challenges"));
    let before = stage.store.reads("challenges");
    stage.clock.advance(std::time::Duration::from_mins(1));
    for path in
        ["/", "/v2/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/a/b", "/.well-known/acme-challenge/%2e"]
    {
        assert_eq!(replica.acme.answer(path).await, None);
    }
    let long = format!("/.well-known/acme-challenge/{}", "x".repeat(129));
    assert_eq!(replica.acme.answer(&long).await, None);
    assert_eq!(stage.store.reads("challenges"), before);
}
