//! The commands of the README, run in its order: the server, the quick start, then every client's.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::document::{Block, blocks, page};
use crate::picture;
use crate::stage::{Stage, in_folder};
use crate::support::layout::sha256;
use crate::support::process::tool;

/// The clients that copy an index as it is; the others push one platform, or what they built.
const WHOLE: [&str; 5] = ["containerd", "crane", "oras", "regctl", "skopeo"];

/// What stands beside a client's own name in its example.
const PROGRAMS: [(&str, &[&str]); 2] = [("docker", &["docker", "dockerd"]), ("containerd", &["containerd", "ctr"])];

#[test]
fn the_quick_start_and_the_example_of_every_client_run() {
    let blocks = blocks(&page("README.md"));
    let (serve, _) = commands(&blocks);
    let mirrors = blocks.iter().find(|block| block.language == "toml" && block.is_under("Mirrors on a schedule")).unwrap();
    let promotions = blocks.iter().find(|block| block.language == "toml" && block.is_under("Promotion into Git")).unwrap();
    let repository = TempDir::new().unwrap();
    let mut stage = Stage::new(serve, &(mirrors.text.clone() + &promotion_here(&promotions.text, repository.path())));
    let quick: Vec<&Block> = blocks.iter().filter(|block| block.is_under("Quick start")).collect();
    assert_eq!(quick.len(), 1, "the quick start is one block");
    let told = stage.run(quick[0]);
    assert!(told.contains("\"docker.io/library/alpine\"") && told.contains("\"team/alpine\""), "{told}");
    for block in blocks.iter().filter(|block| block.language == "sh" && block.is_under("Mirrors on a schedule")) {
        stage.run(block);
    }
    let (status, copied) = stage.ask("/v2/base/alpine/manifests/latest");
    assert_eq!((status, sha256(&copied)), (200, stage.alpine.index.clone()));
    let promoted: Vec<&Block> =
        blocks.iter().filter(|block| block.language == "sh" && block.is_under("Promotion into Git")).collect();
    let told: String = promoted.into_iter().map(|block| stage.run(block)).collect();
    assert!(told.contains("app-prod/1 1.0.0 committed in "), "{told}");
    let file = git(repository.path(), &["show", "main:k8s/overlays/prod/kustomization.yaml"]);
    assert!(file.contains("newTag: \"1.0.0\"") && file.contains(&format!("digest: {}", stage.alpine.index)), "{file}");
    for block in blocks.iter().filter(|block| block.language == "sh" && block.is_under("Over an air gap")) {
        stage.run(block);
    }
    let (status, carried) = stage.ask("/v2/other-side/team/alpine/manifests/1");
    assert_eq!((status, sha256(&carried)), (200, sha256(&stage.ask("/v2/team/alpine/manifests/1").1)));
    let mut ran = Vec::new();
    for client in clients(&blocks) {
        run(&mut stage, &client, &blocks);
        check(&stage, &client);
        ran.push(client);
    }
    assert_eq!(ran, picture::clients(), "each client of the picture has an example, in the same order");
}

#[test]
fn the_example_of_access_rules_runs() {
    let blocks = blocks(&page("README.md"));
    let (serve, _) = commands(&blocks);
    let own = |language: &str| -> Vec<Block> {
        let is_own = |block: &&Block| block.language == language && block.is_under("Who may do what");
        blocks.iter().filter(is_own).cloned().collect()
    };
    let (rules, scripts) = (own("toml"), own("sh"));
    let ([rules], [accounts, robots]) = (rules.as_slice(), scripts.as_slice()) else { panic!("{rules:?} {scripts:?}") };
    // The file of accounts has to be there before the server is.
    let etc = TempDir::new().unwrap();
    std::fs::create_dir_all(etc.path().join("etc/roadstead")).unwrap();
    tool("htpasswd");
    let mut bash = Command::new(tool("bash"));
    crate::support::process::run(bash.args(["-euo", "pipefail", "-c", &in_folder(&accounts.text, etc.path())]));
    let stage = Stage::new(serve, &in_folder(&rules.text, etc.path()));
    assert_eq!(stage.ask("/v2/team/app/tags/list").0, 401);
    let told = stage.run(robots);
    assert!(told.contains("Login Succeeded") && told.contains("\"tags\":[\"1\"]") && told.contains("\nci "), "{told}");
    assert_eq!(stage.ask("/v2/docker.io/library/alpine/manifests/latest").0, 200);
    assert_eq!(stage.ask("/v2/team/app/manifests/1").0, 401);
}

