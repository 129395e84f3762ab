//! Failures of the store in the words of the specification. By hand and only here: absence is never a failure, so what arrives
//! is the server's own trouble.

use std::error::Error as _;
use std::io::{self, ErrorKind};

use oci::Error;

/// Turns a failure of the store into what a client is told; the cause goes along for the log.
pub(crate) fn store(context: &'static str) -> impl FnOnce(storage::Error) -> Error {
    move |failure| {
        if let storage::Error::Immutable { name, tag } = &failure {
            return Error::Denied { reason: format!("the tag {tag} of {name} is immutable: it is neither moved nor removed") };
        }
        if let storage::Error::Contended { .. } = failure {
            return Error::Unavailable { reason: "too many writers at once, try again".to_owned(), source: Some(failure.into()) };
        }
        match io_kind(&failure) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                Error::Unavailable { reason: "the storage is full".to_owned(), source: Some(failure.into()) }
            }
            Some(ErrorKind::ReadOnlyFilesystem) => {
                Error::Unavailable { reason: "the storage is read-only".to_owned(), source: Some(failure.into()) }
            }
            _ => Error::internal(context, failure),
        }
    }
}

/// The kind of the file error at the bottom, if there is one.
fn io_kind(failure: &storage::Error) -> Option<ErrorKind> {
    let mut cause = failure.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
