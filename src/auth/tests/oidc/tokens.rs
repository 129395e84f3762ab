use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use roadstead_auth::{Algorithm as Allowed, Oidc, Provider, ProviderError, Refusal};
use serde_json::{Value, json};

use crate::harness::{World, client, named, provider};
use crate::issuer::{ED, Issuer, OTHER_RSA, P256, P384, RSA, SigningKey};

async fn setting(keys: &[&SigningKey]) -> (World, Issuer, Oidc) {
    let (world, issuer) = (World::new(), Issuer::start(keys).await);
    let oidc = world.oidc(vec![provider("git", &issuer)]);
    (world, issuer, oidc)
}

fn encoded(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[tokio::test]
async fn every_safe_algorithm_is_taken() {
    let (world, issuer, oidc) = setting(&[&RSA, &P256, &P384, &ED]).await;
    let claims = world.claims(&issuer, &json!({ "groups": ["dev"], "repository": "org/app" }));
    let of_rsa = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
    let mut tokens: Vec<String> = of_rsa.map(|alg| RSA.sign_with(&Header { alg, ..RSA.header() }, &claims)).to_vec();
    tokens.extend([P256.sign(&claims), P384.sign(&claims), ED.sign(&claims)]);
    for token in tokens {
        let verified = oidc.verify(&token).await.unwrap();
        let who = verified.principal();
        assert_eq!(
            (who.name(), who.groups(), who.claim("repository")),
            ("oidc:git:job", ["dev".to_owned()].as_slice(), ["org/app".to_owned()].as_slice())
        );
        assert_eq!(verified.expires(), world.now() + 300);
    }
    assert_eq!(issuer.asked(), (1, 1));
}

#[tokio::test]
async fn what_an_issuer_signed_for_others_or_another_time_is_refused() {
    let (world, issuer, oidc) = setting(&[&RSA]).await;
    let now = world.now();
    for (changed, refusal) in [
        (json!({ "exp": now - 61 }), Refusal::Expired),
        (json!({ "exp": null }), Refusal::Claims),
        (json!({ "nbf": now + 61 }), Refusal::Early),
        (json!({ "iat": now + 61 }), Refusal::Early),
        (json!({ "aud": "another" }), Refusal::Audience),
        (json!({ "aud": ["another", "service"] }), Refusal::Audience),
        (json!({ "aud": null, "azp": "registry", "client_id": "registry" }), Refusal::Audience),
        (json!({ "iss": format!("{}/", issuer.url()) }), Refusal::Issuer),
        (json!({ "iss": issuer.url().to_uppercase() }), Refusal::Issuer),
        (json!({ "iss": "roadstead" }), Refusal::Issuer),
        (json!({ "iss": null }), Refusal::Malformed),
        (json!({ "sub": null }), Refusal::Subject),
        (json!({ "sub": "job\nuser:admin" }), Refusal::Subject),
        (json!({ "sub": "job\u{0}" }), Refusal::Subject),
    ] {
        assert_eq!(named(&oidc, &RSA.sign(&world.claims(&issuer, &changed))).await, Err(refusal), "{changed}");
    }
    for changed in [
        json!({ "exp": now - 59 }),
        json!({ "nbf": now + 59 }),
        json!({ "iat": now + 59 }),
        json!({ "iat": null }),
        json!({ "aud": ["another", "registry"], "azp": "another" }),
    ] {
        assert!(named(&oidc, &RSA.sign(&world.claims(&issuer, &changed))).await.is_ok(), "{changed}");
    }
}

#[tokio::test]
async fn a_token_that_was_taken_is_refused_once_it_is_over() {
    let (world, issuer, oidc) = setting(&[&RSA]).await;
    let token = RSA.sign(&world.claims(&issuer, &json!({})));
    assert!(named(&oidc, &token).await.is_ok());
    world.clock.advance(std::time::Duration::from_secs(359));
    assert!(named(&oidc, &token).await.is_ok());
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(named(&oidc, &token).await, Err(Refusal::Expired));
}

#[tokio::test]
async fn no_signature_and_shared_secrets_are_refused() {
    let (world, issuer, oidc) = setting(&[&RSA]).await;
    let claims = world.claims(&issuer, &json!({}));
    for name in ["none", "None", "NONE", "nOnE"] {
        let unsigned = format!("{}.{}.", encoded(&json!({ "alg": name, "kid": "rsa" })), encoded(&claims));
        assert_eq!(named(&oidc, &unsigned).await, Err(Refusal::Algorithm));
        assert_eq!(named(&oidc, &format!("{unsigned}c2ln")).await, Err(Refusal::Algorithm));
    }
    let good = RSA.sign(&claims);
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(named(&oidc, &format!("{signed}.")).await, Err(Refusal::Signature));
    // What is public of the key, in every form that somebody may have it in, as the secret of an HMAC.
    let public = RSA.public();
    let secrets = [
        RSA.pair.public_key_pem().into_bytes(),
        RSA.pair.public_key_pem().trim_end().as_bytes().to_vec(),
        RSA.pair.public_key_pem().replace("\r\n", "\n").into_bytes(),
        rcgen::PublicKeyData::subject_public_key_info(&RSA.pair),
        RSA.pair.public_key_raw().to_vec(),
        public.to_string().into_bytes(),
        public["n"].as_str().unwrap().as_bytes().to_vec(),
        Vec::new(),
    ];
    for secret in secrets {
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { alg, ..RSA.header() };
            let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(named(&oidc, &forged).await, Err(Refusal::Algorithm));
        }
    }
    assert!(named(&oidc, &good).await.is_ok());
}

