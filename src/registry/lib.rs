//! What this server holds, and the rules of holding it: pull, push, delete, list. Hosted and cached repositories alike; what
//! makes one cached is only that its content was kept on behalf of an upstream.

mod blobs;
mod bounds;
mod cached;
mod delete;
mod events;
mod fault;
mod manifests;
mod pull;
mod push;
mod registry;
mod uploads;

pub use bounds::{Bounds, Quota};
pub use events::Actor;
pub use manifests::{ManifestPush, PushedManifest};
pub use registry::{Limits, Registry, Rules};
pub use storage::{Origin, Spool, TagEvent, UploadId};
