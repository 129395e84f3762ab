//! Rules, accounts and certificates are read again while the server runs. The real program, since it is told by a signal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use telemetry::{Clock, SystemClock};

use crate::binary::Binary;
use crate::harness::account;

fn settings(folder: &Path, more: &str) {
    let text = format!(
        "upstream = []\n[server]\nlisten = \"127.0.0.1:0\"\n{more}[log]\nformat = \"json\"\n[storage]\nurl = \"memory:\"\n\
         [audit]\nfile = \"{}\"\n[auth]\nhtpasswd_file = \"{}\"\n",
        folder.join("audit").display(),
        folder.join("htpasswd").display()
    );
    fs::write(folder.join("roadstead.toml"), text).unwrap();
}

fn rules(folder: &Path, more: &str, rules: &str) {
    settings(folder, more);
    let file = folder.join("roadstead.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + rules).unwrap();
}

const ALICE: &str = "[[access]]\nwho = [\"user:alice\"]\nmay = [\"pull\"]\nrepositories = [\"**\"]\n";
const BOB: &str = "[[access]]\nwho = [\"user:bob\"]\nmay = [\"pull\"]\nrepositories = [\"**\"]\n";

fn start(folder: &Path) -> Binary {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.args(["serve", "--config"]).arg(folder.join("roadstead.toml")).current_dir(folder);
    Binary::start(&mut command)
}

fn hang_up(server: &Binary) {
    let pid = Pid::from_raw(i32::try_from(server.process.id()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

fn client() -> reqwest::blocking::Client {
    let builder = reqwest::blocking::Client::builder().tls_backend_preconfigured(certs::client_config(&[]).unwrap());
    builder.no_proxy().build().unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..300 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not within 30 s: {what}");
}

#[test]
fn rules_and_accounts_are_taken_as_a_whole_and_broken_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("htpasswd"), account("alice", "a") + &account("bob", "b")).unwrap();
    rules(folder, "", ALICE);
    let server = start(folder);
    let client = client();
    let status = |name: &str, password: &str| {
        let url = format!("{}/v2/x/tags/list", server.url);
        client.get(url).basic_auth(name, Some(password)).send().unwrap().text().unwrap()
    };
    // Whoever may pull learns that there is no such repository by that it is not there; whoever may not, the same.
    let catalog = |name: &str, password: &str| {
        client.get(format!("{}/v2/_catalog", server.url)).basic_auth(name, Some(password)).send().unwrap().status().as_u16()
    };
    let pushes = |name: &str, password: &str| {
        let url = format!("{}/v2/x/blobs/uploads/", server.url);
        client.post(url).basic_auth(name, Some(password)).send().unwrap().status().as_u16()
    };
    assert_eq!((pushes("alice", "a"), pushes("bob", "b"), catalog("alice", "a")), (403, 404, 200));
    assert!(status("alice", "a").contains("NAME_UNKNOWN"));

    rules(folder, "", BOB);
    hang_up(&server);
    until("the other rules hold", || pushes("bob", "b") == 403);
    assert_eq!(pushes("alice", "a"), 404);

    // A rule with a fault changes nothing, not even those that are well.
    rules(folder, "", &format!("{ALICE}[[access]]\nwho = [\"nobody\"]\nmay = [\"fly\"]\n"));
    fs::write(folder.join("htpasswd"), account("bob", "other")).unwrap();
    hang_up(&server);
    let audit = || fs::read_to_string(folder.join("audit")).unwrap();
    until("it is told that they are broken", || audit().contains(r#""event":"reload","outcome":"failed""#));
    assert_eq!((pushes("bob", "b"), pushes("alice", "a")), (403, 404));

    // A new password ends the old one at once, though that was looked at a moment ago.
    rules(folder, "", BOB);
    hang_up(&server);
    until("the new password is taken", || pushes("bob", "other") == 403);
    assert_eq!((pushes("bob", "b"), pushes("alice", "a")), (401, 401));

    // Without any rule nobody may do anything: it does not become an open server.
    rules(folder, "", "");
    settings(folder, "");
    let text = fs::read_to_string(folder.join("roadstead.toml")).unwrap();
    fs::write(folder.join("roadstead.toml"), text.split("[auth]").next().unwrap()).unwrap();
    hang_up(&server);
    until("nobody is known", || pushes("bob", "other") == 401);
}

/// The keys of tokens lie in the folder, and what not everybody may pull.
#[test]
fn what_is_stored_is_nobody_elses_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("htpasswd"), account("alice", "a")).unwrap();
    rules(folder, "", &ALICE.replace("pull", "push"));
    let file = folder.join("roadstead.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("memory:", "file:data")).unwrap();
    let server = start(folder);
    let blob = crate::harness::sha256(b"x");
    let pushed = client().post(format!("{}/v2/x/blobs/uploads/?digest={blob}", server.url)).basic_auth("alice", Some("a"));
    assert_eq!(pushed.body("x").send().unwrap().status(), 201);
    let (mut left, mut seen) = (vec![folder.join("data")], 0);
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o007, 0, "{}", path.display());
        if found.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen += usize::from(path.ends_with("auth/keys"));
    }
    assert_eq!(seen, 1);
}

#[test]
fn a_certificate_that_ends_soon_is_told_of_before_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sign = |days: u64| {
        let then = SystemClock::default().now() - Duration::from_hours(24 * days);
        certs::dev::make(&folder.join("tls"), &["localhost".to_owned(), "127.0.0.1".to_owned()], then).unwrap()
    };
    // It is valid for 397 days.
    let made = sign(390);
    fs::write(folder.join("htpasswd"), account("root", "r")).unwrap();
    let admin = "[[access]]\nwho = [\"user:root\"]\nmay = [\"admin\"]\n";
    rules(folder, &tls(&made), admin);
    let server = start(folder);
    let url = server.url.replace("http://", "https://");
    let config = certs::client_config(std::slice::from_ref(&made.authority)).unwrap();
    let client = reqwest::blocking::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
    let ready = || {
        let answer = client.get(format!("{url}/readyz")).send().unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().unwrap()
    };
    until("it is told", || ready().contains("warning: the certificate "));
    assert!(ready().contains("server.pem expires at "), "{}", ready());
    let metrics = || client.get(format!("{url}/metrics")).basic_auth("root", Some("r")).send().unwrap().text().unwrap();
    assert!(metrics().contains("roadstead_certificate_expiry_timestamp_seconds{certificate="));
    sign(0);
    hang_up(&server);
    until("the new one is well", || ready() == "ok\n");
}