#[tokio::test]
async fn a_secret_among_the_published_keys_is_not_used() {
    let (world, issuer, oidc) = setting(&[&RSA]).await;
    let secret = URL_SAFE_NO_PAD.encode([7; 32]);
    issuer.publish_raw(vec![json!({ "kty": "oct", "kid": "oct", "alg": "HS256", "k": secret }), RSA.public()]);
    let header = Header { kid: Some("oct".to_owned()), ..Header::new(Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &world.claims(&issuer, &json!({})), &EncodingKey::from_secret(&[7; 32])).unwrap();
    assert_eq!(named(&oidc, &forged).await, Err(Refusal::Algorithm));
}

#[tokio::test]
async fn the_kind_of_the_key_decides_and_not_the_token() {
    let (world, issuer, oidc) = setting(&[&RSA, &P256]).await;
    let claims = world.claims(&issuer, &json!({}));
    // The name of one key, and the signature of another kind.
    let crossed = P256.sign_with(&Header { kid: Some("rsa".to_owned()), ..P256.header() }, &claims);
    assert_eq!(named(&oidc, &crossed).await, Err(Refusal::Key));
    // Another head over a signature of the same key.
    let (_, rest) = RSA.sign(&claims).split_once('.').map(|(head, rest)| (head.to_owned(), rest.to_owned())).unwrap();
    let relabelled = format!("{}.{rest}", encoded(&json!({ "alg": "PS256", "kid": "rsa" })));
    assert_eq!(named(&oidc, &relabelled).await, Err(Refusal::Signature));
    // A key that its issuer uses for one algorithm alone.
    let mut narrow = RSA.public();
    narrow["alg"] = "PS512".into();
    issuer.publish_raw(vec![narrow]);
    world.clock.advance(std::time::Duration::from_hours(1));
    let _ = named(&oidc, &RSA.sign(&claims)).await;
    world.settle().await;
    let claims = world.claims(&issuer, &json!({}));
    assert_eq!(named(&oidc, &RSA.sign(&claims)).await, Err(Refusal::Key));
    let pss = RSA.sign_with(&Header { alg: Algorithm::PS512, ..RSA.header() }, &claims);
    assert!(named(&oidc, &pss).await.is_ok());
}

#[tokio::test]
async fn only_the_algorithms_that_are_configured_are_taken() {
    let (world, issuer) = (World::new(), Issuer::start(&[&RSA, &P256]).await);
    let oidc = world.oidc(vec![Provider { algorithms: vec![Allowed::Es256], ..provider("git", &issuer) }]);
    let claims = world.claims(&issuer, &json!({}));
    assert_eq!(named(&oidc, &RSA.sign(&claims)).await, Err(Refusal::Algorithm));
    assert!(named(&oidc, &P256.sign(&claims)).await.is_ok());
}

#[tokio::test]
async fn a_changed_token_is_refused_wherever_it_was_changed() {
    let (world, issuer, oidc) = setting(&[&P256]).await;
    let token = P256.sign(&world.claims(&issuer, &json!({})));
    assert!(named(&oidc, &token).await.is_ok());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        // The last letter of a part may hold bits that are no part of it; those that matter are changed.
        bytes[at] = if bytes[at] == b'.' {
            b'A'
        } else if bytes[at].is_ascii_lowercase() {
            bytes[at].to_ascii_uppercase()
        } else {
            b'.'
        };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(named(&oidc, &changed).await.is_err(), "{at}");
    }
}

#[tokio::test]
async fn addresses_and_keys_inside_a_token_lead_nowhere() {
    let (world, issuer, oidc) = setting(&[&RSA]).await;
    let foreign = Issuer::start(&[&OTHER_RSA]).await;
    let claims = world.claims(&issuer, &json!({}));
    let address = format!("{}/keys", foreign.url());
    let jwk = serde_json::from_value(OTHER_RSA.public()).unwrap();
    let tempting = |key: &SigningKey| Header {
        jku: Some(address.clone()),
        x5u: Some(address.clone()),
        jwk: Some(jsonwebtoken::jwk::Jwk::clone(&jwk)),
        x5c: Some(vec!["AAAA".to_owned()]),
        ..key.header()
    };
    assert_eq!(named(&oidc, &OTHER_RSA.sign_with(&tempting(&OTHER_RSA), &claims)).await, Err(Refusal::Signature));
    let unknown = Header { kid: Some("other".to_owned()), ..tempting(&OTHER_RSA) };
    assert_eq!(named(&oidc, &OTHER_RSA.sign_with(&unknown, &claims)).await, Err(Refusal::Key));
    assert!(named(&oidc, &RSA.sign_with(&tempting(&RSA), &claims)).await.is_ok());
    assert_eq!(foreign.asked(), (0, 0));
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..RSA.header() };
    assert_eq!(named(&oidc, &RSA.sign_with(&critical, &claims)).await, Err(Refusal::Unsupported));
}

