use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use roadstead_certs::{Error, Pair, Reloaded};

use crate::people::{Authority, Client, connect};
use crate::stage::{Stage, permit};

#[test]
fn a_new_connection_sees_a_new_certificate_at_once_and_an_old_one_goes_on() {
    let authority = Authority::new("ca");
    let (old, new) = (authority.issue(&["one.example"]), authority.issue(&["one.example", "two.example"]));
    let stage = Stage::new(&[&old]);
    let tls = stage.load();
    let client = Client::trusting(&[&authority]).config();
    let begun = tls.config();
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    stage.replace(0, &new);
    assert_eq!(tls.reload().unwrap(), Reloaded::Changed { certificates: vec![stage.path("0.crt")], clients: false });
    assert_eq!(connect(&client, &tls.config(), "two.example").unwrap().shown(), new.der);
    assert_eq!(connect(&Client::trusting(&[&authority]).config(), &begun, "one.example").unwrap().shown(), old.der);
    assert_eq!(tls.certificates()[0].names, ["one.example", "two.example"]);
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
}

#[test]
fn only_what_is_different_is_said_to_be() {
    let authority = Authority::new("ca");
    let stage = Stage::new(&[&authority.issue(&["one.example"]), &authority.issue(&["two.example"])]);
    let tls = stage.load();
    // The same content under a new file, as a mounted secret that is written anew.
    let text = std::fs::read_to_string(stage.path("0.crt")).unwrap();
    stage.write("0.crt", &text);
    assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    stage.replace(1, &authority.issue(&["two.example"]));
    assert_eq!(tls.reload().unwrap(), Reloaded::Changed { certificates: vec![stage.path("1.crt")], clients: false });
}

#[test]
fn a_folder_that_is_exchanged_behind_a_link_is_seen() {
    let authority = Authority::new("ca");
    let (old, new) = (authority.issue(&["one.example"]), authority.issue(&["two.example"]));
    let (mut stage, next) = (Stage::new(&[&old]), Stage::new(&[&new]));
    // As Kubernetes mounts a secret: the files are links into a folder that is itself a link.
    let links = tempfile::tempdir().unwrap();
    let data = links.path().join("data");
    symlink(stage.folder.path(), &data).unwrap();
    for (name, file) in [("tls.crt", "data/0.crt"), ("tls.key", "data/0.key")] {
        symlink(file, links.path().join(name)).unwrap();
    }
    let pair = Pair { certificate: links.path().join("tls.crt"), key: links.path().join("tls.key") };
    stage.settings.certificates = vec![pair.clone()];
    let tls = stage.load();
    symlink(next.folder.path(), links.path().join("staged")).unwrap();
    std::fs::rename(links.path().join("staged"), &data).unwrap();
    assert_eq!(tls.reload().unwrap(), Reloaded::Changed { certificates: vec![pair.certificate], clients: false });
    assert_eq!(tls.certificates()[0].names, ["two.example"]);
}

#[test]
fn a_pair_that_is_replaced_one_file_after_the_other_is_survived() {
    let authority = Authority::new("ca");
    let (old, new) = (authority.issue(&["one.example"]), authority.issue(&["one.example"]));
    let stage = Stage::new(&[&old]);
    let tls = stage.load();
    let shown = || connect(&Client::trusting(&[&authority]).config(), &tls.config(), "one.example").unwrap().shown();
    stage.write("0.crt", &new.pem);
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert_eq!(shown(), old.der);
    stage.write("0.key", &new.key);
    assert!(matches!(tls.reload().unwrap(), Reloaded::Changed { .. }));
    assert_eq!(shown(), new.der);
}

#[test]
fn whatever_is_wrong_the_old_stays() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let stage =
        Stage::new(&[&authority.issue(&["one.example"])]).asking(&clients, false).revoking(&clients.revokes(&[], (2040, 1, 1)));
    let tls = stage.load();
    for name in ["0.crt", "0.key", "clients.pem", "clients.crl"] {
        let good = std::fs::read_to_string(stage.path(name)).unwrap();
        for bad in ["", "nonsense", &good[..good.len() / 2]] {
            stage.write(name, bad);
            let text = tls.reload().unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
        }
        std::fs::remove_file(stage.path(name)).unwrap();
        assert!(matches!(tls.reload(), Err(Error::Read { .. })));
        connect(&Client::trusting(&[&authority]).config(), &tls.config(), "one.example").unwrap();
        stage.write(name, &good);
        assert_eq!(tls.reload().unwrap(), Reloaded::Unchanged);
    }
    permit(&stage.path("0.key"), 0o644);
    assert!(matches!(tls.reload(), Err(Error::Exposed { .. })));
}

#[test]
fn a_thousand_swaps_under_eight_clients_break_no_handshake() {
    const SWAPS: usize = 1000;
    let authority = Authority::new("ca");
    let pairs = [authority.issue(&["one.example"]), authority.issue(&["one.example"])];
    let stage = Stage::new(&[&pairs[0]]);
    let tls = stage.load();
    let over = AtomicBool::new(false);
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // A configuration of its own, so that each handshake is a full one.
                    let client = Client::trusting(&[&authority]).config();
                    let shown = connect(&client, &tls.config(), "one.example").unwrap().shown();
                    let which = pairs.iter().position(|pair| pair.der == shown).unwrap();
                    seen[which].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let end = Ending(&over);
        for swap in 1..=SWAPS {
            let now = &pairs[swap % 2];
            stage.replace(0, now);
            assert!(matches!(tls.reload().unwrap(), Reloaded::Changed { .. }));
            if swap % 50 == 0 {
                let client = Client::trusting(&[&authority]).config();
                assert_eq!(connect(&client, &tls.config(), "one.example").unwrap().shown(), now.der);
            }
        }
        drop(end);
    });
    let [first, second] = seen.map(AtomicUsize::into_inner);
    assert!(first > 8 && second > 8, "{first} and {second} handshakes: the swaps were not under load");
}

/// Ends the clients also when a swap panics.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
