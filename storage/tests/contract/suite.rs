//! What the store promises to the rooms above it, whatever it is kept in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use oci::{Algorithm, Content, Digest, Hasher, RepositoryName, Tag};
use roadstead_storage::{Error, FinishError, KeepError, ManifestPut, ManifestRecord, Owner, Store};
use telemetry::{Clock, SystemClock};

use crate::{journal, records};

/// Every promise, with its name. Each is put to a store of its own.
pub(crate) const SUITE: &[(&str, Promise)] = &[
    ("a_spool_becomes_a_blob_only_under_its_own_digest", |store| {
        Box::pin(a_spool_becomes_a_blob_only_under_its_own_digest(store))
    }),
    ("the_same_blob_can_be_kept_by_many_at_once", |store| Box::pin(the_same_blob_can_be_kept_by_many_at_once(store))),
    ("membership_is_per_repository", |store| Box::pin(membership_is_per_repository(store))),
    ("a_tag_tells_where_it_pointed_before", |store| Box::pin(a_tag_tells_where_it_pointed_before(store))),
    ("what_an_upstream_said_earlier_does_not_replace_what_it_said_later", |store| {
        Box::pin(what_an_upstream_said_earlier_does_not_replace_what_it_said_later(store))
    }),
    ("no_move_of_a_tag_is_lost", |store| Box::pin(no_move_of_a_tag_is_lost(store))),
    ("tags_of_nested_names_are_kept_apart_and_sorted", |store| Box::pin(tags_of_nested_names_are_kept_apart_and_sorted(store))),
    ("a_manifest_is_listed_under_its_subject_while_it_is_there", |store| {
        Box::pin(a_manifest_is_listed_under_its_subject_while_it_is_there(store))
    }),
    ("the_catalog_has_every_repository_once", |store| Box::pin(the_catalog_has_every_repository_once(store))),
    ("an_upload_of_any_chunking_is_the_same_blob", |store| Box::pin(an_upload_of_any_chunking_is_the_same_blob(store))),
    ("what_a_request_added_can_be_taken_back", |store| Box::pin(what_a_request_added_can_be_taken_back(store))),
    ("a_wrong_digest_ends_the_session", |store| Box::pin(a_wrong_digest_ends_the_session(store))),
    ("forgotten_sessions_expire_and_others_stay", |store| Box::pin(forgotten_sessions_expire_and_others_stay(store))),
    ("a_manifest_is_pushed_with_all_its_tags", |store| Box::pin(a_manifest_is_pushed_with_all_its_tags(store))),
    ("a_tag_that_stays_is_set_once_and_keeps_its_companions_where_they_are", |store| {
        Box::pin(a_tag_that_stays_is_set_once_and_keeps_its_companions_where_they_are(store))
    }),
    ("every_change_of_a_tag_is_an_event_until_somebody_acted_on_it", |store| {
        Box::pin(journal::every_change_of_a_tag_is_an_event_until_somebody_acted_on_it(store))
    }),
    ("what_changes_no_tag_is_no_event", |store| Box::pin(journal::what_changes_no_tag_is_no_event(store))),
    ("listings_come_in_parts", |store| Box::pin(listings_come_in_parts(store))),
    ("a_record_is_swapped_only_against_what_it_is", |store| {
        Box::pin(records::a_record_is_swapped_only_against_what_it_is(store))
    }),
    ("records_are_listed_right_under_their_prefix", |store| {
        Box::pin(records::records_are_listed_right_under_their_prefix(store))
    }),
    ("of_many_that_swap_a_record_at_once_one_is_first", |store| {
        Box::pin(records::of_many_that_swap_a_record_at_once_one_is_first(store))
    }),
];

/// A promise, put to a store.
pub(crate) type Promise = fn(Store) -> BoxFuture<'static, ()>;

pub(crate) fn now() -> SystemTime {
    SystemClock::default().now()
}

pub(crate) fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

pub(crate) fn owner(repository: &RepositoryName) -> Owner<'_> {
    Owner { repository, cached_from: None, at: now() }
}

pub(crate) fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

