//! How a name in a path becomes the repository that is meant.

use async_trait::async_trait;
use oci::{Error, RepositoryName};

/// A name as it is stored here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The repository.
    pub repository: RepositoryName,
    /// The namespace of `?ns=`, if it led there; echoed as `OCI-Namespace`. [distribution-spec, Registry Proxying]
    pub namespace: Option<String>,
}

/// The routing of names to hosted and cached repositories.
#[async_trait]
pub trait Names: Send + Sync {
    /// The repository that a pull of `name`, perhaps with `?ns=`, means. `NameUnknown` for a namespace that is not ours.
    async fn resolve(&self, name: &RepositoryName, namespace: Option<&str>) -> Result<Resolved, Error>;

    /// May a push go to this name? `Denied` where it is a cache.
    fn check_push(&self, name: &RepositoryName) -> Result<(), Error>;
}
