use oci::{Error, Pull};
use testing::{Auth, FakeUpstream, Fault, TokenAuth, deterministic_bytes};

use crate::{assert_no_secret, drain, name, read, setup, setup_with, source, with_short_idle};

const SIZE: usize = 300_000;

#[tokio::test]
async fn a_blob_costs_one_get_and_is_what_was_put() {
    let setup = setup();
    let digest = setup.fake.put_blob_sized("library/nginx", SIZE, 1);
    let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
    assert_eq!(blob.size, Some(SIZE as u64));
    let bytes = read(&*source(&blob), 0, None).await.unwrap();
    assert_eq!(bytes, deterministic_bytes(SIZE, 1));
    assert_eq!(setup.fake.count("GET", "/blobs/"), 1);
    assert_eq!(setup.fake.requests().len(), 1);
}

#[tokio::test]
async fn a_redirected_blob_costs_one_get_at_each_place_and_the_token_stays_at_home() {
    let setup = setup();
    setup.fake.auth(Auth::Bearer(TokenAuth::default()));
    setup.fake.redirect_blobs(true);
    let first = setup.fake.put_blob_sized("library/nginx", SIZE, 1);
    let second = setup.fake.put_blob_sized("library/nginx", SIZE, 2);
    for (digest, seed) in [(first, 1), (second, 2)] {
        let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
        assert_eq!(blob.size, Some(SIZE as u64));
        assert_eq!(read(&*source(&blob), 0, None).await.unwrap(), deterministic_bytes(SIZE, seed));
    }
    // The very first request learns of the realm; after it no request is refused.
    assert_eq!(setup.fake.count("GET", "/v2/"), 3);
    assert_eq!(setup.fake.count("GET", "/cdn/"), 2);
    assert_eq!(setup.fake.token_requests(), 1);
    assert!(setup.fake.cdn_requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn no_request_asks_for_an_encoding() {
    let setup = setup();
    setup.fake.redirect_blobs(true);
    let digest = setup.fake.put_blob_sized("library/nginx", 10, 1);
    let image = setup.fake.put_image("library/nginx", "latest");
    setup.upstream.blob(&name(), &digest).await.unwrap();
    setup.upstream.stat_blob(&name(), &digest).await.unwrap();
    setup.upstream.manifest(&name(), &oci::Reference::Digest(image.digest)).await.unwrap();
    let all = setup.fake.requests().into_iter().chain(setup.fake.cdn_requests());
    for request in all {
        assert_eq!(request.header("accept-encoding"), None);
        assert!(request.header("user-agent").unwrap().starts_with("roadstead/"));
    }
}

#[tokio::test]
async fn the_rest_of_a_broken_blob_is_had_by_range_also_over_a_redirect() {
    for redirect in [false, true] {
        let setup = setup();
        setup.fake.redirect_blobs(redirect);
        let digest = setup.fake.put_blob_sized("library/nginx", SIZE, 1);
        setup.fake.fault_times("/blobs/", 1, Fault::Cut { after: 100_000 });
        let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
        let source = source(&blob);
        let (mut bytes, error) = drain(source.open(0, None).await.unwrap()).await;
        assert!(matches!(error, Some(Error::Upstream { .. })), "{error:?}");
        assert!(!bytes.is_empty() && bytes.len() <= 100_000);
        let start = bytes.len() as u64;
        bytes.extend(read(&*source, start, None).await.unwrap());
        assert_eq!(bytes, deterministic_bytes(SIZE, 1));
        let log = if redirect { setup.fake.cdn_requests() } else { setup.fake.requests() };
        let last = log.last().unwrap();
        assert_eq!(last.status, 206);
        assert_eq!(last.header("range"), Some(format!("bytes={start}-").as_str()));
        assert_eq!(last.header("if-range"), Some(format!("\"{digest}\"").as_str()));
    }
}

#[tokio::test]
async fn any_range_can_be_opened_whether_the_upstream_knows_ranges_or_not() {
    for ranges in [true, false] {
        let setup = setup();
        setup.fake.ranges(ranges);
        let digest = setup.fake.put_blob_sized("library/nginx", 1000, 1);
        let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
        let source = source(&blob);
        let expected = deterministic_bytes(1000, 1);
        for (start, end) in [(0, Some(10)), (10, Some(20)), (999, None), (0, Some(1000)), (0, None), (500, Some(1000))] {
            let bytes = read(&*source, start, end).await.unwrap();
            let (from, to) = (usize::try_from(start).unwrap(), usize::try_from(end.unwrap_or(1000)).unwrap());
            assert_eq!(bytes, expected[from..to], "{start}..{end:?}, ranges: {ranges}");
        }
    }
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    let setup = setup();
    let digest = setup.fake.put_blob_sized("library/nginx", 1000, 1);
    let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
    for range in ["bytes 0-899/1000", "bytes 100-999/1001", "bytes 100-998/1000", "nonsense"] {
        setup.fake.fault_times("/blobs/", 1, Fault::Header { name: "content-range", value: range.to_owned() });
        let error = read(&*source(&blob), 100, None).await.unwrap_err();
        assert!(matches!(error, Error::Upstream { .. }), "{range}: {error}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_read_to_its_end_and_a_cut_one_is_an_error() {
    let setup = setup();
    let digest = setup.fake.put_blob_sized("library/nginx", SIZE, 1);
    setup.fake.fault("/blobs/", Fault::Chunked);
    let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
    assert_eq!(blob.size, None);
    assert_eq!(read(&*source(&blob), 0, None).await.unwrap(), deterministic_bytes(SIZE, 1));
    setup.fake.fault_times("/blobs/", 1, Fault::Cut { after: 1000 });
    assert!(read(&*source(&blob), 0, None).await.is_err());
}

#[tokio::test]
async fn silence_in_the_middle_of_a_body_is_an_error_but_slowness_is_not() {
    let setup = setup_with(FakeUpstream::start(), with_short_idle);
    let digest = setup.fake.put_blob_sized("library/nginx", 1000, 1);
    setup.fake.fault_times("/blobs/", 1, Fault::Rate { bytes_per_second: 1000 });
    let blob = setup.upstream.blob(&name(), &digest).await.unwrap();
    assert_eq!(read(&*source(&blob), 0, None).await.unwrap().len(), 1000);
    setup.fake.fault_times("/blobs/", 1, Fault::Stall { after: 100 });
    let error = read(&*source(&blob), 0, None).await.unwrap_err();
    assert!(error.to_string().contains("idle timeout"), "{error}");
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let setup = setup();
    let digest = setup.fake.put_blob_sized("library/nginx", 1000, 1);
    setup.fake.fault("/blobs/", Fault::Header { name: "content-encoding", value: "gzip".to_owned() });
    let error = setup.upstream.blob(&name(), &digest).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("Content-Encoding"), "{error}");
}

#[tokio::test]
async fn the_size_comes_from_head_and_from_get_where_head_is_refused() {
    let setup = setup();
    let digest = setup.fake.put_blob_sized("library/nginx", 1000, 1);
    assert_eq!(setup.upstream.stat_blob(&name(), &digest).await.unwrap().size, Some(1000));
    assert_eq!(setup.fake.count("GET", ""), 0);
    setup.fake.fault("/blobs/", Fault::RefuseHead);
    assert_eq!(setup.upstream.stat_blob(&name(), &digest).await.unwrap().size, Some(1000));
    assert_eq!(setup.fake.count("GET", "/blobs/"), 1);
}

#[tokio::test]
async fn a_broken_signed_transfer_tells_no_signature() {
    let setup = setup();
    setup.fake.redirect_blobs(true);
    let digest = setup.fake.put_blob_sized("library/nginx", SIZE, 1);
    setup.fake.fault("/cdn/", Fault::Status(403));
    let error = setup.upstream.blob(&name(), &digest).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Upstream { .. }), "{error}");
    assert_no_secret(&error);
    setup.fake.clear_faults();
    setup.fake.fault("/cdn/", Fault::Drop);
    let error = setup.upstream.blob(&name(), &digest).await.map(|_| ()).unwrap_err();
    assert_no_secret(&error);
}

#[tokio::test]
async fn tls_with_its_own_authority_serves_manifests_tokens_and_the_cdn() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeUpstream::start_tls();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, fake.ca_pem().unwrap()).unwrap();
    fake.auth(Auth::Bearer(TokenAuth::default()));
    fake.redirect_blobs(true);
    let image = fake.put_image("library/nginx", "latest");
    let setup = setup_with(fake, |config| config.ca = Some(path));
    let manifest = setup.upstream.manifest(&name(), &crate::tag("latest")).await.unwrap();
    assert_eq!(manifest.bytes, image.bytes);
    let blob = setup.upstream.blob(&name(), &image.layers[0]).await.unwrap();
    assert_eq!(read(&*source(&blob), 0, None).await.unwrap().len() as u64, blob.size.unwrap());
}
