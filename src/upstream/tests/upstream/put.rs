use bytes::Bytes;
use oci::{Algorithm, Digest, Error, Hasher, Manifest, Push, Tag, media_type};
use serde_json::{Value, json};
use testing::Fault;

use crate::{Setup, finish, name, setup};

const REPOSITORY: &str = "library/nginx";

fn manifest_of(value: &Value, algorithm: Algorithm) -> Manifest {
    let bytes = Bytes::from(value.to_string());
    let media_type = value["mediaType"].as_str().unwrap().to_owned();
    Manifest { digest: Hasher::digest(algorithm, &bytes), media_type, bytes, warning: None }
}

/// An image whose configuration the registry has, told apart by `note`.
fn image(setup: &Setup, note: &str, subject: Option<&Digest>) -> Manifest {
    let config = setup.fake.put_blob(REPOSITORY, "{}");
    let mut value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/x.test",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config.to_string(), "size": 2 },
        "layers": [],
        "annotations": { "note": note },
    });
    if let Some(subject) = subject {
        value["subject"] = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": subject.to_string(), "size": 2 });
    }
    manifest_of(&value, Algorithm::Sha256)
}

fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| Tag::parse(name).unwrap()).collect()
}

async fn put(setup: &Setup, manifest: &Manifest, names: &[&str]) -> Result<(), Error> {
    finish(&setup.clock, setup.upstream.push_manifest(&name(), manifest, &tags(names))).await
}

fn puts(setup: &Setup) -> Vec<String> {
    let puts = setup.fake.requests().into_iter().filter(|entry| entry.method == "PUT");
    puts.map(|entry| entry.path.rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_manifest_is_held_byte_for_byte_under_its_digest_and_its_tags() {
    let setup = setup();
    let manifest = image(&setup, "one", None);
    assert!(!setup.upstream.has_manifest(&name(), &manifest.digest).await.unwrap());
    assert_eq!(setup.upstream.tagged(&name(), &tags(&["v1"])[0]).await.unwrap(), None);
    put(&setup, &manifest, &[]).await.unwrap();
    assert_eq!(puts(&setup), [manifest.digest.to_string()]);
    assert_eq!(setup.fake.manifest(REPOSITORY, &manifest.digest), Some(manifest.bytes.clone()));
    assert!(setup.upstream.has_manifest(&name(), &manifest.digest).await.unwrap());
    setup.fake.clear_requests();
    put(&setup, &manifest, &["v1"]).await.unwrap();
    assert_eq!(puts(&setup), ["v1"]);
    assert_eq!(setup.upstream.tagged(&name(), &tags(&["v1"])[0]).await.unwrap(), Some(manifest.digest.clone()));
    setup.fake.clear_requests();
    put(&setup, &manifest, &["v2", "v3"]).await.unwrap();
    assert_eq!(puts(&setup), [manifest.digest.to_string()]);
    assert_eq!(setup.fake.tags(REPOSITORY), ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn tags_that_a_registry_does_not_confirm_get_a_request_each() {
    let setup = setup();
    setup.fake.tags_in_queries(false);
    let manifest = image(&setup, "one", None);
    put(&setup, &manifest, &["a", "b"]).await.unwrap();
    assert_eq!(puts(&setup), [manifest.digest.to_string().as_str(), "a", "b"]);
    assert_eq!(setup.fake.tag(REPOSITORY, "b"), Some(manifest.digest));
}

#[tokio::test]
async fn more_tags_than_a_registry_need_take_at_once_are_set_all_the_same() {
    let setup = setup();
    let manifest = image(&setup, "one", None);
    let names: Vec<String> = (0..25).map(|number| format!("v{number:02}")).collect();
    put(&setup, &manifest, &names.iter().map(String::as_str).collect::<Vec<&str>>()).await.unwrap();
    assert_eq!((puts(&setup).len(), setup.fake.tags(REPOSITORY)), (3, names));
}

#[tokio::test]
async fn a_manifest_under_sha512_stays_there() {
    let setup = setup();
    let bytes = image(&setup, "one", None).bytes;
    let digest = Hasher::digest(Algorithm::Sha512, &bytes);
    let manifest = Manifest { digest: digest.clone(), media_type: media_type::OCI_MANIFEST.to_owned(), bytes, warning: None };
    put(&setup, &manifest, &["v1"]).await.unwrap();
    assert_eq!(setup.fake.tag(REPOSITORY, "v1"), Some(digest.clone()));
    assert!(setup.upstream.has_manifest(&name(), &digest).await.unwrap());
}

#[tokio::test]
async fn an_index_may_be_without_some_of_its_images() {
    let setup = setup();
    let absent = Hasher::digest(Algorithm::Sha256, b"absent");
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": [{ "mediaType": media_type::OCI_MANIFEST, "digest": absent.to_string(), "size": 6 }],
    });
    put(&setup, &manifest_of(&value, Algorithm::Sha256), &["v1"]).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_manifest_has_a_name() {
    let setup = setup();
    let absent = Hasher::digest(Algorithm::Sha256, b"absent");
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": "application/x", "digest": absent.to_string(), "size": 6 },
        "layers": [],
    });
    let error = put(&setup, &manifest_of(&value, Algorithm::Sha256), &["v1"]).await.unwrap_err();
    assert!(matches!(&error, Error::ManifestBlobUnknown { digest } if *digest == absent), "{error}");
    let empty = json!({ "mediaType": media_type::OCI_MANIFEST });
    let error = put(&setup, &manifest_of(&empty, Algorithm::Sha256), &[]).await.unwrap_err();
    assert!(matches!(error, Error::ManifestInvalid { .. }), "{error}");
    let mut other = image(&setup, "one", None);
    other.digest = absent;
    setup.fake.clear_requests();
    let error = put(&setup, &other, &[]).await.unwrap_err();
    assert!(matches!(error, Error::DigestInvalid { .. }) && setup.fake.requests().is_empty(), "{error}");
    setup.fake.fault("/manifests/", Fault::WrongDigest);
    let error = put(&setup, &image(&setup, "one", None), &["v1"]).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { .. }), "{error}");
    setup.fake.clear_faults();
    setup.fake.pushes(false);
    let error = put(&setup, &image(&setup, "one", None), &["v1"]).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn what_fails_in_passing_is_sent_again() {
    let setup = setup();
    let manifest = image(&setup, "one", None);
    for fault in
        [Fault::Status(502), Fault::Drop, Fault::LoseAnswer, Fault::TooManyRequests { retry_after: Some("3".to_owned()) }]
    {
        setup.fake.fault_times("/manifests/", 3, fault);
        put(&setup, &manifest, &["v1"]).await.unwrap();
    }
    setup.fake.clear_requests();
    setup.fake.respond_with(500);
    assert!(matches!(put(&setup, &manifest, &["v2"]).await, Err(Error::Upstream { .. })));
    assert_eq!(setup.fake.requests().len(), 5);
    setup.fake.clear_faults();
    setup.fake.clear_requests();
    setup.fake.respond_with(400);
    put(&setup, &manifest, &["v2"]).await.unwrap_err();
    assert_eq!(setup.fake.requests().len(), 1);
}

