//! What is offered is found out by asking for one thing at a time.

use std::sync::Arc;

use rcgen::PKCS_RSA_SHA256;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};

use crate::people::{Authority, Client, connect};
use crate::stage::Stage;

const X25519: u16 = 0x001d;
const P256: u16 = 0x0017;
const ECDSA_SHA256: u16 = 0x0403;
const RSA_PSS_SHA256: u16 = 0x0804;

/// What a client says first.
#[derive(Clone)]
struct Hello {
    legacy_version: u16,
    /// The extension of TLS 1.3.
    versions: Vec<u16>,
    suites: Vec<u16>,
    groups: Vec<u16>,
    schemes: Vec<u16>,
}

impl Hello {
    fn of_12(suites: &[u16]) -> Self {
        let (groups, schemes) = (vec![X25519, P256], vec![ECDSA_SHA256, RSA_PSS_SHA256, 0x0401]);
        Self { legacy_version: 0x0303, versions: vec![], suites: suites.to_vec(), groups, schemes }
    }

    fn of_13(suites: &[u16]) -> Self {
        Self { versions: vec![0x0304], ..Self::of_12(suites) }
    }

    /// As bytes: RFC 8446, section 4.1.2.
    fn record(&self) -> Vec<u8> {
        let list = |values: &[u16]| sized(2, &values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>());
        let extension = |kind: u16, body: &[u8]| [kind.to_be_bytes().to_vec(), sized(2, body)].concat();
        let mut extensions =
            [extension(10, &list(&self.groups)), extension(11, &[1, 0]), extension(13, &list(&self.schemes))].concat();
        if !self.versions.is_empty() {
            let versions: Vec<u8> = self.versions.iter().flat_map(|version| version.to_be_bytes()).collect();
            extensions.extend(extension(43, &sized(1, &versions)));
            extensions.extend(extension(51, &sized(2, &[X25519.to_be_bytes().to_vec(), sized(2, &[9; 32])].concat())));
        }
        let body = [
            self.legacy_version.to_be_bytes().to_vec(),
            vec![7; 32],
            sized(1, &[]),
            list(&self.suites),
            vec![1, 0],
            sized(2, &extensions),
        ]
        .concat();
        let message = [vec![1], sized(3, &body)].concat();
        [vec![22, 3, 1], sized(2, &message)].concat()
    }

    fn is_accepted(&self, server: &Arc<ServerConfig>) -> bool {
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        server.read_tls(&mut self.record().as_slice()).unwrap();
        server.process_new_packets().is_ok()
    }
}

fn sized(width: usize, body: &[u8]) -> Vec<u8> {
    [body.len().to_be_bytes()[size_of::<usize>() - width..].to_vec(), body.to_vec()].concat()
}

/// With both kinds of key, so that no suite is missing for want of one.
fn server() -> Arc<ServerConfig> {
    let authority = Authority::new("ca");
    let rsa = authority.issue_with(&["one.example"], &PKCS_RSA_SHA256, |_| {});
    Stage::new(&[&authority.issue(&["one.example"]), &rsa]).load().config()
}

#[test]
fn of_all_suites_only_those_with_authentication_and_keys_of_the_session_are_accepted() {
    let server = server();
    // Every value but those that are reserved for GREASE and private use is in these rows of the registry.
    let rows = [0x00, 0x13, 0x56, 0xc0, 0xc1, 0xcc, 0xcd, 0xd0, 0xd3];
    let all = rows.iter().flat_map(|row: &u16| (0..=0xff).map(move |column| row << 8 | column));
    let (mut of_12, mut of_13) = (vec![], vec![]);
    for suite in all {
        if Hello::of_12(&[suite]).is_accepted(&server) {
            of_12.push(suite);
        }
        if Hello::of_13(&[suite]).is_accepted(&server) {
            of_13.push(suite);
        }
    }
    // ECDHE with ECDSA, then with RSA: AES-128-GCM and AES-256-GCM; ChaCha20-Poly1305 with RSA, then with ECDSA.
    assert_eq!(of_12, [0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9]);
    assert_eq!(of_13, [0x1301, 0x1302, 0x1303]);
}

#[test]
fn versions_before_1_2_are_refused() {
    let server = server();
    let modern = Hello::of_12(&[0xc02b, 0xc02f, 0xc009, 0x002f]);
    assert!(modern.is_accepted(&server));
    for old in [0x0300, 0x0301, 0x0302] {
        assert!(!Hello { legacy_version: old, ..modern.clone() }.is_accepted(&server), "{old:#x}");
        assert!(!Hello { versions: vec![old], ..modern.clone() }.is_accepted(&server), "{old:#x}");
    }
}

#[test]
fn weak_groups_and_hashes_are_refused() {
    let server = server();
    let modern = Hello::of_12(&[0xc02b, 0xc02f]);
    // Of 2048 bits, and the curves that nobody uses any more: sect163k1, secp192r1, secp224r1.
    for group in [0x0100, 0x0001, 0x0013, 0x0015] {
        assert!(!Hello { groups: vec![group], ..modern.clone() }.is_accepted(&server), "{group:#x}");
    }
    // SHA-1 with RSA, DSA and ECDSA; MD5.
    for scheme in [0x0201, 0x0202, 0x0203, 0x0101] {
        assert!(!Hello { schemes: vec![scheme], ..modern.clone() }.is_accepted(&server), "{scheme:#x}");
    }
}

#[test]
fn both_versions_are_spoken_and_the_newer_one_is_chosen() {
    let authority = Authority::new("ca");
    let tls = Stage::new(&[&authority.issue(&["one.example"])]).load();
    let version = |client: Client| connect(&client.config(), &tls.config(), "one.example").unwrap().server.protocol_version();
    let client = || Client::trusting(&[&authority]);
    assert_eq!(version(client().speaking(&TLS12)), Some(rustls::ProtocolVersion::TLSv1_2));
    assert_eq!(version(client().speaking(&TLS13)), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(version(client()), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[test]
fn keys_are_agreed_on_in_a_way_that_outlasts_quantum_computers_where_the_client_can() {
    let authority = Authority::new("ca");
    let tls = Stage::new(&[&authority.issue(&["one.example"])]).load();
    let connected = connect(&Client::trusting(&[&authority]).config(), &tls.config(), "one.example").unwrap();
    assert_eq!(connected.server.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
}
