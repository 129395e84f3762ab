//! A blob, and the ways in which its bytes can be had.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::digest::Digest;
use crate::error::Error;

/// Bytes as they come. An error is final: nothing follows it, and what came before must not be taken for the whole.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// What a HEAD of a blob tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobStat {
    /// The digest that was asked for.
    pub digest: Digest,
    /// Size in bytes; unknown only where an upstream does not tell.
    pub size: Option<u64>,
}

/// A blob that can be sent.
pub struct Blob {
    /// The digest that was asked for.
    pub digest: Digest,
    /// Size in bytes; unknown only while an upstream that does not tell it is still sending.
    pub size: Option<u64>,
    /// How to come by the bytes.
    pub content: Content,
}

/// How a blob can be sent; the HTTP room chooses the wire form.
pub enum Content {
    /// The whole blob, in memory.
    Bytes(Bytes),
    /// A complete, immutable file that holds exactly the blob.
    File(Arc<File>),
    /// A file that will hold exactly the blob, while it is being written.
    Growing(Arc<dyn GrowingFile>),
    /// Something that is opened at a range: a remote object, an upstream.
    Source(Arc<dyn RangeSource>),
}

/// Up to which byte of a file its bytes can be given, a larger number each time. An error is final, and what was given before must
/// not be taken for the whole.
pub type Readable = Pin<Box<dyn Stream<Item = Result<u64, Error>> + Send>>;

/// A blob that can be read while it is being written.
pub trait GrowingFile: Send + Sync {
    /// The file. What was written to it does not change any more.
    fn file(&self) -> Arc<File>;

    /// Tells whoever wants the bytes up to `end`, or all where that is `None`, how far they can be had.
    ///
    /// The last of them are told only once the whole blob is known to be right, and then the stream ends.
    fn readable(&self, end: Option<u64>) -> Readable;
}

/// Bytes that can be read from any offset, each time anew.
#[async_trait]
pub trait RangeSource: Send + Sync {
    /// The bytes `start..end`, or from `start` to the last one where `end` is `None`.
    ///
    /// The caller has checked the range against the size. A stream that ends early without an error is a defect.
    async fn open(&self, start: u64, end: Option<u64>) -> Result<ByteStream, Error>;
}
