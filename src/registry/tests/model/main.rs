//! Any sequence of pushes, mounts, deletions and restarts agrees with a model of a few lines; and when the disk dies in the middle of
//! a request, each thing is afterwards as it was or as it was to be.
//!
//! `ROADSTEAD_SEQUENCES` says how many sequences are tried; 200 if unset.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use oci::{Algorithm, Content, Digest, Discover, Error, Hasher, Page, Pull, Reference, ReferrersList, RepositoryName, Tag};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use roadstead_registry::{Limits, ManifestPush, Registry, Rules};
use serde_json::json;
use storage::{Disk, Location, OpenError, Store, Surroundings};
use telemetry::{Metrics, SystemClock};

mod disk;

use crate::disk::Mortal;

const NAMES: [&str; 3] = ["a", "a/b", "team/app"];
const TAGS: [&str; 3] = ["latest", "v1", "v1.0"];
const BLOBS: usize = 4;
const MANIFESTS: usize = 6;

/// What is asked of the registry; numbers say which of the few names and contents.
#[derive(Clone, Debug)]
enum Request {
    PushBlob { name: usize, blob: usize },
    Upload { name: usize, blob: usize, chunk: usize },
    Mount { name: usize, blob: usize, from: Option<usize> },
    PushManifest { name: usize, manifest: usize, tags: Vec<usize> },
    DeleteTag { name: usize, tag: usize },
    DeleteManifest { name: usize, manifest: usize },
    DeleteBlob { name: usize, blob: usize },
}

#[derive(Clone, Debug)]
enum Event {
    Request(Request),
    /// The disk dies after so many calls of this request; then the server starts again on another one.
    Crash(Request, usize),
    Restart,
}

/// Everything that can be asked for: what it is called, and what the answer is.
type Held = BTreeMap<String, String>;

