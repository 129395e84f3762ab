use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use roadstead_hooks::{InboundKind, Refusal};

use crate::forges::{SECRET, Sent, gitea, github, gitlab_push, inbound, push_body};
use crate::signed::openssl_hmac;

const NAMES: [&str; 14] = [
    "content-type",
    "x-gitea-event",
    "x-gitea-signature",
    "x-gogs-signature",
    "x-github-event",
    "x-github-delivery",
    "x-hub-signature-256",
    "x-signature-256",
    "x-gitlab-token",
    "x-gitlab-event",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-request-id",
];

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let value = prop_oneof![
        Just(b"application/json".to_vec()),
        Just(b"application/x-www-form-urlencoded; charset=utf-8".to_vec()),
        Just(b"push".to_vec()),
        Just(b"sha256=".to_vec()),
        Just(b"v1,AAAA v1,".to_vec()),
        Just(b"1767225600".to_vec()),
        Just(b"18446744073709551615".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    (proptest::sample::select(&NAMES[..]), value)
}

/// A payload of GitLab of which one member is another.
fn bent_gitlab() -> impl Strategy<Value = Vec<u8>> {
    let member = ["object_kind", "ref", "before", "after", "commits", "project", "total_commits_count", "object_attributes"];
    let values = [
        "null",
        "0",
        "\"\"",
        "[]",
        "{}",
        "[null]",
        "-1",
        "\"refs/tags/\"",
        "\"merge_request\"",
        "\"tag_push\"",
        "[{\"id\":\"\"}]",
    ];
    let text =
        proptest::collection::vec((proptest::sample::select(member.to_vec()), proptest::sample::select(values.to_vec())), 0..4);
    text.prop_map(|changes| {
        let mut body = gitlab_push();
        for (member, value) in changes {
            body[member] = serde_json::from_str(value).unwrap();
        }
        body.to_string().into_bytes()
    })
}

/// JSON that is like a payload, and not quite.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let member = proptest::sample::select(vec!["ref", "before", "after", "commits", "repository", "pusher", "total_commits"]);
    let value =
        proptest::sample::select(vec!["null", "0", "\"\"", "[]", "{}", "[null]", "-1", "\"refs/heads/\"", "1e400", "[[[["]);
    let bent = (member, value).prop_map(|(member, value)| {
        let mut body = push_body();
        body[member] = serde_json::from_str(value).unwrap_or_default();
        body.to_string().into_bytes()
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), bent, "payload=[a-z%0-9{}\"]{0,40}".prop_map(String::into_bytes)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_that_is_sent_makes_us_panic_and_nothing_unsigned_is_believed(
        headers in proptest::collection::vec(header(), 0..8), query in proptest::option::of("[ -~]{0,40}"), body in body(),
        kind in proptest::sample::select(&InboundKind::ALL[..]), is_get in any::<bool>(),
    ) {
        let mut sent = Sent::new("application/json", body);
        sent.headers.clear();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                sent.headers.append(HeaderName::from_static(name), value);
            }
        }
        sent.query = query;
        if is_get {
            sent.method = Method::GET;
        }
        let refusal = sent.read(&inbound(kind)).unwrap_err();
        prop_assert!(refusal.status().is_client_error());
        prop_assert!(!matches!(refusal, Refusal::Malformed { .. }), "{refusal}");
        prop_assert!(!refusal.to_string().contains(SECRET));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_has_the_token_and_is_bent_is_read_or_refused_but_never_a_panic(
        body in prop_oneof![bent_gitlab(), proptest::collection::vec(any::<u8>(), 0..100)],
    ) {
        let sent = Sent::new("application/json", body).with("x-gitlab-token", SECRET);
        if let Err(refusal) = sent.read(&inbound(InboundKind::GitLab)) {
            prop_assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        }
    }
}

proptest! {
    // Each asks another program to sign.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_signed_and_bent_is_read_or_refused_but_never_a_panic(body in body(), event in "(push|delete|pull_request|ping|[a-z]{1,5})") {
        let sent = Sent::new("application/json", body);
        let signature = openssl_hmac("sha256", SECRET.as_bytes(), &sent.body);
        let signed = sent.with("x-gitea-event", &event).with("x-gitea-signature", &signature);
        if let Err(refusal) = signed.read(&inbound(InboundKind::Gitea)) {
            prop_assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        }
    }
}

#[test]
fn one_byte_of_a_signed_delivery_that_is_another_is_refused() {
    for (kind, sent) in [(InboundKind::Gitea, gitea("push", &push_body())), (InboundKind::GitHub, github("push", &push_body()))] {
        let inbound = inbound(kind);
        assert!(sent.read(&inbound).is_ok());
        for at in 0..sent.body.len() {
            for bit in [1, 0x20, 0x80] {
                let mut changed = sent.clone();
                changed.body[at] ^= bit;
                assert_eq!(changed.read(&inbound).unwrap_err().status(), StatusCode::UNAUTHORIZED, "{at}");
            }
        }
        let shorter = Sent { body: sent.body[..sent.body.len() - 1].to_vec(), ..sent.clone() };
        let longer = Sent { body: [sent.body.as_slice(), b" "].concat(), ..sent };
        for changed in [shorter, longer] {
            assert_eq!(changed.read(&inbound).unwrap_err().status(), StatusCode::UNAUTHORIZED);
        }
    }
}

#[test]
fn one_character_of_a_signature_or_token_that_is_another_is_refused() {
    let token = Sent::json(&gitlab_push()).with("x-gitlab-token", SECRET);
    for (kind, name, sent) in [
        (InboundKind::Gitea, "x-gitea-signature", gitea("push", &push_body())),
        (InboundKind::GitHub, "x-hub-signature-256", github("push", &push_body())),
        (InboundKind::GitLab, "x-gitlab-token", token),
    ] {
        let (inbound, right) = (inbound(kind), sent.headers[name].to_str().unwrap().to_owned());
        assert!(sent.read(&inbound).is_ok());
        for at in 0..right.len() {
            let mut wrong = right.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let changed = sent.clone().with(name, std::str::from_utf8(&wrong).unwrap());
            assert_eq!(changed.read(&inbound).unwrap_err().status(), StatusCode::UNAUTHORIZED, "{at}");
        }
    }
}
