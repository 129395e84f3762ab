use std::io::Write;
use std::sync::{Arc, Mutex};

use oci::{Error, Push, RepositoryName};
use testing::{Auth, FakeUpstream, Fault, TokenAuth, deterministic_bytes};

use crate::push::{LARGE, Source, UPLOADS, held, methods, push};
use crate::{assert_no_secret, credentials, name, setup, setup_with, with_credentials};

fn bearer(change: impl FnOnce(&mut TokenAuth)) -> Auth {
    let mut settings = TokenAuth { credentials: Some(credentials()), ..TokenAuth::default() };
    change(&mut settings);
    Auth::Bearer(settings)
}

#[tokio::test]
async fn a_registry_that_does_not_know_of_its_tls_is_still_asked_over_it() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let fake = FakeUpstream::start_tls();
    file.write_all(fake.ca_pem().unwrap().as_bytes()).unwrap();
    let value = format!("{}/v2/library/nginx/blobs/uploads/upload-1?state=0", fake.url().replace("https:", "http:"));
    let setup = setup_with(fake, |config| config.ca = Some(file.path().to_owned()));
    setup.fake.fault_times(UPLOADS, 1, Fault::Header { name: "location", value });
    let source = Source::new(10);
    push(&setup, &source, Some(10)).await.unwrap();
    assert!(held(&setup, &source));
}

#[tokio::test]
async fn a_token_is_asked_for_that_may_push_and_again_when_it_ends_in_the_middle() {
    let setup = setup_with(FakeUpstream::start_on_thread(), with_credentials);
    setup.fake.auth(bearer(|_| {}));
    let source = Source::new(LARGE);
    push(&setup, &source, Some(LARGE)).await.unwrap();
    assert!(held(&setup, &source));
    let token = setup.fake.requests().into_iter().find(|entry| entry.path == "/token").unwrap();
    assert!(token.query.contains("scope=repository%3Alibrary%2Fnginx%3Apull%2Cpush"), "{}", token.query);
    assert_eq!(setup.fake.token_requests(), 1);
    for size in [10, LARGE] {
        setup.fake.revoke_tokens();
        let source = Arc::new(Source { bytes: deterministic_bytes(size, 8), ..Source::default() });
        push(&setup, &source, Some(size)).await.unwrap();
        assert!(held(&setup, &source));
    }
    let setup = Arc::new(setup);
    let theirs = Arc::clone(&setup);
    let once = Mutex::new(Some(()));
    let when_opened = move || {
        if once.lock().unwrap().take().is_some() {
            theirs.fake.revoke_tokens();
        }
    };
    let bytes = deterministic_bytes(LARGE, 9);
    let source = Arc::new(Source { bytes, when_opened: Some(Box::new(when_opened)), ..Source::default() });
    push(&setup, &source, Some(LARGE)).await.unwrap();
    assert!(held(&setup, &source));
}