fn requests() -> impl Strategy<Value = Request> {
    let (name, blob, manifest, tag) = (0..NAMES.len(), 0..BLOBS, 0..MANIFESTS, 0..TAGS.len());
    prop_oneof![
        3 => (name.clone(), blob.clone()).prop_map(|(name, blob)| Request::PushBlob { name, blob }),
        2 => (name.clone(), blob.clone(), 1..2000_usize).prop_map(|(name, blob, chunk)| Request::Upload { name, blob, chunk }),
        2 => (name.clone(), blob.clone(), prop::option::of(name.clone()))
            .prop_map(|(name, blob, from)| Request::Mount { name, blob, from }),
        6 => (name.clone(), manifest.clone(), prop::collection::vec(tag.clone(), 0..3))
            .prop_map(|(name, manifest, tags)| Request::PushManifest { name, manifest, tags }),
        2 => (name.clone(), tag).prop_map(|(name, tag)| Request::DeleteTag { name, tag }),
        2 => (name.clone(), manifest).prop_map(|(name, manifest)| Request::DeleteManifest { name, manifest }),
        2 => (name, blob).prop_map(|(name, blob)| Request::DeleteBlob { name, blob }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => requests().prop_map(Event::Request),
        2 => (requests(), 0..30_usize).prop_map(|(request, calls)| Event::Crash(request, calls)),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..25)
}

fn name(number: usize) -> RepositoryName {
    RepositoryName::parse(NAMES[number]).unwrap()
}

fn tag(number: usize) -> Tag {
    Tag::parse(TAGS[number]).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

/// Of different sizes, one empty, one larger than what is kept in memory.
fn blob(number: usize) -> Vec<u8> {
    let size = [0, 1, 3000, 70_000][number];
    (0..size).map(|index: usize| index.to_le_bytes()[0] ^ number.to_le_bytes()[0]).collect()
}

/// Each needs two blobs; the last two refer to the first two.
fn manifest(number: usize) -> Vec<u8> {
    let descriptor =
        |blob: Vec<u8>| json!({ "mediaType": "application/octet-stream", "digest": digest(&blob), "size": blob.len() });
    let mut value = json!({
        "schemaVersion": 2,
        "mediaType": oci::media_type::OCI_MANIFEST,
        "artifactType": "x/y",
        "config": descriptor(blob(number % BLOBS)),
        "layers": [descriptor(blob((number + 1) % BLOBS))],
    });
    if let Some(subject) = number.checked_sub(4) {
        let subject = manifest(subject);
        value["subject"] =
            json!({ "mediaType": oci::media_type::OCI_MANIFEST, "digest": digest(&subject), "size": subject.len() });
    }
    serde_json::to_vec(&value).unwrap()
}

fn blob_key(name: usize, blob_number: usize) -> String {
    format!("{} blob {}", NAMES[name], digest(&blob(blob_number)))
}

fn manifest_key(name: usize, number: usize) -> String {
    format!("{} manifest {}", NAMES[name], digest(&manifest(number)))
}

fn tag_key(name: usize, number: usize) -> String {
    format!("{} tag {}", NAMES[name], TAGS[number])
}

fn name_key(name: usize) -> String {
    format!("{} repository", NAMES[name])
}

/// The model: what is held after the request, or nothing if it is to be refused.
fn apply(held: &Held, request: &Request) -> Option<Held> {
    let mut held = held.clone();
    match request {
        Request::PushBlob { name, blob } | Request::Upload { name, blob, .. } => {
            held.insert(name_key(*name), String::new());
            held.insert(blob_key(*name, *blob), String::new());
        }
        Request::Mount { name, blob, from } => {
            let mut sources = 0..NAMES.len();
            let there =
                sources.any(|source| from.is_none_or(|from| from == source) && held.contains_key(&blob_key(source, *blob)));
            if there {
                held.insert(name_key(*name), String::new());
                held.insert(blob_key(*name, *blob), String::new());
            }
        }
        Request::PushManifest { name, manifest: number, tags } => {
            let needed = [number % BLOBS, (number + 1) % BLOBS];
            if needed.iter().any(|blob| !held.contains_key(&blob_key(*name, *blob))) {
                return None;
            }
            held.insert(name_key(*name), String::new());
            held.insert(manifest_key(*name, *number), String::new());
            let target = digest(&manifest(*number)).to_string();
            held.extend(tags.iter().map(|tag| (tag_key(*name, *tag), target.clone())));
        }
        Request::DeleteTag { name, tag } => drop(held.remove(&tag_key(*name, *tag))?),
        Request::DeleteManifest { name, manifest: number } => {
            held.remove(&manifest_key(*name, *number))?;
            let target = digest(&manifest(*number)).to_string();
            let prefix = format!("{} tag ", NAMES[*name]);
            held.retain(|key, value| !(key.starts_with(&prefix) && *value == target));
        }
        Request::DeleteBlob { name, blob } => drop(held.remove(&blob_key(*name, *blob))?),
    }
    Some(held)
}

async fn send(registry: &Registry, request: &Request) -> Result<(), Error> {
    let body = |bytes: Vec<u8>| futures_util::stream::iter([Ok(Bytes::from(bytes))]).boxed();
    match request {
        Request::PushBlob { name: number, blob: which } => {
            let bytes = blob(*which);
            registry.push_blob(&name(*number), &digest(&bytes), body(bytes)).await
        }
        Request::Upload { name: number, blob: which, chunk } => {
            let bytes = blob(*which);
            let id = registry.start_upload(&name(*number), Algorithm::Sha256).await?;
            let mut sent = 0;
            for part in bytes.chunks(*chunk * 20) {
                sent += part.len() as u64;
                assert_eq!(registry.append_upload(&name(*number), id, None, body(part.to_vec())).await?, sent);
            }
            registry.finish_upload(&name(*number), id, &digest(&bytes), None, body(Vec::new())).await
        }
        Request::Mount { name: number, blob: which, from } => {
            registry.mount_blob(&name(*number), &digest(&blob(*which)), from.map(name).as_ref(), &|_| true).await.map(drop)
        }
        Request::PushManifest { name: number, manifest: which, tags } => {
            let bytes = Bytes::from(manifest(*which));
            let reference = Reference::Digest(digest(&bytes));
            let tags = tags.iter().map(|number| tag(*number)).collect();
            let push = ManifestPush { reference, tags, content_type: Some(oci::media_type::OCI_MANIFEST.to_owned()), bytes };
            registry.push_manifest(&name(*number), push).await.map(drop)
        }
        Request::DeleteTag { name: number, tag: which } => registry.delete_tag(&name(*number), &tag(*which)).await,
        Request::DeleteManifest { name: number, manifest: which } => {
            registry.delete_manifest(&name(*number), &digest(&manifest(*which))).await
        }
        Request::DeleteBlob { name: number, blob: which } => registry.delete_blob(&name(*number), &digest(&blob(*which))).await,
    }
}

/// Asks for everything, in every way in which it can be asked for.
async fn look(registry: &Registry) -> Held {
    let mut held = Held::new();
    for listed in registry.repositories(&Page::default()).await.unwrap().entries {
        held.insert(format!("{listed} repository"), String::new());
    }
    for number in 0..NAMES.len() {
        let name = name(number);
        for which in 0..BLOBS {
            let bytes = blob(which);
            let there = registry.blob(&name, &digest(&bytes)).await;
            assert_eq!(registry.stat_blob(&name, &digest(&bytes)).await.is_ok(), there.is_ok());
            let Ok(there) = there else { continue };
            assert_eq!(there.size, Some(bytes.len() as u64));
            assert_eq!(read(there.content), bytes);
            held.insert(blob_key(number, which), String::new());
        }
        for which in 0..MANIFESTS {
            let bytes = manifest(which);
            if let Ok(there) = registry.manifest(&name, &Reference::Digest(digest(&bytes))).await {
                assert_eq!(there.bytes, bytes);
                held.insert(manifest_key(number, which), String::new());
            }
        }
        let listing = registry.tags(&name, &Page::default()).await;
        let listed = listing.map(|listing| listing.entries).unwrap_or_default();
        for (which, text) in TAGS.iter().enumerate() {
            let there = registry.resolve(&name, &Reference::Tag(tag(which))).await;
            assert_eq!(listed.contains(&tag(which)), there.is_ok(), "the listing and the tag {text} disagree");
            if let Ok(there) = there {
                held.insert(tag_key(number, which), there.digest.to_string());
            }
        }
        for subject in 0..2 {
            let referrers = registry.referrers(&name, &digest(&manifest(subject)), &ReferrersList::default()).await.unwrap();
            let found: Vec<Digest> = referrers.entries.into_iter().map(|descriptor| descriptor.digest).collect();
            let referrer = digest(&manifest(subject + 4));
            let there = held.contains_key(&manifest_key(number, subject + 4));
            assert_eq!(found, if there { vec![referrer] } else { Vec::new() });
        }
    }
    held
}

fn read(content: Content) -> Vec<u8> {
    match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::File(file) => {
            use std::os::unix::fs::FileExt;

            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        }
        Content::Growing(_) | Content::Source(_) => panic!("a folder holds files"),
    }
}

async fn open(folder: &Path) -> (Registry, Arc<Mortal>) {
    let (clock, disk) = (Arc::new(SystemClock::default()), Arc::new(Mortal::new()));
    let location = Location::Folder(folder.to_owned());
    for _ in 0..5000 {
        let layer = Arc::clone(&disk) as Arc<dyn Disk>;
        let around = Surroundings { disk: layer, ..Surroundings::new(Arc::clone(&clock) as _, Metrics::new()) };
        match Store::open_in(&location, around).await {
            Ok(store) => return (Registry::new(store, clock, Limits::default(), Rules::default()), disk),
            // What the one before has left to be removed is being removed, here in the same process.
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the folder is never let go of");
}

async fn run(events: &[Event]) {
    let folder = tempfile::tempdir().unwrap();
    let (mut registry, mut disk) = open(folder.path()).await;
    let mut held = Held::new();
    for event in events {
        match event {
            Event::Request(request) => {
                let answer = send(&registry, request).await;
                match apply(&held, request) {
                    Some(after) => {
                        answer.unwrap_or_else(|error| panic!("{request:?}: {error}"));
                        held = after;
                    }
                    None => assert!(is_refusal(&answer), "{request:?}: {answer:?}"),
                }
            }
            Event::Crash(request, calls) => {
                disk.die_after(*calls);
                let answer = send(&registry, request).await;
                drop(registry);
                (registry, disk) = open(folder.path()).await;
                let found = look(&registry).await;
                let after = apply(&held, request).unwrap_or_else(|| held.clone());
                if answer.is_ok() {
                    assert_eq!(found, after, "{request:?} was acknowledged");
                }
                let keys: Vec<&String> = found.keys().chain(held.keys()).chain(after.keys()).collect();
                for key in keys {
                    let is = found.get(key);
                    assert!(is == held.get(key) || is == after.get(key), "{request:?}: {key} is {is:?}");
                }
                held = found;
            }
            Event::Restart => {
                drop(registry);
                (registry, disk) = open(folder.path()).await;
            }
        }
    }
    assert_eq!(look(&registry).await, held);
}

fn is_refusal(answer: &Result<(), Error>) -> bool {
    matches!(answer, Err(Error::ManifestBlobUnknown { .. })) || answer.as_ref().is_err_and(Error::is_unknown)
}

#[test]
fn any_sequence_agrees_with_the_model_also_when_the_disk_dies() {
    let cases = std::env::var("ROADSTEAD_SEQUENCES").map_or(200, |text| text.parse().unwrap());
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tried = runner.run(&events(), |events| {
        runtime.block_on(run(&events));
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}
