//! From a push by podman to an application that Argo CD calls healthy, and back if it does not.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::argo::Argo;
use crate::forge::{Bare, FILE};
use crate::server::{Server, rule, until};

const ANALYTICS: &str = "ghost/traffic-analytics";

fn start(bare: &Bare, argo: &Argo, more: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let argocd = argo.section(folder.path());
    let edit = format!("image = \"{ANALYTICS}\", new_name = \"registry.example.org/micro/traffic-analytics\"");
    let settings = rule("prod", "micro/traffic-analytics", "[{ glob = \"main-*\" }]", &bare.url(), "IMAGE", &(argocd + more));
    Server::start_in(folder, &settings.replace("image = \"IMAGE\"", &edit), &[])
}

fn podman(server: &Server, arguments: &[&str]) {
    let folder = server.folder.path();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", "podman", "--storage-driver", "vfs"]);
    command.args(["--root", &folder.join("root").display().to_string(), "--runroot", &folder.join("run").display().to_string()]);
    let output = command.env("HOME", folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_podman_pushes_is_healthy_in_the_cluster() {
    let bare = Bare::new();
    let argo = Argo::start(&bare, "k8s/overlays/prod");
    let server = start(&bare, &argo, "");
    fs::write(server.folder.path().join("app.js"), "traffic").unwrap();
    let tar = server.folder.path().join("rootfs.tar");
    assert!(
        Command::new("tar").args(["-cf"]).arg(&tar).arg("-C").arg(server.folder.path()).arg("app.js").status().unwrap().success()
    );
    podman(&server, &["import", "--quiet", &tar.display().to_string(), "localhost/analytics:1"]);
    let target = format!("docker://{}/micro/traffic-analytics:main-abc1234", server.url.strip_prefix("http://").unwrap());
    podman(&server, &["push", "--quiet", "--tls-verify=false", "localhost/analytics:1", &target]);
    let promotion = server.reaches("prod", "main-abc1234", &["healthy"]);
    let (commit, digest) = (promotion["commit"].as_str().unwrap(), promotion["digest"].as_str().unwrap());
    assert_eq!(bare.git(&["rev-parse", "main"]).trim(), commit);
    let deployed = format!("registry.example.org/micro/traffic-analytics:main-abc1234@{digest}");
    assert!(argo.images().contains(&deployed), "{:?}", argo.images());
    assert_eq!(argo.heard()[0], "POST /api/webhook HTTP/1.1");
    // One line says it all.
    let list = server.says(&["promotion", "list"]);
    let line = list.lines().find(|line| line.starts_with("prod ")).unwrap();
    for part in ["micro/traffic-analytics", "main-abc1234", &digest[..19], &commit[..10], "healthy"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // One trace leads from the change of the tag to the health.
    let log = fs::read_to_string(server.log_file()).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let trace: Vec<String> = lines
        .filter(|line| line["event"] == promotion["event"])
        .map(|line| format!("{} {}", line["message"].as_str().unwrap(), line["phase"].as_str().unwrap_or_default()))
        .collect();
    let expected = [
        "a promotion was offered ",
        "a promotion was written down committed",
        "those who deploy were told ",
        "the cluster was looked at healthy",
    ];
    assert_eq!(trace, expected, "{log}");
}

#[test]
fn what_is_not_well_is_taken_back_by_itself() {
    let bare = Bare::new();
    let argo = Argo::start(&bare, "k8s/overlays/prod");
    let server = start(&bare, &argo, "rollback = true\n");
    let first = server.push("micro/traffic-analytics", "one", &["main-1"]);
    server.reaches("prod", "main-1", &["healthy"]);
    argo.breaks("main-2");
    let second = server.push("micro/traffic-analytics", "two", &["main-2"]);
    server.reaches("prod", "main-2", &["rolled-back"]);
    let back = until("the first is there again", || server.promotion("prod", 3).filter(|one| one["phase"] == "healthy"));
    assert_eq!((back["tag"].as_str(), back["by"].as_str()), (Some("main-1"), Some("roadstead")));
    assert!(bare.file(FILE).contains(&first.digest));
    assert_eq!(bare.log().len(), 4, "two promotions and one that takes back");
    // The digest comes back by no other name; and the next image goes on, for nothing is held.
    server.push("micro/traffic-analytics", "two", &["main-2b"]);
    server.reaches("prod", "main-2b", &["refused"]);
    server.push("micro/traffic-analytics", "three", &["main-3"]);
    server.reaches("prod", "main-3", &["healthy"]);
    server.says(&["promotion", "release", "prod", "--digest", &second.digest]);
}

#[test]
fn a_cluster_that_nobody_can_look_at_is_told() {
    let bare = Bare::new();
    let argo = Argo::start(&bare, "k8s/overlays/prod");
    let server = start(&bare, &argo, "healthy_within = \"3s\"\n");
    let other = fs::read_to_string(server.configuration()).unwrap().replace("argocd-token\"", "argocd-secret\"");
    let sections = other.split("[[promotion]]").nth(1).unwrap().to_owned();
    let mut server = server;
    server.restart_with(&format!("[[promotion]]{sections}"));
    server.push("micro/traffic-analytics", "one", &["main-1"]);
    let unknown = server.reaches("prod", "main-1", &["unconfirmed"]);
    let why = unknown["why"].as_str().unwrap();
    assert!(why.starts_with("not well within 3 s: ") && why.contains("401"), "{why}");
    // It is in Git, and the webhook was heard.
    assert!(bare.file(FILE).contains("newTag: main-1"));
    assert!(argo.heard().iter().any(|line| line.starts_with("POST /api/webhook")));
}
