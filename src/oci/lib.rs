//! The vocabulary of the OCI distribution and image specifications: names, tags, digests, descriptors, manifests, ranges
//! and error codes, and the traits by which rooms speak of registries. No I/O, no server, no clock.
//!
//! Manifests are kept as the bytes that were pushed. What is parsed here is a *view* for validation and listing; it is never
//! serialised back in place of the original.

mod content;
mod descriptor;
mod digest;
mod error;
mod hasher;
mod manifest;
pub mod media_type;
mod name;
mod platform;
mod push;
mod range;
mod reference;
mod registry;
mod select;

pub use content::{Blob, BlobStat, ByteStream, Content, GrowingFile, RangeSource, Readable};
pub use descriptor::{Annotations, Descriptor};
pub use digest::{Algorithm, Digest, DigestError};
pub use error::{Code, Error};
pub use hasher::{HashState, Hasher};
pub use manifest::{Kind, Manifest, ManifestStat, ManifestView};
pub use name::{MAX_NAME_LENGTH, NameError, RepositoryName};
pub use platform::{Platform, PlatformError};
pub use push::Push;
pub use range::{ByteRange, ContentRange, RangeOutcome};
pub use reference::{Reference, Tag, TagError};
pub use registry::{Discover, Listing, Page, Pull, ReferrersList};
pub use select::{Selector, SelectorError, natural, select, version};
