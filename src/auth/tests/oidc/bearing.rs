use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oci::RepositoryName;
use roadstead_auth::{
    Auth, Failure, Identity, Made, Oidc, Pattern, Policy, Provider, Refusal, Rule, Scope, TokenRequest, Verb, Verdict, Who,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::harness::{HERE, World, provider};
use crate::issuer::{Issuer, Mood, OTHER_RSA, RSA};

/// An account: `wonderland` is its password.
fn accounts() -> String {
    format!("alice:{}\n", bcrypt::hash("wonderland", 4).unwrap())
}

fn rule(who: Who) -> Rule {
    let repositories = vec![Pattern::parse("org/**").unwrap()];
    Rule { place: "line 1".to_owned(), who: vec![who], claims: BTreeMap::new(), may: vec![Verb::Pull, Verb::Push], repositories }
}

fn by_claims(claims: &[(&str, &str)]) -> Policy {
    let claims =
        claims.iter().map(|(name, text)| ((*name).to_owned(), Pattern::parse(text).unwrap())).collect::<BTreeMap<_, _>>();
    Policy::new(vec![Rule { claims, ..rule(Who::parse("oidc:git:**").unwrap()) }])
}

async fn setting(policy: Policy) -> (World, Issuer, Auth) {
    let (world, issuer) = (World::new(), Issuer::start(&[&RSA]).await);
    let oidc = world.oidc(vec![Provider { groups: "realm_access.roles".to_owned(), ..provider("git", &issuer) }]);
    let auth = world.auth(oidc, policy, &accounts()).await;
    (world, issuer, auth)
}

async fn bearer(auth: &Auth, token: &str) -> Result<Identity, Failure> {
    auth.identify(Some(format!("Bearer {token}").as_bytes()), HERE).await
}

async fn basic(auth: &Auth, name: &str, password: &str) -> Result<Identity, Failure> {
    auth.identify(Some(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))).as_bytes()), HERE).await
}

fn exchanged(auth: &Auth, identity: &Identity) -> Option<Made> {
    let scopes = Scope::parse_all(["repository:org/app:pull,push repository:other/app:pull"]).unwrap();
    auth.grant(identity, &TokenRequest { scopes, is_offline: true })
}

fn verdict(identity: &Identity, name: &str) -> Verdict {
    identity.verdict(Verb::Push, &RepositoryName::parse(name).unwrap())
}

