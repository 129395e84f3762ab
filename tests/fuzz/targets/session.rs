//! Input: an upload session's record as it lies in a store, in one line, and after it the bytes that were received. `@` in the
//! record stands for the right state of the hash over these bytes, which no search would find.

use std::fs;
use std::time::SystemTime;

use oci::{Algorithm, Digest, Hasher};
use storage::{FinishError, Owner, UploadId};
use uuid::Uuid;

use crate::targets::tag_record::{STAGE, Stage};

pub(crate) fn target(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let received = data.get(end + 1..).unwrap_or_default();
    let record = replaced(&data[..end], received);
    STAGE.with(|stage| {
        let id = Uuid::from_u128(u128::from(stage.next()));
        let folder = stage.folder.path().join(format!("uploads/{id}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("session"), record).unwrap();
        fs::write(folder.join("data"), received).unwrap();
        let id: UploadId = id.to_string().parse().unwrap();
        stage.runtime.block_on(gone_on_with(stage, id, received));
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
    });
}

/// The record with the state of the hash in the place of each `@`.
fn replaced(record: &[u8], received: &[u8]) -> Vec<u8> {
    let Ok(text) = str::from_utf8(record) else { return record.to_vec() };
    let mut hasher = Hasher::new(if text.contains("sha512") { Algorithm::Sha512 } else { Algorithm::Sha256 });
    hasher.update(received);
    let state = serde_json::to_value(hasher.state()).unwrap();
    text.replace('@', state["state"].as_str().unwrap()).into_bytes()
}

/// Whatever the record says, what becomes of the session has the digest of its bytes or does not become anything.
async fn gone_on_with(stage: &Stage, id: UploadId, received: &[u8]) {
    let Stage { store, name, .. } = stage;
    let Some(size) = store.upload_size(name, id).await.unwrap() else { return };
    let kept = &received[..usize::try_from(size).unwrap()];
    let mut upload = store.upload(name, id).await.unwrap().unwrap();
    assert_eq!(upload.size(), size);
    upload.append(b"more").await.unwrap();
    let whole = [kept, b"more"].concat();
    let digest = Hasher::digest(Algorithm::Sha256, &whole);
    let owner = Owner { repository: name, cached_from: None, at: SystemTime::UNIX_EPOCH };
    if whole.len() % 4 == 3 {
        let wrong = Digest::from_hex(Algorithm::Sha256, &"0".repeat(64)).unwrap();
        assert!(matches!(upload.finish(&wrong, owner).await, Err(FinishError::Digest { actual }) if actual == digest));
        assert!(store.upload_size(name, id).await.unwrap().is_none());
        return;
    }
    assert_eq!(upload.finish(&digest, owner).await.unwrap(), whole.len() as u64);
    assert_eq!(store.stat_blob(&digest).await.unwrap(), Some(whole.len() as u64));
    let blob = stage.folder.path().join(format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex()));
    assert_eq!(fs::read(&blob).unwrap(), whole);
    fs::remove_file(blob).unwrap();
}
