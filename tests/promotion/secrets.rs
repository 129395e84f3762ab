//! No secret is anywhere where somebody could read it: neither in what is logged, told, measured and kept, nor in what programs are
//! started with.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::argo::{self, Argo};
use crate::forge::{Bare, FILE};
use crate::server::{Server, rule, until_within};
use crate::ways::{self, web};

/// Everything under a folder, as text.
fn everything(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            everything(&path, into);
        } else {
            into.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
        }
    }
}

/// What all processes are started with, again and again, until it is enough.
fn arguments(is_enough: &AtomicBool) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while !is_enough.load(Ordering::Relaxed) {
        for process in fs::read_dir("/proc").unwrap().flatten() {
            if let Ok(text) = fs::read(process.path().join("cmdline"))
                && !text.is_empty()
            {
                seen.insert(String::from_utf8_lossy(&text).replace('\0', " "));
            }
        }
    }
    seen
}

#[test]
fn no_secret_is_to_be_read_anywhere() {
    let bare = Bare::new();
    let (_web, url) = web(&bare);
    let argo = Argo::start(&bare, "k8s/overlays/prod");
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::write(folder.path().join("token"), ways::TOKEN).unwrap();
    let git = |password: &str| {
        format!("git = {{ url = \"{url}\", username = \"bot\", token_file = \"{}\" }}", folder.path().join(password).display())
    };
    let section = rule("prod", "micro/app", "[{ glob = \"*\" }]", &url, "ghost/traffic-analytics", &argo.section(folder.path()));
    let settings = section.replace(&format!("git = {{ url = \"{url}\" }}"), &git("token"));
    let settings = format!("{settings}[git]\nretry_for = \"5s\"\ncache = \"{}\"\n", cache.display());
    let mut server = Server::start_in(folder, &settings, &[]);
    let is_enough = AtomicBool::new(false);
    let mut read = String::new();
    let arguments = std::thread::scope(|scope| {
        let arguments = scope.spawn(|| arguments(&is_enough));
        server.push("micro/app", "one", &["v1"]);
        server.reaches("prod", "v1", &["healthy"]);
        read.push_str(&server.says(&["promotion", "diff", "prod"]));
        // The token is not taken any more.
        fs::write(bare.folder.path().join("users"), "bot:another\n").unwrap();
        server.push("micro/app", "two", &["v2"]);
        let failed = until_within(std::time::Duration::from_mins(2), "it has failed", || {
            server.promotion("prod", 2).filter(|one| one["phase"] == "failed")
        });
        assert!(failed["why"].as_str().unwrap().contains("git fetch failed"), "{failed}");
        let refused = server.command(&["promotion", "diff", "prod", "--tag", "v2"]);
        read.push_str(&String::from_utf8_lossy(&refused.stderr));
        is_enough.store(true, Ordering::Relaxed);
        arguments.join().unwrap()
    });
    assert!(bare.file(FILE).contains("newTag: v1"));
    assert!(arguments.iter().any(|line| line.contains("git fetch")), "git was not seen at work");
    for path in ["promotions", "promotions/prod", "jobs"] {
        read.push_str(&server.api(path).to_string());
    }
    read.push_str(&server.metrics());
    server.kill();
    read.push_str(&fs::read_to_string(server.log_file()).unwrap());
    everything(&server.folder.path().join("data"), &mut read);
    everything(&cache, &mut read);
    read.extend(arguments);
    assert!(read.contains("roadstead_promotions_total") && read.contains("a promotion was written down"));
    for secret in [ways::TOKEN, argo::SECRET, argo::TOKEN] {
        assert!(!read.contains(secret), "{secret} is to be read");
        for user in ["", "bot:", "x-access-token:"] {
            assert!(!read.contains(&STANDARD.encode(format!("{user}{secret}"))), "{secret} is to be read in base64");
        }
    }
}
