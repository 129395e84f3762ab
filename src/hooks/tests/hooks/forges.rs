use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use roadstead_hooks::{Delivery, ForgeEvent, Inbound, InboundError, InboundKind, RefKind, Refusal};
use serde_json::{Value, json};
use testing::ManualClock;

use crate::signed::{openssl_base64, openssl_hmac};

pub(crate) const SECRET: &str = "It's a Secret to Everybody";
pub(crate) const BEFORE: &str = "1111111111111111111111111111111111111111";
pub(crate) const AFTER: &str = "2222222222222222222222222222222222222222";
const NONE: &str = "0000000000000000000000000000000000000000";

/// A delivery as it comes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    pub(crate) fn new(content_type: &str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, headers: HeaderMap::new(), query: None, body }.with("content-type", content_type)
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new("application/json", body.to_string().into_bytes())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name).unwrap();
        self
    }

    pub(crate) fn read(&self, inbound: &Inbound) -> Result<Delivery, Refusal> {
        inbound.read(&self.method, &self.headers, self.query.as_deref(), &self.body)
    }
}

pub(crate) fn inbound(kind: InboundKind) -> Inbound {
    inbound_with(kind, SECRET, Arc::new(ManualClock::new()))
}

pub(crate) fn inbound_with(kind: InboundKind, secret: &str, clock: Arc<ManualClock>) -> Inbound {
    Inbound::new("forge", kind, secret.into(), clock).unwrap()
}

pub(crate) fn push_body() -> Value {
    json!({
        "ref": "refs/heads/feature/a", "before": BEFORE, "after": AFTER, "total_commits": 1,
        "commits": [{
            "id": AFTER, "message": "Größer\n\nmore", "author": { "name": "Ann", "email": "ann@example.org", "username": "ann" },
            "added": ["a b.txt"], "removed": [], "modified": ["k8s/kustomization.yaml"],
        }],
        "repository": {
            "full_name": "micro/app", "html_url": "https://git.example.org/micro/app", "clone_url": "https://git.example.org/micro/app.git",
            "ssh_url": "git@git.example.org:micro/app.git", "default_branch": "main",
        },
        "pusher": { "login": "ann", "username": "ann", "email": "ann@example.org" },
    })
}

/// As Gitea sends it, with the headers of the others that it sends too.
pub(crate) fn gitea(event: &str, body: &Value) -> Sent {
    let sent = Sent::json(body);
    let (sha1, sha256) =
        (openssl_hmac("sha1", SECRET.as_bytes(), &sent.body), openssl_hmac("sha256", SECRET.as_bytes(), &sent.body));
    sent.with("x-gitea-delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473")
        .with("x-gitea-event", event)
        .with("x-gogs-event", event)
        .with("x-github-event", event)
        .with("x-gitea-signature", &sha256)
        .with("x-gogs-signature", &sha256)
        .with("x-hub-signature", &format!("sha1={sha1}"))
        .with("x-hub-signature-256", &format!("sha256={sha256}"))
}

