#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn route(method: &str, target: &str) -> Result<Route, Refusal> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    Route::parse(&method.parse().unwrap(), path, query)
}

fn hex() -> String {
    "a".repeat(64)
}

#[test]
fn names_with_slashes_are_read_from_the_right() {
    let Ok(Route::PullManifest { source, reference, head }) =
        route("HEAD", "/v2/a/manifests/b/blobs/c/manifests/v1?ns=docker.io")
    else {
        panic!("not a manifest");
    };
    assert_eq!(source.name.as_str(), "a/manifests/b/blobs/c");
    assert_eq!(source.namespace.as_deref(), Some("docker.io"));
    assert_eq!(reference.to_string(), "v1");
    assert!(head);
}

#[test]
fn every_endpoint_has_its_route() {
    let hex = hex();
    let id = "0193a9d2-0000-7000-8000-000000000000";
    for (method, target, label) in [
        ("GET", "/v2/".to_owned(), "version"),
        ("GET", "/v2".to_owned(), "version"),
        ("GET", "/livez".to_owned(), "live"),
        ("GET", "/readyz".to_owned(), "ready"),
        ("GET", "/metrics".to_owned(), "metrics"),
        ("GET", "/v2/_catalog?n=5&last=x".to_owned(), "catalog"),
        ("GET", "/v2/a/b/tags/list".to_owned(), "tags"),
        ("GET", format!("/v2/a/referrers/sha256:{hex}"), "referrers"),
        ("GET", format!("/v2/a/blobs/sha256%3A{hex}"), "pull_blob"),
        ("HEAD", format!("/v2/a/blobs/sha256:{hex}"), "pull_blob"),
        ("DELETE", format!("/v2/a/blobs/sha256:{hex}"), "delete_blob"),
        ("PUT", "/v2/a/manifests/v1".to_owned(), "push_manifest"),
        ("DELETE", "/v2/a/manifests/v1".to_owned(), "delete_manifest"),
        ("POST", "/v2/a/blobs/uploads/".to_owned(), "start_upload"),
        ("POST", "/v2/a/blobs/uploads?digest-algorithm=sha512".to_owned(), "start_upload"),
        ("POST", format!("/v2/a/blobs/uploads/?digest=sha256:{hex}"), "push_blob"),
        ("POST", format!("/v2/a/blobs/uploads/?mount=sha256:{hex}&from=b/c"), "mount_blob"),
        ("GET", format!("/v2/a/blobs/uploads/{id}"), "upload_status"),
        ("PATCH", format!("/v2/a/blobs/uploads/{id}"), "append_upload"),
        ("PUT", format!("/v2/a/blobs/uploads/{id}?digest=sha256:{hex}"), "finish_upload"),
        ("DELETE", format!("/v2/a/blobs/uploads/{id}"), "cancel_upload"),
    ] {
        assert_eq!(route(method, &target).unwrap().label(), label, "{method} {target}");
    }
}

#[test]
fn several_tags_come_in_order() {
    let target = format!("/v2/a/manifests/sha256:{}?tag=x&tag=y", hex());
    let Ok(Route::PushManifest { tags, .. }) = route("PUT", &target) else { panic!("not a push") };
    assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
fn path_tricks_are_invalid_names() {
    let long = format!("/v2/{}/tags/list", "a/".repeat(200));
    for path in [
        "/v2/../tags/list",
        "/v2/a/%2e%2e/b/tags/list",
        "/v2/a//b/tags/list",
        "/v2//tags/list",
        "/v2/a%00b/tags/list",
        "/v2/%ff/tags/list",
        "/v2/A/tags/list",
        "/v2/_a/manifests/v1",
        "/v2/manifests/v1",
        "/v2/blobs/uploads/",
        "/v2/tags/list",
        &long,
    ] {
        let refused = route("GET", path);
        assert!(matches!(refused, Err(Refusal::Malformed(Error::NameInvalid { .. }))), "{path}: {refused:?}");
    }
}

#[test]
fn malformed_parts_have_their_own_codes() {
    let code = |method, target: &str| match route(method, target) {
        Err(Refusal::Malformed(error)) => error.code().as_str(),
        other => panic!("{target}: {other:?}"),
    };
    assert_eq!(code("GET", "/v2/a/blobs/sha256:short"), "DIGEST_INVALID");
    assert_eq!(code("GET", "/v2/a/manifests/sha256:baddigeststring"), "DIGEST_INVALID");
    assert_eq!(code("GET", "/v2/a/manifests/.bad"), "MANIFEST_INVALID");
    assert_eq!(code("PUT", "/v2/a/manifests/v1?tag=.bad"), "MANIFEST_INVALID");
    assert_eq!(code("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5"), "DIGEST_INVALID");
    assert_eq!(code("POST", &format!("/v2/a/blobs/uploads/?mount=sha256:{}&from=..", hex())), "NAME_INVALID");
    assert_eq!(code("PATCH", "/v2/a/blobs/uploads/not-an-id"), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(code("PUT", "/v2/a/blobs/uploads/0193a9d2-0000-7000-8000-000000000000"), "DIGEST_INVALID");
    assert_eq!(code("GET", "/v2/a/tags/list?n=-1"), "SIZE_INVALID");
}

#[test]
fn wrong_methods_and_unknown_paths_are_told_apart() {
    assert!(matches!(route("POST", "/v2/"), Err(Refusal::Method { .. })));
    assert!(matches!(route("PATCH", "/v2/a/manifests/v1"), Err(Refusal::Method { .. })));
    assert!(matches!(route("GET", "/v2/a/blobs/uploads/"), Err(Refusal::Method { .. })));
    for path in ["/", "/v1/x", "/v2/a", "/v2/a/b/c", "/v2x", "/v2x/tags/list", "/v2a/manifests/b", ""] {
        assert!(matches!(route("GET", path), Err(Refusal::NoSuchEndpoint)), "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn no_target_panics_and_what_is_parsed_is_valid(path in "(/v2)?(/[a-zA-Z0-9%._:~-]{0,12}){0,6}(/blobs|/manifests|/uploads|/tags/list|/referrers)?(/[a-zA-Z0-9%._:-]{0,80})?", query in "\\PC{0,40}") {
        for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"] {
            if let Ok(mut route) = Route::parse(&method.parse().unwrap(), &path, Some(&query)) {
                if let Some(source) = route.source_mut() {
                    proptest::prop_assert!(RepositoryName::parse(source.name.as_str()).is_ok());
                }
                proptest::prop_assert!(!route.label().is_empty());
            }
        }
    }
}