/// The bytes `start..end` of a blob.
pub(crate) async fn read(store: &Store, digest: &Digest, start: u64, end: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;

    match store.blob(digest).await.unwrap().unwrap().content {
        Content::Bytes(bytes) => bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].to_vec(),
        Content::File(file) => {
            let mut buffer = vec![0; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut buffer, start).unwrap();
            buffer
        }
        Content::Growing(_) => unreachable!("what is stored is whole"),
        Content::Source(source) => {
            let mut stream = source.open(start, Some(end)).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk.unwrap());
            }
            bytes
        }
    }
}

async fn a_spool_becomes_a_blob_only_under_its_own_digest(store: Store) {
    for size in [0, 1, 70_000, 9 * 1024 * 1024] {
        let bytes: Vec<u8> = (0..size).map(|number: usize| number.to_le_bytes()[1]).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let expected = Hasher::digest(algorithm, &bytes);
            let mut wrong = store.spool(algorithm).unwrap();
            wrong.write(b"other").unwrap();
            assert!(matches!(wrong.keep(&expected, owner(&name("a"))).await, Err(KeepError::Digest { .. })));
            assert!(store.blob(&expected).await.unwrap().is_none());
            let mut spool = store.spool(algorithm).unwrap();
            for chunk in bytes.chunks(50_000) {
                spool.write(chunk).unwrap();
            }
            assert_eq!(spool.written(), size as u64);
            spool.keep(&expected, owner(&name("a"))).await.unwrap();
            assert_eq!(store.stat_blob(&expected).await.unwrap(), Some(size as u64));
            assert_eq!(read(&store, &expected, 0, size as u64).await, bytes);
            let (start, end) = (size / 3, size / 2);
            assert_eq!(read(&store, &expected, start as u64, end as u64).await, bytes[start..end]);
        }
    }
}

async fn the_same_blob_can_be_kept_by_many_at_once(store: Store) {
    let expected = digest(b"content");
    let keeps = (0..20).map(|_| async {
        let mut spool = store.spool(Algorithm::Sha256).unwrap();
        spool.write(b"content").unwrap();
        spool.keep(&expected, owner(&name("a"))).await.unwrap();
    });
    join_all(keeps).await;
    assert_eq!(read(&store, &expected, 0, 7).await, b"content");
}

async fn membership_is_per_repository(store: Store) {
    let blob = digest(b"x");
    let longest = name(&format!("{}/{}", "a".repeat(127), "b".repeat(127)));
    for repository in [name("a"), name("a/b"), longest.clone()] {
        assert!(!store.is_member(&repository, &blob).await.unwrap());
        store.add_member(&blob, owner(&repository)).await.unwrap();
        store.add_member(&blob, owner(&repository)).await.unwrap();
        assert!(store.is_member(&repository, &blob).await.unwrap());
    }
    assert_eq!(store.members(&blob).await.unwrap().len(), 3);
    assert!(store.remove_member(&name("a"), &blob).await.unwrap());
    assert!(!store.remove_member(&name("a"), &blob).await.unwrap());
    assert!(!store.is_member(&name("a"), &blob).await.unwrap());
    assert!(store.is_member(&longest, &blob).await.unwrap());
}

async fn a_tag_tells_where_it_pointed_before(store: Store) {
    let (repository, latest) = (name("team/app"), tag("latest"));
    assert_eq!(store.tag(&repository, &latest).await.unwrap(), None);
    let [first, second] = [digest(b"1"), digest(b"2")];
    for target in [&first, &second, &second, &first] {
        store.set_tag(&repository, &latest, target, now()).await.unwrap();
    }
    let record = store.tag(&repository, &latest).await.unwrap().unwrap();
    assert_eq!((record.digest, record.previous, record.sequence), (first, Some(second), 3));
    assert_eq!(record.from, None);
    assert!(!store.remove_tag(&repository, &latest, Some(&digest(b"2"))).await.unwrap());
    assert!(store.remove_tag(&repository, &latest, Some(&digest(b"1"))).await.unwrap());
    assert!(!store.remove_tag(&repository, &latest, None).await.unwrap());
    assert_eq!(store.tag(&repository, &latest).await.unwrap(), None);
    assert!(store.tags(&repository).await.unwrap().is_empty());
    store.set_tag(&repository, &latest, &digest(b"3"), now()).await.unwrap();
    let record = store.tag(&repository, &latest).await.unwrap().unwrap();
    assert_eq!((record.previous, record.sequence), (None, 5));
    assert!(store.remove_tag(&repository, &latest, None).await.unwrap());
}

