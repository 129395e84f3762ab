use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jsonwebtoken::Header;
use roadstead_auth::{Fetch, FetchError, Oidc, Provider, Refusal};
use serde_json::{Value, json};
use url::Url;

use crate::harness::{World, named, provider};
use crate::issuer::{ED, Issuer, Mood, OTHER_RSA, P256, RSA};

/// More often than this no issuer is asked.
const PAUSE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_hours(1);

async fn setting() -> (World, Issuer, Oidc) {
    let (world, issuer) = (World::new(), Issuer::start(&[&RSA]).await);
    let oidc = world.oidc(vec![provider("git", &issuer)]);
    (world, issuer, oidc)
}

/// A fresh token of the key that the issuer has.
fn good(world: &World, issuer: &Issuer) -> String {
    RSA.sign(&world.claims(issuer, &json!({ "jti": world.now() })))
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_however_many_tokens_name_it() {
    let (world, issuer, oidc) = setting().await;
    assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
    let unknown = |kid: usize| {
        let header = Header { kid: Some(format!("k{kid}")), ..RSA.header() };
        RSA.sign_with(&header, &world.claims(&issuer, &json!({})))
    };
    let tokens: Vec<String> = (0..1000).map(unknown).collect();
    for token in &tokens {
        assert_eq!(named(&oidc, token).await, Err(Refusal::Key));
    }
    assert_eq!(issuer.asked(), (1, 1), "it was asked a moment ago");
    world.clock.advance(PAUSE);
    let together: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let oidc = oidc.clone();
            tokio::spawn(async move { named(&oidc, &token).await })
        })
        .collect();
    for one in together {
        assert_eq!(one.await.unwrap(), Err(Refusal::Key));
    }
    assert_eq!(issuer.asked(), (2, 2));
    assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
}

#[tokio::test]
async fn a_new_key_is_taken_at_once_and_an_old_one_until_it_is_gone() {
    let (world, issuer, oidc) = setting().await;
    let lasting = json!({ "exp": world.now() + 86_400 });
    let old = RSA.sign(&world.claims(&issuer, &lasting));
    assert!(named(&oidc, &old).await.is_ok());
    world.clock.advance(PAUSE);
    issuer.publish(&[&P256, &RSA]);
    let new = P256.sign(&world.claims(&issuer, &lasting));
    assert!(named(&oidc, &new).await.is_ok());
    assert!(named(&oidc, &old).await.is_ok());
    assert_eq!(issuer.asked().1, 2);
    issuer.publish(&[&P256]);
    world.clock.advance(HOUR);
    // Answered by the keys that are known, while they are fetched again.
    assert!(named(&oidc, &old).await.is_ok());
    world.settle().await;
    assert_eq!(named(&oidc, &old).await, Err(Refusal::Key));
    assert!(named(&oidc, &new).await.is_ok());
    issuer.publish(&[]);
    world.clock.advance(HOUR);
    let _ = named(&oidc, &new).await;
    world.settle().await;
    assert_eq!(named(&oidc, &new).await, Err(Refusal::Key));
}