#[tokio::test]
async fn what_is_no_signed_token_is_refused_without_asking_anybody() {
    let (world, issuer, oidc) = setting(&[&RSA]).await;
    let claims = world.claims(&issuer, &json!({}));
    let encrypted = format!("{}.a.b.c.d", encoded(&json!({ "alg": "RSA-OAEP", "enc": "A256GCM" })));
    let in_three = format!("{}.{}.c", encoded(&json!({ "alg": "RS256", "enc": "A256GCM" })), encoded(&claims));
    let long = RSA.sign(&world.claims(&issuer, &json!({ "padding": "x".repeat(64 * 1024) })));
    for (token, refusal) in [
        (encrypted.as_str(), Refusal::Unsupported),
        (&in_three, Refusal::Unsupported),
        (&long, Refusal::TooLarge),
        ("", Refusal::Malformed),
        ("a.b.c", Refusal::Malformed),
        ("\u{0}.\u{ff}.\u{1f980}", Refusal::Malformed),
        (&".".repeat(1000), Refusal::Malformed),
    ] {
        assert_eq!(named(&oidc, token).await, Err(refusal), "{}", &token[..token.len().min(40)]);
    }
    assert_eq!(issuer.asked(), (0, 0));
}

#[tokio::test]
async fn a_key_of_one_issuer_signs_nothing_for_another() {
    let world = World::new();
    let (one, other) = (Issuer::start(&[&RSA]).await, Issuer::start(&[&OTHER_RSA]).await);
    let oidc = world.oidc(vec![provider("one", &one), provider("other", &other)]);
    // Both call their key `rsa`.
    let (of_one, of_other) = (world.claims(&one, &json!({})), world.claims(&other, &json!({})));
    assert_eq!(named(&oidc, &RSA.sign(&of_one)).await.as_deref(), Ok("oidc:one:job"));
    assert_eq!(named(&oidc, &OTHER_RSA.sign(&of_other)).await.as_deref(), Ok("oidc:other:job"));
    assert_eq!(named(&oidc, &RSA.sign(&of_other)).await, Err(Refusal::Signature));
    assert_eq!(named(&oidc, &OTHER_RSA.sign(&of_one)).await, Err(Refusal::Signature));
    let without = Header { kid: None, ..RSA.header() };
    assert_eq!(named(&oidc, &RSA.sign_with(&without, &of_other)).await, Err(Refusal::Signature));
}

#[tokio::test]
async fn two_providers_of_one_issuer_or_one_name_are_refused() {
    let (world, issuer) = (World::new(), Issuer::start(&[]).await);
    let other = Provider { issuer: "https://git.example.org".to_owned(), ..provider("one", &issuer) };
    for second in [provider("two", &issuer), other] {
        let ways = vec![(provider("one", &issuer), client(&issuer.url())), (second, client(&issuer.url()))];
        assert!(matches!(Oidc::new(ways, world.clock(), &world.tasks), Err(ProviderError::Twice(..))));
    }
}

#[tokio::test]
async fn without_issuers_every_token_is_refused() {
    let (world, issuer) = (World::new(), Issuer::start(&[&RSA]).await);
    let oidc = Oidc::none(world.clock());
    assert!(oidc.is_empty());
    assert_eq!(named(&oidc, &RSA.sign(&world.claims(&issuer, &json!({})))).await, Err(Refusal::Issuer));
}

#[test]
fn no_token_makes_it_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, issuer, oidc) = runtime.block_on(setting(&[&RSA]));
    let good = RSA.sign(&world.claims(&issuer, &json!({})));
    let piece = prop_oneof![
        Just(good.split('.').next().unwrap().to_owned()),
        Just(good.split('.').nth(1).unwrap().to_owned()),
        Just(good.rsplit('.').next().unwrap().to_owned()),
        "[A-Za-z0-9_-]{0,40}",
        "\\PC{0,20}",
        "\\{\"alg\":\"(RS256|none|HS256)\",\"kid\":\\PC{0,10}\\}".prop_map(|head| URL_SAFE_NO_PAD.encode(head)),
    ];
    let bytes = proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let token = prop_oneof![bytes, proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.join("."))];
    proptest!(|(token in token)| {
        let is_good = runtime.block_on(named(&oidc, &token)).is_ok();
        prop_assert!(!is_good || token == good, "{token}");
    });
}
