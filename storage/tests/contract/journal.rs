//! Events: each change of a tag, told at least once.

use std::time::Duration;

use bytes::Bytes;
use oci::Digest;
use roadstead_storage::{ManifestPut, ManifestRecord, Origin, Store, TagEvent};

use crate::suite::{digest, name, now, tag};

/// Tag, digest and sequence of each event.
fn told(events: &[TagEvent]) -> Vec<(String, Option<Digest>, Option<u64>)> {
    events.iter().map(|event| (event.tag.to_string(), event.digest.clone(), event.sequence)).collect()
}

/// What is found by whoever looks an hour later.
async fn left(store: &Store) -> Vec<TagEvent> {
    store.abandoned_events(now() + Duration::from_hours(1), false).await.unwrap()
}

pub(crate) async fn every_change_of_a_tag_is_an_event_until_somebody_acted_on_it(store: Store) {
    let origin = Origin { by: Some("robot:ci".to_owned()), from: Some("10.0.0.1".to_owned()) };
    let store = store.with_journal().on_behalf(origin);
    let repository = name("team/app");
    let (first, second) = (digest(b"1"), digest(b"2"));
    let record = ManifestRecord::new("x/y".to_owned(), 1, now());
    let tags = [tag("v1"), tag("latest")];
    let bytes = Bytes::from_static(b"1");
    let put = ManifestPut { digest: &first, bytes, record: &record, tags: &tags, cached_from: None, at: now() };
    store.put_manifest(&repository, put).await.unwrap();
    store.set_tag(&repository, &tags[1], &second, now()).await.unwrap();
    assert!(store.remove_tag(&repository, &tags[0], None).await.unwrap());
    let wanted = [
        ("v1".to_owned(), Some(first.clone()), Some(1)),
        ("latest".to_owned(), Some(first), Some(1)),
        ("latest".to_owned(), Some(second), Some(2)),
        ("v1".to_owned(), None, Some(2)),
    ];
    let events = store.events().await;
    assert_eq!(told(&events), wanted);
    assert!(events.iter().all(|event| event.by.as_deref() == Some("robot:ci") && event.repository == repository));
    // They stay for whoever looks after a crash, and no others.
    let found = left(&store).await;
    assert_eq!(found.len(), 4);
    assert!(events.iter().all(|event| found.iter().any(|other| other.id == event.id && other.digest == event.digest)));
    // Whose change shows is known, of the others it is not.
    let sequences = found.iter().filter(|event| event.tag == tags[1]).map(|event| event.sequence);
    assert_eq!(sequences.collect::<std::collections::BTreeSet<_>>(), [None, Some(2)].into());
    assert!(store.abandoned_events(now(), false).await.unwrap().is_empty(), "too young to be left by somebody");
    for event in &events {
        store.event_done(event).await.unwrap();
        store.event_done(event).await.unwrap();
    }
    assert!(left(&store).await.is_empty());
    let record = store.tag(&repository, &tags[1]).await.unwrap().unwrap();
    assert_eq!((record.by.as_deref(), record.from.as_deref()), (Some("robot:ci"), Some("10.0.0.1")));
}

pub(crate) async fn what_changes_no_tag_is_no_event(store: Store) {
    let silent = store.clone();
    let store = store.with_journal();
    let (cached, latest, content) = (name("docker.io/library/x"), tag("latest"), digest(b"1"));
    let later = now() + Duration::from_secs(1);
    store.set_cached_tag(&cached, &latest, &content, now(), "docker.io").await.unwrap();
    assert_eq!(told(&store.events().await), [("latest".to_owned(), Some(content.clone()), Some(1))]);
    // Known to be right once more, or said to have been something else before.
    store.set_cached_tag(&cached, &latest, &content, later, "docker.io").await.unwrap();
    store.set_cached_tag(&cached, &latest, &digest(b"old"), now(), "docker.io").await.unwrap();
    assert!(!store.remove_tag(&cached, &tag("none"), None).await.unwrap());
    assert!(!store.remove_tag(&cached, &latest, Some(&digest(b"2"))).await.unwrap());
    assert_eq!(left(&store).await.len(), 1);
    store.set_cached_tag(&cached, &latest, &digest(b"2"), later + Duration::from_secs(1), "docker.io").await.unwrap();
    assert_eq!(told(&store.events().await), [("latest".to_owned(), Some(digest(b"2")), Some(2))]);
    // A store that nobody listens to writes none.
    silent.set_tag(&name("a"), &latest, &content, now()).await.unwrap();
    assert_eq!(left(&store).await.len(), 2);
}
