//! Pull-through: a registry wrapping a registry. A name that belongs to an upstream is served from what is kept here, and fetched
//! when it is not; every other name is the wrapped registry's own.
//!
//! Knows neither HTTP nor storage: the upstream is an [`oci::Pull`] and [`oci::Discover`], the place where content is kept a
//! [`Cache`].

mod blobs;
mod cache;
mod fill;
mod flight;
mod manifests;
mod names;
mod pull_through;
mod sharing;

/// The locks of [`sharing`], which its model check replaces.
mod sync {
    pub(crate) use std::sync::{Arc, Mutex};
}

pub use cache::{Cache, FillSpool};
pub use names::{NameFilter, Names, Remote, Resolved, Upstream};
pub use pull_through::PullThrough;
