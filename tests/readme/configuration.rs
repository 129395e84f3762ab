//! Every configuration that a page shows is one that `roadstead check` takes.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::document::{Block, PAGES, blocks, page};
use crate::stage::in_folder;
use crate::support::process::{output, run, tool};

/// The files that the examples name below `/etc/roadstead`.
fn write_files(etc: &Path) {
    std::fs::create_dir_all(etc).unwrap();
    std::fs::write(etc.join("hub-password"), "content").unwrap();
    for secret in ["registry-password", "git-token", "argocd-secret", "updater-authorization", "webhook-secret"] {
        std::fs::write(etc.join(secret), "content").unwrap();
    }
    let mut openssl = Command::new(tool("openssl"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=registry.example.org", "-addext", "subjectAltName=DNS:registry.example.org"]);
    run(openssl.args(["-keyout", "tls.key", "-out", "tls.crt"]).current_dir(etc));
    std::fs::copy(etc.join("tls.crt"), etc.join("team-ca.pem")).unwrap();
}

#[test]
fn every_configuration_that_is_shown_is_right() {
    let folder = TempDir::new().unwrap();
    write_files(&folder.path().join("etc/roadstead"));
    let mut shown = 0;
    // docs/config.md is tried by the tests of the configuration itself.
    for path in PAGES.iter().filter(|path| **path != "docs/config.md") {
        let own = |block: &Block| block.language == "toml" && block.file().is_none();
        for block in blocks(&page(path)).into_iter().filter(own) {
            let file = folder.path().join("roadstead.toml");
            std::fs::write(&file, in_folder(&block.text, folder.path())).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_roadstead"));
            let ended = output(check.arg("check").arg("--config").arg(&file).current_dir(&folder));
            let complaint = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{path}, line {}: {complaint}", block.line);
            shown += 1;
        }
    }
    assert!(shown > 3, "only {shown} configurations are shown");
}
