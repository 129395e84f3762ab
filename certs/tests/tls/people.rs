//! Those who issue, and those who connect.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};

/// An authority.
pub(crate) struct Authority {
    pub(crate) inner: CertifiedIssuer<'static, KeyPair>,
}

/// What an authority gives.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: String,
    /// What a client sends behind its own certificate.
    pub(crate) behind: Vec<CertificateDer<'static>>,
    key_der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self { inner: CertifiedIssuer::self_signed(ca(name), key(&PKCS_ECDSA_P256_SHA256)).unwrap() }
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self { inner: CertifiedIssuer::signed_by(ca(name), key(&PKCS_ECDSA_P256_SHA256), &self.inner).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.inner.pem()
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nameless"));
        change(&mut params);
        let key = key(algorithm);
        let made = params.signed_by(&key, &self.inner).unwrap();
        Issued {
            der: made.der().clone(),
            pem: made.pem(),
            key: key.serialize_pem(),
            behind: Vec::new(),
            key_der: key.serialize_der(),
        }
    }

    /// A client with a serial number and names as URIs.
    pub(crate) fn client(&self, serial: u64, uris: &[&str]) -> Issued {
        self.issue_with(&[], &PKCS_ECDSA_P256_SHA256, |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        })
    }

    /// A list that revokes these serial numbers and is good until the given day.
    pub(crate) fn revokes(&self, serials: &[u64], until: (i32, u8, u8)) -> String {
        list(&self.inner, serials, until)
    }
}

fn list(issuer: &Issuer<'_, KeyPair>, serials: &[u64], until: (i32, u8, u8)) -> String {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until.0, until.1, until.2),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    if algorithm == &PKCS_RSA_SHA256 {
        return KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048).unwrap();
    }
    KeyPair::generate_for(algorithm).unwrap()
}

/// How a client is made.
pub(crate) struct Client {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    own: Option<Issued>,
    schemes: Option<Vec<SignatureScheme>>,
    sends_name: bool,
}

impl Client {
    pub(crate) fn trusting(authorities: &[&Authority]) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.inner.der().clone()).unwrap();
        }
        Self { roots, versions: rustls::ALL_VERSIONS.to_vec(), own: None, schemes: None, sends_name: true }
    }

    /// One that looks at the signature alone, not at whose certificate it is.
    pub(crate) fn checking(schemes: &[SignatureScheme]) -> Self {
        Self { schemes: Some(schemes.to_vec()), ..Self::trusting(&[]) }
    }

    pub(crate) fn speaking(self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self }
    }

    pub(crate) fn showing(self, own: &Issued) -> Self {
        Self { own: Some(own.clone()), ..self }
    }

    pub(crate) fn naming_no_host(self) -> Self {
        Self { sends_name: false, ..self }
    }

    /// Its sessions are kept in the configuration.
    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&self.versions).unwrap();
        let builder = match self.schemes {
            Some(schemes) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Signature { schemes })),
            None => builder.with_root_certificates(self.roots),
        };
        let mut config = match self.own {
            Some(own) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key_der));
                builder.with_client_auth_cert([vec![own.der], own.behind].concat(), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.sends_name;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

/// Both ends of a connection that stands.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Connected {
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.client.peer_certificates().unwrap()[0].clone()
    }
}

/// Shakes hands in memory. The error is that of the side that broke off.
pub(crate) fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, host: &str) -> Result<Connected, rustls::Error> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Connected { client, server })
}

#[derive(Debug)]
struct Signature {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Signature {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
