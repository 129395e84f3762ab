//! Input: a tag's record as it lies in a store.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oci::{Algorithm, Digest, Hasher, RepositoryName, Tag};
use roadstead::config::Location;
use storage::{Error, Store};
use telemetry::{Metrics, SystemClock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A store that can be written to behind its back.
pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) name: RepositoryName,
    /// The store remembers what it has read, so each input is given a place of its own.
    count: Cell<u64>,
}

thread_local! {
    pub(crate) static STAGE: Stage = Stage::new();
}

impl Stage {
    fn new() -> Self {
        // In memory where there is such a folder: a store syncs what it writes, which is not what is looked at here.
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let location = Location::Folder(folder.path().to_owned());
        let open = Store::open(&location, Arc::new(SystemClock::default()), Metrics::new());
        let store = runtime.block_on(open).unwrap();
        fs::create_dir_all(folder.path().join("repositories/fuzz/_tags")).unwrap();
        Self { runtime, folder, store, name: RepositoryName::parse("fuzz").unwrap(), count: Cell::new(0) }
    }

    pub(crate) fn next(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }
}

pub(crate) fn target(data: &[u8]) {
    STAGE.with(|stage| {
        let tag = Tag::parse(&format!("t{}", stage.next())).unwrap();
        let path = stage.folder.path().join(format!("repositories/fuzz/_tags/{tag}"));
        fs::write(&path, data).unwrap();
        stage.runtime.block_on(read_and_moved(stage, &tag, data));
        fs::remove_file(path).unwrap();
    });
}

async fn read_and_moved(stage: &Stage, tag: &Tag, data: &[u8]) {
    let Stage { store, name, .. } = stage;
    let before = match store.tag(name, tag).await {
        Ok(found) => found,
        Err(Error::Corrupt { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    // The reader passes over what it does not know without looking into it: such text need not be one that can be read.
    let json = serde_json::from_slice::<serde_json::Value>(data);
    if let (Some(before), Ok(json)) = (&before, json) {
        assert_eq!(json["digest"], before.digest.to_string());
        assert_eq!(json["sequence"].as_u64(), Some(before.sequence));
    }
    // Whatever was there, the tag can be moved, and tells where it pointed before.
    let at = SystemTime::UNIX_EPOCH + Duration::from_hours(490_896);
    let digest = Hasher::digest(Algorithm::Sha512, data);
    store.set_tag(name, tag, &digest, at).await.unwrap();
    let after = store.tag(name, tag).await.unwrap().unwrap();
    assert_eq!(after.digest, digest);
    if let Some(before) = before {
        let moved: &Digest = &before.digest;
        assert_eq!(after.previous.as_ref(), Some(moved));
        assert!(after.sequence > before.sequence || before.sequence == u64::MAX);
    }
    assert!(store.remove_tag(name, tag, Some(&digest)).await.unwrap());
    assert!(store.tag(name, tag).await.unwrap().is_none());
}
