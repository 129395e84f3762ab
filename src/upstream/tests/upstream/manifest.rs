use oci::{Algorithm, Digest, Error, Hasher, Pull, Reference, media_type};
use testing::Fault;

use crate::{name, setup, tag};

#[tokio::test]
async fn a_tag_is_resolved_by_one_head_and_fetched_byte_for_byte() {
    let setup = setup();
    let index = setup.fake.put_index("library/nginx", "latest");
    let stat = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    assert_eq!((stat.digest.clone(), stat.media_type.as_str()), (index.digest.clone(), media_type::OCI_INDEX));
    assert_eq!(stat.size, index.bytes.len() as u64);
    assert_eq!((setup.fake.count("HEAD", "/manifests/"), setup.fake.count("GET", "")), (1, 0));

    let manifest = setup.upstream.manifest(&name(), &Reference::Digest(index.digest.clone())).await.unwrap();
    assert_eq!((manifest.stat(), &manifest.bytes), (stat, &index.bytes));
    let by_tag = setup.upstream.manifest(&name(), &tag("latest")).await.unwrap();
    assert_eq!(by_tag, manifest);
}

#[tokio::test]
async fn every_manifest_type_is_accepted() {
    let setup = setup();
    setup.fake.put_image("library/nginx", "latest");
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    let requests = setup.fake.requests();
    let accepted: Vec<_> = requests[0].headers.get_all("accept").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(accepted, media_type::MANIFESTS);
}

#[tokio::test]
async fn head_falls_back_to_get_where_it_is_refused_or_tells_too_little() {
    let faults = [
        Fault::RefuseHead,
        Fault::NoDigest,
        Fault::WithoutHeader("content-type"),
        Fault::Header { name: "content-type", value: "application/octet-stream".to_owned() },
    ];
    for fault in faults {
        let setup = setup();
        let image = setup.fake.put_image("library/nginx", "latest");
        setup.fake.fault("/manifests/", fault.clone());
        let stat = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
        assert_eq!((stat.digest, stat.size), (image.digest, image.bytes.len() as u64), "{fault:?}");
        assert_eq!(stat.media_type, media_type::OCI_MANIFEST, "{fault:?}");
        assert_eq!((setup.fake.count("HEAD", ""), setup.fake.count("GET", "")), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_digest_needs_no_digest_header() {
    let setup = setup();
    let image = setup.fake.put_image("library/nginx", "latest");
    setup.fake.fault("", Fault::NoDigest);
    let stat = setup.upstream.resolve(&name(), &Reference::Digest(image.digest.clone())).await.unwrap();
    assert_eq!(stat.digest, image.digest);
    assert_eq!(setup.fake.count("GET", ""), 0);
}

#[tokio::test]
async fn bytes_with_another_digest_than_asked_or_announced_are_refused() {
    let setup = setup();
    let image = setup.fake.put_image("library/nginx", "latest");
    for fault in [Fault::WrongDigest, Fault::Corrupt { at: 5 }] {
        setup.fake.fault("/manifests/", fault);
        let error = setup.upstream.manifest(&name(), &tag("latest")).await.unwrap_err();
        assert!(matches!(error, Error::Upstream { .. }), "{error}");
        setup.fake.clear_faults();
    }
    let by_digest = Reference::Digest(image.digest);
    setup.fake.fault("/manifests/", Fault::Corrupt { at: 5 });
    assert!(setup.upstream.manifest(&name(), &by_digest).await.is_err());
    setup.fake.clear_faults();
    setup.fake.fault("/manifests/", Fault::WrongDigest);
    let error = setup.upstream.resolve(&name(), &by_digest).await.unwrap_err();
    assert!(matches!(error, Error::Upstream { .. }), "{error}");
}

#[tokio::test]
async fn a_tag_pushed_under_sha512_keeps_that_digest() {
    let setup = setup();
    let image = setup.fake.put_image("library/nginx", "latest");
    let wide = Hasher::digest(Algorithm::Sha512, &image.bytes);
    setup.fake.fault("/manifests/", Fault::Header { name: "docker-content-digest", value: wide.to_string() });
    assert_eq!(setup.upstream.manifest(&name(), &tag("latest")).await.unwrap().digest, wide);
    // Both digests are right, each in its algorithm.
    let by_digest = Reference::Digest(image.digest.clone());
    assert_eq!(setup.upstream.resolve(&name(), &by_digest).await.unwrap().digest, image.digest);
    assert_eq!(setup.upstream.manifest(&name(), &by_digest).await.unwrap().digest, image.digest);
}

#[tokio::test]
async fn parameters_of_the_content_type_are_left_out() {
    let setup = setup();
    setup.fake.put_manifest("library/nginx", Some("latest"), &format!("{}; charset=utf-8", media_type::DOCKER_LIST), "{}");
    assert_eq!(setup.upstream.resolve(&name(), &tag("latest")).await.unwrap().media_type, media_type::DOCKER_LIST);
    assert_eq!(setup.upstream.manifest(&name(), &tag("latest")).await.unwrap().media_type, media_type::DOCKER_LIST);
}

#[tokio::test]
async fn a_generic_type_gives_way_to_the_body_and_its_shape() {
    let setup = setup();
    setup.fake.put_manifest("library/nginx", Some("index"), "application/json", r#"{"manifests":[]}"#);
    setup.fake.put_manifest("library/nginx", Some("nothing"), "text/plain", "{}");
    assert_eq!(setup.upstream.manifest(&name(), &tag("index")).await.unwrap().media_type, media_type::OCI_INDEX);
    assert!(setup.upstream.manifest(&name(), &tag("nothing")).await.is_err());
}

#[tokio::test]
async fn a_manifest_beyond_the_limit_is_refused() {
    let setup = setup();
    setup.fake.put_manifest("library/nginx", Some("latest"), media_type::OCI_INDEX, vec![b' '; (16 << 20) + 1]);
    let error = setup.upstream.manifest(&name(), &tag("latest")).await.unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
    setup.fake.fault("/manifests/", Fault::Chunked);
    let error = setup.upstream.manifest(&name(), &tag("latest")).await.unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_has_its_own_name() {
    let setup = setup();
    let image = setup.fake.put_image("library/nginx", "latest");
    let absent = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
    let error = setup.upstream.resolve(&name(), &tag("absent")).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { reference } if reference == "absent"));
    let error = setup.upstream.manifest(&name(), &tag("absent")).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }));
    let error = setup.upstream.blob(&name(), &absent).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::BlobUnknown { digest } if digest == absent));
    setup.fake.remove_repository("library/nginx");
    let error = setup.upstream.blob(&name(), &image.config).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::NameUnknown { name } if name == "library/nginx"));
}
