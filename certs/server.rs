//! The server's side of a handshake: versions, suites, protocols and sessions.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::{ServerConfig, version};

use crate::alpn;
use crate::chain::Chain;
use crate::choice::Choice;
use crate::error::Error;

/// How many sessions are kept for clients of TLS 1.2 that do not keep them themselves.
const KEPT: usize = 1024;

/// What makes a session of an earlier connection known again. Configurations that share it resume each other's sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    /// Its keys are random, change every six hours, and are gone after twelve.
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    /// None of before is known.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { ticketer: Ticketer::new().map_err(Error::Setup)?, storage: ServerSessionMemoryCache::new(KEPT) })
    }
}

/// TLS 1.3 and 1.2, with no suite but those of [`provider`](crate::provider), over HTTP/2 or HTTP/1.1. The client chooses among the suites: it
/// knows whether its processor is made for AES. There is no early data, which an attacker could send again.
pub(crate) fn config(
    chains: &[Chain],
    clients: Arc<dyn ClientCertVerifier>,
    sessions: &Sessions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(Error::Setup)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(Choice::new(chains)));
    config.alpn_protocols = alpn();
    config.ticketer = Arc::clone(&sessions.ticketer);
    config.session_storage = Arc::clone(&sessions.storage);
    Ok(Arc::new(config))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;

    use super::*;
    use crate::{Pair, Settings, Tls};

    /// As a server has it whose settings have these files.
    fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
        let pair = Pair { certificate: certificate.to_owned(), key: key.to_owned() };
        let settings = Settings { certificates: vec![pair], client_ca: None, client_crl: None, require_client: false };
        Tls::load(&settings).map(|tls| tls.config())
    }

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
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
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
