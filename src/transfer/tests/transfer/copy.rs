use std::sync::Arc;

use futures_util::future::join_all;
use oci::{Algorithm, Digest, Hasher, Pull, Reference, media_type};
use roadstead_transfer::{Error, Options, Progress};
use serde_json::{Value, json};
use testing::FakeUpstream;

use crate::shelf::Shelf;
use crate::{copy, name, quick, reference, stage, tag, transfer};

#[tokio::test]
async fn an_index_arrives_whole_byte_for_byte_and_its_tags_last() {
    let stage = stage();
    let index = stage.fake.put_index("library/app", "1");
    let copied = stage.copy(&["latest", "latest-20260216"]).await.unwrap();
    let held = stage.target.held("micro/app");
    assert_eq!(held.manifests[&index.digest].1, index.bytes);
    assert_eq!(held.manifests.len(), 3);
    assert_eq!(held.blobs.len(), 4);
    assert_eq!(held.tags.len(), 2);
    assert!(held.tags.values().all(|digest| *digest == index.digest));
    assert_eq!((copied.digest, copied.media_type.as_str()), (index.digest.clone(), media_type::OCI_INDEX));
    assert_eq!((copied.manifests, copied.blobs_copied, copied.blobs_skipped), (3, 4, 0));
    let log = stage.target.log();
    assert_eq!(log.last(), Some(&format!("manifest {} latest latest-20260216", index.digest)));
    let at = |line: &str| log.iter().position(|logged| logged.starts_with(line)).unwrap();
    for image in &index.images {
        let manifest = at(&format!("manifest {}", image.digest));
        assert!(manifest < at(&format!("manifest {}", index.digest)), "children come before their index");
        for blob in image.layers.iter().chain([&image.config]) {
            assert!(at(&format!("blob {blob}")) < manifest, "blobs come before their manifest");
        }
    }
}

#[tokio::test]
async fn without_tags_an_image_is_held_under_its_digest() {
    let stage = stage();
    let image = stage.fake.put_image("library/app", "1");
    let by_digest = Reference::Digest(image.digest.clone());
    let copied =
        stage.transfer().copy(&name("library/app"), &by_digest, &name("micro/app"), &[], &Progress::new()).await.unwrap();
    assert_eq!(copied.tags_moved, []);
    let held = stage.target.held("micro/app");
    assert!(held.manifests.contains_key(&image.digest) && held.tags.is_empty());
}

#[tokio::test]
async fn what_has_not_changed_costs_one_head_where_the_target_can_be_read() {
    let mut stage = stage();
    stage.options.referrers = false;
    stage.fake.put_index("library/app", "1");
    stage.copy(&["latest"]).await.unwrap();
    stage.fake.clear_requests();
    stage.target.forget();
    let transfer = stage.transfer().reading_back(Arc::<Shelf>::clone(&stage.target));
    let copied = copy(&transfer, &["latest"]).await.unwrap();
    assert_eq!((copied.manifests, copied.manifests_skipped, copied.blobs_copied, copied.blobs_skipped), (0, 3, 0, 4));
    assert_eq!(stage.target.log(), [""; 0]);
    assert_eq!((stage.fake.count("HEAD", ""), stage.fake.count("GET", "/v2/library")), (1, 0), "{:?}", stage.fake.requests());
}

#[tokio::test]
async fn a_new_tag_on_old_content_moves_only_the_tag() {
    let stage = stage();
    let image = stage.fake.put_image("library/app", "1");
    stage.copy(&["a"]).await.unwrap();
    stage.target.forget();
    let copied = stage.copy(&["a", "b"]).await.unwrap();
    assert_eq!(copied.tags_moved, [tag("b")]);
    assert_eq!(stage.target.log(), [format!("manifest {} b", image.digest)]);
}

#[tokio::test]
async fn what_a_crash_left_out_of_an_image_is_found_where_the_target_can_be_read() {
    let stage = stage();
    let image = stage.fake.put_image("library/app", "1");
    stage.copy(&["a"]).await.unwrap();
    stage.target.put("micro/app", |held| drop(held.blobs.remove(&image.layers[0])));
    let transfer = stage.transfer().reading_back(Arc::<Shelf>::clone(&stage.target));
    let copied = copy(&transfer, &["a"]).await.unwrap();
    assert_eq!((copied.blobs_copied, copied.blobs_skipped), (1, 1));
    assert!(stage.target.held("micro/app").blobs.contains_key(&image.layers[0]));
}

