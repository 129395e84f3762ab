//! The handshake that proves a name (RFC 8737).

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use sha2::{Digest, Sha256};

use super::pending::Answer;
use crate::provider;

/// The protocol of such a handshake (RFC 8737, section 6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// The name that a client wants to see proven; `None` for every other client. RFC 8737, section 3: the client offers this
/// protocol alone, and names one host.
pub(crate) fn asked(hello: &ClientHello<'_>) -> Option<String> {
    let mut protocols = hello.alpn()?;
    let alone = protocols.next() == Some(PROTOCOL) && protocols.next().is_none();
    alone.then(|| hello.server_name()).flatten().map(str::to_owned)
}

/// What proves one name, to whoever asks for it, and for nothing else.
pub(crate) fn config(answer: &Answer) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let provider = provider();
    let mut params = CertificateParams::new([answer.domain.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&Sha256::digest(&answer.authorization))];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Whether they match is not asked: rustls would stumble over the critical extension that it does not know.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], provider.key_provider.load_private_key(private)?);
    let only = Only { domain: answer.domain.clone(), certified: Arc::new(certified) };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(only));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Nothing of such a connection is resumed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[derive(Debug)]
struct Only {
    domain: String,
    certified: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Only {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (asked(&hello)? == self.domain).then(|| Arc::clone(&self.certified))
    }
}
