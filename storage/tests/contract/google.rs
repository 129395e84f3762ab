//! What tests/support/gcs.rs stands for, put to it by the client that a store uses.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use roadstead_storage::Transport;

use crate::buckets::BUCKET;
use crate::gcs::Gcs;

fn client(server: &Gcs) -> GoogleCloudStorage {
    let key = r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;
    let builder = GoogleCloudStorageBuilder::new().with_bucket_name(BUCKET).with_base_url(&server.endpoint);
    let builder = builder.with_service_account_key(key).with_client_options(ClientOptions::new().with_allow_http(true));
    let builder = builder.with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    builder.with_http_connector(Transport::new(crate::client(&server.endpoint))).build().unwrap()
}

fn text(text: &str) -> PutPayload {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

#[tokio::test]
async fn googles_generations_guard_an_object() {
    let server = Gcs::start();
    let (store, key) = (client(&server), Path::from("a b/ü+%/c&<d>"));
    let first = store.put_opts(&key, text("1"), PutMode::Create.into()).await.unwrap();
    assert!(matches!(store.put_opts(&key, text("2"), PutMode::Create.into()).await, Err(Error::AlreadyExists { .. })));
    let second = store.put_opts(&key, text("1"), PutMode::Update(first.clone().into()).into()).await.unwrap();
    // The same bytes are another generation with the same tag.
    assert_eq!(second.e_tag, first.e_tag);
    assert!(second.version.as_ref().unwrap().parse::<u64>().unwrap() > first.version.as_ref().unwrap().parse().unwrap());
    let stale = store.put_opts(&key, text("3"), PutMode::Update(first.into()).into()).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(store.head(&key).await.unwrap().version, second.version);
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!((listed.len(), &listed[0].location, listed[0].size), (1, &key, 1));
    let written = store.head(&key).await.unwrap().last_modified;
    assert_eq!(listed[0].last_modified, written);
    assert!(matches!(store.copy_if_not_exists(&key, &key).await, Err(Error::AlreadyExists { .. })));
    store.copy_if_not_exists(&key, &Path::from("copy")).await.unwrap();
    assert!(matches!(store.copy(&Path::from("none"), &key).await, Err(Error::NotFound { .. })));
    store.delete(&key).await.unwrap();
    for absent in [store.delete(&key).await.err(), store.head(&key).await.err()] {
        assert!(matches!(absent, Some(Error::NotFound { .. })), "{absent:?}");
    }
    assert_eq!(store.get(&Path::from("copy")).await.unwrap().bytes().await.unwrap(), "1");
}

#[tokio::test]
async fn googles_objects_are_read_in_ranges_and_on_conditions() {
    let server = Gcs::start();
    let (store, key) = (client(&server), Path::from("key"));
    let tag = store.put(&key, text("0123456789")).await.unwrap().e_tag;
    for (range, expected) in [(GetRange::Bounded(2..4), "23"), (GetRange::Offset(8), "89"), (GetRange::Suffix(3), "789")] {
        let got = store.get_opts(&key, GetOptions { range: Some(range), ..GetOptions::default() }).await.unwrap();
        assert_eq!(got.meta.size, 10);
        assert_eq!(got.bytes().await.unwrap(), expected);
    }
    let beyond = GetOptions { range: Some(GetRange::Offset(10)), ..GetOptions::default() };
    assert!(store.get_opts(&key, beyond).await.unwrap_err().to_string().contains("416"));
    let unchanged = GetOptions { if_none_match: tag.clone(), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&key, unchanged).await, Err(Error::NotModified { .. })));
    let same = GetOptions { if_match: tag, ..GetOptions::default() };
    assert_eq!(store.get_opts(&key, same).await.unwrap().bytes().await.unwrap(), "0123456789");
    let other = GetOptions { if_match: Some("\"other\"".to_owned()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&key, other).await, Err(Error::Precondition { .. })));
}

