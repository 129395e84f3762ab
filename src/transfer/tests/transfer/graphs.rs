use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher, ManifestView, Reference, media_type};
use proptest::prelude::*;
use roadstead_transfer::bundle::{self, Format};
use roadstead_transfer::{Options, Progress};
use serde_json::{Value, json};
use telemetry::SystemClock;
use testing::deterministic_bytes;

use crate::shelf::{Repository, Shelf};
use crate::{name, quick, tag, transfer};

const BLOBS: usize = 6;

/// A manifest of a random graph; numbers say which of those before it is meant.
#[derive(Clone, Debug)]
enum Made {
    Image { blobs: Vec<usize>, subject: Option<usize>, wide: bool },
    Index { children: Vec<usize>, subject: Option<usize>, wide: bool },
}

fn made() -> impl Strategy<Value = Made> {
    let subject = || prop::option::weighted(0.4, 0..20_usize);
    prop_oneof![
        3 => (prop::collection::vec(0..BLOBS, 1..4), subject(), any::<bool>())
            .prop_map(|(blobs, subject, wide)| Made::Image { blobs, subject, wide }),
        2 => (prop::collection::vec(0..20_usize, 0..4), subject(), any::<bool>())
            .prop_map(|(children, subject, wide)| Made::Index { children, subject, wide }),
    ]
}

fn blob(number: usize) -> Bytes {
    deterministic_bytes([0, 2, 100, 5000, 70_000, 300_000][number], number as u64)
}

fn algorithm(wide: bool) -> Algorithm {
    if wide { Algorithm::Sha512 } else { Algorithm::Sha256 }
}

/// Where some of what is made is signed under a tag: by which one it is signed.
type Signed = Vec<(usize, usize)>;

/// Puts the graph into `library/app`: the manifest with number n has the tag `tn`. Gives their digests.
fn put(shelf: &Shelf, graph: &[Made], signed: &Signed) -> Vec<Digest> {
    let mut digests: Vec<(Digest, Value)> = Vec::new();
    shelf.put("library/app", |held| {
        for made in graph {
            let earlier = |number: &usize| (!digests.is_empty()).then(|| digests[number % digests.len()].1.clone());
            let (mut value, subject, wide) = match made {
                Made::Image { blobs, subject, wide } => {
                    let described: Vec<Value> = blobs
                        .iter()
                        .map(|number| {
                            let digest = Hasher::digest(algorithm(*wide), &blob(*number));
                            held.blobs.insert(digest.clone(), blob(*number));
                            json!({ "mediaType": "x/y", "digest": digest.to_string(), "size": blob(*number).len() })
                        })
                        .collect();
                    let value = json!({
                        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": described[0], "layers": described[1..],
                    });
                    (value, subject, wide)
                }
                Made::Index { children, subject, wide } => {
                    let children: Vec<Value> = children.iter().filter_map(earlier).collect();
                    let value = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children });
                    (value, subject, wide)
                }
            };
            if let Some(subject) = subject.as_ref().and_then(earlier) {
                value["subject"] = subject;
                value["annotations"] = json!({ "x": "y" });
            }
            let bytes = Bytes::from(value.to_string());
            let digest = Hasher::digest(algorithm(*wide), &bytes);
            let media_type = value["mediaType"].as_str().unwrap().to_owned();
            let described = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() });
            held.manifests.insert(digest.clone(), (media_type, bytes));
            held.tags.insert(tag(&format!("t{}", digests.len())), digest.clone());
            digests.push((digest, described));
        }
        for (subject, by) in signed {
            let (subject, by) = (&digests[subject % digests.len()].0, &digests[by % digests.len()].0);
            if subject.algorithm() == Algorithm::Sha256 {
                held.tags.insert(tag(&format!("sha256-{}.sig", subject.hex())), by.clone());
            }
        }
    });
    digests.into_iter().map(|(digest, _)| digest).collect()
}

