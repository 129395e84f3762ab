//! The client's side: whom to trust.

use std::path::PathBuf;

use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;
use crate::{alpn, pem, provider};

/// A configuration that trusts the system's roots and every certificate of the `extra_roots` files (PEM), over HTTP/2 or
/// HTTP/1.1.
///
/// Where the system has no roots, as in an image built from scratch, those of Mozilla that were compiled in take their
/// place: a missing bundle is never an error. A file of `extra_roots` that cannot be used is one, because it was asked for.
pub fn client_config(extra_roots: &[PathBuf]) -> Result<ClientConfig, Error> {
    let mut roots = system_roots();
    for path in extra_roots {
        for certificate in pem::certificates(path)? {
            roots.add(certificate).map_err(|cause| Error::Unusable { path: path.clone(), reason: cause.to_string() })?;
        }
    }
    with_roots(roots)
}

/// A configuration that trusts nobody, for what never leaves plain HTTP: to read the system's roots takes longer than many a request.
pub fn client_config_without_roots() -> Result<ClientConfig, Error> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    Ok(config)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for cause in &found.errors {
        tracing::debug!(%cause, "some of the system's roots cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::info!("the system has no root certificates; those compiled in are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_client_needs_no_file_and_speaks_both_versions_of_http() {
        let config = client_config(&[]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(!system_roots().is_empty());
    }

    #[test]
    fn every_certificate_of_a_bundle_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let one = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
        let two = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap().cert.pem();
        fs::write(&path, format!("# a comment\n{one}{two}")).unwrap();
        assert_eq!(pem::certificates(&path).unwrap().len(), 2);
        assert!(client_config(&[path]).is_ok());
    }

    #[test]
    fn a_bundle_that_was_asked_for_must_be_usable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(client_config(std::slice::from_ref(&path)), Err(Error::Read { .. })));
        fs::write(&path, "not PEM at all").unwrap();
        let text = client_config(&[path]).unwrap_err().to_string();
        assert!(text.contains("ca.pem") && text.contains("no certificate"), "{text}");
    }
}