async fn what_an_upstream_said_earlier_does_not_replace_what_it_said_later(store: Store) {
    let (repository, latest) = (name("docker.io/library/x"), tag("latest"));
    let [old, new] = [digest(b"old"), digest(b"new")];
    let earlier = now();
    let later = earlier + Duration::from_millis(1);
    for (target, at) in [(&old, earlier), (&new, later), (&old, earlier), (&old, later)] {
        store.set_cached_tag(&repository, &latest, target, at, "docker.io").await.unwrap();
    }
    let record = store.tag(&repository, &latest).await.unwrap().unwrap();
    assert_eq!((record.digest, record.from.as_deref()), (new, Some("docker.io")));
    store.remove_tag(&repository, &latest, None).await.unwrap();
    store.set_cached_tag(&repository, &latest, &old, earlier, "docker.io").await.unwrap();
    assert_eq!(store.tag(&repository, &latest).await.unwrap().unwrap().digest, old);
}

async fn no_move_of_a_tag_is_lost(store: Store) {
    let (repository, latest) = (name("a"), tag("latest"));
    let moves = (0..100_u8).map(|number| {
        let (store, repository, latest) = (store.clone(), repository.clone(), latest.clone());
        tokio::spawn(async move {
            store.set_tag(&repository, &latest, &digest(&[number]), now()).await.unwrap();
            store.tag(&repository, &latest).await.unwrap().unwrap();
        })
    });
    for moved in join_all(moves).await {
        moved.unwrap();
    }
    let record = store.tag(&repository, &latest).await.unwrap().unwrap();
    assert_eq!(record.sequence, 100);
    assert_ne!(Some(&record.digest), record.previous.as_ref());
}

async fn tags_of_nested_names_are_kept_apart_and_sorted(store: Store) {
    for (repository, text) in [("a", "v2"), ("a", "V1"), ("a/b", "inner"), ("a", "v10")] {
        store.set_tag(&name(repository), &tag(text), &digest(b"x"), now()).await.unwrap();
    }
    let listed: Vec<String> = store.tags(&name("a")).await.unwrap().into_iter().map(String::from).collect();
    assert_eq!(listed, ["V1", "v10", "v2"]);
    assert!(store.tags(&name("a/c")).await.unwrap().is_empty());
}

async fn a_manifest_is_listed_under_its_subject_while_it_is_there(store: Store) {
    let repository = name("a");
    let (subject, manifest) = (digest(b"subject"), digest(b"signature"));
    let mut record = ManifestRecord::new("x/y".to_owned(), 9, now());
    record.subject = Some(subject.clone());
    record.artifact_type = Some("x/signature".to_owned());
    let bytes = Bytes::from_static(b"signature");
    let put = ManifestPut { digest: &manifest, bytes, record: &record, tags: &[], cached_from: None, at: now() };
    store.put_manifest(&repository, put).await.unwrap();
    assert_eq!(store.manifest(&repository, &manifest).await.unwrap(), Some(record));
    assert_eq!(store.blob_bytes(&manifest).await.unwrap().unwrap(), "signature");
    let listed = store.referrers(&repository, &subject).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&manifest));
    assert!(store.remove_manifest(&repository, &manifest).await.unwrap());
    assert!(!store.remove_manifest(&repository, &manifest).await.unwrap());
    assert!(store.manifest(&repository, &manifest).await.unwrap().is_none());
}

async fn the_catalog_has_every_repository_once(store: Store) {
    for text in ["b/c", "b-c", "b", "b/c"] {
        store.add_repository(&name(text), None, now()).await.unwrap();
    }
    store.add_repository(&name("docker.io/library/x"), Some("docker.io"), now()).await.unwrap();
    let listed: Vec<String> = store.repositories_after(None, 100).await.unwrap().entries.into_iter().map(String::from).collect();
    assert_eq!(listed, ["b", "b-c", "b/c", "docker.io/library/x"]);
    let record = store.repository(&name("docker.io/library/x")).await.unwrap().unwrap();
    assert_eq!(record.cached_from.as_deref(), Some("docker.io"));
    assert!(store.repository(&name("nowhere")).await.unwrap().is_none());
}

