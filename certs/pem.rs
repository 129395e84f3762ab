//! Reading PEM files: once, whole, and never more than a limit.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// What every kind of key has in its first line.
const MARK: &[u8] = b"PRIVATE KEY";
/// Far more than any chain; a revocation list of a large authority has a few MiB.
const LARGEST: u64 = 64 << 20;

/// What a file held when it was read. What is parsed is what was hashed, whatever happens to the file in between.
pub(crate) struct Source {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl Source {
    /// Only of a regular file: a pipe would block whoever reads it.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Read { path: path.to_owned(), source };
        if !fs::metadata(path).map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("it is not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let mode = file.metadata().map_err(fail)?.mode();
        let mut bytes = Vec::new();
        let length = file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(fail)?;
        if length as u64 > LARGEST {
            return Err(fail(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20))));
        }
        Ok(Self { path: path.to_owned(), bytes, mode })
    }

    /// What is no file, under the name that the texts of errors call it by.
    pub(crate) fn of(name: &Path, bytes: &[u8]) -> Self {
        Self { path: name.to_owned(), bytes: bytes.to_vec(), mode: 0o600 }
    }

    /// Like `read`, of a file that nobody else on the machine may read if there is a key in it: without one something else is wrong.
    pub(crate) fn read_private(path: &Path) -> Result<Self, Error> {
        let source = Self::read(path)?;
        let mode = source.mode & 0o777;
        let has_key = || source.bytes.windows(MARK.len()).any(|bytes| bytes == MARK);
        if mode & 0o007 != 0 && has_key() { Err(Error::Exposed { path: path.to_owned(), mode }) } else { Ok(source) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What two versions of the file are compared by.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Every certificate, in its order; at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found: Vec<_> = self.all()?;
        if found.is_empty() { Err(Error::NoCertificate { path: self.path.clone() }) } else { Ok(found) }
    }

    /// The first private key.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|cause| match cause {
            pem::Error::NoItemsFound => Error::NoKey { path: self.path.clone() },
            other => malformed(&self.path, &other),
        })
    }

    /// Every revocation list; at least one.
    pub(crate) fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let found: Vec<_> = self.all()?;
        if found.is_empty() { Err(Error::NoRevocations { path: self.path.clone() }) } else { Ok(found) }
    }

    fn all<T: PemObject>(&self) -> Result<Vec<T>, Error> {
        T::pem_slice_iter(&self.bytes).collect::<Result<_, _>>().map_err(|cause| malformed(&self.path, &cause))
    }
}

/// Every certificate of a file, in its order; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    Source::read(path)?.certificates()
}

/// The parser's errors can quote a line of the file, which may be a piece of a key: only their kind is told.
fn malformed(path: &Path, cause: &pem::Error) -> Error {
    let reason = match cause {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "the file cannot be parsed",
    };
    Error::Pem { path: path.to_owned(), reason: reason.to_owned() }
}
