//! The power goes away, or a call fails, at every single point: what was acknowledged is there, what was not is there whole or not
//! at all.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher, RepositoryName, Tag};
use roadstead_storage::{Disk, Error, Location, ManifestPut, ManifestRecord, Owner, Store, Surroundings, TagEvent};
use telemetry::{Clock, Metrics, SystemClock};

mod disk;

use crate::disk::{Failing, Loss, Recorder, after, write};

/// What a store should hold, as far as it can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    blobs: BTreeSet<String>,
    manifests: BTreeSet<String>,
    tags: BTreeMap<String, String>,
    repositories: BTreeSet<String>,
}

/// One request to the store.
#[derive(Clone, Copy, Debug)]
enum Request {
    /// A blob in one piece.
    Blob(&'static str),
    /// A blob over a session, in two chunks.
    Upload(&'static str),
    Manifest(&'static str, &'static [&'static str]),
    DeleteTag(&'static str),
    DeleteManifest(&'static str),
    DeleteBlob(&'static str),
    /// A blob of an upstream.
    Fill(&'static str),
}

const HOSTED: &str = "team/app";
const CACHED: &str = "docker.io/library/alpine";

const REQUESTS: &[Request] = &[
    Request::Blob("one"),
    Request::Upload("two, in chunks"),
    Request::Manifest("first", &["v1", "latest"]),
    Request::Manifest("second", &["latest"]),
    Request::Fill("cached"),
    Request::DeleteTag("v1"),
    Request::Upload("one"),
    Request::DeleteBlob("one"),
    Request::Blob("one"),
    Request::Manifest("first", &["v1"]),
    Request::DeleteManifest("second"),
    Request::Manifest("second", &[]),
];

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

fn digest(text: &str) -> Digest {
    Hasher::digest(Algorithm::Sha256, text.as_bytes())
}

fn owner<'a>(repository: &'a RepositoryName, cached_from: Option<&'a str>) -> Owner<'a> {
    Owner { repository, cached_from, at: SystemClock::default().now() }
}

async fn open(folder: &Path, disk: Arc<dyn Disk>) -> Store {
    // So that the log begins again every few requests.
    let around = Surroundings { disk, log_size: 1500, ..Surroundings::new(Arc::new(SystemClock::default()), Metrics::new()) };
    Store::open_in(&Location::Folder(folder.to_owned()), around).await.unwrap().with_journal()
}

impl Request {
    async fn send(self, store: &Store) -> Result<(), Error> {
        let (hosted, cached) = (name(HOSTED), name(CACHED));
        match self {
            Self::Blob(text) => {
                let mut spool = store.spool(Algorithm::Sha256)?;
                spool.write(text.as_bytes())?;
                keep(spool.keep(&digest(text), owner(&hosted, None)).await)
            }
            Self::Fill(text) => {
                let mut spool = store.spool(Algorithm::Sha256)?;
                spool.write(text.as_bytes())?;
                keep(spool.keep(&digest(text), owner(&cached, Some("docker.io"))).await)
            }
            Self::Upload(text) => {
                let id = store.start_upload(&hosted, Algorithm::Sha256).await?;
                for chunk in text.as_bytes().chunks(2) {
                    let mut upload = store.upload(&hosted, id).await?.unwrap();
                    upload.append(chunk).await?;
                    upload.save().await?;
                }
                let upload = store.upload(&hosted, id).await?.unwrap();
                match upload.finish(&digest(text), owner(&hosted, None)).await {
                    Ok(_) => Ok(()),
                    Err(roadstead_storage::FinishError::Store(failure)) => Err(failure),
                    Err(other) => panic!("{other}"),
                }
            }
            Self::Manifest(text, tags) => {
                let tags: Vec<Tag> = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
                let at = SystemClock::default().now();
                let record = ManifestRecord::new("x/y".to_owned(), text.len() as u64, at);
                let (digest, bytes) = (digest(text), Bytes::from_static(text.as_bytes()));
                let put = ManifestPut { digest: &digest, bytes, record: &record, tags: &tags, cached_from: None, at };
                store.put_manifest(&hosted, put).await
            }
            Self::DeleteTag(tag) => store.remove_tag(&hosted, &Tag::parse(tag).unwrap(), None).await.map(drop),
            Self::DeleteManifest(text) => {
                for tag in store.tags(&hosted).await? {
                    store.remove_tag(&hosted, &tag, Some(&digest(text))).await?;
                }
                store.remove_manifest(&hosted, &digest(text)).await.map(drop)
            }
            Self::DeleteBlob(text) => store.remove_member(&hosted, &digest(text)).await.map(drop),
        }
    }

    /// What is held after it.
    fn apply(self, held: &mut Held) {
        let blob = |repository: &str, text: &str| format!("{repository} {}", digest(text));
        let mut add = |repository: &str, text: &str| {
            held.repositories.insert(repository.to_owned());
            held.blobs.insert(blob(repository, text));
        };
        match self {
            Self::Blob(text) | Self::Upload(text) => add(HOSTED, text),
            Self::Fill(text) => add(CACHED, text),
            Self::Manifest(text, tags) => {
                held.repositories.insert(HOSTED.to_owned());
                held.manifests.insert(digest(text).to_string());
                held.tags.extend(tags.iter().map(|tag| ((*tag).to_owned(), digest(text).to_string())));
            }
            Self::DeleteTag(tag) => drop(held.tags.remove(tag)),
            Self::DeleteManifest(text) => {
                held.tags.retain(|_, target| *target != digest(text).to_string());
                held.manifests.remove(&digest(text).to_string());
            }
            Self::DeleteBlob(text) => drop(held.blobs.remove(&blob(HOSTED, text))),
        }
    }
}

fn keep(kept: Result<(), roadstead_storage::KeepError>) -> Result<(), Error> {
    kept.map_err(|error| match error {
        roadstead_storage::KeepError::Store(failure) => failure,
        other @ roadstead_storage::KeepError::Digest { .. } => panic!("{other}"),
    })
}

/// Everything that can be asked for, and is whole: bytes that are not those of their digest make the test fail.
async fn look(store: &Store, context: &str) -> Held {
    let mut held = Held::default();
    for text in ["one", "two, in chunks", "cached", "first", "second"] {
        let digest = digest(text);
        let bytes = store.blob_bytes(&digest).await.unwrap();
        assert!(bytes.as_ref().is_none_or(|bytes| bytes == text.as_bytes()), "{context}: {text:?} is not what was written");
        for repository in [HOSTED, CACHED] {
            if bytes.is_some() && store.is_member(&name(repository), &digest).await.unwrap() {
                held.blobs.insert(format!("{repository} {digest}"));
            }
        }
        if store.manifest(&name(HOSTED), &digest).await.unwrap().is_some() {
            assert!(bytes.is_some(), "{context}: the manifest {text:?} is known and has no bytes");
            held.manifests.insert(digest.to_string());
        }
    }
    // Nobody acts on them here, so that all stay.
    let events = store.abandoned_events(SystemClock::default().now(), true).await.unwrap();
    for tag in store.tags(&name(HOSTED)).await.unwrap() {
        let record = store.tag(&name(HOSTED), &tag).await.unwrap().unwrap();
        let target = record.digest.to_string();
        assert!(held.manifests.contains(&target), "{context}: the tag {tag} leads nowhere");
        let is_told = |event: &TagEvent| event.tag == tag && event.digest.as_ref() == Some(&record.digest);
        assert!(events.iter().any(is_told), "{context}: nobody would be told that {tag} is {target}");
        held.tags.insert(tag.to_string(), target);
    }
    held.repositories =
        store.repositories_after(None, 100).await.unwrap().entries.iter().map(RepositoryName::to_string).collect();
    held
}

/// Each thing is as it was before the request or as it is after it, whole.
fn assert_old_or_new(found: &Held, old: &Held, new: &Held, context: &str) {
    let sets = |held: &Held| {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        all.extend(held.blobs.iter().map(|blob| (format!("blob {blob}"), "there".to_owned())));
        all.extend(held.manifests.iter().map(|manifest| (format!("manifest {manifest}"), "there".to_owned())));
        all.extend(held.repositories.iter().map(|name| (format!("repository {name}"), "there".to_owned())));
        all.extend(held.tags.iter().map(|(tag, target)| (format!("tag {tag}"), target.clone())));
        all
    };
    let (found, old, new) = (sets(found), sets(old), sets(new));
    let keys: BTreeSet<&String> = found.keys().chain(old.keys()).chain(new.keys()).collect();
    for key in keys {
        let is = found.get(key);
        assert!(
            is == old.get(key) || is == new.get(key),
            "{context}: {key} is {is:?}, was {:?}, should be {:?}",
            old.get(key),
            new.get(key)
        );
    }
}

/// The folder of a store as it was first, without what is not written through the file layer.
fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "lock")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_may_go_away_between_any_two_calls() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let recorder = Recorder::default();
    let store = open(&root, Arc::new(recorder.clone())).await;
    let mut acknowledged = vec![(recorder.count(), Held::default())];
    for request in REQUESTS {
        request.send(&store).await.unwrap_or_else(|error| panic!("{request:?}: {error}"));
        let mut held = acknowledged.last().unwrap().1.clone();
        request.apply(&mut held);
        assert_eq!(look(&store, "with the power on").await, held, "{request:?}");
        acknowledged.push((recorder.count(), held));
    }
    assert!(!std::fs::read_dir(&root).unwrap().all(|entry| is_lock(&entry.unwrap().path())));
    let steps = recorder.steps();
    let losses = [Loss::Nothing, Loss::Everything, Loss::Bytes, Loss::Names, Loss::Some(1), Loss::Some(2), Loss::Some(3)];
    let mut seen = BTreeSet::new();
    for count in acknowledged[0].0..=steps.len() {
        let next = acknowledged.iter().position(|(acknowledged, _)| *acknowledged > count).unwrap_or(acknowledged.len());
        let (old, new) = (&acknowledged[next - 1].1, &acknowledged[next.min(acknowledged.len() - 1)].1);
        for loss in losses {
            let context = format!("after {count} calls, the last {:?}, {loss:?} lost", steps[count - 1]);
            let tree = after(&root, &steps[..count], loss);
            // Many calls and losses come to the same.
            if !seen.insert((next, tree.clone())) {
                continue;
            }
            let copy = tempfile::tempdir().unwrap();
            write(&tree, copy.path());
            let store = open(copy.path(), Arc::new(Failing::new(5))).await;
            assert_old_or_new(&look(&store, &context).await, old, new, &context);
            // No space is lost: what was under way is gone, or goes with its session.
            store.expire_uploads(std::time::Duration::ZERO).await.unwrap();
            let left = std::fs::read_dir(copy.path().join("tmp")).unwrap().count();
            let uploads = std::fs::read_dir(copy.path().join("uploads")).map_or(0, Iterator::count);
            assert_eq!((left, uploads), (0, 0), "{context}");
        }
    }
    assert!(seen.len() > 100, "only {} crashes were looked at", seen.len());
}

/// Every call fails once, with each of these: an I/O error, a full disk, a read-only one, too many open files. Without
/// `ROADSTEAD_EVERY_FAULT` every call fails with the first, some with the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_call_may_fail() {
    for errno in [5, 28, 30, 24] {
        let mut failures = 0;
        let stride = if errno == 5 || std::env::var_os("ROADSTEAD_EVERY_FAULT").is_some() { 1 } else { 7 };
        for call in (1..).step_by(stride) {
            let folder = tempfile::tempdir().unwrap();
            let disk = Arc::new(Failing::new(errno));
            let store = open(folder.path(), Arc::clone(&disk) as Arc<dyn Disk>).await;
            disk.fail(call);
            let mut held = Held::default();
            for request in REQUESTS {
                let old = held.clone();
                request.apply(&mut held);
                let context = format!("call {call} fails with {errno} in {request:?}");
                if let Err(failure) = request.send(&store).await {
                    failures += 1;
                    assert!(disk.has_failed(), "{context}: {failure}");
                    assert!(store.trouble().borrow().is_some(), "{context}: the store seems well");
                    assert_old_or_new(&look(&store, &context).await, &old, &held, &context);
                    // The cause is gone: the same store takes it now.
                    request.send(&store).await.unwrap_or_else(|error| panic!("{context}, again: {error}"));
                    assert_eq!(look(&store, &context).await, held, "{context}");
                }
            }
            if !disk.has_failed() {
                break;
            }
            drop(store);
            let again = open(folder.path(), Arc::new(Failing::new(errno))).await;
            assert_eq!(look(&again, "opened again").await, held);
            again.expire_uploads(std::time::Duration::ZERO).await.unwrap();
            assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        }
        assert!(failures * stride > 50, "only {failures} requests failed with {errno}");
    }
}

#[tokio::test]
async fn a_store_in_trouble_is_well_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Failing::new(28));
    let store = open(folder.path(), Arc::clone(&disk) as Arc<dyn Disk>).await;
    disk.fail(3);
    let mut trouble = store.trouble();
    while !disk.has_failed() {
        let _ = Request::Blob("one").send(&store).await;
    }
    assert_eq!(*trouble.borrow(), Some("the storage is full"));
    tokio::select! {
        () = store.watch_over() => {}
        well = trouble.wait_for(Option::is_none) => drop(well.unwrap()),
    }
    Request::Blob("one").send(&store).await.unwrap();
}