fn tls(made: &certs::dev::Made) -> String {
    format!("[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", made.certificate.display(), made.key.display())
}

/// New certificates while 64 connections work: none of their requests fails.
#[test]
fn certificates_are_swapped_under_load() {
    let swaps: u64 = std::env::var("ROADSTEAD_SWAPS").ok().and_then(|count| count.parse().ok()).unwrap_or(30);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sign = |number: u64| {
        let now = SystemClock::default().now() + Duration::from_secs(number);
        certs::dev::make(&folder.join("tls"), &["localhost".to_owned(), "127.0.0.1".to_owned()], now).unwrap()
    };
    let made = sign(0);
    fs::write(folder.join("htpasswd"), account("alice", "a")).unwrap();
    rules(folder, &tls(&made), ALICE);
    let server = start(folder);
    let url = server.url.replace("http://", "https://");
    let (stop, failed, answered) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let serial = || certificate(folder, &url);
    let first = serial();
    let mut seen = std::collections::BTreeSet::from([first]);
    std::thread::scope(|scope| {
        for number in 0..64 {
            let (url, stop, failed, answered, ca) = (&url, &stop, &failed, &answered, &made.authority);
            scope.spawn(move || {
                let config = certs::client_config(std::slice::from_ref(ca)).unwrap();
                let client = || {
                    let builder = reqwest::blocking::Client::builder().tls_backend_preconfigured(config.clone());
                    builder.no_proxy().build().unwrap()
                };
                let mut connection = client();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    // Half of them go on with one connection; the others make a new one now and then.
                    if number % 2 == 0 && count % 20 == 0 {
                        connection = client();
                    }
                    match connection.get(format!("{url}/v2/")).basic_auth("alice", Some("a")).send() {
                        Ok(response) if response.status() == 200 => answered.fetch_add(1, Ordering::Relaxed),
                        _ => failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        for number in 1..=swaps {
            sign(number);
            hang_up(&server);
            if number % 10 == 0 || number == swaps {
                until("a new certificate is shown", || seen.insert(serial()));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{swaps} swaps, {} requests, {} kinds of certificates seen", answered.load(Ordering::Relaxed), seen.len());
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(answered.load(Ordering::Relaxed) > 64 * 2);
}

/// What the server shows now.
fn certificate(folder: &Path, url: &str) -> Vec<u8> {
    let address = url.trim_start_matches("https://");
    let output = Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", "localhost", "-CAfile"])
        .arg(folder.join("tls/ca.pem"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate: {text}"));
    text[begin..].split("-----END").next().unwrap().as_bytes().to_vec()
}
