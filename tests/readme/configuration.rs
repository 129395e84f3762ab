//! Every configuration that a page shows is one that `roadstead check` takes.

use std::fmt::Write as _;
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
    std::fs::write(etc.join("htpasswd"), "# nobody yet\n").unwrap();
    for name in ["tls", "internal"] {
        certificate(etc, name);
    }
    for authority in ["team-ca.pem", "clients-ca.pem", "corp-root.pem"] {
        std::fs::copy(etc.join("tls.crt"), etc.join(authority)).unwrap();
    }
    std::fs::write(etc.join("crl.cnf"), "[ca]\ndefault_ca=all\n[all]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ncrl_extensions=more\n[more]\nauthorityKeyIdentifier=keyid\n").unwrap();
    std::fs::write(etc.join("index"), "").unwrap();
    std::fs::write(etc.join("number"), "01\n").unwrap();
    let mut openssl = Command::new(tool("openssl"));
    openssl.args(["ca", "-config", "crl.cnf", "-gencrl", "-crldays", "2", "-keyfile", "tls.key", "-cert", "tls.crt"]);
    run(openssl.args(["-out", "clients.crl"]).current_dir(etc));
}

/// A certificate that is its own authority.
fn certificate(etc: &Path, name: &str) {
    let [key, certificate] = [format!("{name}.key"), format!("{name}.crt")];
    let mut openssl = Command::new(tool("openssl"));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=registry.example.org", "-addext", "subjectAltName=DNS:registry.example.org"]);
    run(openssl.args(["-keyout", &key, "-out", &certificate]).current_dir(etc));
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

#[test]
fn what_the_rules_of_the_page_say_is_as_the_page_says() {
    let folder = TempDir::new().unwrap();
    write_files(&folder.path().join("etc/roadstead"));
    let all = blocks(&page("docs/access.md"));
    let rules = all.iter().find(|block| block.language == "toml").unwrap();
    std::fs::write(folder.path().join("roadstead.toml"), in_folder(&rules.text, folder.path())).unwrap();
    let asked = all.iter().find(|block| block.is_under("Asking the rules") && block.text.starts_with("$ ")).unwrap();
    let mut answers = String::new();
    for line in asked.text.lines().filter_map(|line| line.strip_prefix("$ roadstead ")) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        let ended = output(program.args(line.split(' ')).current_dir(&folder));
        // Writing to a string cannot fail.
        let _ = write!(answers, "$ roadstead {line}\n{}", String::from_utf8_lossy(&ended.stdout));
    }
    assert_eq!(answers, asked.text);
}
