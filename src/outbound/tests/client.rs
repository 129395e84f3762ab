//! The client against a real small server.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use bytes::Bytes;
use certs::acme::Http;
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request};
use roadstead_outbound::{Body, Client, Config, Error, ErrorKind, Response, SetupError};
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
async fn an_exchange_is_answered_whole_whatever_its_status_and_with_a_limit() {
    let fake = FakeUpstream::start();
    let client = client(&fake.url());
    let exchange = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(format!("{}{path}", fake.url()));
        client.exchange(request.body(Bytes::new()).unwrap()).await
    };
    let found = exchange("GET", "/v2/").await.unwrap();
    assert_eq!((found.status().as_u16(), &found.body()[..]), (200, &b"{}"[..]));
    assert!(exchange("HEAD", "/v2/").await.unwrap().body().is_empty());
    let missing = exchange("GET", "/v2/a/manifests/absent").await.unwrap();
    assert_eq!(missing.status().as_u16(), 404);
    let digest = fake.put_blob_sized("a", 1 << 20, 1);
    assert_eq!(exchange("GET", &format!("/v2/a/blobs/{digest}")).await.unwrap().body().len(), 1 << 20);
    let digest = fake.put_blob_sized("a", (1 << 20) + 1, 1);
    let error = exchange("GET", &format!("/v2/a/blobs/{digest}")).await.unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[tokio::test]
async fn an_exchange_reaches_no_metadata_service_and_needs_a_whole_url() {
    let client = client("https://acme.example");
    for url in ["http://169.254.169.254/latest", "/latest"] {
        let request = Request::builder().uri(url).body(Bytes::new()).unwrap();
        assert!(client.exchange(request).await.is_err(), "{url}");
    }
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

const SHORT: Duration = Duration::from_millis(300);

/// Appends a body to a new upload.
async fn append(fake: &FakeUpstream, body: Body, patience: Duration) -> Result<Response, Error> {
    let client = client(&fake.url());
    let uploads = url(&format!("{}/v2/a/blobs/uploads/", fake.url()));
    let begun = client.send(Method::POST, &uploads, HeaderMap::new(), Body::Empty, SHORT, SHORT).await.unwrap();
    assert_eq!(begun.status, 202);
    let location = uploads.join(begun.header("location").unwrap()).unwrap();
    client.send(Method::PATCH, &location, HeaderMap::new(), body, SHORT, patience).await
}

fn pieces(count: usize, pause: Duration) -> Body {
    let piece = Bytes::from(vec![7; 50_000]);
    Body::Stream(Box::pin(stream::iter(0..count).then(move |_| {
        let piece = piece.clone();
        async move {
            tokio::time::sleep(pause).await;
            Ok(piece)
        }
    })))
}

#[tokio::test]
async fn a_body_is_sent_with_its_length_if_it_has_one() {
    let fake = FakeUpstream::start();
    let known = append(&fake, Body::Bytes(Bytes::from(vec![7; 200_000])), SHORT).await.unwrap();
    assert_eq!(known.header("range"), Some("0-199999"));
    let unknown = append(&fake, pieces(4, Duration::ZERO), SHORT).await.unwrap();
    assert_eq!(unknown.header("range"), Some("0-199999"));
    let lengths: Vec<Option<String>> =
        fake.requests().iter().map(|entry| entry.header("content-length").map(str::to_owned)).collect();
    let zero = Some("0".to_owned());
    assert_eq!(lengths, [zero.clone(), Some("200000".to_owned()), zero, None]);
}

#[tokio::test]
async fn only_silence_is_limited_while_a_body_is_sent() {
    let fake = FakeUpstream::start();
    // Longer in all than the limit, and never silent for as long.
    append(&fake, pieces(10, SHORT / 3), SHORT).await.unwrap();
    fake.fault("/uploads/upload-", Fault::Delay(SHORT * 2));
    let late = append(&fake, pieces(1, Duration::ZERO), SHORT).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Idle);
    append(&fake, pieces(1, Duration::ZERO), SHORT * 10).await.unwrap();
    fake.clear_faults();
    fake.fault("/uploads/upload-", Fault::Stall { after: 100 });
    let stalled = append(&fake, pieces(1000, Duration::ZERO), SHORT * 10).await.unwrap_err();
    assert_eq!(stalled.kind(), ErrorKind::Idle);
}

#[tokio::test]
async fn a_body_that_fails_fails_its_request() {
    let fake = FakeUpstream::start();
    let broken = stream::iter([Ok(Bytes::from_static(b"begun")), Err("the source broke".into())]);
    let error = append(&fake, Body::Stream(Box::pin(broken)), SHORT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}
