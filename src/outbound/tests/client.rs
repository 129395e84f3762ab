//! The client against a real small server.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use futures_util::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue};
use roadstead_outbound::{Client, Config, ErrorKind, SetupError};
use testing::{FakeUpstream, Fault};
use url::Url;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn client(origin: &str) -> Client {
    let mut config = Config::new(&url(origin));
    config.idle_timeout = Duration::from_millis(300);
    Client::new(&config).unwrap()
}

#[tokio::test]
async fn the_callers_headers_are_sent_and_nothing_is_added_from_the_url() {
    let fake = FakeUpstream::start();
    let mut target = url(&format!("{}/v2/", fake.url()));
    target.set_username("user").unwrap();
    target.set_password(Some("secret")).unwrap();
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let response = client(&fake.url()).get(&target, headers).await.unwrap();
    assert_eq!((response.status.as_u16(), response.content_length()), (200, Some(2)));
    assert!(!response.url.as_str().contains("secret"));
    assert_eq!(response.bytes(2).await.unwrap(), "{}");
    let seen = &fake.requests()[0];
    assert_eq!(seen.headers.get_all(ACCEPT).iter().count(), 1);
    assert!(seen.headers.get(AUTHORIZATION).is_none());
    assert_eq!(seen.header("accept-encoding"), None);
    assert!(seen.header("user-agent").unwrap().starts_with("roadstead/"));
}

#[tokio::test]
async fn redirects_are_given_to_the_caller() {
    let fake = FakeUpstream::start();
    fake.redirect_blobs(true);
    let digest = fake.put_blob("a", "content");
    let target = url(&format!("{}/v2/a/blobs/{digest}", fake.url()));
    let response = client(&fake.url()).get(&target, HeaderMap::new()).await.unwrap();
    assert_eq!(response.status, 307);
    assert!(response.header("location").unwrap().starts_with(&fake.cdn_url()));
    assert!(fake.cdn_requests().is_empty());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_with_and_without_a_length() {
    let fake = FakeUpstream::start();
    let digest = fake.put_blob_sized("a", 1000, 1);
    let target = url(&format!("{}/v2/a/blobs/{digest}", fake.url()));
    for _ in 0..2 {
        let client = client(&fake.url());
        let exact = client.get(&target, HeaderMap::new()).await.unwrap();
        assert_eq!(exact.bytes(1000).await.unwrap().len(), 1000);
        let over = client.get(&target, HeaderMap::new()).await.unwrap();
        assert_eq!(over.bytes(999).await.unwrap_err().kind(), ErrorKind::TooLarge);
        fake.fault("", Fault::Chunked);
    }
}

#[tokio::test]
async fn a_short_body_and_a_silent_one_are_errors_over_both_versions_of_http() {
    let folder = tempfile::tempdir().unwrap();
    for tls in [false, true] {
        let fake = if tls { FakeUpstream::start_tls() } else { FakeUpstream::start() };
        let mut config = Config::new(&url(&fake.url()));
        config.idle_timeout = Duration::from_millis(300);
        if let Some(pem) = fake.ca_pem() {
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, pem).unwrap();
            config.ca.push(path);
        }
        let client = Client::new(&config).unwrap();
        let digest = fake.put_blob_sized("a", 200_000, 1);
        let target = url(&format!("{}/v2/a/blobs/{digest}", fake.url()));
        for (fault, kind) in
            [(Fault::Cut { after: 100_000 }, ErrorKind::Interrupted), (Fault::Stall { after: 100_000 }, ErrorKind::Idle)]
        {
            fake.fault_times("", 1, fault);
            let response = client.get(&target, HeaderMap::new()).await.unwrap();
            let mut stream = Box::pin(response.stream());
            let mut received = 0;
            let error = loop {
                match stream.next().await.unwrap() {
                    Ok(chunk) => received += chunk.len(),
                    Err(error) => break error,
                }
            };
            assert_eq!((received, error.kind()), (100_000, kind), "tls: {tls}, {error}");
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_resolved() {
    let fake = FakeUpstream::start();
    let target = url(&format!("http://localhost:{}/v2/", fake.address().port()));
    let stranger = client("https://registry.example");
    assert_eq!(stranger.get(&target, HeaderMap::new()).await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert!(fake.requests().is_empty());
    let neighbour = client(target.as_str());
    assert_eq!(neighbour.head(&target, HeaderMap::new()).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_without_its_certificates_is_not_made() {
    let mut config = Config::new(&url("https://registry.example"));
    config.ca.push("/absent/ca.pem".into());
    assert!(matches!(Client::new(&config), Err(SetupError::Certificates(_))));
}
