use std::time::Duration;

use oci::{Algorithm, Hasher, media_type};
use roadstead_transfer::{Error, Limited, Piece, Progress};
use serde_json::json;
use testing::{Fault, deterministic_bytes};

use crate::shelf::Misdeed;
use crate::{Stage, copy, name, reference, stage, tag};

const SIZE: usize = 1_000_000;

/// A source with one image of one large layer, at `library/app:1`. The second value is the layer's digest.
fn large() -> (Stage, oci::Digest) {
    let stage = stage();
    let layer = stage.fake.put_blob_sized("library/app", SIZE, 3);
    let config = stage.fake.put_blob("library/app", "{}");
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "x/config", "digest": config.to_string(), "size": 2 },
        "layers": [{ "mediaType": "x/layer", "digest": layer.to_string(), "size": SIZE }],
    });
    stage.fake.put_manifest("library/app", Some("1"), media_type::OCI_MANIFEST, value.to_string());
    (stage, layer)
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_taken_up_where_it_broke() {
    let (stage, layer) = large();
    stage.fake.fault_times(&format!("/blobs/{layer}"), 4, Fault::Cut { after: 200_000 });
    let progress = Progress::new();
    let (from, to) = (name("library/app"), name("micro/app"));
    let copied = stage.transfer().copy(&from, &reference("1"), &to, &[tag("1")], &progress).await.unwrap();
    assert!(stage.target.held("micro/app").blobs[&layer] == deterministic_bytes(SIZE, 3));
    assert_eq!(copied.bytes_copied, SIZE as u64 + 2);
    assert_eq!(progress.seen().bytes_done, SIZE as u64 + 2, "what is read again is not counted again");
    assert_eq!(stage.target.log().iter().filter(|line| line.starts_with("blob")).count(), 2, "the target saw nothing of it");
    let ranged =
        stage.fake.requests().into_iter().filter(|request| request.path.contains(&layer.to_string()) && request.method == "GET");
    assert_eq!(ranged.count(), 5);
}

#[tokio::test]
async fn a_blob_that_never_comes_is_given_up_and_named() {
    let (mut stage, layer) = large();
    stage.options.retries = 3;
    stage.fake.fault(&format!("/blobs/{layer}"), Fault::Cut { after: 0 });
    let failure = stage.copy(&["latest"]).await.unwrap_err();
    assert!(matches!(&failure, Error::Source { piece: Piece::Blob(_, digest), .. } if *digest == layer), "{failure:?}");
    assert_eq!(stage.fake.count("GET", &layer.to_string()), 3);
    let held = stage.target.held("micro/app");
    assert!(held.tags.is_empty() && held.manifests.is_empty());
    // Later it goes on with what it has.
    stage.fake.clear_faults();
    let copied = stage.copy(&["latest"]).await.unwrap();
    assert_eq!(copied.blobs_copied + copied.blobs_skipped, 2);
}

#[tokio::test]
async fn a_blob_of_other_bytes_is_refused_and_named_and_fetched_once() {
    let (stage, layer) = large();
    stage.fake.fault(&format!("/blobs/{layer}"), Fault::Corrupt { at: 500_000 });
    let failure = stage.copy(&["latest"]).await.unwrap_err();
    assert!(failure.to_string().contains(&layer.to_string()), "{failure}");
    assert!(matches!(failure, Error::Source { cause: oci::Error::DigestInvalid { .. }, .. }), "{failure:?}");
    assert!(stage.target.held("micro/app").tags.is_empty());
}

