//! Content at rest over `object_store`: blobs, membership, manifests, tags, referrers, the catalog and upload sessions.
//!
//! One layout on every backend (DESIGN.md section 3): immutable objects, and small pointers changed by compare-and-swap. This
//! room knows keys and bytes; what may be stored, and what absence means, is decided above it.

mod backend;
mod blobs;
mod bucket;
mod cache;
mod catalog;
mod commit;
mod conditional;
mod disk;
mod error;
mod files;
mod folder;
mod gathered;
mod health;
mod held;
mod journal;
mod keys;
mod listing;
mod lock;
mod manifests;
mod objects;
mod op;
mod parts;
mod records;
mod redo;
mod remote;
mod session;
mod spool;
mod store;
mod tags;
mod time;
mod uploads;
mod writer;

pub use backend::{Location, LocationError, OpenError, Surroundings};
pub use blobs::{Owner, StoredBlob};
pub use bucket::{Bucket, Provider, Transport};
pub use catalog::RepositoryRecord;
pub use disk::{Disk, LocalDisk};
pub use error::Error;
pub use held::Held;
pub use journal::{Origin, TagEvent};
pub use listing::Slice;
pub use manifests::{ManifestPut, ManifestRecord};
pub use records::{RecordChange, RecordVersion, Records};
pub use spool::{KeepError, Spool};
pub use store::{Immutable, Store};
pub use tags::TagRecord;
pub use uploads::{FinishError, Upload, UploadId};
