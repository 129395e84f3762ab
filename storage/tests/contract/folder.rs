//! What a local folder promises beside what every store does.

use std::sync::Arc;

use oci::Algorithm;
use roadstead_storage::{Location, Store};
use telemetry::{Metrics, SystemClock};

use crate::open;
use crate::suite::{digest, name, owner};

#[tokio::test]
async fn a_folder_of_another_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("layout"), "9").unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let opened = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new()).await;
    let message = opened.err().unwrap().to_string();
    assert!(message.contains("layout \"9\"") && message.contains("version of roadstead"), "{message}");
}

#[tokio::test]
async fn a_second_opening_of_a_folder_names_the_holder() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let first = open(&location).await;
    let second = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new()).await;
    let message = second.err().unwrap().to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    drop(first);
    open(&location).await;
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tmp")).unwrap();
    std::fs::write(folder.path().join("tmp/mine"), "precious").unwrap();
    let location = Location::Folder(folder.path().to_owned());
    let opened = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new()).await;
    let message = opened.err().unwrap().to_string();
    assert!(message.contains("not empty") && message.contains("storage.url"), "{message}");
    assert_eq!(std::fs::read_to_string(folder.path().join("tmp/mine")).unwrap(), "precious");
}

#[tokio::test]
async fn a_damaged_blob_is_replaced_by_the_next_push_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Location::Folder(folder.path().to_owned())).await;
    let expected = digest(b"content");
    let path = folder.path().join(format!("blobs/sha256/{}/{}", &expected.hex()[..2], expected.hex()));
    for _ in 0..2 {
        let mut spool = store.spool(Algorithm::Sha256).unwrap();
        spool.write(b"content").unwrap();
        spool.keep(&expected, owner(&name("a"))).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        std::fs::write(&path, b"contentEVIL").unwrap();
    }
}

#[tokio::test]
async fn idle_sessions_hold_no_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&Location::Folder(folder.path().to_owned())).await;
    let inside = || {
        let links =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.filter(|path| path.starts_with(folder.path().join("uploads"))).count()
    };
    for _ in 0..20 {
        let id = store.start_upload(&name("a"), Algorithm::Sha256).await.unwrap();
        let mut upload = store.upload(&name("a"), id).await.unwrap().unwrap();
        upload.append(b"0123").await.unwrap();
        upload.save().await.unwrap();
    }
    assert_eq!((store.open_uploads(), inside()), (20, 0));
}
