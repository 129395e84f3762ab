use rcgen::PKCS_RSA_SHA256;
use rustls::SignatureScheme::{ECDSA_NISTP256_SHA256, RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use rustls::version::{TLS12, TLS13};

use crate::people::{Authority, Client, connect};
use crate::stage::Stage;

const ANY: &[rustls::SignatureScheme] = &[ECDSA_NISTP256_SHA256, RSA_PSS_SHA256, RSA_PKCS1_SHA256];

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::new("ca");
    let (one, two) = (authority.issue(&["one.example", "Also.One.Example"]), authority.issue(&["two.example"]));
    let wild = authority.issue(&["*.wild.example"]);
    let exact = authority.issue(&["exact.wild.example"]);
    let tls = Stage::new(&[&one, &two, &wild, &exact]).load();
    let client = Client::trusting(&[&authority]).config();
    for (host, expected) in [
        ("one.example", &one),
        ("also.one.example", &one),
        ("TWO.example", &two),
        ("a.wild.example", &wild),
        ("exact.wild.example", &exact),
    ] {
        let connected = connect(&client, &tls.config(), host).unwrap();
        assert_eq!(connected.shown(), expected.der, "{host}");
        assert_eq!(connected.server.alpn_protocol(), Some(b"h2".as_slice()));
    }
}

#[test]
fn who_names_no_host_or_an_unknown_one_is_shown_the_first() {
    let authority = Authority::new("ca");
    let (one, two) = (authority.issue(&["one.example"]), authority.issue(&["*.two.example", "10.0.0.1"]));
    let tls = Stage::new(&[&one, &two]).load();
    let client = Client::checking(ANY).config();
    // A wildcard stands for one label, neither for none nor for two.
    for host in ["unknown.example", "two.example", "a.b.two.example", "10.0.0.1"] {
        assert_eq!(connect(&client, &tls.config(), host).unwrap().shown(), one.der, "{host}");
    }
    let silent = Client::checking(ANY).naming_no_host().config();
    assert_eq!(connect(&silent, &tls.config(), "a.two.example").unwrap().shown(), one.der);
    assert_eq!(connect(&client, &tls.config(), "a.two.example").unwrap().shown(), two.der);
}

#[test]
fn of_two_kinds_of_key_for_one_name_the_client_is_shown_the_one_that_it_can_check() {
    let authority = Authority::new("ca");
    let rsa = authority.issue_with(&["one.example"], &PKCS_RSA_SHA256, |_| {});
    let curve = authority.issue(&["one.example"]);
    let tls = Stage::new(&[&rsa, &curve]).load();
    for version in [&TLS12, &TLS13] {
        let shown = |schemes, host| {
            let client = Client::checking(schemes).speaking(version).config();
            connect(&client, &tls.config(), host).unwrap().shown()
        };
        assert_eq!(shown(&[RSA_PSS_SHA256, RSA_PKCS1_SHA256], "one.example"), rsa.der);
        assert_eq!(shown(&[ECDSA_NISTP256_SHA256], "one.example"), curve.der);
        // Cheaper for this server, whatever the order of the files.
        assert_eq!(shown(ANY, "one.example"), curve.der);
        assert_eq!(shown(&[ECDSA_NISTP256_SHA256], "unknown.example"), curve.der);
    }
    let old = Client::checking(&[rustls::SignatureScheme::ED25519]).config();
    assert!(connect(&old, &tls.config(), "one.example").is_err());
}
