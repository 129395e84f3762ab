//! The server's side: one certificate chain and its key.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::error::Error;
use crate::{alpn, pem, provider};

/// A configuration that serves the chain of `certificate` (the server's own first) with `key`, both PEM, over HTTP/2 or
/// HTTP/1.1. Clients are not asked for certificates.
///
/// Fails if a file cannot be read, lacks what it should hold, or if the two do not belong together.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let chain = pem::certificates(certificate)?;
    let private = pem::key(key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|cause| refusal(&cause, certificate, key))?;
    config.alpn_protocols = alpn();
    Ok(Arc::new(config))
}

/// rustls says "general" where the provider refuses the key, so everything that is not about the certificate is about it.
fn refusal(cause: &rustls::Error, certificate: &Path, key: &Path) -> Error {
    match cause {
        rustls::Error::InconsistentKeys(_) => Error::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() },
        rustls::Error::InvalidCertificate(_) => Error::Unusable { path: certificate.to_owned(), reason: cause.to_string() },
        other => Error::Unusable { path: key.to_owned(), reason: other.to_string() },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    struct Files {
        folder: TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    fn files() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["registry.example.org".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Files { folder, certificate, key }
    }

    #[test]
    fn a_certificate_and_its_key_make_a_server_that_speaks_both_versions_of_http() {
        let files = files();
        let config = server_config(&files.certificate, &files.key).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = files();
        let absent = files.folder.path().join("absent.crt");
        let text = server_config(&absent, &files.key).unwrap_err().to_string();
        assert!(text.contains("absent.crt") && text.contains("exists"), "{text}");
    }

    #[test]
    fn exchanged_files_are_told_as_such() {
        let files = files();
        let text = server_config(&files.key, &files.certificate).unwrap_err().to_string();
        assert!(text.contains("tls.key") && text.contains("exchanged"), "{text}");
        let text = server_config(&files.certificate, &files.certificate).unwrap_err().to_string();
        assert!(text.contains("no private key"), "{text}");
    }

    #[test]
    fn a_foreign_key_is_refused_with_both_files_named() {
        let (files, other) = (files(), self::files());
        let error = server_config(&files.certificate, &other.key).unwrap_err();
        assert!(matches!(&error, Error::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(&other.key.display().to_string()));
    }

    #[test]
    fn a_torn_key_is_refused_without_a_piece_of_it_in_the_text() {
        let files = files();
        let pem = fs::read_to_string(&files.key).unwrap();
        let torn: Vec<&str> = pem.lines().take(2).collect();
        fs::write(&files.key, torn.join("\n")).unwrap();
        let error = server_config(&files.certificate, &files.key).unwrap_err();
        assert!(matches!(&error, Error::Pem { .. }), "{error}");
        assert!(!error.to_string().contains(torn[1]));
    }

    #[test]
    fn a_certificate_that_is_not_one_is_refused() {
        let files = files();
        fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let text = server_config(&files.certificate, &files.key).unwrap_err().to_string();
        assert!(text.contains("tls.crt"), "{text}");
    }
}
