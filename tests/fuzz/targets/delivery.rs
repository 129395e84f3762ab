//! Input: a byte for the forge and the event, and the payload of an authentic delivery.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use hooks::{ForgeEvent, Inbound, InboundKind, RefKind, Refusal, Repository};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::SecretString;
use sha2::Sha256;
use telemetry::SystemClock;

const SECRET: &str = "s3cret";
const EVENTS: [&str; 4] = ["push", "delete", "pull_request", "ping"];

pub(crate) fn target(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let kind = InboundKind::ALL[usize::from(choice & 3)];
    let inbound = Inbound::new("x", kind, SecretString::from(SECRET), Arc::new(SystemClock::default())).unwrap();
    let mut headers = headers(kind, EVENTS[usize::from(choice >> 2) % EVENTS.len()], payload);
    match inbound.read(&Method::POST, &headers, None, payload) {
        Err(Refusal::Malformed { reason }) => assert!(reason.len() < 2000, "{reason}"),
        Err(other) => panic!("it is authentic: {other}"),
        Ok(delivery) => {
            assert!(delivery.digest.len() == 64 && !delivery.id.is_empty());
            sound(&delivery.event);
        }
    }
    // The same from somebody who does not know the secret is not looked at.
    let name = if kind == InboundKind::GitLab { "x-gitlab-token" } else { "x-hub-signature-256" };
    headers.insert(name, HeaderValue::from_static("sha256=0000"));
    let read = inbound.read(&Method::POST, &headers, None, payload);
    assert!(matches!(read, Err(Refusal::Unauthentic { .. })), "{read:?}");
}

fn headers(kind: InboundKind, event: &str, payload: &[u8]) -> HeaderMap {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(payload);
    let signature = hex::encode(mac.finalize().into_bytes());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-github-event", HeaderValue::from_str(event).unwrap());
    headers.insert("x-hub-signature-256", HeaderValue::from_str(&format!("sha256={signature}")).unwrap());
    if kind == InboundKind::GitLab {
        headers.insert("x-gitlab-token", HeaderValue::from_static(SECRET));
    }
    headers
}

/// What goes near a command of git is what git would take for a name, and never an option.
fn sound(event: &ForgeEvent) {
    let commit =
        |text: &str| assert!(matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    let name = |text: &str| {
        assert!(
            !text.is_empty()
                && !text.starts_with('-')
                && !text.contains(['\0', '\n', ' ', '~', '^', ':'])
                && !text.contains(".."),
            "{text:?}"
        );
    };
    let place = |repository: &Repository| assert!(!repository.full_name.contains(['\0', '\n']), "{repository:?}");
    match event {
        ForgeEvent::Push(push) => {
            assert!(matches!(push.kind, RefKind::Branch | RefKind::Tag));
            name(&push.name);
            commit(&push.after);
            push.before.iter().for_each(|before| commit(before));
            push.commits.iter().for_each(|one| commit(&one.id));
            place(&push.repository);
        }
        ForgeEvent::Deleted(deleted) => {
            name(&deleted.name);
            place(&deleted.repository);
        }
        ForgeEvent::PullRequest(request) => {
            name(&request.base);
            name(&request.head.name);
            commit(&request.head.sha);
            place(&request.repository);
        }
        _ => {}
    }
}