#[tokio::test]
async fn only_the_wanted_platforms_are_fetched_and_the_index_stays_as_it_is() {
    let mut stage = stage();
    stage.options.platforms = vec!["linux/arm64".parse().unwrap()];
    let index = stage.fake.put_index("library/app", "1");
    stage.copy(&["latest"]).await.unwrap();
    let held = stage.target.held("micro/app");
    assert_eq!(held.manifests[&index.digest].1, index.bytes);
    assert!(held.manifests.contains_key(&index.images[1].digest) && !held.manifests.contains_key(&index.images[0].digest));
    assert_eq!(stage.fake.count("", &index.images[0].layers[0].to_string()), 0);
    // Later all of them are wanted: the index is there and its other image is not.
    stage.options.platforms.clear();
    let copied = stage.copy(&["latest"]).await.unwrap();
    assert_eq!((copied.manifests, copied.manifests_skipped), (1, 2));
    assert!(stage.target.held("micro/app").manifests.contains_key(&index.images[0].digest));
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_refused_with_those_that_are() {
    let mut stage = stage();
    stage.options.platforms = vec!["windows/amd64".parse().unwrap()];
    stage.fake.put_index("library/app", "1");
    let refused = stage.copy(&["latest"]).await.unwrap_err();
    assert!(refused.to_string().contains("linux/amd64, linux/arm64"), "{refused}");
    assert_eq!(stage.target.names().len(), 0);
}

#[tokio::test]
async fn a_trimmed_index_stands_beside_the_original() {
    let mut stage = stage();
    stage.options.platforms = vec!["linux/amd64".parse().unwrap()];
    let index = stage.fake.put_index("library/app", "1");
    let (from, to) = (name("library/app"), name("micro/app"));
    let (tags, trimmed) = ([tag("latest")], [tag("latest-amd64")]);
    let transfer = stage.transfer();
    let copied = transfer.copy_trimmed(&from, &reference("1"), &to, &tags, &trimmed, &Progress::new()).await.unwrap();
    let held = stage.target.held("micro/app");
    let smaller = copied.trimmed.unwrap();
    assert_eq!(held.tags[&tags[0]], index.digest);
    assert_eq!(held.tags[&trimmed[0]], smaller);
    let value: Value = serde_json::from_slice(&held.manifests[&smaller].1).unwrap();
    assert_eq!(value["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(value["manifests"][0]["digest"], index.images[0].digest.to_string());
    // With all platforms nothing is to be trimmed.
    stage.options.platforms.clear();
    let transfer = stage.transfer();
    let copied = transfer.copy_trimmed(&from, &reference("1"), &to, &tags, &trimmed, &Progress::new()).await.unwrap();
    assert_eq!(copied.trimmed, None);
    assert_eq!(stage.target.held("micro/app").tags[&trimmed[0]], index.digest);
}

#[tokio::test]
async fn what_another_repository_has_is_mounted_if_the_source_serves_it() {
    let stage = stage();
    let image = stage.fake.put_image("library/app", "1");
    let (from, progress) = (name("library/app"), Progress::new());
    stage.copy(&["latest"]).await.unwrap();
    stage.fake.clear_requests();
    let copied = stage.transfer().copy(&from, &reference("1"), &name("other"), &[tag("1")], &progress).await.unwrap();
    assert_eq!((copied.blobs_mounted, copied.blobs_copied, copied.bytes_copied), (2, 0, 0));
    assert_eq!(stage.fake.count("GET", "/blobs/"), 0);
    assert_eq!(stage.fake.count("HEAD", &format!("/v2/library/app/blobs/{}", image.layers[0])), 1);
    let seen = progress.seen();
    assert_eq!((seen.blobs_done, seen.bytes_done), (seen.blobs_known, seen.bytes_known));
    // A manifest that names a blob which its repository does not serve gets nothing by a mount.
    let borrowed = stage.fake.put_manifest("library/thief", Some("1"), media_type::OCI_MANIFEST, image.bytes.clone());
    assert_eq!(borrowed, image.digest);
    let stolen = stage.transfer().copy(&name("library/thief"), &reference("1"), &name("thief"), &[], &progress).await;
    assert!(matches!(&stolen, Err(Error::Source { cause: oci::Error::BlobUnknown { .. }, .. })), "{stolen:?}");
    assert!(stage.target.held("thief").blobs.is_empty());
}

#[tokio::test]
async fn a_blob_that_many_copies_need_moves_once() {
    let stage = stage();
    let transfer = stage.transfer();
    let layer = stage.fake.put_blob_sized("library/app", 300_000, 7);
    for number in 0..8 {
        put_image_of(&stage.fake, &layer, 300_000, &number.to_string());
    }
    let (from, to, progress) = (name("library/app"), name("micro/app"), Progress::new());
    let numbers: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let copies = join_all(
        numbers
            .iter()
            .map(async |number| transfer.copy(&from, &reference(number), &to, &[tag(number)], &progress).await.unwrap()),
    )
    .await;
    assert_eq!(stage.fake.count("GET", &format!("/blobs/{layer}")), 1);
    assert_eq!(copies.iter().map(|copied| copied.blobs_copied).sum::<u64>(), 8 + 1);
    assert!(stage.target.most_pushing() <= Options::default().blobs_at_once);
    let seen = progress.seen();
    assert_eq!((seen.blobs_done, seen.bytes_done, seen.manifests_done), (seen.blobs_known, seen.bytes_known, 8));
}

fn put_image_of(fake: &FakeUpstream, layer: &Digest, size: usize, number: &str) {
    let config = fake.put_blob("library/app", number.to_owned());
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "x/config", "digest": config.to_string(), "size": number.len() },
        "layers": [{ "mediaType": "x/layer", "digest": layer.to_string(), "size": size }],
    });
    fake.put_manifest("library/app", Some(number), media_type::OCI_MANIFEST, value.to_string());
}