async fn an_upload_of_any_chunking_is_the_same_blob(store: Store) {
    let repository = name("a");
    let bytes: Vec<u8> = (0..12_000_000_u32).map(|number| number.to_le_bytes()[2]).collect();
    for (chunk, algorithm) in
        [(12_000_000, Algorithm::Sha256), (5 * 1024 * 1024, Algorithm::Sha512), (999_983, Algorithm::Sha256)]
    {
        let expected = Hasher::digest(algorithm, &bytes);
        let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        for (number, part) in bytes.chunks(chunk).enumerate() {
            let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
            upload.append(part).await.unwrap();
            if number % 2 == 0 {
                upload.save().await.unwrap();
            }
        }
        let upload = store.upload(&repository, id).await.unwrap().unwrap();
        assert_eq!(upload.finish(&expected, owner(&repository)).await.unwrap(), bytes.len() as u64);
        assert_eq!(read(&store, &expected, 0, bytes.len() as u64).await, bytes);
        assert!(store.upload(&repository, id).await.unwrap().is_none());
    }
    assert_eq!(store.open_uploads(), 0);
}

async fn what_a_request_added_can_be_taken_back(store: Store) {
    let repository = name("a");
    let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
    let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
    upload.append(b"0123").await.unwrap();
    upload.save().await.unwrap();
    let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
    upload.append(&vec![b'x'; 11_000_000]).await.unwrap();
    upload.roll_back().await.unwrap();
    assert_eq!(upload.size(), 4);
    upload.append(b"45").await.unwrap();
    assert_eq!(upload.save().await.unwrap(), 6);
    assert_eq!(store.upload_size(&repository, id).await.unwrap(), Some(6));
    let upload = store.upload(&repository, id).await.unwrap().unwrap();
    upload.finish(&digest(b"012345"), owner(&repository)).await.unwrap();
    assert_eq!(read(&store, &digest(b"012345"), 0, 6).await, b"012345");
}

async fn a_wrong_digest_ends_the_session(store: Store) {
    let repository = name("a");
    let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
    let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
    upload.append(b"content").await.unwrap();
    assert!(matches!(upload.finish(&digest(b"other"), owner(&repository)).await, Err(FinishError::Digest { .. })));
    assert!(store.upload(&repository, id).await.unwrap().is_none());
    assert!(store.blob(&digest(b"content")).await.unwrap().is_none());
}

async fn forgotten_sessions_expire_and_others_stay(store: Store) {
    let repository = name("a");
    let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
    assert_eq!(store.expire_uploads(Duration::from_hours(1)).await.unwrap(), 0);
    assert!(store.upload(&repository, id).await.unwrap().is_some());
    assert_eq!(store.expire_uploads(Duration::ZERO).await.unwrap(), 1);
    assert!(store.upload(&repository, id).await.unwrap().is_none());
    assert_eq!(store.expire_uploads(Duration::ZERO).await.unwrap(), 0);
}

/// Pushes a manifest of these bytes under tags.
async fn push(store: &Store, repository: &RepositoryName, bytes: &'static [u8], tags: &[Tag]) -> Digest {
    let (digest, record) = (digest(bytes), ManifestRecord::new("x/y".to_owned(), bytes.len() as u64, now()));
    let bytes = Bytes::from_static(bytes);
    let put = ManifestPut { digest: &digest, bytes, record: &record, tags, cached_from: None, at: now() };
    store.put_manifest(repository, put).await.unwrap();
    digest
}

