//! Memory of what was read, exact on one server: invalidated by the write, never by time.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

/// Keys share this many generations.
const STRIPES: usize = 256;

/// A cache in front of the store.
///
/// A reader that loads while a writer changes the object could put the old value back after the writer invalidated it. So each
/// stripe of keys counts its writes: a loader notes the count before it reads and its value is kept only if the count is the
/// same afterwards.
pub(crate) struct ExactCache<K, V> {
    values: Cache<K, V>,
    generations: Vec<Mutex<u64>>,
    hasher: RandomState,
}

impl<K, V> ExactCache<K, V>
where
    K: Clone + Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most `capacity` units, an entry counting `weight`. With a `lifetime`, which a store needs that others write to
    /// as well, nothing is older than that.
    pub(crate) fn new(capacity: u64, lifetime: Option<Duration>, weight: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        let mut values = Cache::builder().max_capacity(capacity).weigher(weight);
        if let Some(lifetime) = lifetime {
            values = values.time_to_live(lifetime);
        }
        Self { values: values.build(), generations: (0..STRIPES).map(|_| Mutex::new(0)).collect(), hasher: RandomState::new() }
    }

    /// The value, if it is in memory.
    pub(crate) fn find(&self, key: &K) -> Option<V> {
        self.values.get(key)
    }

    /// Remembers a value that was read under the caller's own care for its being right.
    pub(crate) fn keep(&self, key: K, value: V) {
        self.values.insert(key, value);
    }

    fn generation(&self, key: &K) -> &Mutex<u64> {
        let hash = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0);
        &self.generations[hash]
    }

    /// The value, from memory or from `load`. An absence is not remembered.
    pub(crate) async fn or_load<E>(&self, key: K, load: impl Future<Output = Result<Option<V>, E>>) -> Result<Option<V>, E> {
        if let Some(value) = self.values.get(&key) {
            return Ok(Some(value));
        }
        let noted = *self.generation(&key).lock().unwrap_or_else(PoisonError::into_inner);
        let Some(value) = load.await? else { return Ok(None) };
        let current = self.generation(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if *current == noted {
            self.values.insert(key, value.clone());
        }
        Ok(Some(value))
    }

    /// Brings the value up to date, if it is in memory, after the store was changed.
    pub(crate) fn amend(&self, key: &K, change: impl FnOnce(&V)) {
        let mut current = self.generation(key).lock().unwrap_or_else(PoisonError::into_inner);
        *current += 1;
        if let Some(value) = self.values.get(key) {
            change(&value);
            // What it weighs has changed with it.
            self.values.insert(key.clone(), value);
        }
    }

    /// Forgets a key, after the store was changed (or may have been).
    pub(crate) fn forget(&self, key: &K) {
        let mut current = self.generation(key).lock().unwrap_or_else(PoisonError::into_inner);
        *current += 1;
        self.values.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_load_that_a_write_overtook_is_not_kept() {
        let cache = ExactCache::new(10, None, |_: &u8, _: &&str| 1);
        let overtaken = cache
            .or_load(1, async {
                cache.forget(&1);
                Ok::<_, ()>(Some("old"))
            })
            .await;
        assert_eq!(overtaken, Ok(Some("old")));
        assert_eq!(cache.or_load(1, async { Ok::<_, ()>(Some("new")) }).await, Ok(Some("new")));
        assert_eq!(cache.or_load(1, async { Ok::<_, ()>(Some("newer")) }).await, Ok(Some("new")));
        cache.forget(&1);
        assert_eq!(cache.or_load(1, async { Ok::<_, ()>(None) }).await, Ok(None));
    }
}
