use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci::{Discover, Error, Page, Pull};
use testing::{Auth, FakeUpstream, Fault, TokenAuth};

use crate::{assert_no_secret, credentials, name, setup, setup_with, tag, with_credentials};

fn bearer(change: impl FnOnce(&mut TokenAuth)) -> Auth {
    let mut settings = TokenAuth::default();
    change(&mut settings);
    Auth::Bearer(settings)
}

#[tokio::test]
async fn a_token_is_fetched_once_and_sent_from_then_on() {
    for access_token in [false, true] {
        let setup = setup();
        setup.fake.auth(bearer(|settings| settings.access_token = access_token));
        setup.fake.put_image("library/nginx", "latest");
        for _ in 0..3 {
            setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
        }
        let statuses: Vec<u16> = setup.fake.requests().iter().map(|request| request.status).collect();
        assert_eq!(statuses, [401, 200, 200, 200, 200]);
        assert_eq!(setup.fake.token_requests(), 1);
        let token = setup.fake.requests().into_iter().find(|request| request.path == "/token").unwrap();
        assert_eq!(token.query, "kept=yes&service=fake&scope=repository%3Alibrary%2Fnginx%3Apull");
        assert_eq!(token.header("authorization"), None);
    }
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_token_request() {
    let setup = setup();
    setup.fake.auth(bearer(|_| {}));
    setup.fake.fault("/token", Fault::Delay(Duration::from_millis(100)));
    setup.fake.put_image("library/nginx", "latest");
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let upstream = setup.upstream.clone();
            tokio::spawn(async move { upstream.resolve(&name(), &tag("latest")).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(setup.fake.token_requests(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_not_earlier() {
    let setup = setup();
    setup.fake.auth(bearer(|settings| settings.expires_in = Some(300)));
    setup.fake.put_image("library/nginx", "latest");
    for (advance, expected) in [(0, 1), (260, 1), (15, 2), (0, 2)] {
        setup.clock.advance(Duration::from_secs(advance));
        setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
        assert_eq!(setup.fake.token_requests(), expected);
    }
    assert_eq!(setup.fake.requests().iter().filter(|request| request.status == 401).count(), 1);
}

#[tokio::test]
async fn a_token_lives_a_minute_whatever_less_is_said() {
    let setup = setup();
    setup.fake.auth(bearer(|settings| settings.expires_in = Some(1)));
    setup.fake.put_image("library/nginx", "latest");
    for (advance, expected) in [(0, 1), (50, 1), (10, 2)] {
        setup.clock.advance(Duration::from_secs(advance));
        setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
        assert_eq!(setup.fake.token_requests(), expected);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let setup = setup();
    setup.fake.auth(bearer(|_| {}));
    setup.fake.put_image("library/nginx", "latest");
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    setup.fake.revoke_tokens();
    setup.fake.clear_requests();
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    let statuses: Vec<u16> = setup.fake.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [401, 200, 200]);

    setup.fake.clear_requests();
    setup.fake.fault("/v2/", Fault::Status(401));
    let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
    assert!(setup.fake.requests().len() <= 3);
}

#[tokio::test]
async fn another_repository_gets_another_token() {
    let setup = setup();
    setup.fake.auth(bearer(|_| {}));
    setup.fake.put_image("library/nginx", "latest");
    setup.fake.put_image("library/redis", "latest");
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    setup.upstream.resolve(&oci::RepositoryName::parse("library/redis").unwrap(), &tag("latest")).await.unwrap();
    let statuses: Vec<u16> = setup.fake.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [401, 200, 200, 200, 200]);
}

#[tokio::test]
async fn credentials_go_to_the_upstreams_own_realm() {
    let setup = setup_with(FakeUpstream::start(), with_credentials);
    setup.fake.auth(bearer(|settings| settings.credentials = Some(credentials())));
    setup.fake.put_image("library/nginx", "latest");
    setup.upstream.manifest(&name(), &tag("latest")).await.unwrap();
    let expected = format!("Basic {}", STANDARD.encode("team:secret-password"));
    for request in setup.fake.requests() {
        let is_token = request.path == "/token";
        assert_eq!(request.header("authorization") == Some(&expected), is_token, "{}", request.path);
    }
}

#[tokio::test]
async fn a_foreign_realm_is_asked_without_credentials_unless_it_is_named() {
    for named in [false, true] {
        let foreign = FakeUpstream::start();
        foreign.auth(bearer(|_| {}));
        let address = foreign.address().to_string();
        let setup = setup_with(FakeUpstream::start(), |config| {
            with_credentials(config);
            if named {
                config.realms.push(address);
            }
        });
        let realm = format!("{}/token?kept=yes", foreign.url());
        setup.fake.auth(bearer(|settings| settings.realm = Some(realm)));
        setup.fake.put_image("library/nginx", "latest");
        let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
        // The foreign realm's tokens are not known to the registry.
        assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
        assert_eq!(foreign.token_requests(), 1);
        assert_eq!(foreign.requests()[0].header("authorization").is_some(), named);
    }
}

#[tokio::test]
async fn a_realm_may_not_point_at_the_metadata_service() {
    let setup = setup_with(FakeUpstream::start(), with_credentials);
    let realm = "http://169.254.169.254/latest/api/token?x=y".to_owned();
    setup.fake.auth(bearer(|settings| settings.realm = Some(realm)));
    setup.fake.put_image("library/nginx", "latest");
    let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
    assert!(error.to_string().contains("may not be reached"), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_shown() {
    let setup = setup_with(FakeUpstream::start(), with_credentials);
    setup.fake.auth(bearer(|settings| settings.credentials = Some(("team".to_owned(), "another".to_owned()))));
    setup.fake.put_image("library/nginx", "latest");
    let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
    assert!(error.to_string().contains("password_file"), "{error}");
    assert_no_secret(&error);
}

#[tokio::test]
async fn an_upstream_that_wants_basic_gets_it_from_the_second_request_on() {
    let setup = setup_with(FakeUpstream::start(), with_credentials);
    let (username, password) = credentials();
    setup.fake.auth(Auth::Basic { username, password });
    setup.fake.redirect_blobs(true);
    let image = setup.fake.put_image("library/nginx", "latest");
    setup.upstream.manifest(&name(), &tag("latest")).await.unwrap();
    setup.upstream.blob(&name(), &image.config).await.unwrap();
    let statuses: Vec<u16> = setup.fake.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [401, 200, 307]);
    assert_eq!(setup.fake.cdn_requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn without_credentials_a_private_registry_looks_empty() {
    let setup = setup();
    let (username, password) = credentials();
    setup.fake.auth(Auth::Basic { username, password });
    let image = setup.fake.put_image("library/nginx", "latest");
    let error = setup.upstream.manifest(&name(), &tag("latest")).await.unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
    let error = setup.upstream.stat_blob(&name(), &image.config).await.unwrap_err();
    assert!(matches!(error, Error::BlobUnknown { .. }), "{error}");
    let error = setup.upstream.tags(&name(), &Page::default()).await.unwrap_err();
    assert!(matches!(error, Error::NameUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_failing_realm_is_an_error_of_the_upstream_and_is_asked_again() {
    let setup = setup();
    setup.fake.auth(bearer(|_| {}));
    setup.fake.put_image("library/nginx", "latest");
    for fault in [Fault::Status(500), Fault::Body("<html>".to_owned()), Fault::Body("{}".to_owned())] {
        setup.fake.fault_times("/token", 1, fault);
        let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
        assert!(matches!(error, Error::Upstream { .. }), "{error}");
        assert_no_secret(&error);
    }
    setup.fake.fault_times("/token", 1, Fault::TooManyRequests { retry_after: Some("7".to_owned()) });
    let error = setup.upstream.resolve(&name(), &tag("latest")).await.unwrap_err();
    assert!(matches!(error, Error::TooManyRequests { retry_after: Some(7), .. }), "{error}");
    setup.clock.advance(Duration::from_secs(7));
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_while_the_token_is_fetched_does_not_hurt_the_others() {
    let setup = setup();
    setup.fake.auth(bearer(|_| {}));
    setup.fake.fault("/token", Fault::Delay(Duration::from_millis(200)));
    setup.fake.put_image("library/nginx", "latest");
    let upstream = Arc::new(setup.upstream.clone());
    let leaving = tokio::spawn({
        let upstream = Arc::clone(&upstream);
        async move { upstream.resolve(&name(), &tag("latest")).await }
    });
    while setup.fake.token_requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let staying = tokio::spawn(async move { upstream.resolve(&name(), &tag("latest")).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    leaving.abort();
    staying.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_one_repository_asked_for_does_not_shut_out_another() {
    let setup = setup();
    setup.fake.put_image("library/nginx", "latest");
    setup.fake.put_image("library/redis", "latest");
    let redis = oci::RepositoryName::parse("library/redis").unwrap();
    setup.fake.auth(bearer(|_| {}));
    setup.upstream.resolve(&name(), &tag("latest")).await.unwrap();
    // The registry serves the other one to anybody, and the realm knows nothing of it.
    setup.fake.auth(Auth::None);
    setup.fake.fault("/token", Fault::Status(403));
    for _ in 0..2 {
        setup.upstream.resolve(&redis, &tag("latest")).await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_without_end_is_cut_to_an_hour() {
    let setup = setup();
    setup.fake.fault("/", Fault::TooManyRequests { retry_after: Some(u64::MAX.to_string()) });
    let limited = setup.upstream.resolve(&name(), &tag("latest")).await;
    assert!(matches!(limited, Err(Error::TooManyRequests { retry_after: Some(3600), .. })), "{limited:?}");
}
