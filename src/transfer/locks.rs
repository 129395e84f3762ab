//! One at a time for each key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// So many entries are kept before those that nobody holds are looked for.
const FEW: usize = 256;

/// Locks by key, which exist while somebody holds or awaits them.
pub(crate) struct Locks<K>(Mutex<Table<K>>);

struct Table<K> {
    locks: HashMap<K, Weak<tokio::sync::Mutex<()>>>,
    /// At this size it is swept.
    full: usize,
}

impl<K: Hash + Eq + Clone> Locks<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table { locks: HashMap::new(), full: FEW }))
    }

    /// Waits until nobody else holds this key.
    pub(crate) async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = self.entry(key);
        lock.lock_owned().await
    }

    fn entry(&self, key: &K) -> Arc<tokio::sync::Mutex<()>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = table.locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        if table.locks.len() >= table.full {
            table.locks.retain(|_, lock| lock.strong_count() > 0);
            table.full = FEW.max(2 * table.locks.len());
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        table.locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_held_once_and_others_are_free() {
        let locks = Locks::new();
        let held = locks.lock(&1).await;
        let _other = locks.lock(&2).await;
        let mut waiting = Box::pin(locks.lock(&1));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(futures_util::poll!(waiting.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn what_nobody_holds_is_forgotten() {
        let locks = Locks::new();
        let _held = locks.lock(&0).await;
        for key in 0..10_000 {
            drop(locks.entry(&key));
        }
        let table = locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(table.locks.len() <= FEW && table.locks.contains_key(&0), "{}", table.locks.len());
    }
}
