//! What can be wrong with a certificate, a key or a bundle, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why no TLS configuration could be made. Each text names the file and the remedy, and never shows what is in a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; check that the file exists and that this process may read it", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not PEM.
    #[error("{path} is not valid PEM: {reason}; convert DER files with openssl x509 -inform der", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser stumbled over.
        reason: String,
    },
    /// PEM without a certificate.
    #[error("{path} holds no certificate: a BEGIN CERTIFICATE section is needed; are certificate and key exchanged?", path = .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// PEM without a private key.
    #[error(
        "{path} holds no private key: a BEGIN PRIVATE KEY section (or RSA or EC PRIVATE KEY, not encrypted) is needed; are \
         certificate and key exchanged?",
        path = .path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is not that of the certificate.
    #[error(
        "the key {key} does not match the certificate {certificate}: the first certificate of the file must be that of the \
         server, the issuers follow",
        key = .key.display(),
        certificate = .certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// rustls refuses the certificate or the key.
    #[error("{path} cannot be used: {reason}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        reason: String,
    },
    /// The provider and the protocol versions do not fit: a defect of the build.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}
