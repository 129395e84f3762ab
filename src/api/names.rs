//! How a name in a path becomes the repository that is meant.

use std::future::Ready;

use futures_util::future::{BoxFuture, Either};
use oci::{Error, RepositoryName};

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A repository that is hosted here, under the name itself.
    Hosted,
    /// One that is cached from an upstream.
    Cached {
        /// The name under which it is stored here.
        repository: RepositoryName,
        /// The namespace of `?ns=`, if it led there; echoed as `OCI-Namespace`. [distribution-spec, Registry Proxying]
        namespace: Option<String>,
    },
}

/// The answer of [`Names::resolve`]: there at once for most names, and then without a box.
pub type Resolving<'a> = Either<Ready<Result<Resolved, Error>>, BoxFuture<'a, Result<Resolved, Error>>>;

/// The routing of names to hosted and cached repositories.
pub trait Names: Send + Sync {
    /// The repository that a pull of `name`, perhaps with `?ns=`, means. `NameUnknown` for a namespace that is not ours.
    fn resolve<'a>(&'a self, name: &'a RepositoryName, namespace: Option<&'a str>) -> Resolving<'a>;

    /// May a push go to this name? `Denied` where it is a cache.
    fn check_push(&self, name: &RepositoryName) -> Result<(), Error>;
}
