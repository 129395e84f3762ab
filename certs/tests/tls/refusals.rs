use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, PKCS_RSA_SHA256};
use roadstead_certs::{Error, Settings, Tls};

use crate::people::{Authority, Client, connect};
use crate::stage::{Stage, permit};

/// A stage with one pair that `spoil` has changed, and the text of the refusal.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut Stage), words: &[&str]) -> Error {
    let authority = Authority::new("ca");
    let clients = Authority::new("clients");
    let stage = Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, false);
    let mut stage = stage.revoking(&clients.revokes(&[], (2040, 1, 1)));
    stage.load();
    spoil(&mut stage);
    let error = stage.refusal();
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(text.starts_with(char::is_lowercase) || text.starts_with('/'), "{text}");
    assert!(!text.ends_with('.'), "{text}");
    error
}

#[test]
fn settings_that_contradict_each_other_are_refused_before_a_file_is_read() {
    let refusal = |settings: Settings| Tls::load(&settings).unwrap_err().to_string();
    assert!(refusal(Settings::default()).contains("no certificate is configured"));
    let authority = Authority::new("ca");
    let stage = Stage::new(&[&authority.issue(&["one.example"])]);
    let with_list = Settings { client_crl: Some(PathBuf::from("/absent")), ..stage.settings.clone() };
    assert!(refusal(with_list).starts_with("client_crl is set without client_ca"));
    let required = Settings { require_client: true, ..stage.settings.clone() };
    assert!(refusal(required).starts_with("require_client is set without client_ca"));
}

#[test]
fn a_key_for_everyone_is_refused() {
    for mode in [0o644, 0o604, 0o602, 0o601, 0o666] {
        let error = refused(|stage| permit(&stage.path("0.key"), mode), &["0.key", "chmod o-rwx", "defaultMode"]);
        assert!(matches!(error, Error::Exposed { mode: found, .. } if found == mode), "{error}");
    }
    let authority = Authority::new("ca");
    let stage = Stage::new(&[&authority.issue(&["one.example"])]);
    for mode in [0o600, 0o400, 0o640, 0o440, 0o660] {
        permit(&stage.path("0.key"), mode);
        stage.load();
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    refused(|stage| stage.settings.certificates[0].certificate = stage.folder.path().to_owned(), &["not a regular file"]);
    refused(
        |stage| {
            fs::remove_file(stage.path("0.key")).unwrap();
            pipe(&stage.path("0.key"));
        },
        &["0.key", "not a regular file"],
    );
    refused(
        |stage| fs::OpenOptions::new().write(true).open(stage.path("clients.crl")).unwrap().set_len(65 << 20).unwrap(),
        &["clients.crl", "larger than 64 MiB"],
    );
}

fn pipe(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
}

#[test]
fn a_certificate_without_its_key_is_refused_with_both_named() {
    let other = Authority::new("ca").issue(&["one.example"]);
    let error = refused(|stage| drop(stage.write("0.key", &other.key)), &["0.key", "0.crt", "does not match"]);
    assert!(matches!(error, Error::Mismatch { .. }));
    refused(|stage| drop(stage.write("0.key", &other.pem)), &["0.key", "no private key", "exchanged"]);
    refused(|stage| drop(stage.write("0.crt", &other.key)), &["0.crt", "no certificate", "exchanged"]);
    refused(|stage| fs::remove_file(stage.path("0.key")).unwrap(), &["cannot read", "0.key", "exists"]);
}

#[test]
fn a_key_that_cannot_be_used_is_named_and_not_shown() {
    let weak = "-----BEGIN PRIVATE KEY-----\nAAECAwQF\n-----END PRIVATE KEY-----\n";
    let error = refused(|stage| drop(stage.write("0.key", weak)), &["0.key", "cannot be used"]);
    assert!(!format!("{error} {error:?}").contains("AAECAwQF"));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAECAwQF\n-----END ENCRYPTED PRIVATE KEY-----\n";
    refused(|stage| drop(stage.write("0.key", encrypted)), &["0.key", "not encrypted"]);
}

#[test]
fn a_chain_in_the_wrong_order_is_refused_with_the_right_one() {
    let root = Authority::new("root");
    let middle = root.below("middle");
    let issued = middle.issue(&["one.example"]);
    let write = |order: &[String]| Stage::new(&[&issued]).with(&order.concat());
    let (own, middle, root) = (issued.pem.clone(), middle.pem(), root.pem());
    for wrong in [
        [middle.clone(), own.clone(), root.clone()],
        [root.clone(), middle.clone(), own.clone()],
        [own.clone(), root.clone(), middle.clone()],
    ] {
        let error = write(&wrong).refusal();
        assert!(matches!(error, Error::Order { .. }), "{error}");
        assert!(error.to_string().ends_with("write one.example, then middle, then root"), "{error}");
    }
    for right in [vec![own.clone(), middle.clone(), root.clone()], vec![own.clone(), middle], vec![own.clone()], vec![own, root]]
    {
        write(&right).load();
    }
}

#[test]
fn a_certificate_with_no_issuer_beside_it_and_one_too_many_are_served() {
    let (root, stranger) = (Authority::new("root"), Authority::new("stranger"));
    let middle = root.below("middle");
    let issued = middle.issue(&["one.example"]);
    let (own, root_pem, middle, stranger) = (issued.pem.clone(), root.pem(), middle.pem(), stranger.pem());
    for chain in [vec![&own, &stranger, &middle], vec![&own, &root_pem, &middle, &root_pem]] {
        let tls = Stage::new(&[&issued]).with(&chain.into_iter().map(String::as_str).collect::<String>()).load();
        connect(&Client::trusting(&[&root]).config(), &tls.config(), "one.example").unwrap();
    }
    Stage::new(&[&issued]).with(&own).load();
}

#[test]
fn an_authority_that_was_signed_by_two_is_in_order_either_way() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let middle = new.below("middle");
    let issued = middle.issue(&["one.example"]);
    // The same authority once more, under the old root.
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "middle");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let crossed = params.signed_by(middle.inner.key(), &old.inner).unwrap().pem();
    for order in [
        [&issued.pem, &middle.pem(), &crossed, &old.pem()],
        [&issued.pem, &crossed, &middle.pem(), &old.pem()],
        [&issued.pem, &crossed, &old.pem(), &middle.pem()],
    ] {
        Stage::new(&[&issued]).with(&order.map(String::as_str).concat()).load();
    }
}