#[tokio::test]
async fn googles_listings_come_in_pages() {
    let server = Gcs::start();
    let store = client(&server);
    let keys: Vec<Path> = (0..20).map(|number| Path::from(format!("list/{}/{number:02}", number % 10))).collect();
    for key in keys.iter().chain([&Path::from("list/z"), &Path::from("lisu"), &Path::from("other/0")]) {
        store.put(key, text("x")).await.unwrap();
    }
    let prefix = Path::from("list");
    let all: Vec<_> = store.list(Some(&prefix)).map_ok(|object| object.location).try_collect().await.unwrap();
    assert_eq!(all.len(), 21);
    assert!(all.is_sorted());
    let later: Vec<_> =
        store.list_with_offset(Some(&prefix), &all[11]).map_ok(|object| object.location).try_collect().await.unwrap();
    assert_eq!(later, all[12..]);
    let level = store.list_with_delimiter(Some(&prefix)).await.unwrap();
    assert_eq!(level.common_prefixes.len(), 10);
    assert_eq!(level.objects.iter().map(|object| object.location.as_ref()).collect::<Vec<_>>(), ["list/z"]);
}

#[tokio::test]
async fn googles_parts_become_an_object_only_as_they_were_sent() {
    let server = Gcs::start();
    let (store, key) = (client(&server), Path::from("large"));
    let id = store.create_multipart(&key).await.unwrap();
    let part = |number, size: usize, byte: u8| store.put_part(&key, &id, number, Bytes::from(vec![byte; size]).into());
    let large = part(0, 5 << 20, b'a').await.unwrap();
    let small = part(1, 10, b'b').await.unwrap();
    let wrong = PartId { content_id: "\"wrong\"".to_owned() };
    for parts in [vec![large.clone(), wrong], vec![small.clone(), large.clone()]] {
        let refused = store.complete_multipart(&key, &id, parts).await.unwrap_err();
        assert!(telemetry::chain(&refused).contains("InvalidPart"), "{refused}");
        assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
    }
    let done = store.complete_multipart(&key, &id, vec![large, small.clone()]).await.unwrap();
    assert_eq!((store.head(&key).await.unwrap().size, store.head(&key).await.unwrap().version), ((5 << 20) + 10, done.version));
    let gone = store.put_part(&key, &id, 2, text("x")).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");

    let id = store.create_multipart(&key).await.unwrap();
    let parts = [store.put_part(&key, &id, 0, text("short")).await.unwrap(), small];
    store.put_part(&key, &id, 1, Bytes::from(vec![b'b'; 10]).into()).await.unwrap();
    let refused = store.complete_multipart(&key, &id, parts.to_vec()).await.unwrap_err();
    assert!(telemetry::chain(&refused).contains("EntityTooSmall"), "{refused}");
    store.abort_multipart(&key, &id).await.unwrap();
    assert!(store.abort_multipart(&key, &id).await.is_err());
}

#[test]
fn what_google_might_know_and_its_stand_in_does_not_is_told() {
    let server = Gcs::start();
    let strange = [
        format!("GET /{BUCKET}/key?acl HTTP/1.1\r\n\r\n"),
        format!("PUT /{BUCKET}/key HTTP/1.1\r\nif-match: x\r\ncontent-length: 0\r\n\r\n"),
        format!("PATCH /{BUCKET}/key HTTP/1.1\r\n\r\n"),
        format!("GET /{BUCKET}?list-type=2&delimiter=/&start-after=a HTTP/1.1\r\n\r\n"),
        format!("PUT /{BUCKET}/key HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"),
    ];
    for request in &strange {
        let mut socket = TcpStream::connect(server.endpoint.trim_start_matches("http://")).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 501");
    }
    assert_eq!(server.take_unknown().len(), strange.len());
    let untold = std::panic::catch_unwind(|| {
        let server = Gcs::start();
        let mut socket = TcpStream::connect(server.endpoint.trim_start_matches("http://")).unwrap();
        socket.write_all(strange[0].as_bytes()).unwrap();
        socket.read_exact(&mut [0; 12]).unwrap();
    });
    assert!(untold.is_err());
}
