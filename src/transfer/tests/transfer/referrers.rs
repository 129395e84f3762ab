use std::sync::Arc;

use oci::{Digest, Reference, Tag, media_type};
use roadstead_transfer::{Error, Progress};
use serde_json::json;
use testing::FakeUpstream;

use crate::shelf::Shelf;
use crate::{copy, name, stage, tag};

const SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const SBOM: &str = "application/spdx+json";

/// Puts what cosign does: an image under a tag that names what it signs. Gives its digest.
fn put_cosign(fake: &FakeUpstream, subject: &Digest, kind: &str) -> (Tag, Digest) {
    let text = format!("sha256-{}.{kind}", subject.hex());
    let image = fake.put_image_with("library/app", &text, kind.as_bytes());
    (tag(&text), image.digest)
}

#[tokio::test]
async fn referrers_of_referrers_and_of_children_arrive_before_the_tags() {
    let stage = stage();
    let index = stage.fake.put_index("library/app", "1");
    let sbom = stage.fake.put_artifact("library/app", &index.digest, SBOM);
    let signed_sbom = stage.fake.put_artifact("library/app", &sbom, SIGNATURE);
    let child = stage.fake.put_artifact("library/app", &index.images[1].digest, SIGNATURE);
    let copied = stage.copy(&["latest"]).await.unwrap();
    let held = stage.target.held("micro/app");
    for digest in [&sbom, &signed_sbom, &child] {
        assert!(held.manifests.contains_key(digest));
    }
    assert_eq!((copied.referrers, copied.manifests), (3, 6));
    let log = stage.target.log();
    assert_eq!(log.last(), Some(&format!("manifest {} latest", index.digest)));
}

#[tokio::test]
async fn signatures_under_tags_arrive_under_their_tags() {
    let stage = stage();
    let index = stage.fake.put_index("library/app", "1");
    let mut attached = Vec::new();
    for kind in ["sig", "att", "sbom"] {
        attached.push(put_cosign(&stage.fake, &index.digest, kind));
        attached.push(put_cosign(&stage.fake, &index.images[0].digest, kind));
    }
    let copied = stage.copy(&["latest"]).await.unwrap();
    let held = stage.target.held("micro/app");
    for (tag, digest) in &attached {
        assert_eq!(held.tags.get(tag), Some(digest), "{tag}");
    }
    assert_eq!(copied.referrers, 6);
    assert_eq!(stage.target.log().last(), Some(&format!("manifest {} latest", index.digest)));
}

#[tokio::test]
async fn a_source_without_the_api_gives_its_list_under_a_tag() {
    let stage = stage();
    stage.fake.referrers(false);
    let image = stage.fake.put_image("library/app", "1");
    let sbom = stage.fake.put_artifact("library/app", &image.digest, SBOM);
    let gone = stage.fake.put_artifact("library/other", &image.digest, SIGNATURE);
    let describe = |digest: &Digest| json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(), "size": 2 });
    let list = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [describe(&sbom), describe(&gone)],
    });
    let fallback = Tag::referrers_fallback(&image.digest);
    let list = stage.fake.put_manifest("library/app", Some(fallback.as_str()), media_type::OCI_INDEX, list.to_string());
    let copied = stage.copy(&["latest"]).await.unwrap();
    let held = stage.target.held("micro/app");
    assert!(held.manifests.contains_key(&sbom));
    assert_eq!(held.tags.get(&fallback), Some(&list));
    assert_eq!((copied.referrers, copied.absent), (1, vec![gone]), "what a list names and is deleted does no harm");
}

#[tokio::test]
async fn without_the_wish_no_referrer_is_looked_for() {
    let mut stage = stage();
    stage.options.referrers = false;
    let image = stage.fake.put_image("library/app", "1");
    stage.fake.put_artifact("library/app", &image.digest, SBOM);
    put_cosign(&stage.fake, &image.digest, "sig");
    let copied = stage.copy(&["latest"]).await.unwrap();
    assert_eq!((copied.referrers, copied.manifests), (0, 1));
    assert_eq!(stage.fake.count("GET", "/referrers/"), 0);
    assert_eq!(stage.fake.count("HEAD", "/manifests/"), 1);
}

#[tokio::test]
async fn what_is_attached_later_is_found_without_the_image_moving_again() {
    let stage = stage();
    let index = stage.fake.put_index("library/app", "1");
    stage.copy(&["latest"]).await.unwrap();
    let late = stage.fake.put_artifact("library/app", &index.images[0].digest, SIGNATURE);
    let (sig, signature) = put_cosign(&stage.fake, &index.digest, "sig");
    stage.fake.clear_requests();
    stage.target.forget();
    let transfer = stage.transfer().reading_back(Arc::<Shelf>::clone(&stage.target));
    let (from, to) = (name("library/app"), name("micro/app"));
    let copied = transfer.copy_referrers(&from, &index.digest, &to, &Progress::new()).await.unwrap();
    assert_eq!((copied.referrers, copied.manifests), (2, 2));
    let held = stage.target.held("micro/app");
    assert!(held.manifests.contains_key(&late));
    assert_eq!(held.tags.get(&sig), Some(&signature));
    let index_path = format!("/manifests/{}", index.digest);
    assert_eq!(stage.fake.count("GET", &index_path), 0, "the index is read where it is already");
    // A signature that grows moves its tag.
    let grown = stage.fake.put_image_with("library/app", sig.as_str(), b"two signatures").digest;
    transfer.copy_referrers(&from, &index.digest, &to, &Progress::new()).await.unwrap();
    assert_eq!(stage.target.held("micro/app").tags.get(&sig), Some(&grown));
}

#[tokio::test]
async fn a_subject_that_the_source_has_lost_keeps_what_it_has() {
    let stage = stage();
    let image = stage.fake.put_image("library/app", "1");
    stage.copy(&["latest"]).await.unwrap();
    stage.fake.remove_repository("library/app");
    let transfer = stage.transfer().reading_back(Arc::<Shelf>::clone(&stage.target));
    let (from, to) = (name("library/app"), name("micro/app"));
    let copied = transfer.copy_referrers(&from, &image.digest, &to, &Progress::new()).await.unwrap();
    assert_eq!((copied.referrers, copied.manifests), (0, 0));
    let unread = stage.transfer().copy(&from, &Reference::Digest(image.digest), &to, &[], &Progress::new()).await;
    assert!(unread.is_err_and(|failure| failure.cause().is_some_and(oci::Error::is_unknown)));
}

#[tokio::test]
async fn a_chain_without_an_end_is_given_up() {
    let stage = stage();
    let mut subject = stage.fake.put_image("library/app", "1").digest;
    for number in 0..12 {
        subject = stage.fake.put_artifact("library/app", &subject, &format!("x/{number}"));
    }
    let failure = copy(&stage.transfer(), &["latest"]).await.unwrap_err();
    assert!(matches!(failure, Error::Unreasonable { .. }), "{failure:?}");
    assert!(stage.target.held("micro/app").tags.is_empty());
}
