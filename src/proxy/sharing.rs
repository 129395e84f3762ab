//! One piece of work for all who want what it brings: who does it, and who joins.
//!
//! `tests/sharing` compiles this file with the locks of a model checker and tries every order of its steps.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::PoisonError;

use crate::sync::{Arc, Mutex};

/// The work that is under way: for each key at most one, and what those who join it are given.
pub(crate) struct Sharing<K, V>(Arc<Mutex<HashMap<K, V>>>);

/// The place of a piece of work among those under way. Until it is dropped, whoever wants the same joins; afterwards nobody does.
pub(crate) struct Entered<K: Hash + Eq, V> {
    running: Arc<Mutex<HashMap<K, V>>>,
    key: K,
}

/// What only the first one to come is given.
pub(crate) type First<K, V, W> = Option<(Entered<K, V>, W)>;

impl<K: Hash + Eq + Clone, V: Clone> Sharing<K, V> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    /// What those who join are given, if work for `key` is under way.
    pub(crate) fn running(&self, key: &K) -> Option<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Joins the work for `key`, or begins it: the first one to come is also given its place and what else `begin` makes, and must
    /// see to it that the work is done.
    pub(crate) fn enter<W>(&self, key: &K, begin: impl FnOnce() -> (V, W)) -> (V, First<K, V, W>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joined) = running.get(key) {
            return (joined.clone(), None);
        }
        let (joined, work) = begin();
        running.insert(key.clone(), joined.clone());
        (joined, Some((Entered { running: Arc::clone(&self.0), key: key.clone() }, work)))
    }
}

impl<K: Hash + Eq, V> Drop for Entered<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
