//! Certificates that were made to be misread.

use std::sync::LazyLock;

use proptest::prelude::*;
use rcgen::{CustomExtension, DnType, DnValue, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SanType};
use roadstead_certs::{CertificateDer, ClientIdentity, identity};

use crate::people::{Authority, Issued};
use crate::stage::Stage;

/// A client whose certificate says all this.
fn client(common: &[&str], names: Vec<SanType>) -> Issued {
    Authority::new("clients").issue_with(&[], &PKCS_ECDSA_P256_SHA256, |params| {
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (index, name) in common.iter().enumerate() {
            // The same type under another spelling: rcgen keeps only one of a kind.
            let kind = if index == 0 { DnType::CommonName } else { DnType::CustomDnType(vec![2, 5, 4, 3]) };
            params.distinguished_name.push(kind, DnValue::Utf8String((*name).to_owned()));
        }
    })
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn who(issued: &Issued) -> ClientIdentity {
    identity(std::slice::from_ref(&issued.der)).unwrap()
}

#[test]
fn names_are_told_in_one_order_and_once() {
    let linkerd = "web.prod.serviceaccount.identity.linkerd.cluster.local";
    let names =
        vec![uri("spiffe://b/x"), dns("Z.example"), dns(linkerd), uri("spiffe://a/x"), dns("z.EXAMPLE."), uri("spiffe://b/x")];
    let found = who(&client(&["Web, of production"], names));
    assert_eq!(found.uris, ["spiffe://a/x", "spiffe://b/x"]);
    assert_eq!(found.dns, [linkerd, "z.example"]);
    assert_eq!(found.common_name.as_deref(), Some("Web, of production"));
}

#[test]
fn text_that_is_not_what_it_looks_like_is_left_out() {
    let names = vec![
        uri("spiffe://example.org/web\nadmin"),
        uri("spiffe://example.org/\u{0}admin"),
        uri("spiffe://example.org/a b"),
        uri("no scheme"),
        uri("://"),
        uri("1a:x"),
        uri("spiffe:"),
        dns("admin\u{0}.example.org"),
        dns("admin\r\n.example.org"),
        dns("a b"),
        dns(""),
        dns("."),
        uri(&format!("spiffe://example.org/{}", "a".repeat(3000))),
    ];
    let found = who(&client(&["adm\u{202e}in"], names));
    assert!(found.uris.is_empty() && found.dns.is_empty(), "{found:?}");
    assert_eq!(found.common_name, None);
    for hidden in ["", "a\nb", "a\u{0}", "a\u{200b}b", "\u{feff}a", "a\u{7f}", "a\u{ad}b"] {
        assert_eq!(who(&client(&[hidden], vec![])).common_name, None, "{hidden:?}");
    }
    assert_eq!(who(&client(&["Ünïcode 世界"], vec![])).common_name.as_deref(), Some("Ünïcode 世界"));
}

#[test]
fn of_two_common_names_none_is_meant() {
    assert_eq!(who(&client(&["web", "admin"], vec![])).common_name, None);
    assert_eq!(who(&client(&["web"], vec![])).common_name.as_deref(), Some("web"));
}

#[test]
fn who_cannot_be_understood_is_nobody() {
    assert_eq!(identity(&[]), None);
    let good = client(&["web"], vec![uri("spiffe://a/x")]);
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.der.to_vec();
        change(&mut bytes);
        identity(&[CertificateDer::from(bytes)])
    };
    assert!(with(|_| {}).is_some());
    assert_eq!(with(Vec::clear), None);
    assert_eq!(with(|bytes| bytes.push(0)), None, "something follows the certificate");
    assert_eq!(with(|bytes| bytes.truncate(bytes.len() - 1)), None);
    // Names that are no names, and names that are there twice.
    for count in [1, 2] {
        let odd = Authority::new("clients").issue_with(&[], &PKCS_ECDSA_P256_SHA256, |params| {
            let content = if count == 1 { vec![4, 1, 0] } else { vec![0x30, 6, 0x86, 4, b'a', b':', b'b', b'c'] };
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], content); count];
        });
        assert_eq!(identity(&[odd.der]), None, "{count}");
    }
}

#[test]
fn only_the_first_of_the_chain_is_the_client() {
    let (one, two) = (client(&["one"], vec![]), client(&["two"], vec![]));
    assert_eq!(identity(&[one.der.clone(), two.der]).unwrap(), who(&one));
}

