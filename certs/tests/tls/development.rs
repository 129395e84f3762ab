use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use roadstead_certs::dev::{Made, make};
use roadstead_certs::{Error, Pair, Settings, Tls, client_config};
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::people::{Authority, connect};
use crate::stage::permit;

const DAY: Duration = Duration::from_hours(24);

/// A time at which what is made is valid while the tests run: rustls looks at the clock of the machine.
fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(rustls::pki_types::UnixTime::now().as_secs())
}

fn made(folder: &Path, names: &[&str], now: SystemTime) -> Result<Made, Error> {
    make(folder, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), now)
}

fn served(made: &Made) -> Tls {
    let pair = Pair { certificate: made.certificate.clone(), key: made.key.clone() };
    Tls::load(&Settings { certificates: vec![pair], ..Settings::default() }).unwrap()
}

fn trusting(made: &Made) -> Arc<ClientConfig> {
    Arc::new(client_config(std::slice::from_ref(&made.authority)).unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_client_that_trusts_the_authority_connects_by_each_of_the_names() {
    let folder = TempDir::new().unwrap();
    let names = ["registry.example.org", "*.apps.example.org", "localhost", "10.0.0.5", "::1", "[2001:db8::1]"];
    let made = made(&folder.path().join("new/folder"), &names, today()).unwrap();
    let tls = served(&made);
    for host in ["registry.example.org", "a.apps.example.org", "localhost", "10.0.0.5", "::1", "2001:db8::1"] {
        let connected = connect(&trusting(&made), &tls.config(), host).unwrap();
        assert_eq!(connected.client.peer_certificates().unwrap().len(), 2);
    }
    assert!(connect(&trusting(&made), &tls.config(), "other.example.org").is_err());
    assert!(connect(&Arc::new(client_config(&[]).unwrap()), &tls.config(), "localhost").is_err());
}

#[test]
fn keys_are_for_their_owner_alone_and_certificates_for_all() {
    let folder = TempDir::new().unwrap();
    let made = made(folder.path(), &["localhost"], today()).unwrap();
    assert_eq!((mode(&made.key), mode(&folder.path().join("ca.key"))), (0o600, 0o600));
    assert_eq!((mode(&made.certificate), mode(&made.authority)), (0o644, 0o644));
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["ca.key", "ca.pem", "server.key", "server.pem"]);
}

#[test]
fn an_authority_lives_ten_years_and_a_certificate_397_days() {
    let folder = TempDir::new().unwrap();
    let start = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let first = made(folder.path(), &["localhost"], start).unwrap();
    let facts = served(&first).certificates().remove(0);
    assert_eq!(facts.not_after.duration_since(facts.not_before).unwrap(), 397 * DAY);
    assert_eq!(facts.not_after, first.not_after);
    assert!(facts.not_before <= start && facts.issuer.starts_with("Roadstead development authority "));
    // Near the end of the authority no certificate outlives it; after it there is none.
    let late = made(folder.path(), &["localhost"], start + 3600 * DAY).unwrap();
    assert!(!late.is_new_authority && late.not_after < start + 3651 * DAY);
    let error = made(folder.path(), &["localhost"], start + 3651 * DAY).unwrap_err();
    assert!(error.to_string().contains("expired") && error.to_string().contains("remove"), "{error}");
}

#[test]
fn the_authority_of_the_folder_signs_again_so_that_clients_need_not_trust_anew() {
    let folder = TempDir::new().unwrap();
    let first = made(folder.path(), &["one.example"], today()).unwrap();
    let (trusted, tls) = (trusting(&first), served(&first));
    let second = made(folder.path(), &["two.example"], today()).unwrap();
    assert!(first.is_new_authority && !second.is_new_authority);
    assert_eq!(first.fingerprint, second.fingerprint);
    tls.reload().unwrap();
    connect(&trusted, &tls.config(), "two.example").unwrap();
    let elsewhere = TempDir::new().unwrap();
    let other = made(elsewhere.path(), &["two.example"], today()).unwrap();
    assert!(connect(&trusted, &served(&other).config(), "two.example").is_err());
}

#[test]
fn two_that_make_at_once_leave_what_belongs_together() {
    let folder = TempDir::new().unwrap();
    let all: Vec<Made> = thread::scope(|scope| {
        let one = || made(folder.path(), &["localhost"], today()).unwrap();
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(all.iter().filter(|made| made.is_new_authority).count(), 1);
    assert!(all.iter().all(|made| made.fingerprint == all[0].fingerprint));
    connect(&trusting(&all[0]), &served(&all[0]).config(), "localhost").unwrap();
}

#[test]
fn half_an_authority_or_that_of_another_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    made(folder.path(), &["localhost"], today()).unwrap();
    let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
    let (good, good_key) = (fs::read_to_string(&ca).unwrap(), fs::read_to_string(&key).unwrap());
    let refused = |word: &str| {
        let text = made(folder.path(), &["localhost"], today()).unwrap_err().to_string();
        assert!(text.contains(word), "{word} is not in: {text}");
    };
    fs::remove_file(&ca).unwrap();
    refused("ca.pem is missing beside it");
    assert_eq!(fs::read_to_string(&key).unwrap(), good_key);
    fs::write(&ca, &good).unwrap();
    fs::remove_file(&key).unwrap();
    refused("ca.key is missing beside it");
    fs::write(&key, &good_key).unwrap();
    permit(&key, 0o644);
    refused("chmod");
    permit(&key, 0o600);
    let stranger = Authority::new("stranger");
    fs::write(&ca, stranger.pem()).unwrap();
    refused("does not match");
    fs::write(&ca, stranger.issue(&["localhost"]).pem).unwrap();
    refused("no authority");
    fs::write(&ca, "").unwrap();
    refused("no certificate");
    fs::write(&ca, &good).unwrap();
    assert!(!made(folder.path(), &["localhost"], today()).unwrap().is_new_authority);
}

#[test]
fn what_is_no_host_is_refused_with_what_to_give() {
    let folder = TempDir::new().unwrap();
    for (name, word) in [
        ("https://registry.example.org", "without scheme"),
        ("registry.example.org/v2", "without scheme"),
        ("registry.example.org:5000", "all its ports"),
        ("two words", "letters"),
        ("a..b", "letters"),
        ("", "letters"),
        ("*.*.example.org", "letters"),
        ("bücher.example", "letters"),
    ] {
        let error = made(folder.path(), &["localhost", name], today()).unwrap_err();
        assert!(matches!(error, Error::Name { .. }) && error.to_string().contains(word), "{error}");
    }
    assert!(matches!(made(folder.path(), &[], today()), Err(Error::Name { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written before the names are known to be good");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = made(&file, &["localhost"], today()).unwrap_err();
    assert!(matches!(error, Error::Write { .. }) && error.to_string().contains("file"), "{error}");
}

#[test]
fn each_client_is_told_where_to_put_the_authority() {
    let folder = TempDir::new().unwrap();
    let made = made(&folder.path().join("with space"), &["registry.example.org"], today()).unwrap();
    let text = made.instructions("registry.example.org:5000");
    let ca = format!("'{}'", made.authority.display());
    for line in [
        format!("  sudo install -D -m 0644 {ca} /etc/containers/certs.d/registry.example.org:5000/ca.crt"),
        format!("  sudo install -D -m 0644 {ca} /etc/docker/certs.d/registry.example.org:5000/ca.crt"),
        "  and in /etc/containerd/certs.d/registry.example.org:5000/hosts.toml:".to_owned(),
        "    ca = \"/etc/containerd/certs.d/registry.example.org:5000/ca.crt\"".to_owned(),
        // Without it some versions of containerd take the file for broken, and leave it out.
        "    [host]".to_owned(),
        "  and in /etc/rancher/k3s/registries.yaml:".to_owned(),
        "  sudo update-ca-certificates".to_owned(),
        "  sudo update-ca-trust".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(text.contains(&made.fingerprint));
}