#[tokio::test]
async fn a_manifest_of_other_bytes_is_refused_and_named() {
    let source = std::sync::Arc::new(crate::shelf::Shelf::default());
    let digest = Hasher::digest(Algorithm::Sha512, b"another");
    source.put("library/app", |held| {
        held.manifests.insert(digest.clone(), (media_type::OCI_INDEX.to_owned(), r#"{"schemaVersion":2,"manifests":[]}"#.into()));
        held.tags.insert(tag("1"), digest.clone());
    });
    let stage = stage();
    let transfer = crate::transfer(source, &stage.target, stage.options.clone());
    let failure = copy(&transfer, &["1"]).await.unwrap_err();
    assert!(failure.to_string().contains(&digest.to_string()), "{failure}");
    assert!(matches!(failure.cause(), Some(oci::Error::DigestInvalid { .. })));
}

#[tokio::test]
async fn a_source_that_recovers_is_asked_again() {
    let (stage, _) = large();
    stage.fake.fault_times("/manifests/", 2, Fault::Status(503));
    stage.fake.fault_times("/blobs/", 2, Fault::Drop);
    stage.copy(&["latest"]).await.unwrap();
}

#[tokio::test]
async fn a_quota_is_told_at_once_and_not_waited_for() {
    let (stage, layer) = large();
    let quota = || Fault::TooManyRequests { retry_after: Some("77".to_owned()) };
    for path in ["/manifests/", "/blobs/", "/referrers/"] {
        // A new one each time: an upstream remembers what it was told.
        let stage = large().0;
        stage.fake.fault(path, quota());
        let failure = stage.copy(&["latest"]).await.unwrap_err();
        assert_eq!(failure.limited(), Some(Limited { retry_after: Some(77) }), "{path} {failure:?}");
        assert!(stage.target.held("micro/app").tags.is_empty());
    }
    // In the middle of a blob, too.
    stage.fake.fault_times(&format!("/blobs/{layer}"), 1, Fault::Cut { after: 300_000 });
    let transfer = stage.transfer();
    let tags = [];
    let copying = copy(&transfer, &tags);
    let limiting = async {
        while stage.fake.count("GET", &layer.to_string()) == 0 {
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        stage.fake.fault(&layer.to_string(), quota());
    };
    let (copied, ()) = tokio::join!(copying, limiting);
    // The limit may come a moment before or after the break.
    if let Err(failure) = copied {
        assert_eq!(failure.limited(), Some(Limited { retry_after: Some(77) }), "{failure:?}");
    }
}

#[tokio::test]
async fn a_target_that_stumbles_is_asked_again_and_one_that_refuses_is_not() {
    let (stage, layer) = large();
    for misdeed in [Misdeed::Unavailable, Misdeed::LoseHalf, Misdeed::Rewind] {
        stage.target.fault(&format!("blob {layer}"), misdeed);
    }
    stage.target.fault("manifest", Misdeed::Unavailable);
    let progress = Progress::new();
    let (from, to) = (name("library/app"), name("micro/app"));
    stage.transfer().copy(&from, &reference("1"), &to, &[tag("1")], &progress).await.unwrap();
    assert!(stage.target.held("micro/app").blobs[&layer] == deterministic_bytes(SIZE, 3));
    assert_eq!(progress.seen().bytes_done, SIZE as u64 + 2);
    stage.target.put("micro/app", |held| held.tags.clear());
    stage.target.fault("manifest", Misdeed::Denied);
    let failure = stage.copy(&["1"]).await.unwrap_err();
    assert!(matches!(&failure, Error::Target { cause: oci::Error::Denied { .. }, .. }), "{failure:?}");
}

#[tokio::test]
async fn a_mount_that_is_refused_is_a_push() {
    let (stage, layer) = large();
    stage.target.put("another", |held| drop(held.blobs.insert(layer.clone(), deterministic_bytes(SIZE, 3))));
    stage.target.fault(&format!("mount {layer}"), Misdeed::Denied);
    let copied = stage.copy(&["1"]).await.unwrap();
    assert_eq!((copied.blobs_mounted, copied.blobs_copied), (0, 2));
}

#[tokio::test]
async fn what_is_not_there_is_said_with_its_name() {
    let stage = stage();
    let failure = stage.copy(&["latest"]).await.unwrap_err();
    assert!(failure.to_string().contains("library/app:1"), "{failure}");
    assert!(failure.cause().is_some_and(oci::Error::is_unknown));
}

#[tokio::test]
async fn a_copy_that_is_dropped_goes_on_where_it_was() {
    let (stage, layer) = large();
    stage.fake.fault_times(&format!("/blobs/{layer}"), 1, Fault::Stall { after: 200_000 });
    let transfer = stage.transfer();
    let dropped = tokio::time::timeout(Duration::from_millis(300), copy(&transfer, &["1"])).await;
    assert!(dropped.is_err(), "it stalls");
    // The same transfer is free again: nothing is locked by what was dropped.
    let copied = copy(&transfer, &["1"]).await.unwrap();
    assert_eq!((copied.blobs_copied, copied.blobs_skipped), (1, 1));
}
