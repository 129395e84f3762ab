//! Whose name is it? The routing of names to upstreams.
//!
//! Deterministic: a namespace or the first components of a name decide, and what nothing decides is hosted here. A name that is
//! not an upstream's is never asked of one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oci::{Discover, Error, Pull, RepositoryName};

use crate::cache::Cache;

/// What an upstream can be asked.
pub trait Remote: Pull + Discover {}

impl<T: Pull + Discover> Remote for T {}

/// The host that means Docker Hub, whose official images lie under `library/`.
const DOCKER_HUB: &str = "docker.io";
/// Other names by which clients call Docker Hub.
const DOCKER_HUB_ALIASES: [&str; 2] = ["registry-1.docker.io", "index.docker.io"];

/// Tells whether a name is among some.
pub type NameFilter = Box<dyn Fn(&RepositoryName) -> bool + Send + Sync>;

/// A remote registry and the names that belong to it.
pub struct Upstream {
    /// What clients call it in `?ns=`: a host, with its port if it has one.
    pub host: String,
    /// The first components of the names of its cached repositories here.
    pub name: String,
    /// Which names without any prefix it answers as well; `None` for all but the default upstream.
    pub root: Option<NameFilter>,
    /// The registry itself.
    pub remote: Arc<dyn Remote>,
    /// How long a cached tag is served before the upstream is asked again.
    pub tag_lifetime: Duration,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A repository that is hosted here, under the name itself.
    Hosted,
    /// One of an upstream's.
    Cached {
        /// The name under which it is stored here.
        repository: RepositoryName,
        /// The namespace that led to it, to be echoed as `OCI-Namespace`.
        namespace: Option<String>,
    },
}

/// The upstreams of this server.
pub struct Names {
    upstreams: Vec<Arc<Upstream>>,
    cache: Arc<dyn Cache>,
}

impl Names {
    /// The routing among these upstreams. Their names and hosts are distinct, and at most one has a `root`.
    #[must_use]
    pub fn new(upstreams: Vec<Upstream>, cache: Arc<dyn Cache>) -> Self {
        Self { upstreams: upstreams.into_iter().map(Arc::new).collect(), cache }
    }

    /// The repository that a pull of `name`, perhaps with `?ns=`, means.
    ///
    /// `NameUnknown` for a namespace that is not configured: it is never sent to another upstream.
    pub async fn resolve(&self, name: &RepositoryName, namespace: Option<&str>) -> Result<Resolved, Error> {
        if let Some(resolved) = self.resolve_at_once(name, namespace) {
            return resolved;
        }
        for upstream in &self.upstreams {
            if upstream.answers(name) && !self.cache.is_hosted(name).await? {
                return upstream.cached(name, None);
            }
        }
        Ok(Resolved::Hosted)
    }

    /// The same, where the name alone tells it; `None` where it has to be looked up what is hosted here.
    #[must_use]
    pub fn resolve_at_once(&self, name: &RepositoryName, namespace: Option<&str>) -> Option<Result<Resolved, Error>> {
        if let Some(namespace) = namespace {
            let host = if DOCKER_HUB_ALIASES.contains(&namespace) { DOCKER_HUB } else { namespace };
            let upstream = self.upstreams.iter().find(|upstream| upstream.host == host);
            let unknown = || Error::NameUnknown { name: format!("{name} of the namespace {namespace}") };
            return Some(upstream.ok_or_else(unknown).and_then(|upstream| upstream.cached(name, Some(namespace))));
        }
        if let Some((upstream, rest)) = self.upstream_of(name) {
            return Some(upstream.cached(&rest, None));
        }
        let nobody = !self.upstreams.iter().any(|upstream| upstream.answers(name));
        nobody.then_some(Ok(Resolved::Hosted))
    }

    /// May a push go to this name? `Denied`, with what to do instead, for a name of an upstream.
    pub fn check_push(&self, name: &RepositoryName) -> Result<(), Error> {
        let of = |upstream: &&Arc<Upstream>| name.as_str() == upstream.name || name.strip_prefix(&upstream.name).is_some();
        match self.upstreams.iter().find(of) {
            None => Ok(()),
            Some(upstream) => Err(Error::Denied {
                reason: format!("{name} is a cache of {}, which takes no pushes; push under a name of your own", upstream.host),
            }),
        }
    }

    /// The upstream of a name as it is stored here, and the name that the upstream knows.
    pub(crate) fn upstream_of(&self, name: &RepositoryName) -> Option<(Arc<Upstream>, RepositoryName)> {
        self.upstreams.iter().find_map(|upstream| {
            let rest = name.strip_prefix(&upstream.name)?;
            Some((Arc::clone(upstream), rest))
        })
    }
}

impl Upstream {
    /// Does it answer this name without any prefix?
    fn answers(&self, name: &RepositoryName) -> bool {
        self.root.as_ref().is_some_and(|matches| matches(name))
    }

    fn cached(&self, name: &RepositoryName, namespace: Option<&str>) -> Result<Resolved, Error> {
        Ok(Resolved::Cached { repository: self.cached_name(name)?, namespace: namespace.map(str::to_owned) })
    }

    /// The name under which a repository of this upstream is stored here. Docker Hub's official images are `library/` ones however
    /// they are asked for.
    fn cached_name(&self, name: &RepositoryName) -> Result<RepositoryName, Error> {
        let official = self.host == DOCKER_HUB && name.components().count() == 1;
        let cached = if official { name.under(&format!("{}/library", self.name)) } else { name.under(&self.name) };
        cached.map_err(|cause| Error::NameInvalid { reason: cause.to_string() })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upstream").field("host", &self.host).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Names").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}
