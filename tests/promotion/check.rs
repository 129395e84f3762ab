//! `roadstead promotion check`, and what is not committed because it could not be built.

use crate::forge::{Bare, FILE, OVERLAY};
use crate::server::{Server, rule};

const ANALYTICS: &str = "ghost/traffic-analytics";

fn every(url: &str, image: &str, more: &str) -> String {
    rule("prod", "micro/app", "[{ glob = \"*\" }]", url, image, more)
}

fn wrong(server: &Server) -> String {
    let output = server.command(&["promotion", "check"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_configured_is_checked_in_the_repository() {
    let bare = Bare::new();
    let server = Server::start(&every(&bare.url(), ANALYTICS, ""));
    let said = server.says(&["promotion", "check", "prod"]);
    assert!(said.starts_with("prod: ok at ") && said.contains("2 kustomizations and 3 other files"), "{said}");
    assert_eq!(bare.log().len(), 1);

    // kustomize matches names to the letter, and says nothing where none fits.
    let other = Server::start(&every(&bare.url(), "docker.io/ghost/traffic-analytics", ""));
    let said = wrong(&other);
    assert!(said.contains("no manifest of this folder has the image docker.io/ghost/traffic-analytics"), "{said}");
    assert!(said.contains("they have ghost/traffic-analytics, and kustomize takes names to the letter"), "{said}");

    let nowhere = Server::start(&every(&bare.url(), ANALYTICS, "").replace("overlays/prod", "overlays/stage"));
    assert!(wrong(&nowhere).contains("k8s/overlays/stage: is not in the repository"));
}

#[test]
fn images_of_this_registry_that_are_not_here_are_told() {
    let bare = Bare::new();
    let server = Server::start_in(
        tempfile::tempdir().unwrap(),
        &every(&bare.url(), ANALYTICS, ""),
        &[("ROADSTEAD_SERVER__EXTERNAL_URL", "https://registry.example.org")],
    );
    let named =
        OVERLAY.replace("    newTag: latest\n", "    newName: registry.example.org/micro/tinybird-local\n    newTag: v1\n");
    bare.human("ours", &[(FILE, &named)]);
    let said = wrong(&server);
    assert!(said.contains(&format!("{FILE}:9: registry.example.org/micro/tinybird-local:v1 is not here")), "{said}");
    server.push("micro/tinybird-local", "one", &["v1"]);
    server.says(&["promotion", "check"]);
}

#[test]
fn nothing_is_committed_into_a_folder_that_cannot_be_built() {
    let bare = Bare::new();
    // As the script of the first pipeline left it.
    let cut = OVERLAY
        .replace("  - ../../base\n", "  - ../../base\n  - resource-limits.yaml\n")
        .replace("patchesStrategicMerge:\n  - resource-limits.yaml\n", "");
    bare.human("the script", &[(FILE, &cut)]);
    let server = Server::start(&every(&bare.url(), ANALYTICS, ""));
    server.push("micro/app", "one", &["v1"]);
    let refused = server.reaches("prod", "v1", &["failed"]);
    let why = refused["why"].as_str().unwrap();
    assert!(why.contains("cannot be built") && why.contains(":7: resource-limits.yaml has the Deployment tinybird"), "{why}");
    assert_eq!(bare.log().len(), 2);
    // Mended, it goes.
    bare.human("mended", &[(FILE, OVERLAY)]);
    server.says(&["promotion", "run", "prod"]);
    assert!(bare.file(FILE).contains("newTag: v1"));
}