#[tokio::test]
async fn who_may_not_push_is_told_so() {
    for auth in [bearer(|settings| settings.pull_only = true), Auth::Basic { username: "x".to_owned(), password: "y".to_owned() }]
    {
        let setup = setup_with(FakeUpstream::start(), with_credentials);
        setup.fake.auth(auth);
        for size in [10, LARGE] {
            let source = Source::new(size);
            let error = push(&setup, &source, Some(size)).await.unwrap_err();
            assert!(matches!(&error, Error::Denied { reason } if reason.contains("library/nginx")), "{error}");
            assert_no_secret(&error);
        }
    }
    let setup = setup();
    setup.fake.pushes(false);
    let error = push(&setup, &Source::new(10), Some(10)).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn a_location_that_leads_nowhere_is_an_error_of_the_upstream() {
    let location = |value: &str| Fault::Header { name: "location", value: value.to_owned() };
    for (fault, part) in [
        (Fault::WithoutHeader("location"), "without a Location"),
        (location(""), "no address"),
        (location("http://"), "no address"),
        (location("http://169.254.169.254/latest"), "may not be"),
        (location("file:///etc/passwd"), "may not be"),
    ] {
        let setup = setup();
        setup.fake.fault(UPLOADS, fault.clone());
        let error = push(&setup, &Source::new(10), Some(10)).await.unwrap_err();
        assert!(matches!(&error, Error::Upstream { reason, .. } if reason.contains(part)), "{fault:?}: {error}");
        assert_eq!(methods(&setup), ["POST"]);
    }
}

#[tokio::test]
async fn a_location_elsewhere_gets_the_bytes_and_no_token() {
    let setup = setup_with(FakeUpstream::start(), with_credentials);
    setup.fake.auth(bearer(|_| {}));
    let value = format!("{}/cdn/upload?signature=signed-secret", setup.fake.cdn_url());
    setup.fake.fault(UPLOADS, Fault::Header { name: "location", value });
    let error = push(&setup, &Source::new(10), Some(10)).await.unwrap_err();
    assert_no_secret(&error);
    let put = &setup.fake.cdn_requests()[0];
    assert_eq!((put.method.as_str(), put.header("authorization")), ("PUT", None));
    assert!(put.query.starts_with("signature=signed-secret&digest=sha256%3A"), "{}", put.query);
}

#[tokio::test]
async fn an_upload_that_is_sent_elsewhere_by_a_redirect_goes_there() {
    let setup = setup();
    let source = Source::new(10);
    setup.fake.fault_times(UPLOADS, 1, Fault::Redirect { location: "/v2/library/nginx/blobs/uploads/?once=more".to_owned() });
    push(&setup, &source, Some(10)).await.unwrap();
    assert!(held(&setup, &source));
}

#[tokio::test]
async fn a_blob_is_mounted_where_the_registry_mounts_and_else_pushed_in_the_session_that_it_opened() {
    let setup = setup_with(FakeUpstream::start(), with_credentials);
    setup.fake.auth(bearer(|_| {}));
    let from = RepositoryName::parse("team/base").unwrap();
    let source = Source::new(10);
    setup.fake.put_blob("team/base", source.bytes.clone());
    assert!(setup.upstream.mount_blob(&name(), &source.digest(), Some(&from)).await.unwrap());
    assert!(held(&setup, &source));
    let token = setup.fake.requests().into_iter().find(|entry| entry.path == "/token").unwrap();
    assert!(token.query.contains("nginx%3Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull"), "{}", token.query);
    // Without a `from`, wherever it is.
    let other = RepositoryName::parse("team/app").unwrap();
    assert!(setup.upstream.mount_blob(&other, &source.digest(), None).await.unwrap());

    setup.fake.mounts(false);
    for size in [20, LARGE] {
        let source = Source::new(size);
        setup.fake.put_blob("team/base", source.bytes.clone());
        assert!(!setup.upstream.mount_blob(&name(), &source.digest(), Some(&from)).await.unwrap());
        assert_eq!(setup.fake.sessions(), 1);
        setup.fake.clear_requests();
        push(&setup, &source, Some(size)).await.unwrap();
        assert_eq!((setup.fake.count("POST", UPLOADS), setup.fake.sessions()), (0, 0));
        assert!(held(&setup, &source));
    }
    // The session may have ended since.
    let source = Source::new(30);
    assert!(!setup.upstream.mount_blob(&name(), &source.digest(), Some(&from)).await.unwrap());
    setup.fake.forget_sessions();
    push(&setup, &source, Some(30)).await.unwrap();
    assert!(held(&setup, &source));
}

#[tokio::test]
async fn a_mount_that_is_refused_is_a_blob_to_push_and_one_that_fails_is_an_error() {
    let setup = setup();
    let digest = Source::new(1).digest();
    for status in [404, 405] {
        setup.fake.fault_times(UPLOADS, 1, Fault::Status(status));
        let mounted = setup.upstream.mount_blob(&name(), &digest, None).await;
        assert!(status == 405 || mounted.is_ok_and(|mounted| !mounted));
    }
    setup.fake.fault_times(UPLOADS, 1, Fault::Status(500));
    assert!(matches!(setup.upstream.mount_blob(&name(), &digest, None).await, Err(Error::Upstream { .. })));
}
