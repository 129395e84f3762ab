//! Does the store keep its word on conditional writes? Everything that two servers share rests on them.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use uuid::Uuid;

use crate::error::Error;

/// Tries both kinds of conditional write on an object of its own. `None` if they hold, else what went wrong, for a sentence.
pub(crate) async fn broken(store: &dyn ObjectStore) -> Result<Option<&'static str>, Error> {
    let key = Path::from(format!("probe/{}", Uuid::now_v7()));
    let verdict = judge(store, &key).await;
    let removed = store.delete(&key).await.map_err(|source| Error::backend(&key, source));
    let verdict = verdict.map_err(|source| Error::backend(&key, source))?;
    removed?;
    Ok(verdict)
}

async fn judge(store: &dyn ObjectStore, key: &Path) -> Result<Option<&'static str>, StoreError> {
    let put = |content: &'static [u8], mode: PutMode| {
        let options = PutOptions::from(mode);
        async move { store.put_opts(key, Bytes::from_static(content).into(), options).await }
    };
    let first = match put(b"1", PutMode::Create).await {
        Ok(first) => UpdateVersion::from(first),
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            return Ok(Some("it has no conditional writes"));
        }
        Err(other) => return Err(other),
    };
    match put(b"2", PutMode::Create).await {
        Ok(_) => return Ok(Some("it overwrote an object that was only to be created")),
        Err(refused) if refuses(&refused) => {}
        Err(other) => return Err(other),
    }
    match put(b"3", PutMode::Update(first.clone())).await {
        Ok(_) => {}
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            return Ok(Some("it has no conditional writes"));
        }
        Err(refused) if refuses(&refused) => return Ok(Some("it refused to update an object that had not changed")),
        Err(other) => return Err(other),
    }
    match put(b"4", PutMode::Update(first)).await {
        Ok(_) => Ok(Some("it overwrote an object that had changed")),
        Err(refused) if refuses(&refused) => Ok(None),
        Err(other) => Err(other),
    }
}

fn refuses(error: &StoreError) -> bool {
    matches!(error, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } | StoreError::NotFound { .. })
}
