use rcgen::PKCS_RSA_SHA256;
use roadstead_certs::identity;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, Error};

use crate::people::{Authority, Client, connect};
use crate::stage::Stage;

#[test]
fn a_client_of_the_authority_is_let_in_and_known() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    for required in [true, false] {
        let tls = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, required).load();
        for version in [&TLS12, &TLS13] {
            let own = clients.client(0x00ab, &["spiffe://example.org/ns/prod/sa/web"]);
            let client = Client::trusting(&[&authority]).speaking(version).showing(&own).config();
            let connected = connect(&client, &tls.config(), "one.example").unwrap();
            let who = identity(connected.server.peer_certificates().unwrap()).unwrap();
            assert_eq!(who.uris, ["spiffe://example.org/ns/prod/sa/web"]);
            assert_eq!((who.serial.as_str(), who.fingerprint.len()), ("ab", 64));
        }
    }
}

#[test]
fn a_client_without_a_certificate_is_let_in_only_where_none_is_required() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let own = authority.issue(&["one.example"]);
    for version in [&TLS12, &TLS13] {
        let client = Client::trusting(&[&authority]).speaking(version).config();
        let optional = Stage::new(&[&own]).asking(&clients, false).load();
        let connected = connect(&client, &optional.config(), "one.example").unwrap();
        assert!(connected.server.peer_certificates().is_none());
        let required = Stage::new(&[&own]).asking(&clients, true).load();
        assert_eq!(connect(&client, &required.config(), "one.example").unwrap_err(), Error::NoCertificatesPresented);
        let nobody = Stage::new(&[&own]).load();
        assert!(connect(&client, &nobody.config(), "one.example").unwrap().server.peer_certificates().is_none());
    }
}

#[test]
fn a_client_of_a_stranger_is_refused_even_where_none_is_required() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let stranger = Authority::new("clients").client(1, &["spiffe://example.org/web"]);
    let client = Client::trusting(&[&authority]).showing(&stranger).config();
    for required in [true, false] {
        let tls = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, required).load();
        let error = connect(&client, &tls.config(), "one.example").unwrap_err();
        assert!(matches!(error, Error::InvalidCertificate(_)), "{error}");
    }
}

#[test]
fn an_expired_client_is_refused() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let tls = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, false).load();
    let old = clients.issue_with(&["web"], &PKCS_RSA_SHA256, |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let client = Client::trusting(&[&authority]).showing(&old).config();
    let error = connect(&client, &tls.config(), "one.example").unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error}");
}

#[test]
fn a_revoked_client_is_refused_and_the_others_are_not() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let own = authority.issue(&["one.example"]);
    // A list that is out of date still revokes, and lets in whom it does not name.
    for until in [(2040, 1, 1), (2021, 1, 1)] {
        let tls = Stage::new(&[&own]).asking(&clients, true).revoking(&clients.revokes(&[7], until)).load();
        for version in [&TLS12, &TLS13] {
            let with = |serial| {
                let own = clients.client(serial, &["spiffe://example.org/web"]);
                let client = Client::trusting(&[&authority]).speaking(version).showing(&own).config();
                connect(&client, &tls.config(), "one.example")
            };
            assert!(with(8).is_ok());
            assert_eq!(with(7).unwrap_err(), Error::InvalidCertificate(CertificateError::Revoked));
        }
    }
}

#[test]
fn each_authority_of_a_clients_chain_needs_its_list() {
    let (authority, root) = (Authority::new("ca"), Authority::new("root"));
    let below = root.below("below");
    let own = authority.issue(&["one.example"]);
    let with = |serial, lists: &[String]| {
        let mut client = below.client(serial, &["spiffe://example.org/web"]);
        client.behind.push(below.inner.der().clone());
        let tls = Stage::new(&[&own]).asking(&root, true).revoking(&lists.concat()).load();
        connect(&Client::trusting(&[&authority]).showing(&client).config(), &tls.config(), "one.example")
    };
    let (of_root, of_below) = (root.revokes(&[], (2040, 1, 1)), below.revokes(&[7], (2040, 1, 1)));
    let unknown = Error::InvalidCertificate(CertificateError::UnknownRevocationStatus);
    assert_eq!(with(8, std::slice::from_ref(&of_root)).unwrap_err(), unknown);
    assert!(with(8, &[of_root.clone(), of_below.clone()]).is_ok());
    assert_eq!(with(7, &[of_root, of_below]).unwrap_err(), Error::InvalidCertificate(CertificateError::Revoked));
}

#[test]
fn the_client_is_told_by_an_alert() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let tls = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, true).load();
    let mut client = rustls::ClientConnection::new(
        Client::trusting(&[&authority]).speaking(&TLS12).config(),
        "one.example".try_into().unwrap(),
    )
    .unwrap();
    let mut server = rustls::ServerConnection::new(tls.config()).unwrap();
    let mut told = None;
    // Two flights each way, and one more for the alert.
    for _ in 0..3 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                break;
            }
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        told = told.or(client.process_new_packets().err());
    }
    assert_eq!(told, Some(Error::AlertReceived(AlertDescription::CertificateRequired)));
}