pub(crate) fn github(event: &str, body: &Value) -> Sent {
    let sent = Sent::json(body);
    let signature = openssl_hmac("sha256", SECRET.as_bytes(), &sent.body);
    sent.with("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
        .with("x-github-event", event)
        .with("x-hub-signature-256", &format!("sha256={signature}"))
}

pub(crate) fn gitlab_push() -> Value {
    json!({
        "object_kind": "push", "event_name": "push", "before": BEFORE, "after": AFTER, "ref": "refs/heads/main", "checkout_sha": AFTER,
        "user_username": "ann", "user_name": "Ann", "total_commits_count": 4,
        "project": {
            "path_with_namespace": "micro/app", "web_url": "https://gitlab.example.org/micro/app",
            "git_http_url": "https://gitlab.example.org/micro/app.git", "git_ssh_url": "git@gitlab.example.org:micro/app.git",
            "default_branch": "main",
        },
        "commits": [{
            "id": AFTER, "message": "more", "author": { "name": "Ann", "email": "ann@example.org" },
            "added": ["a"], "modified": ["b"], "removed": ["c"],
        }],
    })
}

fn form(payload: &str) -> Vec<u8> {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", payload).finish().into_bytes()
}

fn refused(sent: &Sent, inbound: &Inbound) -> (StatusCode, String) {
    let refusal = sent.read(inbound).unwrap_err();
    (refusal.status(), refusal.to_string())
}

#[test]
fn a_push_of_gitea_is_read_by_its_own_headers() {
    // Those of the others could say something else, and do not count.
    let sent = gitea("push", &push_body()).with("x-github-event", "ping").with("x-github-delivery", "another");
    let Delivery { id, event, .. } = sent.read(&inbound(InboundKind::Gitea)).unwrap();
    assert_eq!(id, "f6266f16-1bf3-46a5-9ea4-602e06ead473");
    let ForgeEvent::Push(push) = event else { panic!("{event:?}") };
    assert_eq!((push.kind, push.name.as_str(), push.after.as_str()), (RefKind::Branch, "feature/a", AFTER));
    assert_eq!((push.before.as_deref(), push.pusher.as_deref(), push.is_truncated), (Some(BEFORE), Some("ann"), false));
    assert_eq!((push.commits[0].author.as_str(), push.commits[0].message.as_str()), ("Ann", "Größer\n\nmore"));
    let paths: Vec<&str> = push.commits[0].changes.iter().map(roadstead_hooks::Change::path).collect();
    assert_eq!(paths, ["a b.txt", "k8s/kustomization.yaml"]);
    assert_eq!((push.repository.full_name.as_str(), push.repository.default_branch.as_str()), ("micro/app", "main"));
    assert_eq!(push.repository.clone_url, "https://git.example.org/micro/app.git");
}

#[test]
fn a_form_of_gitea_is_signed_over_the_payload_and_one_of_github_over_the_form() {
    let payload = push_body().to_string();
    let of_payload = openssl_hmac("sha256", SECRET.as_bytes(), payload.as_bytes());
    let of_form = openssl_hmac("sha256", SECRET.as_bytes(), &form(&payload));
    let sent = |name: &str, signature: &str, event: &str| {
        Sent::new("application/x-www-form-urlencoded", form(&payload)).with(name, signature).with(event, "push")
    };
    let (gitea, github) = (inbound(InboundKind::Gitea), inbound(InboundKind::GitHub));
    assert!(sent("x-gitea-signature", &of_payload, "x-gitea-event").read(&gitea).is_ok());
    assert!(sent("x-gitea-signature", &of_form, "x-gitea-event").read(&gitea).is_err());
    assert!(sent("x-hub-signature-256", &format!("sha256={of_form}"), "x-github-event").read(&github).is_ok());
    assert!(sent("x-hub-signature-256", &format!("sha256={of_payload}"), "x-github-event").read(&github).is_err());
    let mut get = sent("x-gitea-signature", &of_payload, "x-gitea-event");
    (get.method, get.query) = (Method::GET, Some(String::from_utf8(std::mem::take(&mut get.body)).unwrap()));
    assert!(get.read(&gitea).is_ok());
    assert_eq!(get.read(&github).unwrap_err().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn the_published_vector_of_github_is_met() {
    let sent = Sent::new("application/json", b"Hello, World!".to_vec())
        .with("x-github-event", "ping")
        .with("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    // It is authentic, and only then no JSON.
    assert_eq!(refused(&sent, &inbound(InboundKind::GitHub)).0, StatusCode::BAD_REQUEST);
}

#[test]
fn what_is_not_signed_is_refused_whatever_is_missing() {
    let (gitea_in, github_in) = (inbound(InboundKind::Gitea), inbound(InboundKind::GitHub));
    let sent = github("push", &push_body());
    let sha1 = openssl_hmac("sha1", SECRET.as_bytes(), &sent.body);
    let bad = [
        sent.clone().without("x-hub-signature-256"),
        sent.clone().with("x-hub-signature-256", ""),
        sent.clone().with("x-hub-signature-256", "sha256="),
        sent.clone().with("x-hub-signature-256", &openssl_hmac("sha256", SECRET.as_bytes(), &sent.body)),
        sent.clone().with("x-hub-signature-256", &format!("sha256={}", openssl_hmac("sha256", b"another", &sent.body))),
        sent.clone().without("x-hub-signature-256").with("x-hub-signature", &format!("sha1={sha1}")),
    ];
    for sent in bad {
        let refusal = sent.read(&github_in).unwrap_err();
        assert_eq!((refusal.status(), refusal.answer()), (StatusCode::UNAUTHORIZED, "unauthorized"), "{refusal}");
    }
    // What Gitea sends without a secret: all headers, and nothing in them. The others do not count then, even if they are right.
    let empty = gitea("push", &push_body()).with("x-gitea-signature", "");
    assert!(refused(&empty, &gitea_in).1.contains("the signature is empty"));
    let mut twice = sent.clone();
    twice.headers.append("x-hub-signature-256", HeaderValue::from_static("sha256=00"));
    assert!(refused(&twice, &github_in).1.contains("twice"));
}

#[test]
fn gitlab_is_known_by_its_token_or_by_its_signature() {
    let inbound_token = inbound(InboundKind::GitLab);
    let sent = Sent::json(&gitlab_push()).with("x-gitlab-event", "Push Hook").with("x-gitlab-token", SECRET);
    let ForgeEvent::Push(push) = sent.read(&inbound_token).unwrap().event else { panic!() };
    assert_eq!((push.name.as_str(), push.pusher.as_deref(), push.is_truncated), ("main", Some("ann"), true));
    assert_eq!(push.repository.full_name, "micro/app");
    for bad in
        [sent.clone().with("x-gitlab-token", ""), sent.clone().with("x-gitlab-token", "other"), sent.without("x-gitlab-token")]
    {
        assert_eq!(refused(&bad, &inbound_token).0, StatusCode::UNAUTHORIZED);
    }
}

#[test]
fn a_standard_webhook_is_taken_within_five_minutes_and_not_after() {
    let key = b"0123456789abcdef01234567";
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
    let clock = Arc::new(ManualClock::new());
    let inbound = inbound_with(InboundKind::GitLab, secret, Arc::clone(&clock));
    let body = gitlab_push().to_string();
    let stamp = 1_767_225_600;
    let signature = openssl_base64(key, format!("msg_1.{stamp}.{body}").as_bytes());
    let sent = Sent::json(&gitlab_push())
        .with("webhook-id", "msg_1")
        .with("webhook-timestamp", &stamp.to_string())
        .with("webhook-signature", &format!("v1a,AAAA v1,AAAA v1,{signature}"));
    assert_eq!(sent.read(&inbound).unwrap().id, "msg_1");
    for changed in
        [("webhook-id", "msg_2"), ("webhook-timestamp", "1767225601"), ("webhook-signature", "v1,"), ("webhook-signature", "")]
    {
        assert_eq!(refused(&sent.clone().with(changed.0, changed.1), &inbound).0, StatusCode::UNAUTHORIZED, "{changed:?}");
    }
    assert!(sent.clone().without("webhook-id").read(&inbound).is_err());
    clock.jump(300);
    assert!(sent.read(&inbound).is_ok());
    clock.jump(1);
    assert!(refused(&sent, &inbound).1.contains("five minutes"));
    clock.jump(-602);
    assert!(refused(&sent, &inbound).1.contains("five minutes"));
}

#[test]
fn anyone_may_sign_as_github_does() {
    let inbound = inbound(InboundKind::Generic);
    let sent = Sent::json(&push_body());
    let signature = format!("sha256={}", openssl_hmac("sha256", SECRET.as_bytes(), &sent.body));
    for name in ["x-signature-256", "x-hub-signature-256"] {
        let delivery = sent.clone().with(name, &signature).read(&inbound).unwrap();
        assert!(matches!(delivery.event, ForgeEvent::Push(_)));
        assert_eq!(delivery.id, delivery.digest);
    }
    let other = Sent::json(&json!({ "what": "ever" }));
    let signature = format!("sha256={}", openssl_hmac("sha256", SECRET.as_bytes(), &other.body));
    let delivery = other.with("x-signature-256", &signature).with("x-request-id", "7").read(&inbound).unwrap();
    assert_eq!((delivery.event, delivery.id.as_str()), (ForgeEvent::Other { name: "generic".to_owned() }, "7"));
}

#[test]
fn a_branch_or_tag_that_is_gone_is_told_as_such() {
    let github_in = inbound(InboundKind::GitHub);
    let mut body = push_body();
    (body["after"], body["ref"]) = (json!(NONE), json!("refs/tags/v1"));
    let ForgeEvent::Deleted(deleted) = github("push", &body).read(&github_in).unwrap().event else { panic!() };
    assert_eq!((deleted.kind, deleted.name.as_str()), (RefKind::Tag, "v1"));
    let body = json!({ "ref": "feature/a", "ref_type": "branch", "repository": { "full_name": "micro/app" } });
    let ForgeEvent::Deleted(deleted) = gitea("delete", &body).read(&inbound(InboundKind::Gitea)).unwrap().event else { panic!() };
    assert_eq!(
        (deleted.kind, deleted.name.as_str(), deleted.repository.full_name.as_str()),
        (RefKind::Branch, "feature/a", "micro/app")
    );
    let mut body = gitlab_push();
    (body["after"], body["object_kind"], body["ref"]) = (json!(NONE), json!("tag_push"), json!("refs/tags/v1"));
    let sent = Sent::json(&body).with("x-gitlab-token", SECRET);
    assert!(matches!(sent.read(&inbound(InboundKind::GitLab)).unwrap().event, ForgeEvent::Deleted(_)));
}

#[test]
fn a_new_branch_has_no_commit_before_and_a_long_push_is_truncated() {
    let mut body = push_body();
    (body["before"], body["total_commits"]) = (json!(NONE), json!(2));
    let ForgeEvent::Push(push) = gitea("push", &body).read(&inbound(InboundKind::Gitea)).unwrap().event else { panic!() };
    assert_eq!((push.before, push.is_truncated), (None, true));
}

fn pull_request(from: &Value) -> Value {
    json!({
        "action": "opened", "number": 7,
        "pull_request": {
            "head": { "ref": "feature/a", "sha": AFTER, "repo": from },
            "base": { "ref": "main", "sha": BEFORE, "repo": { "full_name": "micro/app" } },
        },
        "repository": { "full_name": "micro/app" },
    })
}

#[test]
fn a_pull_request_of_a_stranger_is_known_as_one() {
    for (from, is_fork) in [
        (json!({ "full_name": "micro/app" }), false),
        (json!({ "full_name": "stranger/app" }), true),
        // It was deleted meanwhile.
        (Value::Null, true),
    ] {
        let event = gitea("pull_request", &pull_request(&from)).read(&inbound(InboundKind::Gitea)).unwrap().event;
        let ForgeEvent::PullRequest(request) = event else { panic!() };
        assert_eq!((request.number, request.action.as_str(), request.base.as_str()), (7, "opened", "main"));
        assert_eq!((request.head.name.as_str(), request.head.sha.as_str(), request.is_fork), ("feature/a", AFTER, is_fork));
    }
    let (one, two) = (json!(1), json!(2));
    for (source, target, is_fork) in
        [(&one, &one, false), (&two, &one, true), (&Value::Null, &one, true), (&Value::Null, &Value::Null, true)]
    {
        let body = json!({ "object_kind": "merge_request", "project": { "path_with_namespace": "micro/app" }, "object_attributes": {
            "iid": 7, "action": "open", "source_branch": "feature/a", "target_branch": "main", "source_project_id": source,
            "target_project_id": target, "last_commit": { "id": AFTER }, "source": { "path_with_namespace": "micro/app" },
        } });
        let sent = Sent::json(&body).with("x-gitlab-token", SECRET);
        let ForgeEvent::PullRequest(request) = sent.read(&inbound(InboundKind::GitLab)).unwrap().event else { panic!() };
        assert_eq!((request.number, request.is_fork), (7, is_fork));
    }
}

#[test]
fn what_is_authentic_and_dangerous_is_refused() {
    for (member, value) in [
        ("ref", "refs/heads/--upload-pack=x"),
        ("ref", "refs/heads/a b"),
        ("ref", "refs/tags/../../x"),
        ("after", "main"),
        ("before", ""),
    ] {
        let mut body = push_body();
        body[member] = json!(value);
        let (status, reason) = refused(&github("push", &body), &inbound(InboundKind::GitHub));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{member} {value}");
        assert!(!reason.contains("upload-pack"), "{reason}");
    }
}

#[test]
fn other_events_and_pings_are_told_by_their_names() {
    let inbound = inbound(InboundKind::GitHub);
    assert_eq!(github("ping", &json!({ "zen": "x" })).read(&inbound).unwrap().event, ForgeEvent::Ping);
    let other = ForgeEvent::Other { name: "issues".to_owned() };
    assert_eq!(github("issues", &json!({})).read(&inbound).unwrap().event, other);
}

#[test]
fn what_is_no_delivery_is_refused_before_anything_is_looked_at() {
    let inbound = inbound(InboundKind::GitHub);
    let sent = github("push", &push_body());
    for (changed, status) in [
        (Sent { method: Method::GET, ..sent.clone() }, StatusCode::METHOD_NOT_ALLOWED),
        (Sent { method: Method::PUT, ..sent.clone() }, StatusCode::METHOD_NOT_ALLOWED),
        (sent.clone().with("content-type", "text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (sent.clone().without("content-type"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Sent { body: vec![b' '; roadstead_hooks::BODY_LIMIT + 1], ..sent.clone() }, StatusCode::PAYLOAD_TOO_LARGE),
        (sent.without("x-github-event"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(changed.read(&inbound).unwrap_err().status(), status);
    }
}

#[test]
fn without_a_secret_nobody_is_listened_to() {
    for secret in ["", " ", "\n"] {
        let refused = Inbound::new("forge", InboundKind::GitHub, secret.into(), Arc::new(ManualClock::new()));
        assert!(matches!(refused, Err(InboundError::Secret { .. })));
    }
    let refused = Inbound::new("../forge", InboundKind::GitHub, SECRET.into(), Arc::new(ManualClock::new()));
    assert!(matches!(refused, Err(InboundError::Name { .. })));
    assert!(!format!("{:?}", inbound(InboundKind::GitHub)).contains(SECRET));
    assert!(InboundKind::ALL.into_iter().all(|kind| InboundKind::parse(kind.as_str()) == Some(kind)));
}
