//! Records that are gone with the process, for tests of this room and of those that use it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::signer::{Change, Records, RecordsError};

/// Records in memory.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<HashMap<String, Bytes>>,
    is_down: AtomicBool,
}

impl Memory {
    /// It cannot be reached, or can be again.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    fn fails(&self) -> Result<(), RecordsError> {
        if self.is_down.load(Ordering::Relaxed) { Err(RecordsError("it is down".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Records for Memory {
    async fn read(&self, key: &str) -> Result<Option<Bytes>, RecordsError> {
        self.fails()?;
        Ok(self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    async fn update(&self, key: &str, change: Change<'_>) -> Result<Option<Bytes>, RecordsError> {
        self.fails()?;
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = change(objects.get(key).map(AsRef::as_ref)) {
            objects.insert(key.to_owned(), next);
        }
        Ok(objects.get(key).cloned())
    }
}