#[test]
fn authorities_of_clients_must_be_usable() {
    refused(|stage| drop(stage.write("clients.pem", "nothing")), &["clients.pem", "no certificate"]);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    refused(|stage| drop(stage.write("clients.pem", broken)), &["clients.pem", "cannot be used"]);
}

#[test]
fn revocation_lists_must_be_those_of_the_authorities() {
    refused(|stage| drop(stage.write("clients.crl", "nothing")), &["clients.crl", "no revocation list", "X509 CRL"]);
    let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    refused(|stage| drop(stage.write("clients.crl", broken)), &["clients.crl", "cannot be used"]);
    let others = Authority::new("others").revokes(&[], (2040, 1, 1));
    let error = refused(|stage| drop(stage.write("clients.crl", &others)), &["clients.crl", "no revocation list of clients"]);
    assert!(matches!(error, Error::Unlisted { .. }));
    let forged = Authority::new("clients").revokes(&[], (2040, 1, 1));
    let error = refused(|stage| drop(stage.write("clients.crl", &forged)), &["clients.crl", "not signed by that authority"]);
    assert!(matches!(error, Error::Forged { .. }));
}

#[test]
fn an_authority_with_a_new_key_has_lists_of_both() {
    let (old, new) = (Authority::new("clients"), Authority::new("clients"));
    let stage = Stage::new(&[&Authority::new("ca").issue(&["one.example"])]).asking(&old, false);
    stage.write("clients.pem", &(old.pem() + &new.pem()));
    stage.revoking(&(new.revokes(&[], (2040, 1, 1)) + &old.revokes(&[], (2040, 1, 1)))).load();
}

#[test]
fn one_file_may_hold_both_certificate_and_key() {
    let issued = Authority::new("ca").issue_with(&["one.example"], &PKCS_RSA_SHA256, |_| {});
    let mut stage = Stage::new(&[&issued]);
    let both = stage.write("both.pem", &format!("{}{}", issued.key, issued.pem));
    stage.settings.certificates[0].certificate = both.clone();
    stage.settings.certificates[0].key = both;
    stage.load();
}