#[tokio::test]
async fn foreign_layers_are_left_where_they_are() {
    let stage = stage();
    let config = stage.fake.put_blob("library/app", "{}");
    let absent = Hasher::digest(Algorithm::Sha256, b"windows");
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": { "mediaType": "x/config", "digest": config.to_string(), "size": 2 },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": absent.to_string(), "size": 9,
        }],
    });
    stage.fake.put_manifest("library/app", Some("1"), media_type::DOCKER_MANIFEST, value.to_string());
    let copied = stage.copy(&["latest"]).await.unwrap();
    assert_eq!(copied.blobs_copied, 1);
}

#[tokio::test]
async fn an_index_whose_source_lacks_images_is_refused_unless_that_may_be() {
    let source = Arc::new(Shelf::default());
    let fake = stage();
    let index = fake.fake.put_index("library/app", "1");
    fake.copy(&["1"]).await.unwrap();
    let mut held = fake.target.held("micro/app");
    held.manifests.remove(&index.images[0].digest);
    source.put("library/app", |repository| *repository = held);
    let target = Arc::new(Shelf::default());
    let strict = transfer(Arc::<Shelf>::clone(&source), &target, quick());
    let refused = copy(&strict, &["1"]).await.unwrap_err();
    assert!(refused.to_string().contains(&index.images[0].digest.to_string()), "{refused}");
    assert!(target.held("micro/app").tags.is_empty());
    let sparse = transfer(Arc::<Shelf>::clone(&source), &target, Options { sparse: true, ..quick() });
    let copied = copy(&sparse, &["1"]).await.unwrap();
    assert_eq!(copied.absent, [index.images[0].digest.clone()]);
    assert!(target.resolve(&name("micro/app"), &reference("1")).await.is_ok());
    // With nothing left of it, it is not there.
    source.put("library/app", |held| drop(held.manifests.remove(&index.images[1].digest)));
    let nothing = transfer(source, &Arc::new(Shelf::default()), Options { sparse: true, ..quick() });
    assert!(matches!(copy(&nothing, &["1"]).await, Err(Error::Source { .. })));
}
