use std::sync::Arc;
use std::time::{Duration, SystemTime};

use roadstead_certs::acme::{Challenge, Did};
use roadstead_certs::{self as certs, Pair, Settings, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::front::{echoes, shown};
use crate::stage::{NAME, Stage};

/// Who looks at a challenge looks at the certificate himself.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client(protocols: &[&[u8]]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

fn pending(challenge: &str, now: SystemTime) -> String {
    let until = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 60;
    let answer = serde_json::json!({
        "challenge": challenge, "domain": NAME, "token": "token", "authorization": "token.thumbprint", "until": until,
    });
    serde_json::json!({ "answers": [answer] }).to_string()
}

#[tokio::test]
async fn a_pending_challenge_is_met_with_its_certificate_and_no_http() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    stage.store.put("challenges", &pending("tls-alpn-01", stage.now()));
    let mut stream = stage.front.connect(&client(&[b"acme-tls/1"]), NAME).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let der = shown(&stream);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(format!("{:?}", names.value.general_names), format!("[DNSName({NAME:?})]"));
    // RFC 8737, section 3: critical, and the digest as an octet string.
    let identifier = certificate.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
    assert!(identifier.critical);
    assert_eq!(identifier.value, [&[4, 32], &Sha256::digest("token.thumbprint")[..]].concat());
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0);

    // It is no answer over HTTP.
    assert_eq!(replica.acme.answer("/.well-known/acme-challenge/token").await, None);
    // Who speaks HTTP is not led there.
    let offers: [&[&[u8]]; 4] = [&[], &[b"http/1.1"], &[b"h2", b"acme-tls/1"], &[b"acme-tls/1", b"http/1.1"]];
    for protocols in offers {
        let mut stream = stage.front.connect(&client(protocols), NAME).await.unwrap();
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        assert_ne!(shown(&stream), der);
        assert!(echoes(&mut stream).await);
    }
}

#[tokio::test]
async fn a_challenge_that_is_not_pending_is_refused() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let _replica = stage.replica();
    let refused = async |name: &str| {
        let error = stage.front.connect(&client(&[b"acme-tls/1"]), name).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    };
    // None is pending.
    refused(NAME).await;
    // One is, for the other way; or for another name; or it was.
    stage.clock.advance(Duration::from_secs(1));
    stage.store.put("challenges", &pending("http-01", stage.now()));
    refused(NAME).await;
    stage.clock.advance(Duration::from_secs(1));
    stage.store.put("challenges", &pending("tls-alpn-01", stage.now()));
    refused("other.example.test").await;
    stage.front.connect(&client(&[b"acme-tls/1"]), NAME).await.unwrap();
    stage.clock.advance(Duration::from_secs(61));
    refused(NAME).await;
}

#[tokio::test]
async fn an_answer_over_http_is_given_for_its_own_token_and_time() {
    let stage = Stage::new(&[Challenge::Http01]).await;
    let replica = stage.replica();
    stage.store.put("challenges", &pending("http-01", stage.now()));
    let path = "/.well-known/acme-challenge/token";
    assert_eq!(replica.acme.answer(path).await.as_deref(), Some("token.thumbprint"));
    assert_eq!(replica.acme.answer("/.well-known/acme-challenge/other").await, None);
    stage.clock.advance(Duration::from_secs(61));
    assert_eq!(replica.acme.answer(path).await, None);
}

#[tokio::test]
async fn a_file_is_served_for_its_names_and_the_placeholder_only_where_there_is_none() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let folder = tempfile::tempdir().unwrap();
    let names = ["*.example.test".to_owned()];
    let made = certs::dev::make(folder.path(), &names, stage.now()).unwrap();
    let pair = Pair { certificate: made.certificate.clone(), key: made.key.clone() };
    let settings = Settings { certificates: vec![pair], ..Settings::default() };
    let tls = Arc::new(Tls::with_acme(&settings, &[NAME.to_owned(), "registry.example.org".to_owned()]).unwrap());
    let mut replica = stage.replica();
    replica.tls = Arc::clone(&tls);
    stage.front.lead_to(&replica);
    let file = certs::client_config(&[made.authority]).unwrap();
    stage.front.connect(&file, NAME).await.unwrap();
    assert_eq!(tls.certificates().len(), 2);
    assert_eq!(tls.problems(stage.now(), Duration::ZERO).len(), 1);
    // A reload of the files leaves what is not of a file.
    certs::dev::make(folder.path(), &names, stage.now()).unwrap();
    assert!(matches!(tls.reload().unwrap(), certs::Reloaded::Changed { .. }));
    assert_eq!(tls.certificates().len(), 2);
}

#[tokio::test]
async fn a_reload_of_files_leaves_the_certificate_of_acme_where_it_is() {
    let stage = Stage::new(&[Challenge::TlsAlpn01]).await;
    let replica = stage.replica();
    assert_eq!(replica.turn().await, Did::Ordered);
    let before = replica.facts();
    assert_eq!(replica.tls.reload().unwrap(), certs::Reloaded::Unchanged);
    assert_eq!(replica.facts(), before);
}
