//! The store's records, as durable work and mirrors ask for them.

use async_trait::async_trait;
use bytes::Bytes;
use certs::acme;
use jobs::{Changed, State, StateError, Version};
use storage::{RecordChange, RecordVersion, Records, Store};

/// Small objects under one prefix of the store.
pub(crate) struct Kept(pub(crate) Records);

/// Small objects under a prefix of the store.
pub(crate) fn kept(store: &Store, prefix: &str) -> Kept {
    Kept(store.records(prefix))
}

fn failed(key: &str) -> impl FnOnce(storage::Error) -> StateError + '_ {
    move |error| StateError::new(key, error)
}

#[async_trait]
impl acme::Records for Kept {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, acme::Version)>, acme::RecordsError> {
        let found = self.0.read(key).await.map_err(|error| acme::RecordsError(Box::new(error)))?;
        Ok(found.map(|(bytes, version)| (bytes, acme::Version::new(version))))
    }

    async fn swap(&self, key: &str, bytes: Bytes, version: Option<acme::Version>) -> Result<bool, acme::RecordsError> {
        let version = version.as_ref().and_then(acme::Version::downcast_ref::<RecordVersion>);
        let swapped = self.0.swap(key, bytes, version).await.map_err(|error| acme::RecordsError(Box::new(error)))?;
        Ok(swapped.is_some())
    }
}

#[async_trait]
impl auth::Records for Kept {
    async fn read(&self, key: &str) -> Result<Option<Bytes>, auth::RecordsError> {
        let found = self.0.read(key).await.map_err(|error| auth::RecordsError(Box::new(error)))?;
        Ok(found.map(|(bytes, _)| bytes))
    }

    async fn update(&self, key: &str, change: auth::Change<'_>) -> Result<Option<Bytes>, auth::RecordsError> {
        let failed = |error: storage::Error| auth::RecordsError(Box::new(error));
        loop {
            let found = self.0.read(key).await.map_err(failed)?;
            let Some(next) = change(found.as_ref().map(|(bytes, _)| bytes.as_ref())) else {
                return Ok(found.map(|(bytes, _)| bytes));
            };
            let version = found.as_ref().map(|(_, version)| version);
            if self.0.swap(key, next.clone(), version).await.map_err(failed)?.is_some() {
                return Ok(Some(next));
            }
        }
    }
}

#[async_trait]
impl State for Kept {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StateError> {
        let found = self.0.read(key).await.map_err(failed(key))?;
        Ok(found.map(|(bytes, version)| (bytes, Version::new(version))))
    }

    async fn read_if_changed(&self, key: &str, known: &Version) -> Result<Changed, StateError> {
        let Some(known) = known.downcast_ref::<RecordVersion>() else {
            return Ok(self.read(key).await?.map_or(Changed::Gone, |(bytes, version)| Changed::To(bytes, version)));
        };
        Ok(match self.0.read_if_changed(key, known).await.map_err(failed(key))? {
            RecordChange::Unchanged => Changed::Not,
            RecordChange::To(bytes, version) => Changed::To(bytes, Version::new(version)),
            RecordChange::Gone => Changed::Gone,
        })
    }

    async fn swap(&self, key: &str, bytes: Bytes, expected: Option<&Version>) -> Result<Option<Version>, StateError> {
        let expected = expected.and_then(Version::downcast_ref::<RecordVersion>);
        let swapped = self.0.swap(key, bytes, expected).await.map_err(failed(key))?;
        Ok(swapped.map(Version::new))
    }

    async fn remove(&self, key: &str) -> Result<(), StateError> {
        self.0.remove(key).await.map_err(failed(key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.0.list(prefix).await.map_err(failed(prefix))
    }

    fn is_exclusive(&self) -> bool {
        self.0.is_exclusive()
    }
}
