//! The catalog: one entry per repository, so that listing never walks content.

use std::time::SystemTime;

use bytes::Bytes;
use oci::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys;
use crate::objects::encode;
use crate::store::Store;
use crate::time::seconds;

/// What is known of a repository as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryRecord {
    /// The host of the upstream that it caches; nothing for a hosted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_from: Option<String>,
    /// When it appeared, in seconds since 1970.
    pub at: u64,
}

impl Store {
    /// The repository's entry, if it has one.
    pub async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRecord>, Error> {
        let key = keys::catalog_entry(name);
        let load = async { self.objects.read_json(&key).await.map(Some) };
        self.caches.repositories.or_load(name.clone(), load).await.map(Option::flatten)
    }

    /// Enters the repository unless it is there. Must run to its end: on a task that no client can cancel.
    pub async fn add_repository(&self, name: &RepositoryName, cached_from: Option<&str>, at: SystemTime) -> Result<(), Error> {
        if self.repository(name).await?.is_some() {
            return Ok(());
        }
        let key = keys::catalog_entry(name);
        let record = RepositoryRecord { cached_from: cached_from.map(str::to_owned), at: seconds(at) };
        let bytes: Bytes = encode(&key, &record)?;
        let created = self.objects.create(&key, bytes).await;
        self.caches.repositories.forget(name);
        created.map(|_| ())
    }

    /// All repositories in byte order of their names.
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>, Error> {
        let entries = self.objects.children(&keys::catalog()).await?;
        let mut names: Vec<RepositoryName> = entries.iter().filter_map(|(entry, _)| keys::unflat(entry)).collect();
        names.sort_unstable();
        Ok(names)
    }
}
