//! Records that are gone with the process, for tests of this room and of those that use it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::signer::{Change, Records, RecordsError};

/// Records in memory.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl Records for Memory {
    async fn read(&self, key: &str) -> Result<Option<Bytes>, RecordsError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    async fn update(&self, key: &str, change: Change<'_>) -> Result<Option<Bytes>, RecordsError> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = change(objects.get(key).map(AsRef::as_ref)) {
            objects.insert(key.to_owned(), next);
        }
        Ok(objects.get(key).cloned())
    }
}