/// What belongs to the manifest in `held`, by the plainest way to say it: all that is reached from it, until nothing is added.
fn belongs(held: &Repository, root: &Digest) -> Repository {
    let mut reached = BTreeSet::from([root.clone()]);
    let mut tags = BTreeMap::new();
    loop {
        let before = reached.len();
        for (digest, (media_type, bytes)) in &held.manifests {
            let view = ManifestView::parse(bytes, Some(media_type)).unwrap();
            if reached.contains(digest) {
                reached.extend(view.manifests.iter().map(|child| child.digest.clone()));
            }
            if view.subject.is_some_and(|subject| reached.contains(&subject.digest)) {
                reached.insert(digest.clone());
            }
        }
        for (tag, digest) in &held.tags {
            let signs = |subject: &Digest| tag.as_str() == format!("{}-{}.sig", subject.algorithm(), subject.hex());
            if reached.iter().any(signs) {
                tags.insert(tag.clone(), digest.clone());
                reached.insert(digest.clone());
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let mut belonging = Repository { tags, ..Repository::default() };
    for digest in reached {
        let (media_type, bytes) = held.manifests[&digest].clone();
        for blob in ManifestView::parse(&bytes, Some(&media_type)).unwrap().blobs {
            belonging.blobs.insert(blob.digest.clone(), held.blobs[&blob.digest].clone());
        }
        belonging.manifests.insert(digest, (media_type, bytes));
    }
    belonging
}

/// A graph can have longer chains than any copy follows.
fn deep(error: &roadstead_transfer::Error) -> bool {
    matches!(error, roadstead_transfer::Error::Unreasonable { .. })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn a_copy_is_equal(graph: &[Made], signed: &Signed, at: usize) {
    let (source, target) = (Arc::new(Shelf::default()), Arc::new(Shelf::default()));
    let digests = put(&source, graph, signed);
    let root = digests[at % digests.len()].clone();
    let transfer = transfer(Arc::<Shelf>::clone(&source), &target, quick()).reading_back(Arc::<Shelf>::clone(&target));
    let (from, to, progress) = (name("library/app"), name("micro/app"), Progress::new());
    let reference = Reference::Digest(root.clone());
    let copied = match transfer.copy(&from, &reference, &to, &[tag("latest")], &progress).await {
        Err(error) if deep(&error) => return,
        copied => copied.unwrap(),
    };
    let mut want = belongs(&source.held("library/app"), &root);
    want.tags.insert(tag("latest"), root.clone());
    assert_eq!(target.held("micro/app"), want);
    assert_eq!(copied.manifests, want.manifests.len() as u64);
    assert_eq!(copied.blobs_copied, want.blobs.len() as u64);
    assert_eq!(copied.bytes_copied, want.blobs.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    let seen = progress.seen();
    assert_eq!((seen.blobs_done, seen.bytes_done), (seen.blobs_known, seen.bytes_known));
    assert!(target.log().last().unwrap().ends_with(" latest"), "the tag comes last");
    // Once more: nothing moves.
    target.forget();
    source.forget();
    let again = transfer.copy(&from, &reference, &to, &[tag("latest")], &progress).await.unwrap();
    assert_eq!((again.manifests, again.blobs_copied, target.log().len(), source.asked().len()), (0, 0, 0, 0));
}

async fn a_bundle_is_equal(graph: &[Made], signed: &Signed, chosen: &[usize]) {
    let (source, target) = (Arc::new(Shelf::default()), Arc::new(Shelf::default()));
    let digests = put(&source, graph, signed);
    let folder = tempfile::tempdir().unwrap();
    let clock = || Arc::new(SystemClock::default());
    let mut images: Vec<_> = chosen
        .iter()
        .map(|number| {
            let number = number % digests.len();
            let by_digest = number.is_multiple_of(3);
            let digest = Reference::Digest(digests[number].clone());
            (name("library/app"), if by_digest { digest } else { Reference::Tag(tag(&format!("t{number}"))) })
        })
        .collect();
    let options = Options { blobs_at_once: 3, ..quick() };
    let paths = [folder.path().join("one.tar"), folder.path().join("two.tar")];
    for path in &paths {
        let source = Arc::<Shelf>::clone(&source);
        let exported = bundle::export(source, &images, path, Format::Tar, clock(), options.clone(), &Progress::new()).await;
        match exported {
            Err(bundle::Error::Transfer(error)) if deep(&error) => return,
            exported => drop(exported.unwrap()),
        }
        images.reverse();
    }
    let [one, two] = paths.map(|path| std::fs::read(path).unwrap());
    assert!(one == two, "the order of the images changes nothing");
    let push = Arc::<Shelf>::clone(&target);
    let path = folder.path().join("one.tar");
    bundle::import(&path, push, &bundle::as_named, clock(), quick(), &Progress::new()).await.unwrap();
    let all = source.held("library/app");
    let mut want = Repository::default();
    for (_, reference) in &images {
        let root = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => {
                want.tags.insert(tag.clone(), all.tags[tag].clone());
                all.tags[tag].clone()
            }
        };
        let part = belongs(&all, &root);
        want.blobs.extend(part.blobs);
        want.manifests.extend(part.manifests);
        want.tags.extend(part.tags);
    }
    assert_eq!(target.held("library/app"), want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_copy_of_any_graph_is_equal_and_whole_and_made_once(
        graph in prop::collection::vec(made(), 1..10),
        signed in prop::collection::vec((0..20_usize, 0..20_usize), 0..3),
        at in 0..20_usize,
    ) {
        run(a_copy_is_equal(&graph, &signed, at));
    }

    #[test]
    fn a_bundle_of_any_images_is_the_same_file_and_brings_them_all(
        graph in prop::collection::vec(made(), 1..8),
        signed in prop::collection::vec((0..20_usize, 0..20_usize), 0..3),
        chosen in prop::collection::vec(0..20_usize, 1..4),
    ) {
        run(a_bundle_is_equal(&graph, &signed, &chosen));
    }
}
