//! What survives a restart, and what a start clears.

use std::path::Path;

use oci::media_type;
use roadstead::config::{Config, Location};

use crate::harness::{TestServer, config, files, sha256, text};

fn on(folder: &Path) -> Config {
    let mut config = config();
    config.storage.location = Location::Folder(folder.to_owned());
    config
}

#[tokio::test]
async fn what_was_pushed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(on(folder.path())).await;
    let digest = server.push_image("team/app", "v1", "layer").await;
    server.stop().await;
    let server = TestServer::start(on(folder.path())).await;
    let got = server.get("/v2/team/app/manifests/v1").await;
    assert_eq!(text(&got, "docker-content-digest"), digest.to_string());
    assert_eq!(text(&got, "content-type"), media_type::OCI_MANIFEST);
    let layer = format!("/v2/team/app/blobs/{}", sha256(b"layer"));
    assert_eq!(server.get(&layer).await.text().await.unwrap(), "layer");
    server.stop().await;
}

#[tokio::test]
async fn an_upload_session_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for digest_of in [oci::Algorithm::Sha256, oci::Algorithm::Sha512] {
        let server = TestServer::start(on(folder.path())).await;
        let location = server.start_upload("a").await;
        server.request("PATCH", &location).body("0123").send().await.unwrap();
        server.stop().await;
        let server = TestServer::start(on(folder.path())).await;
        assert_eq!(text(&server.get(&location).await, "range"), "0-3");
        let patched = server.request("PATCH", &location).header("content-range", "4-5").body("45").send().await.unwrap();
        assert_eq!(patched.status(), 202);
        let digest = oci::Hasher::digest(digest_of, b"012345");
        assert_eq!(server.request("PUT", &format!("{location}?digest={digest}")).send().await.unwrap().status(), 201);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_session_whose_bytes_were_lost_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    for damage in [&b"01x3"[..], b"01", b""] {
        let server = TestServer::start(on(folder.path())).await;
        let location = server.start_upload("a").await;
        server.request("PATCH", &location).body("0123").send().await.unwrap();
        server.stop().await;
        let id = location.rsplit('/').next().unwrap();
        std::fs::write(folder.path().join("uploads").join(id).join("data"), damage).unwrap();
        let server = TestServer::start(on(folder.path())).await;
        assert_eq!(server.get(&location).await.status(), 404);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_start_clears_temporary_files_and_failures_leave_none() {
    let folder = tempfile::tempdir().unwrap();
    TestServer::start(on(folder.path())).await.stop().await;
    std::fs::write(folder.path().join("tmp/left"), "by a crash").unwrap();
    let server = TestServer::start(on(folder.path())).await;
    assert_eq!(files(folder.path()), Vec::<String>::new());
    let wrong = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"other"));
    assert_eq!(server.request("POST", &wrong).body("content").send().await.unwrap().status(), 400);
    let location = server.start_upload("a").await;
    server.request("PATCH", &location).body("0123").send().await.unwrap();
    server.delete(&location).await;
    assert_eq!(server.put_manifest("/v2/a/manifests/v1", media_type::OCI_INDEX, "{").await.status(), 400);
    assert_eq!(files(folder.path()), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn sessions_that_nobody_goes_on_with_end() {
    use std::sync::Arc;
    use std::time::Duration;

    use testing::ManualClock;

    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let server = TestServer::start_at(on(folder.path()), Arc::<ManualClock>::clone(&clock)).await;
    let location = server.start_upload("a").await;
    for _ in 0..500 {
        if server.get(&location).await.status() == 404 {
            assert_eq!(files(folder.path()), Vec::<String>::new());
            server.stop().await;
            return;
        }
        clock.advance(Duration::from_hours(25));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session is still there: {:?}", files(folder.path()));
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(on(folder.path())).await;
    let second = roadstead::build(on(folder.path()), std::sync::Arc::new(telemetry::SystemClock::default())).await;
    let message = format!("{:#}", second.err().unwrap());
    assert!(message.contains("in use by another roadstead") && message.contains("storage.url"), "{message}");
    server.stop().await;
}
