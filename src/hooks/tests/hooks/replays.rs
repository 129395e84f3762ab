use std::sync::Arc;
use std::time::Duration;

use roadstead_hooks::{InboundKind, Seen, SeenLimits};
use serde_json::json;
use testing::ManualClock;

use crate::forges::{SECRET, Sent, github, inbound, inbound_with, push_body};
use crate::signed::openssl_hmac;
use crate::state::Memory;

const DAY: Duration = Duration::from_hours(24);

fn seen(records: &Memory, clock: &Arc<ManualClock>, limits: SeenLimits) -> Seen {
    Seen::new(Arc::new(records.clone()), Arc::clone(clock) as _, limits)
}

#[tokio::test]
async fn a_delivery_that_is_sent_again_is_known_by_its_bytes_whatever_it_is_called() {
    let (records, clock) = (Memory::default(), Arc::new(ManualClock::new()));
    let (seen, inbound) = (seen(&records, &clock, SeenLimits::default()), inbound(InboundKind::GitHub));
    let sent = github("push", &push_body());
    let first = sent.read(&inbound).unwrap();
    assert!(!seen.is_done(&inbound, &first).await.unwrap());
    // Not done yet: the forge sends again what failed, and is to be heard.
    assert!(!seen.is_done(&inbound, &first).await.unwrap());
    seen.done(&inbound, &first).await.unwrap();
    assert!(seen.is_done(&inbound, &first).await.unwrap());
    // Who listened cannot sign another body, but may call this one as he likes.
    let renamed = sent.with("x-github-delivery", "another").read(&inbound).unwrap();
    assert!(seen.is_done(&inbound, &renamed).await.unwrap());
    let mut body = push_body();
    body["after"] = json!("3333333333333333333333333333333333333333");
    let other = github("push", &body).read(&inbound).unwrap();
    assert!(!seen.is_done(&inbound, &other).await.unwrap());
}

#[tokio::test]
async fn what_a_generic_sender_signed_is_done_once_under_whatever_id() {
    let (records, clock) = (Memory::default(), Arc::new(ManualClock::new()));
    let (seen, inbound) = (seen(&records, &clock, SeenLimits::default()), inbound(InboundKind::Generic));
    let sent = Sent::json(&json!({ "build": "now" }));
    let sent = sent.clone().with("x-signature-256", &format!("sha256={}", openssl_hmac("sha256", SECRET.as_bytes(), &sent.body)));
    let one = sent.clone().with("x-request-id", "1").read(&inbound).unwrap();
    seen.done(&inbound, &one).await.unwrap();
    assert!(seen.is_done(&inbound, &one).await.unwrap());
    let two = sent.with("x-request-id", "2").read(&inbound).unwrap();
    assert!(seen.is_done(&inbound, &two).await.unwrap());
    // Who means it twice says so in what is signed.
    let again = Sent::json(&json!({ "build": "now", "at": 2 }));
    let signature = format!("sha256={}", openssl_hmac("sha256", SECRET.as_bytes(), &again.body));
    let again = again.with("x-signature-256", &signature).with("x-request-id", "1").read(&inbound).unwrap();
    assert!(!seen.is_done(&inbound, &again).await.unwrap());
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_nothing_before() {
    let (records, clock) = (Memory::default(), Arc::new(ManualClock::new()));
    let limits = SeenLimits { days: 2, per_day: 10 };
    let inbound = inbound_with(InboundKind::GitHub, SECRET, Arc::clone(&clock));
    let first = github("push", &push_body()).read(&inbound).unwrap();
    let memory = seen(&records, &clock, limits);
    memory.done(&inbound, &first).await.unwrap();
    clock.advance(DAY * 2);
    assert!(memory.is_done(&inbound, &first).await.unwrap());
    let ping = github("ping", &json!({ "zen": "x" })).read(&inbound).unwrap();
    memory.done(&inbound, &ping).await.unwrap();
    assert_eq!(records.keys().len(), 2);
    clock.advance(DAY);
    assert!(!memory.is_done(&inbound, &first).await.unwrap());
    // By another process, which has never counted.
    seen(&records, &clock, limits).done(&inbound, &first).await.unwrap();
    assert_eq!(records.keys().len(), 2);
}

#[tokio::test]
async fn a_day_is_remembered_up_to_its_limit() {
    let (records, clock) = (Memory::default(), Arc::new(ManualClock::new()));
    let inbound = inbound(InboundKind::GitHub);
    for n in 0..4 {
        // Each by a process of its own, or all by one.
        let memory = seen(&records, &clock, SeenLimits { days: 1, per_day: 3 });
        let delivery = github("ping", &json!({ "zen": n })).read(&inbound).unwrap();
        memory.done(&inbound, &delivery).await.unwrap();
    }
    assert_eq!(records.keys().len(), 3);
    let (records, memory) = (Memory::default(), Memory::default());
    let one = seen(&memory, &clock, SeenLimits { days: 1, per_day: 3 });
    for n in 0..5 {
        let delivery = github("ping", &json!({ "zen": n })).read(&inbound).unwrap();
        one.done(&inbound, &delivery).await.unwrap();
    }
    assert_eq!((memory.keys().len(), records.keys().len()), (3, 0));
}

#[tokio::test]
async fn a_memory_that_fails_says_whose_it_is() {
    let (records, clock) = (Memory::default(), Arc::new(ManualClock::new()));
    let (seen, inbound) = (seen(&records, &clock, SeenLimits::default()), inbound(InboundKind::GitHub));
    let delivery = github("push", &push_body()).read(&inbound).unwrap();
    records.fail_once("forge");
    let error = seen.is_done(&inbound, &delivery).await.unwrap_err();
    assert_eq!(error.to_string(), "it is not known which deliveries of forge were done");
}