fn payload(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn wrong(refusal: Refusal) -> Failure {
    Failure::Wrong(refusal.as_str())
}

#[tokio::test]
async fn a_token_is_shown_as_a_bearer_or_as_a_password_under_any_name() {
    let (world, issuer, auth) = setting(by_claims(&[("repository", "org/app")])).await;
    let token = RSA.sign(&world.claims(&issuer, &json!({ "repository": "org/app" })));
    let mut shown = vec![bearer(&auth, &token).await.unwrap()];
    for name in ["oidc", "jwt", "alice", "", "gitea-actions"] {
        shown.push(basic(&auth, name, &token).await.unwrap());
    }
    for identity in shown {
        assert_eq!(identity.principal().name(), "oidc:git:job");
        assert_eq!((verdict(&identity, "org/app"), verdict(&identity, "other/app")), (Verdict::Allowed, Verdict::Hidden));
    }
    assert_eq!(basic(&auth, "alice", "wonderland").await.unwrap().principal().name(), "user:alice");
    assert!(matches!(basic(&auth, "alice", "a.b.c").await, Err(Failure::Wrong(reason)) if reason.contains("password")));
}

#[tokio::test]
async fn the_largest_token_fits_into_the_place_of_a_password() {
    let (world, issuer, auth) = setting(by_claims(&[("repository", "org/app")])).await;
    let token = RSA.sign(&world.claims(&issuer, &json!({ "repository": "org/app", "zz": "x".repeat(11_500) })));
    assert!(token.len() > 15 * 1024);
    let identity = basic(&auth, "oidc", &token).await.unwrap();
    let made = exchanged(&auth, &identity).unwrap();
    assert_eq!(verdict(&bearer(&auth, made.token.expose_secret()).await.unwrap(), "org/app"), Verdict::Allowed);
}

#[tokio::test]
async fn rules_on_claims_and_groups_hold_for_our_own_token_too() {
    let groups = Policy::new(vec![rule(Who::parse("group:dev*").unwrap())]);
    let subject = Policy::new(vec![rule(Who::parse("oidc:git:jo*").unwrap())]);
    let several = by_claims(&[("repository", "org/*"), ("kubernetes.io.namespace", "ci"), ("amr", "otp")]);
    for policy in [groups, subject, several, by_claims(&[("verified", "true"), ("run", "7")])] {
        let (world, issuer, auth) = setting(policy).await;
        let told = json!({
            "repository": "org/app", "kubernetes.io": { "namespace": "ci" }, "amr": ["pwd", "otp"], "verified": true, "run": 7,
            "realm_access": { "roles": ["developers", "x"] },
        });
        let identity = bearer(&auth, &RSA.sign(&world.claims(&issuer, &told))).await.unwrap();
        let made = exchanged(&auth, &identity).unwrap();
        let ours = bearer(&auth, made.token.expose_secret()).await.unwrap();
        assert_eq!(ours.principal(), identity.principal());
        assert_eq!(verdict(&ours, "org/app"), Verdict::Allowed);
        assert_eq!(verdict(&ours, "org/another"), Verdict::Insufficient);
        assert_eq!(verdict(&ours, "other/app"), Verdict::Hidden);
    }
}

#[tokio::test]
async fn claims_that_lack_or_differ_allow_nothing() {
    let (world, issuer, auth) = setting(by_claims(&[("repository", "org/app"), ("ref", "refs/heads/*")])).await;
    for told in [
        json!({ "repository": "org/app" }),
        json!({ "repository": "org/app", "ref": "refs/tags/v1" }),
        json!({ "repository": "org/app2", "ref": "refs/heads/main" }),
        json!({ "repository": ["x"], "ref": "refs/heads/main" }),
        json!({ "repository": { "org/app": 1 }, "ref": "refs/heads/main" }),
    ] {
        let identity = bearer(&auth, &RSA.sign(&world.claims(&issuer, &told))).await.unwrap();
        assert_eq!(verdict(&identity, "org/app"), Verdict::Hidden, "{told}");
    }
}

#[tokio::test]
async fn our_token_ends_with_the_one_that_it_was_had_for() {
    let (world, issuer, auth) = setting(by_claims(&[("sub", "job")])).await;
    for (left, expected) in [(600_i64, 300), (300, 300), (200, 200), (61, 61), (60, 60), (30, 60), (1, 60), (-50, 60)] {
        let claims = world.claims(&issuer, &json!({ "exp": world.now().saturating_add_signed(left) }));
        let identity = bearer(&auth, &RSA.sign(&claims)).await.unwrap();
        let made = exchanged(&auth, &identity).unwrap();
        assert_eq!(made.expires_in, Duration::from_secs(expected), "{left}");
        assert_eq!(payload(made.token.expose_secret())["exp"], world.now() + expected, "{left}");
        assert!(made.refresh_token.is_none());
    }
    let user = basic(&auth, "alice", "wonderland").await.unwrap();
    let made = exchanged(&auth, &user).unwrap();
    assert!(made.refresh_token.is_some() && made.expires_in == Duration::from_mins(5));
}

#[tokio::test]
async fn our_token_is_no_way_to_outlive_the_one_that_it_was_had_for() {
    let (world, issuer, auth) = setting(by_claims(&[("sub", "job")])).await;
    let claims = world.claims(&issuer, &json!({ "exp": world.now() + 30 }));
    let first = exchanged(&auth, &bearer(&auth, &RSA.sign(&claims)).await.unwrap()).unwrap();
    let by_ours = bearer(&auth, first.token.expose_secret()).await.unwrap();
    assert!(exchanged(&auth, &by_ours).is_some());
    world.clock.advance(Duration::from_secs(30));
    let by_ours = bearer(&auth, first.token.expose_secret()).await.unwrap();
    assert!(exchanged(&auth, &by_ours).is_none());
    world.clock.advance(Duration::from_secs(90));
    assert!(bearer(&auth, first.token.expose_secret()).await.is_err());
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_reason_for_the_log() {
    let (world, issuer, auth) = setting(by_claims(&[("sub", "job")])).await;
    let claims = world.claims(&issuer, &json!({}));
    assert_eq!(bearer(&auth, &OTHER_RSA.sign(&claims)).await.err(), Some(wrong(Refusal::Signature)));
    assert_eq!(bearer(&auth, "garbage").await.err(), Some(wrong(Refusal::Malformed)));
    let elsewhere = world.claims(&issuer, &json!({ "iss": "https://elsewhere.example.org" }));
    assert_eq!(basic(&auth, "oidc", &RSA.sign(&elsewhere)).await.err(), Some(wrong(Refusal::Issuer)));
    // Named as ours, it is looked at as ours.
    let ours = world.claims(&issuer, &json!({ "iss": "roadstead" }));
    assert!(matches!(bearer(&auth, &RSA.sign(&ours)).await, Err(Failure::Wrong(reason)) if reason.contains("ours")));
    let none = world.auth(Oidc::none(world.clock()), Policy::default(), &accounts()).await;
    assert!(matches!(bearer(&none, &RSA.sign(&claims)).await, Err(Failure::Wrong(reason)) if reason.contains("ours")));
    assert!(matches!(basic(&none, "oidc", &RSA.sign(&claims)).await, Err(Failure::Wrong(reason)) if reason.contains("password")));
}

#[tokio::test]
async fn an_address_that_guesses_waits_and_others_do_not() {
    let (world, issuer, auth) = setting(by_claims(&[("sub", "job")])).await;
    let good = RSA.sign(&world.claims(&issuer, &json!({})));
    assert!(bearer(&auth, &good).await.is_ok());
    let fresh = RSA.sign(&world.claims(&issuer, &json!({ "jti": "2" })));
    let mut waits = false;
    for guess in 0..100 {
        let forged = OTHER_RSA.sign(&world.claims(&issuer, &json!({ "sub": format!("admin{guess}") })));
        let shown = basic(&auth, &format!("name{guess}"), &forged).await;
        waits |= matches!(shown, Err(Failure::Wait(_)));
        assert!(shown.is_err());
    }
    assert!(waits);
    assert!(matches!(bearer(&auth, &fresh).await, Err(Failure::Wait(_))));
    assert!(bearer(&auth, &good).await.is_ok(), "what is known costs nothing");
    let elsewhere = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
    assert!(auth.identify(Some(format!("Bearer {fresh}").as_bytes()), elsewhere).await.is_ok());
    world.clock.advance(Duration::from_mins(4));
    let fresh = RSA.sign(&world.claims(&issuer, &json!({})));
    assert!(bearer(&auth, &fresh).await.is_ok());
}

#[tokio::test]
async fn nobody_waits_because_an_issuer_is_down_or_a_token_is_old() {
    let (world, issuer, auth) = setting(by_claims(&[("sub", "job")])).await;
    let fresh = |jti: u64| RSA.sign(&world.claims(&issuer, &json!({ "jti": jti })));
    issuer.mood(Mood::Broken);
    for jti in 0..100 {
        assert_eq!(bearer(&auth, &fresh(jti)).await.err(), Some(wrong(Refusal::Unreachable)));
    }
    issuer.mood(Mood::Good);
    world.clock.advance(Duration::from_secs(30));
    for jti in 0..100 {
        let old = RSA.sign(&world.claims(&issuer, &json!({ "jti": jti, "exp": 1 })));
        assert_eq!(bearer(&auth, &old).await.err(), Some(wrong(Refusal::Expired)));
    }
    assert!(bearer(&auth, &fresh(1000)).await.is_ok());
}