#[tokio::test]
async fn a_referrer_is_written_under_the_fallback_tag_where_the_registry_does_not_list_it() {
    let setup = setup();
    let subject = image(&setup, "subject", None);
    put(&setup, &subject, &["v1"]).await.unwrap();
    let signature = image(&setup, "signature", Some(&subject.digest));
    put(&setup, &signature, &[]).await.unwrap();
    assert_eq!(setup.fake.tags(REPOSITORY), ["v1"]);

    setup.fake.referrers(false);
    let other = image(&setup, "other", Some(&subject.digest));
    for manifest in [&signature, &other, &signature] {
        put(&setup, manifest, &[]).await.unwrap();
    }
    let fallback = Tag::referrers_fallback(&subject.digest);
    assert_eq!(setup.fake.tags(REPOSITORY), [fallback.as_str(), "v1"]);
    let index = setup.fake.tag(REPOSITORY, fallback.as_str()).unwrap();
    let index: Value = serde_json::from_slice(&setup.fake.manifest(REPOSITORY, &index).unwrap()).unwrap();
    let listed: Vec<&str> = index["manifests"].as_array().unwrap().iter().filter_map(|entry| entry["digest"].as_str()).collect();
    assert_eq!(listed, [signature.digest.to_string(), other.digest.to_string()]);
    assert_eq!(index["manifests"][1]["artifactType"], "application/x.test");
    assert_eq!(index["manifests"][1]["annotations"]["note"], "other");
    let found =
        oci::Discover::referrers(&setup.upstream, &name(), &subject.digest, &oci::ReferrersList::default()).await.unwrap();
    assert_eq!(found.entries.len(), 2);
}

#[tokio::test]
async fn all_who_refer_to_one_subject_at_once_are_listed() {
    let setup = setup();
    setup.fake.referrers(false);
    let subject = image(&setup, "subject", None);
    let referrers: Vec<Manifest> = (0..10).map(|note| image(&setup, &note.to_string(), Some(&subject.digest))).collect();
    let (name, upstream) = (name(), &setup.upstream);
    let pushed = futures_util::future::join_all(referrers.iter().map(|manifest| upstream.push_manifest(&name, manifest, &[])));
    assert!(pushed.await.iter().all(Result::is_ok));
    let found = oci::Discover::referrers(upstream, &name, &subject.digest, &oci::ReferrersList::default()).await.unwrap();
    assert_eq!(found.entries.len(), 10);
}
