//! The catalog: one entry per repository, so that listing never walks content.

use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path;
use oci::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys;
use crate::listing::{Index, Slice};
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
        let load = async {
            let record = self.objects.read_json(&keys::catalog_entry(name)).await?;
            // That there is none is remembered only where nobody else can make it meanwhile.
            Ok((record.is_some() || self.backend.exact).then_some(record))
        };
        self.caches.repositories.or_load(name.clone(), load).await.map(Option::flatten)
    }

    /// Enters the repository unless it is there. Must run to its end: on a task that no client can cancel.
    pub async fn add_repository(&self, name: &RepositoryName, cached_from: Option<&str>, at: SystemTime) -> Result<(), Error> {
        let Some((key, bytes)) = self.new_repository(name, cached_from, at).await? else { return Ok(()) };
        let created = self.objects.create(&key, bytes).await;
        self.repository_added(name, created.is_ok());
        created.map(|_| ())
    }

    /// The entry of a repository that has none yet.
    pub(crate) async fn new_repository(
        &self,
        name: &RepositoryName,
        cached_from: Option<&str>,
        at: SystemTime,
    ) -> Result<Option<(Path, Bytes)>, Error> {
        if self.repository(name).await?.is_some() {
            return Ok(None);
        }
        let key = keys::catalog_entry(name);
        let record = RepositoryRecord { cached_from: cached_from.map(str::to_owned), at: seconds(at) };
        let bytes = encode(&key, &record)?;
        Ok(Some((key, bytes)))
    }

    /// Lets what is remembered follow an entry that was written, or may have been.
    pub(crate) fn repository_added(&self, name: &RepositoryName, done: bool) {
        self.caches.repositories.forget(name);
        if done {
            self.caches.catalog.amend(&(), |index| index.insert(name.clone()));
        } else {
            self.caches.catalog.forget(&());
        }
    }

    /// The first `limit` repositories after `last`, which need not be one, in byte order of their names.
    pub async fn repositories_after(&self, last: Option<&str>, limit: usize) -> Result<Slice<RepositoryName>, Error> {
        if self.backend.exact {
            let load = async {
                let entries = self.objects.children(&keys::catalog()).await?;
                Ok(Some(Index::new(entries.iter().filter_map(|(entry, _)| keys::unordered(entry)))))
            };
            let index = self.caches.catalog.or_load((), load).await?;
            return Ok(index.map_or_else(|| Slice { entries: Vec::new(), more: false }, |index| index.after(last, limit)));
        }
        let offset = last.filter(|last| RepositoryName::parse(last).is_ok()).map(keys::ordered);
        let above = |segment: &str, _| keys::unordered(segment).filter(|name| last.is_none_or(|last| name.as_str() > last));
        self.objects.page(&keys::catalog(), offset.as_deref(), limit, above).await
    }
}
