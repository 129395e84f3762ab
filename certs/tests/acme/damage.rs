use roadstead_certs::acme::{Challenge, Did};

use crate::stage::Stage;

#[tokio::test]
async fn a_damaged_record_is_told_of_by_its_name_and_nothing_is_ordered() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    assert_eq!(stage.replica().turn().await, Did::Ordered);
    stage.store.remove("certificates");
    let mut wait = std::time::Duration::ZERO;
    for start in ["certificates", "challenges", "order-", "account-"] {
        let (key, _) = stage.store.object(start).unwrap_or_else(|| (start.to_owned(), bytes::Bytes::new()));
        stage.store.put(&key, "{\"certificates\": [\"hidden\"");
        let (text, again) = stage.replica().failure().await;
        assert!(text.contains(&format!("`acme/{key}`")) && text.contains("remove it"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(stage.orders(), 1);
        stage.store.remove(&key);
        wait = wait.max(again);
    }
    stage.clock.advance(wait);
    assert_eq!(stage.replica().turn().await, Did::Ordered);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_of_and_the_one_in_use_stays() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Ordered);
    let facts = replica.facts();
    let (key, bytes) = stage.store.object("certificates").unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap().replace("BEGIN CERTIFICATE", "BEGIN NOTHING");
    stage.store.put(&key, &text);
    let (text, _) = replica.failure().await;
    assert!(text.contains("`acme/certificates`"), "{text}");
    assert_eq!(replica.facts(), facts);
    assert_eq!(stage.orders(), 1);
}

#[tokio::test]
async fn without_the_store_nothing_is_ordered() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    stage.store.set_down(Some(""));
    let (text, again) = replica.failure().await;
    assert!(text.contains("on fire") && again.as_secs() < 60, "{text} {again:?}");
    assert_eq!(stage.exchanges(), 0);
    stage.store.set_down(None);
    assert_eq!(replica.turn().await, Did::Ordered);
}

#[tokio::test]
async fn what_was_issued_while_the_store_was_full_is_served_and_kept_later_without_another_order() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let client = stage.client().await;
    let replica = stage.replica();
    stage.store.set_full(Some("certificates"));
    let (text, _) = replica.failure().await;
    assert!(text.contains("cannot be kept"), "{text}");
    stage.front.connect(&client, crate::stage::NAME).await.unwrap();
    replica.failure().await;

    stage.store.set_full(None);
    assert!(matches!(replica.turn().await, Did::Nothing { .. }));
    assert_eq!(stage.replica().turn().await, Did::Took);
    assert_eq!(stage.orders(), 1);
}

#[tokio::test]
async fn keys_are_in_the_store_alone() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    let turn = replica.acme.turn().await;
    let shown = format!("{:?} {:?} {turn:?}", replica.acme, replica.tls);
    let (_, kept) = stage.store.object("certificates").unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let key = kept["certificates"][0]["key"].as_str().unwrap();
    let piece = key.lines().nth(1).unwrap();
    assert!(key.contains("PRIVATE KEY") && !shown.contains(piece) && !shown.contains("PRIVATE"), "{shown}");
}
