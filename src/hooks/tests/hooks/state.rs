//! A state in memory, whose calls can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jobs::{State, StateError, Version};

/// Objects by their keys. As in some stores, the version of an object is its content. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    /// The next call on a key with this in it fails, before anything is done.
    broken: Option<String>,
    /// The next removal fails.
    keeps: bool,
    lists: usize,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    pub(crate) fn put(&self, key: &str, text: &str) {
        self.lock().objects.insert(key.to_owned(), Bytes::from(text.to_owned()));
    }

    pub(crate) fn fail_once(&self, part: &str) {
        self.lock().broken = Some(part.to_owned());
    }

    pub(crate) fn fail_a_removal(&self) {
        self.lock().keeps = true;
    }

    pub(crate) fn lists(&self) -> usize {
        self.lock().lists
    }

    fn call<T>(&self, key: &str, call: impl FnOnce(&mut Inner) -> T) -> Result<T, StateError> {
        let mut inner = self.lock();
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=/".contains(&byte)), "{key:?} is no key");
        assert!(key.split('/').all(|part| (1..=255).contains(&part.len()) && !part.starts_with('.')), "{key:?} is no key");
        if inner.broken.as_ref().is_some_and(|part| key.contains(part.as_str())) {
            inner.broken = None;
            return Err(StateError::new(key, "the line is broken"));
        }
        Ok(call(&mut inner))
    }
}

#[async_trait]
impl State for Memory {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StateError> {
        self.call(key, |inner| inner.objects.get(key).map(|bytes| (bytes.clone(), Version::new(bytes.clone()))))
    }

    async fn swap(&self, key: &str, bytes: Bytes, expected: Option<&Version>) -> Result<Option<Version>, StateError> {
        let expected = expected.map(|version| version.downcast_ref::<Bytes>().unwrap().clone());
        self.call(key, |inner| {
            if inner.objects.get(key) != expected.as_ref() {
                return None;
            }
            inner.objects.insert(key.to_owned(), bytes.clone());
            Some(Version::new(bytes))
        })
    }

    async fn remove(&self, key: &str) -> Result<(), StateError> {
        if std::mem::take(&mut self.lock().keeps) {
            return Err(StateError::new(key, "the line is broken"));
        }
        self.call(key, |inner| drop(inner.objects.remove(key)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.call(prefix, |inner| {
            inner.lists += 1;
            let below = inner.objects.keys().filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('/'));
            below.filter(|rest| !rest.contains('/')).map(str::to_owned).collect()
        })
    }

    fn is_exclusive(&self) -> bool {
        true
    }
}
