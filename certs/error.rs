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
    /// The key is there for everyone to take.
    #[error(
        "the key {path} can be read by every user of this machine (mode {mode:04o}): run chmod o-rwx on it, or set defaultMode: \
         0440 where it is a Kubernetes secret",
        path = .path.display()
    )]
    Exposed {
        /// The file of the key.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The certificates are those of one chain, but not in its order.
    #[error(
        "the certificates of {path} are in the wrong order: the server's own comes first, then who issued it, and so on; found \
         {found}; write {wanted}",
        path = .path.display()
    )]
    Order {
        /// The file.
        path: PathBuf,
        /// Whose certificates they are, in the order of the file.
        found: String,
        /// The same, in the order that is right.
        wanted: String,
    },
    /// Nothing to serve.
    #[error("no certificate is configured: give certificate and key, or make both with roadstead certs dev")]
    NoPair,
    /// Clients cannot be verified by nothing.
    #[error("{setting} is set without client_ca: give the file of the authorities whose clients are accepted, or take it out")]
    NoClientCa {
        /// What asks for them.
        setting: &'static str,
    },
    /// PEM without a revocation list.
    #[error(
        "{path} holds no revocation list: a BEGIN X509 CRL section is needed; convert DER files with openssl crl -inform der",
        path = .path.display()
    )]
    NoRevocations {
        /// The file.
        path: PathBuf,
    },
    /// An authority without a list: each of its clients would be refused.
    #[error(
        "{path} has no revocation list of {authority}, so that none of its clients could be accepted: append its list, or take \
         the authority out of client_ca",
        path = .path.display()
    )]
    Unlisted {
        /// The file of the revocation lists.
        path: PathBuf,
        /// The authority.
        authority: String,
    },
    /// A list that bears the name of an authority, but not its signature.
    #[error(
        "the revocation list of {authority} in {path} is not signed by that authority: fetch it again, or replace client_ca if \
         the authority has a new key",
        path = .path.display()
    )]
    Forged {
        /// The file of the revocation lists.
        path: PathBuf,
        /// The authority.
        authority: String,
    },
    /// Not something that a certificate can be made for.
    #[error("{name:?} is no name for a certificate: {reason}")]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it, and what to give.
        reason: &'static str,
    },
    /// The development authority cannot sign.
    #[error("the authority {path} cannot be used: {reason}", path = .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {source}; check that the folder exists and that this process may write there", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A certificate cannot be made: a defect of the build.
    #[error("a certificate cannot be made: {0}")]
    Making(rcgen::Error),
    /// The provider and the protocol versions do not fit: a defect of the build.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}
