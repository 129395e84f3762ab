//! What records promise, whatever they are kept in.

use bytes::Bytes;
use futures_util::future::join_all;
use roadstead_storage::{RecordChange, Store};

pub(crate) async fn a_record_is_swapped_only_against_what_it_is(store: Store) {
    let records = store.records("jobs");
    let bytes = Bytes::from_static;
    assert!(records.read("slots/a/b").await.unwrap().is_none());
    let first = records.swap("slots/a/b", bytes(b"one"), None).await.unwrap().unwrap();
    assert!(records.swap("slots/a/b", bytes(b"another"), None).await.unwrap().is_none());
    let (found, version) = records.read("slots/a/b").await.unwrap().unwrap();
    assert_eq!(found, "one");
    assert_eq!(records.read_if_changed("slots/a/b", &version).await.unwrap(), RecordChange::Unchanged);
    let second = records.swap("slots/a/b", bytes(b"two"), Some(&version)).await.unwrap().unwrap();
    assert!(records.swap("slots/a/b", bytes(b"three"), Some(&first)).await.unwrap().is_none());
    match records.read_if_changed("slots/a/b", &first).await.unwrap() {
        RecordChange::To(found, version) => {
            assert_eq!(found, "two");
            assert_eq!(records.read_if_changed("slots/a/b", &version).await.unwrap(), RecordChange::Unchanged);
        }
        other => panic!("{other:?}"),
    }
    records.remove("slots/a/b").await.unwrap();
    records.remove("slots/a/b").await.unwrap();
    assert_eq!(records.read_if_changed("slots/a/b", &second).await.unwrap(), RecordChange::Gone);
    assert!(records.swap("slots/a/b", bytes(b"four"), Some(&second)).await.unwrap().is_none());
    assert!(records.read("slots/a/b").await.unwrap().is_none());
    records.swap("slots/a/b", bytes(b"five"), None).await.unwrap().unwrap();
}

pub(crate) async fn records_are_listed_right_under_their_prefix(store: Store) {
    let (records, others) = (store.records("jobs"), store.records("leases"));
    for key in ["slots/a/x", "slots/a/=2e.x", "slots/a/b/deeper", "slots/ab/y", "slots/a/B"] {
        records.swap(key, Bytes::from_static(b"{}"), None).await.unwrap().unwrap();
    }
    assert_eq!(records.list("slots/a").await.unwrap(), ["=2e.x", "B", "x"]);
    assert_eq!(records.list("slots/a/b").await.unwrap(), ["deeper"]);
    assert!(records.list("slots").await.unwrap().is_empty());
    assert!(records.list("nothing").await.unwrap().is_empty());
    assert!(others.list("slots/a").await.unwrap().is_empty());
    assert!(others.read("slots/a/x").await.unwrap().is_none());
    records.remove("slots/a/x").await.unwrap();
    assert_eq!(records.list("slots/a").await.unwrap(), ["=2e.x", "B"]);
}

pub(crate) async fn of_many_that_swap_a_record_at_once_one_is_first(store: Store) {
    let records = store.records("jobs");
    for round in 0..3_u8 {
        let known = records.read("a").await.unwrap().map(|(_, version)| version);
        let swaps = (0..16_u8).map(|number| {
            let (records, known) = (records.clone(), known.clone());
            async move { records.swap("a", Bytes::from(vec![round, number]), known.as_ref()).await.unwrap().map(|_| number) }
        });
        let first: Vec<u8> = join_all(swaps).await.into_iter().flatten().collect();
        let (found, _) = records.read("a").await.unwrap().unwrap();
        assert_eq!(first.len(), 1, "round {round}");
        assert_eq!(found, vec![round, first[0]]);
    }
}