#[tokio::test]
async fn another_key_under_the_same_name_ends_what_the_first_has_signed() {
    let (world, issuer, oidc) = setting().await;
    let old = RSA.sign(&world.claims(&issuer, &json!({ "exp": world.now() + 86_400 })));
    assert!(named(&oidc, &old).await.is_ok());
    issuer.publish(&[&OTHER_RSA]);
    world.clock.advance(HOUR);
    let _ = named(&oidc, &old).await;
    world.settle().await;
    assert_eq!(named(&oidc, &old).await, Err(Refusal::Signature));
    assert!(named(&oidc, &OTHER_RSA.sign(&world.claims(&issuer, &json!({})))).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_down_at_first_is_asked_again_later() {
    for mood in [Mood::Broken, Mood::Gone, Mood::Page, Mood::Elsewhere] {
        let (world, issuer, oidc) = setting().await;
        issuer.mood(mood);
        let token = good(&world, &issuer);
        for _ in 0..3 {
            assert_eq!(named(&oidc, &token).await, Err(Refusal::Unreachable), "{mood:?}");
        }
        // A connection that breaks may be tried a second time by the way out.
        assert!(issuer.asked().1 <= 2, "{mood:?}");
        issuer.mood(Mood::Good);
        assert_eq!(named(&oidc, &token).await, Err(Refusal::Unreachable), "{mood:?}");
        world.clock.advance(PAUSE);
        assert!(named(&oidc, &token).await.is_ok(), "{mood:?}");
    }
}

#[tokio::test]
async fn the_last_keys_are_used_for_a_day_while_the_issuer_is_down() {
    let (world, issuer, oidc) = setting().await;
    assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
    issuer.mood(Mood::Broken);
    for _ in 0..23 {
        world.clock.advance(HOUR);
        assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
        world.settle().await;
    }
    assert_eq!(issuer.asked().1, 24);
    let remembered = RSA.sign(&world.claims(&issuer, &json!({ "exp": world.now() + 86_400 })));
    assert!(named(&oidc, &remembered).await.is_ok());
    world.clock.advance(HOUR);
    assert_eq!(named(&oidc, &remembered).await, Err(Refusal::Unreachable));
    assert_eq!(named(&oidc, &good(&world, &issuer)).await, Err(Refusal::Unreachable));
    issuer.mood(Mood::Good);
    world.clock.advance(PAUSE);
    assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
}

#[tokio::test]
async fn no_more_than_a_mebibyte_of_keys_is_read() {
    for mood in [Mood::Huge, Mood::Endless] {
        let (world, issuer, oidc) = setting().await;
        issuer.mood(mood);
        assert_eq!(named(&oidc, &good(&world, &issuer)).await, Err(Refusal::Unreachable), "{mood:?}");
        // What was on its way is in the buffers of the sockets.
        assert!(issuer.sent() < 32 << 20, "{mood:?}: {}", issuer.sent());
    }
}

#[tokio::test]
async fn an_issuer_that_dawdles_is_not_waited_for() {
    let (world, issuer, oidc) = setting().await;
    issuer.mood(Mood::Slow);
    let token = good(&world, &issuer);
    let asking = tokio::spawn({
        let (oidc, token) = (oidc.clone(), token.clone());
        async move { named(&oidc, &token).await }
    });
    while world.clock.sleepers() == 0 || issuer.asked().1 == 0 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(Duration::from_millis(9_999));
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(asking.await.unwrap(), Err(Refusal::Unreachable));
    issuer.mood(Mood::Good);
    world.clock.advance(PAUSE);
    assert!(named(&oidc, &token).await.is_ok());
}

#[tokio::test]
async fn whoever_waits_for_keys_may_leave_and_they_come_all_the_same() {
    let (world, issuer, oidc) = setting().await;
    let token = good(&world, &issuer);
    {
        let asking = oidc.verify(&token);
        let mut asking = std::pin::pin!(asking);
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(asking.as_mut().poll(context).is_ready())).await;
        assert!(!polled, "there are no keys yet");
    }
    world.settle().await;
    assert_eq!(issuer.asked(), (1, 1));
    assert!(named(&oidc, &token).await.is_ok());
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test]
async fn an_issuer_that_calls_itself_otherwise_is_not_believed() {
    let (world, issuer, _) = setting().await;
    let keys = format!("{}/keys", issuer.url());
    for described in [
        json!({ "issuer": "https://git.example.org", "jwks_uri": keys }),
        json!({ "issuer": format!("{}/", issuer.url()), "jwks_uri": keys }),
        json!({ "issuer": issuer.url() }),
        json!({ "jwks_uri": keys }),
        json!({ "issuer": issuer.url(), "jwks_uri": "http://keys.example.org/keys" }),
        json!({ "issuer": issuer.url(), "jwks_uri": "http://169.254.169.254/keys" }),
        json!({ "issuer": issuer.url(), "jwks_uri": "https://169.254.169.254/keys" }),
        json!({ "issuer": issuer.url(), "jwks_uri": "file:///etc/passwd" }),
        json!({ "issuer": issuer.url(), "jwks_uri": "keys" }),
        json!({ "issuer": issuer.url(), "jwks_uri": keys.replace("http://", "http://user:password@") }),
        json!([]),
    ] {
        issuer.describe(described.clone());
        let oidc = world.oidc(vec![provider("git", &issuer)]);
        assert_eq!(named(&oidc, &good(&world, &issuer)).await, Err(Refusal::Unreachable), "{described}");
    }
    assert_eq!(issuer.asked().1, 0);
}

/// An issuer over https that says where its keys are.
struct Published {
    discovery: Value,
    asked: AtomicUsize,
}

#[async_trait]
impl Fetch for Published {
    async fn fetch(&self, url: &Url, _limit: usize) -> Result<Bytes, FetchError> {
        if url.path().ends_with("openid-configuration") {
            return Ok(self.discovery.to_string().into());
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(json!({ "keys": [RSA.public()] }).to_string().into())
    }

    fn may_lead(&self, _from: &Url, to: &Url) -> Result<(), FetchError> {
        let refused = FetchError::Status { url: to.to_string(), status: http::StatusCode::FORBIDDEN };
        if to.host_str() == Some("metadata.example.org") { Err(refused) } else { Ok(()) }
    }
}

#[tokio::test]
async fn an_issuer_over_https_keeps_its_keys_there_too() {
    let (world, issuer, _) = setting().await;
    for (keys, may) in [
        ("http://127.0.0.1:1/keys", false),
        ("http://git.example.org/keys", false),
        ("https://metadata.example.org/keys", false),
        ("https://keys.example.org/keys", true),
    ] {
        let described = json!({ "issuer": "https://git.example.org", "jwks_uri": keys });
        let published = Arc::new(Published { discovery: described, asked: AtomicUsize::new(0) });
        let settings = Provider { issuer: "https://git.example.org".to_owned(), ..provider("git", &issuer) };
        let ways = vec![(settings, Arc::<Published>::clone(&published) as Arc<dyn Fetch>)];
        let oidc = Oidc::new(ways, world.clock(), &world.tasks).unwrap();
        let token = RSA.sign(&world.claims(&issuer, &json!({ "iss": "https://git.example.org" })));
        assert_eq!(named(&oidc, &token).await.is_ok(), may, "{keys}");
        assert_eq!(published.asked.load(Ordering::Relaxed), usize::from(may), "{keys}");
    }
}

#[tokio::test]
async fn keys_at_an_address_that_is_configured_need_no_description() {
    let (world, issuer, _) = setting().await;
    issuer.describe(json!("nothing"));
    let address = Url::parse(&format!("{}/elsewhere/keys", issuer.url())).ok();
    let oidc = world.oidc(vec![Provider { jwks_uri: address, ..provider("git", &issuer) }]);
    assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
    assert_eq!(issuer.asked(), (0, 1));
}

#[tokio::test]
async fn a_new_key_that_no_token_names_is_found_too() {
    let (world, issuer, oidc) = setting().await;
    assert!(named(&oidc, &good(&world, &issuer)).await.is_ok());
    issuer.publish(&[&OTHER_RSA]);
    let without = Header { kid: None, ..OTHER_RSA.header() };
    let token = OTHER_RSA.sign_with(&without, &world.claims(&issuer, &json!({})));
    assert_eq!(named(&oidc, &token).await, Err(Refusal::Signature), "it was asked a moment ago");
    world.clock.advance(PAUSE);
    assert!(named(&oidc, &token).await.is_ok());
}

#[tokio::test]
async fn a_token_that_names_no_key_is_tried_with_those_of_its_kind() {
    let (world, issuer, oidc) = setting().await;
    issuer.publish(&[&OTHER_RSA, &ED, &RSA]);
    let without = Header { kid: None, ..RSA.header() };
    assert!(named(&oidc, &RSA.sign_with(&without, &world.claims(&issuer, &json!({})))).await.is_ok());
    let without = Header { kid: None, ..P256.header() };
    assert_eq!(named(&oidc, &P256.sign_with(&without, &world.claims(&issuer, &json!({})))).await, Err(Refusal::Key));
    // Nor with more of them than are worth a try.
    let mut many: Vec<Value> = (0..16).map(|_| OTHER_RSA.public()).collect();
    many.push(RSA.public());
    issuer.publish_raw(many);
    world.clock.advance(HOUR);
    let _ = named(&oidc, &good(&world, &issuer)).await;
    world.settle().await;
    let without = Header { kid: None, ..RSA.header() };
    assert_eq!(named(&oidc, &RSA.sign_with(&without, &world.claims(&issuer, &json!({})))).await, Err(Refusal::Signature));
}
