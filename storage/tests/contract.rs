//! One contract for every backend: what the store promises to the rooms above it, on memory and on a local folder.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use oci::{Algorithm, Content, Digest, Hasher, RepositoryName, Tag};
use roadstead_storage::{FinishError, KeepError, Location, ManifestRecord, Store};
use telemetry::{Clock, Metrics, SystemClock};

/// Two stores to put to the test, and the folder of one of them.
async fn stores() -> (tempfile::TempDir, [Store; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let on_folder = open(&Location::Folder(folder.path().to_owned())).await;
    (folder, [open(&Location::Memory).await, on_folder])
}

async fn open(location: &Location) -> Store {
    Store::open(location, Arc::new(SystemClock::default()), Metrics::new()).await.unwrap()
}

fn now() -> SystemTime {
    SystemClock::default().now()
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

/// The bytes `start..end` of a blob.
async fn read(store: &Store, digest: &Digest, start: u64, end: u64) -> Vec<u8> {
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

#[tokio::test]
async fn a_spool_becomes_a_blob_only_under_its_own_digest() {
    let (_folder, stores) = stores().await;
    for store in stores {
        for size in [0, 1, 70_000, 9 * 1024 * 1024] {
            let bytes: Vec<u8> = (0..size).map(|number: usize| number.to_le_bytes()[1]).collect();
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let expected = Hasher::digest(algorithm, &bytes);
                let mut wrong = store.spool(algorithm).unwrap();
                wrong.write(b"other").unwrap();
                assert!(matches!(wrong.keep(&expected).await, Err(KeepError::Digest { .. })));
                assert!(store.blob(&expected).await.unwrap().is_none());
                let mut spool = store.spool(algorithm).unwrap();
                for chunk in bytes.chunks(50_000) {
                    spool.write(chunk).unwrap();
                }
                assert_eq!(spool.written(), size as u64);
                spool.keep(&expected).await.unwrap();
                assert_eq!(store.stat_blob(&expected).await.unwrap(), Some(size as u64));
                assert_eq!(read(&store, &expected, 0, size as u64).await, bytes);
                let (start, end) = (size / 3, size / 2);
                assert_eq!(read(&store, &expected, start as u64, end as u64).await, bytes[start..end]);
            }
        }
    }
}

#[tokio::test]
async fn the_same_blob_can_be_kept_by_many_at_once() {
    let (_folder, stores) = stores().await;
    for store in stores {
        let expected = digest(b"content");
        let keeps = (0..20).map(|_| async {
            let mut spool = store.spool(Algorithm::Sha256).unwrap();
            spool.write(b"content").unwrap();
            spool.keep(&expected).await.unwrap();
        });
        join_all(keeps).await;
        assert_eq!(read(&store, &expected, 0, 7).await, b"content");
    }
}

#[tokio::test]
async fn membership_is_per_repository() {
    let (_folder, stores) = stores().await;
    for store in stores {
        let blob = digest(b"x");
        let longest = name(&format!("{}/{}", "a".repeat(127), "b".repeat(127)));
        for repository in [name("a"), name("a/b"), longest.clone()] {
            assert!(!store.is_member(&repository, &blob).await.unwrap());
            store.add_member(&repository, &blob).await.unwrap();
            store.add_member(&repository, &blob).await.unwrap();
            assert!(store.is_member(&repository, &blob).await.unwrap());
        }
        assert_eq!(store.members(&blob).await.unwrap().len(), 3);
        assert!(store.remove_member(&name("a"), &blob).await.unwrap());
        assert!(!store.remove_member(&name("a"), &blob).await.unwrap());
        assert!(!store.is_member(&name("a"), &blob).await.unwrap());
        assert!(store.is_member(&longest, &blob).await.unwrap());
    }
}

#[tokio::test]
async fn a_tag_tells_where_it_pointed_before() {
    let (_folder, stores) = stores().await;
    for store in stores {
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
}

#[tokio::test]
async fn what_an_upstream_said_earlier_does_not_replace_what_it_said_later() {
    let (_folder, stores) = stores().await;
    for store in stores {
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_move_of_a_tag_is_lost() {
    let (_folder, stores) = stores().await;
    for store in stores {
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
}

#[tokio::test]
async fn tags_of_nested_names_are_kept_apart_and_sorted() {
    let (_folder, stores) = stores().await;
    for store in stores {
        for (repository, text) in [("a", "v2"), ("a", "V1"), ("a/b", "inner"), ("a", "v10")] {
            store.set_tag(&name(repository), &tag(text), &digest(b"x"), now()).await.unwrap();
        }
        let listed: Vec<String> = store.tags(&name("a")).await.unwrap().into_iter().map(String::from).collect();
        assert_eq!(listed, ["V1", "v10", "v2"]);
        assert!(store.tags(&name("a/c")).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_manifest_is_listed_under_its_subject_while_it_is_there() {
    let (_folder, stores) = stores().await;
    for store in stores {
        let repository = name("a");
        let (subject, manifest) = (digest(b"subject"), digest(b"signature"));
        let mut record = ManifestRecord::new("x/y".to_owned(), 9, now());
        record.subject = Some(subject.clone());
        record.artifact_type = Some("x/signature".to_owned());
        store.put_blob(&manifest, Bytes::from_static(b"signature")).await.unwrap();
        store.put_manifest(&repository, &manifest, &record).await.unwrap();
        assert_eq!(store.manifest(&repository, &manifest).await.unwrap(), Some(record));
        assert_eq!(store.blob_bytes(&manifest).await.unwrap().unwrap(), "signature");
        let listed = store.referrers(&repository, &subject).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&manifest));
        assert!(store.remove_manifest(&repository, &manifest).await.unwrap());
        assert!(!store.remove_manifest(&repository, &manifest).await.unwrap());
        assert!(store.manifest(&repository, &manifest).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn the_catalog_has_every_repository_once() {
    let (_folder, stores) = stores().await;
    for store in stores {
        for text in ["b/c", "b-c", "b", "b/c"] {
            store.add_repository(&name(text), None, now()).await.unwrap();
        }
        store.add_repository(&name("docker.io/library/x"), Some("docker.io"), now()).await.unwrap();
        let listed: Vec<String> = store.repositories().await.unwrap().into_iter().map(String::from).collect();
        assert_eq!(listed, ["b", "b-c", "b/c", "docker.io/library/x"]);
        let record = store.repository(&name("docker.io/library/x")).await.unwrap().unwrap();
        assert_eq!(record.cached_from.as_deref(), Some("docker.io"));
        assert!(store.repository(&name("nowhere")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_upload_of_any_chunking_is_the_same_blob() {
    let (_folder, stores) = stores().await;
    for store in stores {
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
            assert_eq!(upload.finish(&expected).await.unwrap(), bytes.len() as u64);
            assert_eq!(read(&store, &expected, 0, bytes.len() as u64).await, bytes);
            assert!(store.upload(&repository, id).await.unwrap().is_none());
        }
        assert_eq!(store.open_uploads(), 0);
    }
}

#[tokio::test]
async fn what_a_request_added_can_be_taken_back() {
    let (_folder, stores) = stores().await;
    for store in stores {
        let repository = name("a");
        let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
        upload.append(b"0123").await.unwrap();
        upload.save().await.unwrap();
        let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
        upload.append(&vec![b'x'; 11_000_000]).await.unwrap();
        upload.roll_back().unwrap();
        assert_eq!(upload.size(), 4);
        upload.append(b"45").await.unwrap();
        assert_eq!(upload.save().await.unwrap(), 6);
        assert_eq!(store.upload_size(&repository, id).await.unwrap(), Some(6));
        let upload = store.upload(&repository, id).await.unwrap().unwrap();
        upload.finish(&digest(b"012345")).await.unwrap();
        assert_eq!(read(&store, &digest(b"012345"), 0, 6).await, b"012345");
    }
}

#[tokio::test]
async fn a_wrong_digest_ends_the_session() {
    let (_folder, stores) = stores().await;
    for store in stores {
        let repository = name("a");
        let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        let mut upload = store.upload(&repository, id).await.unwrap().unwrap();
        upload.append(b"content").await.unwrap();
        assert!(matches!(upload.finish(&digest(b"other")).await, Err(FinishError::Digest { .. })));
        assert!(store.upload(&repository, id).await.unwrap().is_none());
        assert!(store.blob(&digest(b"content")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn forgotten_sessions_expire_and_others_stay() {
    let (_folder, stores) = stores().await;
    for store in stores {
        let repository = name("a");
        let id = store.start_upload(&repository, Algorithm::Sha256).await.unwrap();
        assert_eq!(store.expire_uploads(Duration::from_hours(1)).await.unwrap(), 0);
        assert!(store.upload(&repository, id).await.unwrap().is_some());
        assert_eq!(store.expire_uploads(Duration::ZERO).await.unwrap(), 1);
        assert!(store.upload(&repository, id).await.unwrap().is_none());
        assert_eq!(store.expire_uploads(Duration::ZERO).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_folder_of_another_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("layout"), "9").unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let opened = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new()).await;
    let message = opened.err().unwrap().to_string();
    assert!(message.contains("layout \"9\"") && message.contains("version of roadstead"), "{message}");
}

#[tokio::test]
async fn a_second_opening_of_a_folder_names_the_holder() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let first = open(&location).await;
    let second = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new()).await;
    let message = second.err().unwrap().to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    drop(first);
    open(&location).await;
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tmp")).unwrap();
    std::fs::write(folder.path().join("tmp/mine"), "precious").unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let opened = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new()).await;
    let message = opened.err().unwrap().to_string();
    assert!(message.contains("not empty") && message.contains("storage.url"), "{message}");
    assert_eq!(std::fs::read_to_string(folder.path().join("tmp/mine")).unwrap(), "precious");
}

#[tokio::test]
async fn a_damaged_blob_is_replaced_by_the_next_push_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Location::Folder(folder.path().to_owned())).await;
    let expected = digest(b"content");
    let path = folder.path().join(format!("blobs/sha256/{}/{}", &expected.hex()[..2], expected.hex()));
    for _ in 0..2 {
        let mut spool = store.spool(Algorithm::Sha256).unwrap();
        spool.write(b"content").unwrap();
        spool.keep(&expected).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        std::fs::write(&path, b"contentEVIL").unwrap();
    }
}

#[tokio::test]
async fn idle_sessions_hold_no_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Location::Folder(folder.path().to_owned())).await;
    let inside = || {
        let links =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.filter(|path| path.starts_with(folder.path().join("uploads"))).count()
    };
    for _ in 0..20 {
        let id = store.start_upload(&name("a"), Algorithm::Sha256).await.unwrap();
        let mut upload = store.upload(&name("a"), id).await.unwrap().unwrap();
        upload.append(b"0123").await.unwrap();
        upload.save().await.unwrap();
    }
    assert_eq!((store.open_uploads(), inside()), (20, 0));
}