/// The promotion of the README into a repository of this machine, without the Argo CD that is not there.
fn promotion_here(text: &str, folder: &Path) -> String {
    git(folder, &["init", "--quiet", "--initial-branch=main", "--bare", "."]);
    let clone = TempDir::new().unwrap();
    git(clone.path(), &["clone", "--quiet", &folder.display().to_string(), "."]);
    let overlay = clone.path().join("k8s/overlays/prod");
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("kustomization.yaml"), "kind: Kustomization\nimages:\n  - name: team/app\n    newTag: none\n")
        .unwrap();
    git(clone.path(), &["add", "--all"]);
    git(clone.path(), &["-c", "user.name=reader", "-c", "user.email=r@r", "commit", "--quiet", "-m", "first"]);
    git(clone.path(), &["push", "--quiet", "origin", "HEAD:main"]);
    let here = format!("git = {{ url = \"file://{}\" }}", folder.display());
    let line = |line: &str| match line.split(' ').next() {
        Some("git") => format!("{here}\n"),
        Some("argocd") => String::new(),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(tool("git"));
    command.args(arguments).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
    crate::support::process::run(&mut command)
}

#[test]
fn the_first_two_commands_serve_and_test() {
    let blocks = blocks(&page("README.md"));
    let (serve, test) = commands(&blocks);
    assert_eq!(serve.text, "cargo run --release -- serve\n");
    assert_eq!(test.text, "tests/run\n");
    assert!(crate::document::root().join("tests/run").is_file(), "there is no tests/run");
}

#[test]
fn the_clients_page_has_every_client_too() {
    let readme = clients(&blocks(&page("README.md")));
    let page = page("docs/clients.md");
    let missing: Vec<_> = readme.iter().filter(|client| !page.contains(&format!("\n## {client}"))).collect();
    assert!(missing.is_empty(), "docs/clients.md has no section for {missing:?}");
}

/// The two blocks before the first heading.
fn commands(blocks: &[Block]) -> (&Block, &Block) {
    let first: Vec<&Block> = blocks.iter().filter(|block| block.headings.is_empty()).collect();
    let [serve, test] = first.as_slice() else { panic!("the README begins with two commands, not {}", first.len()) };
    (serve, test)
}

/// The headings below "Clients" that have something to run, in their order.
fn clients(blocks: &[Block]) -> Vec<String> {
    let below = blocks.iter().filter(|block| block.headings.first().is_some_and(|heading| heading == "Clients"));
    let mut names: Vec<String> =
        below.filter(|block| block.language == "sh").filter_map(|block| block.headings.get(1).cloned()).collect();
    names.dedup();
    names
}

/// Puts a client's files where they belong, starts its daemon, and runs its commands.
fn run(stage: &mut Stage, client: &str, blocks: &[Block]) {
    let programs = PROGRAMS.iter().find(|(name, _)| *name == client).map_or([client].to_vec(), |(_, programs)| programs.to_vec());
    for program in programs {
        // Fails with the program's name when it is not installed.
        tool(program);
    }
    let own: Vec<&Block> = blocks.iter().filter(|block| block.is_under("Clients") && block.is_under(client)).collect();
    own.iter().filter(|block| block.language == "toml").for_each(|block| stage.install(block));
    match client {
        "docker" => stage.start_docker(own.iter().find(|block| block.language == "json").expect("a daemon.json")),
        "containerd" => stage.start_containerd(),
        _ => {}
    }
    for block in own.iter().filter(|block| block.language == "sh") {
        assert!(block.text.contains("docker.io/library/alpine"), "{client}: the example pulls through");
        stage.run(block);
    }
}

/// Every example leaves `team/alpine` with a tag of the client's name.
fn check(stage: &Stage, client: &str) {
    let (status, manifest) = stage.ask(&format!("/v2/team/alpine/manifests/{client}"));
    assert_eq!(status, 200, "{client} has pushed nothing: {}", String::from_utf8_lossy(&manifest));
    if WHOLE.contains(&client) {
        assert_eq!(sha256(&manifest), stage.alpine.index, "{client} has pushed something else");
    }
    if client == "oras" {
        let (_, referrers) = stage.ask(&format!("/v2/team/alpine/referrers/{}", stage.alpine.index));
        let referrers: Value = serde_json::from_slice(&referrers).unwrap();
        assert_eq!(referrers["manifests"][0]["artifactType"], "application/spdx+json", "{referrers}");
    }
}