#[test]
fn a_certificate_says_when_it_is_valid() {
    let issued = Authority::new("clients").issue_with(&["web"], &PKCS_ECDSA_P256_SHA256, |params| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2030, 1, 1), rcgen::date_time_ymd(2031, 1, 1));
    });
    let found = who(&issued);
    let second = std::time::Duration::from_secs(1);
    assert!(found.is_valid_at(found.not_before) && found.is_valid_at(found.not_after));
    assert!(!found.is_valid_at(found.not_before - second) && !found.is_valid_at(found.not_after + second));
}

/// Real certificates of several kinds, to be spoiled.
static REAL: LazyLock<Vec<Issued>> = LazyLock::new(|| {
    let authority = Authority::new("clients");
    vec![
        client(
            &["web"],
            vec![uri("spiffe://example.org/ns/prod/sa/web"), dns("web.example"), SanType::IpAddress([10, 0, 0, 1].into())],
        ),
        client(&["Ünïcode", "twice"], vec![SanType::Rfc822Name("a@example.org".try_into().unwrap())]),
        authority.issue_with(&["one.example", "*.one.example"], &PKCS_RSA_SHA256, |_| {}),
        authority.client(u64::MAX, &["spiffe://a/b"]),
    ]
});

/// What is done to a certificate: at a place (of 0..=65535, scaled to its length) a byte is set, removed or put in, or the rest cut.
#[derive(Debug, Clone)]
enum Change {
    Set(u16, u8),
    Remove(u16),
    Insert(u16, u8),
    Cut(u16),
    Double(u16, u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<u16>().prop_map(Change::Remove),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        1 => any::<u16>().prop_map(Change::Cut),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Double(at, length)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        let place = |at: u16| usize::from(at) * bytes.len() / 65536;
        match *change {
            _ if bytes.is_empty() => {}
            Change::Set(at, byte) => {
                let at = place(at);
                bytes[at] = byte;
            }
            Change::Remove(at) => drop(bytes.remove(place(at))),
            Change::Insert(at, byte) => bytes.insert(place(at), byte),
            Change::Cut(at) => bytes.truncate(place(at)),
            Change::Double(at, length) => {
                let at = place(at);
                let piece = bytes[at..bytes.len().min(at + usize::from(length))].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    (0..REAL.len(), proptest::collection::vec(change(), 1..6)).prop_map(|(which, changes)| {
        let mut bytes = REAL[which].der.to_vec();
        spoil(&mut bytes, &changes);
        bytes
    })
}

/// Never panics, is the same each time, and what it says can be shown and compared.
fn holds(bytes: &[u8]) {
    let chain = [CertificateDer::from(bytes)];
    let found = identity(&chain);
    assert_eq!(found, identity(&chain));
    let Some(found) = found else { return };
    for text in found.uris.iter().chain(&found.dns).chain(&found.common_name) {
        assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
    }
    assert!(found.uris.is_sorted() && found.dns.is_sorted());
    assert!(found.uris.iter().chain(&found.dns).all(|name| name.is_ascii()));
    assert!(found.dns.iter().all(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase())));
    assert!(found.serial.bytes().chain(found.fingerprint.bytes()).all(|byte| byte.is_ascii_hexdigit()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spoiled_certificate_is_nobody_or_somebody_who_can_be_shown(bytes in spoiled()) {
        holds(&bytes);
    }

    #[test]
    fn bytes_that_are_no_certificate_are_nobody(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(identity(&[CertificateDer::from(bytes.as_slice())]), None);
    }
}

/// As `BEGIN CERTIFICATE` wants it.
fn pem(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let word = chunk.iter().chain([&0, &0]).take(3).fold(0, |word: usize, byte| word << 8 | usize::from(*byte));
        let letter = move |index: usize| if index <= chunk.len() { LETTERS[word >> (18 - 6 * index) & 63] } else { b'=' };
        (0..4).map(letter).map(char::from)
    });
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", letters.collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spoiled_file_is_refused_or_served_and_never_the_end(
        which in 0..REAL.len(), changes in proptest::collection::vec(change(), 0..4), role in 0..2,
    ) {
        let issued = &REAL[which];
        let mut bytes = issued.der.to_vec();
        spoil(&mut bytes, &changes);
        let stage = Stage::new(&[issued]);
        let stage = if role == 0 { stage.with(&pem(&bytes)) } else { stage.asking(&Authority::new("clients"), false) };
        if role == 1 {
            stage.write("clients.pem", &pem(&bytes));
        }
        match roadstead_certs::Tls::load(&stage.settings) {
            Ok(tls) => prop_assert_eq!(tls.certificates().len(), 1),
            Err(error) => prop_assert!(error.to_string().contains(&*stage.folder.path().to_string_lossy())),
        }
        prop_assert!(!changes.is_empty() || roadstead_certs::Tls::load(&stage.settings).is_ok());
    }
}
