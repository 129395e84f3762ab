//! Every configuration that a page shows is one that `roadstead check` takes.

use std::process::Command;

use tempfile::TempDir;

use crate::{
    document::{Block, PAGES, blocks, page},
    stage::in_folder,
    support::process::output,
};

/// The files that the examples name below `/etc/roadstead`.
const FILES: [&str; 4] = ["tls.crt", "tls.key", "hub-password", "team-ca.pem"];

#[test]
fn every_configuration_that_is_shown_is_right() {
    let folder = TempDir::new().unwrap();
    let etc = folder.path().join("etc/roadstead");
    std::fs::create_dir_all(&etc).unwrap();
    for file in FILES {
        std::fs::write(etc.join(file), "content").unwrap();
    }
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
