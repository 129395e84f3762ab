use std::time::Duration;

use roadstead_certs::acme::{Challenge, Did, Settings};
use roadstead_certs::{Origin, Problem};

use crate::front::{echoes, shown};
use crate::stage::{NAME, Stage};

async fn is_issued(challenges: &[Challenge]) {
    let stage = Stage::new(challenges).await;
    let client = stage.client().await;
    let replica = stage.replica();
    assert_eq!(replica.facts().origin, Origin::Placeholder);
    assert!(matches!(replica.problems(stage.now())[..], [Problem::Placeholder { reason: None, .. }]));
    assert!(stage.front.connect(&client, NAME).await.is_err());

    assert_eq!(replica.turn().await, Did::Ordered);
    let facts = replica.facts();
    assert_eq!((facts.origin, facts.names), (Origin::Acme, vec![NAME.to_owned()]));
    assert_eq!(replica.problems(stage.now()), []);
    let mut stream = stage.front.connect(&client, NAME).await.unwrap();
    assert!(echoes(&mut stream).await);
    assert!(matches!(replica.turn().await, Did::Nothing { renewal } if renewal > stage.now()));
    assert_eq!(stage.orders(), 1);
}

#[tokio::test]
async fn the_first_certificate_is_issued_by_tls_alpn_and_served() {
    is_issued(&[Challenge::TlsAlpn01]).await;
}

#[tokio::test]
async fn the_first_certificate_is_issued_by_http_and_served() {
    is_issued(&[Challenge::Http01]).await;
}

#[tokio::test]
async fn a_certificate_can_have_several_names() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let client = stage.client().await;
    let domains = vec!["Mirror.example.test".to_owned(), NAME.to_owned()];
    let replica = stage.replica_of(&Settings { domains, ..stage.settings.clone() });
    assert_eq!(replica.turn().await, Did::Ordered);
    for name in ["mirror.example.test", NAME] {
        stage.front.connect(&client, name).await.unwrap();
    }
}

#[tokio::test]
async fn after_a_restart_the_kept_certificate_is_served_before_the_server_is_asked_for_anything() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let client = stage.client().await;
    assert_eq!(stage.replica().turn().await, Did::Ordered);
    let before = shown(&stage.front.connect(&client, NAME).await.unwrap());
    let exchanges = stage.exchanges();

    let again = stage.replica();
    assert!(again.acme.load().await.unwrap());
    assert!(!again.acme.load().await.unwrap());
    assert_eq!(stage.exchanges(), exchanges);
    assert_eq!(shown(&stage.front.connect(&client, NAME).await.unwrap()), before);
    assert!(matches!(again.turn().await, Did::Nothing { .. }));
    assert_eq!(stage.orders(), 1);
}

#[tokio::test]
async fn another_name_is_a_new_certificate_and_until_it_comes_the_old_one_is_served() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let client = stage.client().await;
    assert_eq!(stage.replica().turn().await, Did::Ordered);
    let domains = vec![NAME.to_owned(), "mirror.example.test".to_owned()];
    let wider = stage.replica_of(&Settings { domains, ..stage.settings.clone() });
    assert!(wider.acme.load().await.unwrap());
    stage.front.connect(&client, NAME).await.unwrap();
    assert!(stage.front.connect(&client, "mirror.example.test").await.is_err());

    assert_eq!(wider.turn().await, Did::Ordered);
    stage.front.connect(&client, "mirror.example.test").await.unwrap();
    // The account is the same, and so is the certificate of a replica that has the old settings still.
    assert_eq!(stage.server.made("/sign-me-up"), 1);
    let old = stage.replica();
    assert_eq!(old.turn().await, Did::Took);
    assert_eq!(old.facts().names, [NAME]);
    assert_eq!(stage.orders(), 2);
}

#[tokio::test]
async fn other_contacts_are_told_to_the_server_and_the_account_stays() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    assert_eq!(stage.replica().turn().await, Did::Ordered);
    let contact = vec!["others@example.test".to_owned()];
    let domains = vec!["mirror.example.test".to_owned()];
    let other = stage.replica_of(&Settings { contact, domains, ..stage.settings.clone() });
    assert_eq!(other.turn().await, Did::Ordered);
    assert_eq!((stage.server.made("/sign-me-up"), stage.server.asked("/my-account/").min(1)), (1, 1));
    let (_, account) = stage.store.object("account-").unwrap();
    assert!(String::from_utf8_lossy(&account).contains("mailto:others@example.test"));
}

#[tokio::test]
async fn the_next_turn_is_soon_enough_to_see_what_others_do() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    for _ in 0..2 {
        let again = replica.acme.turn().await.again;
        assert!(again >= Duration::from_mins(5) && again <= Duration::from_mins(15), "{again:?}");
    }
}
