//! Copies a graph of content, an image with all that belongs to it, from any source to any target: registries here and elsewhere,
//! OCI layouts in folders and tar files.
//!
//! [`Transfer`] is the copier. [`layout`] is the image layout of the specification as both ends of a copy. [`bundle`] carries chosen
//! images over an air gap in one file.

mod blobs;
pub mod bundle;
mod error;
mod graph;
pub mod layout;
mod locks;
mod options;
mod platforms;
mod progress;
mod referrers;
mod retry;
mod source;
mod transfer;

pub use error::{Error, Limited, Piece};
pub use options::Options;
pub use progress::{Progress, Seen};
pub use source::Source;
pub use transfer::{Copied, Transfer};