async fn a_tag_that_stays_is_set_once_and_keeps_its_companions_where_they_are(store: Store) {
    let repository = name("team/app");
    let store = store.with_immutable(Arc::new(|_, tag| tag.as_str().starts_with('v')));
    let first = push(&store, &repository, b"1", &[tag("v1"), tag("latest")]).await;
    assert_eq!(push(&store, &repository, b"1", &[tag("v1")]).await, first);
    let (other, record) = (digest(b"2"), ManifestRecord::new("x/y".to_owned(), 1, now()));
    for tags in [[tag("latest"), tag("v1")], [tag("v1"), tag("latest")]] {
        let bytes = Bytes::from_static(b"2");
        let put = ManifestPut { digest: &other, bytes, record: &record, tags: &tags, cached_from: None, at: now() };
        let refused = store.put_manifest(&repository, put).await.unwrap_err();
        assert!(matches!(refused, Error::Immutable { .. }), "{refused}");
        assert!(store.manifest(&repository, &other).await.unwrap().is_none());
        for there in ["v1", "latest"] {
            assert_eq!(store.tag(&repository, &tag(there)).await.unwrap().unwrap().digest, first, "{there}");
        }
    }
    assert!(matches!(store.remove_tag(&repository, &tag("v1"), None).await, Err(Error::Immutable { .. })));
    assert!(!store.remove_tag(&repository, &tag("v2"), None).await.unwrap());
    assert!(store.remove_tag(&repository, &tag("latest"), None).await.unwrap());
    // Of many at once one sets it.
    let pushes = (0..8_u8).map(|number| {
        let (store, repository) = (store.clone(), repository.clone());
        async move { store.set_tag(&repository, &tag("v9"), &digest(&[number]), now()).await.is_ok() }
    });
    assert_eq!(join_all(pushes).await.into_iter().filter(|is_set| *is_set).count(), 1);
}

async fn a_manifest_is_pushed_with_all_its_tags(store: Store) {
    let repository = name("team/app");
    let first = push(&store, &repository, b"1", &[tag("v1"), tag("latest"), tag("v1")]).await;
    let second = push(&store, &repository, b"2", &[tag("latest")]).await;
    assert_eq!(store.tag(&repository, &tag("v1")).await.unwrap().unwrap().digest, first);
    let latest = store.tag(&repository, &tag("latest")).await.unwrap().unwrap();
    assert_eq!((latest.digest, latest.previous, latest.sequence), (second.clone(), Some(first), 2));
    assert_eq!(store.blob_bytes(&second).await.unwrap().unwrap(), "2");
    assert!(store.repository(&repository).await.unwrap().is_some());
}

async fn listings_come_in_parts(store: Store) {
    let repository = name("a");
    let tags: Vec<Tag> = ["A", "a", "b", "b-1", "b.1", "c"].map(tag).into();
    push(&store, &repository, b"1", &tags).await;
    store.remove_tag(&repository, &tag("b"), None).await.unwrap();
    let part = |last: Option<&'static str>, limit| {
        let (store, repository) = (store.clone(), repository.clone());
        async move {
            let slice = store.tags_after(&repository, last, limit).await.unwrap();
            (slice.entries.into_iter().map(String::from).collect::<Vec<_>>(), slice.more)
        }
    };
    assert_eq!(part(None, 2).await, (vec!["A".to_owned(), "a".to_owned()], true));
    assert_eq!(part(Some("a"), 2).await, (vec!["b-1".to_owned(), "b.1".to_owned()], true));
    // What is not there, and what cannot be there, has its place in the order too.
    assert_eq!(part(Some("b"), 3).await.0, ["b-1", "b.1", "c"]);
    assert_eq!(part(Some("b.1/%20"), 3).await, (vec!["c".to_owned()], false));
    assert_eq!(part(Some("c"), 3).await, (vec![], false));
    assert_eq!(part(None, 0).await, (vec![], false));
    store.set_tag(&repository, &tag("a0"), &digest(b"1"), now()).await.unwrap();
    assert_eq!(part(Some("a"), 2).await.0, ["a0", "b-1"]);

    for text in ["b/c", "b-c", "b0", "b.c"] {
        store.add_repository(&name(text), None, now()).await.unwrap();
    }
    let names = |last: Option<&'static str>, limit| {
        let store = store.clone();
        async move {
            let slice = store.repositories_after(last, limit).await.unwrap();
            (slice.entries.into_iter().map(String::from).collect::<Vec<_>>(), slice.more)
        }
    };
    assert_eq!(names(None, 3).await, (vec!["a".to_owned(), "b-c".to_owned(), "b.c".to_owned()], true));
    assert_eq!(names(Some("b.c"), 9).await, (vec!["b/c".to_owned(), "b0".to_owned()], false));
    assert_eq!(names(Some("b/"), 9).await.0, ["b/c", "b0"]);
}
