//! Commits over the API of the forge, for hosts without git.

use crate::forge::{Bare, FILE, OVERLAY, git};
use crate::forge_api::{Forge, TOKEN};
use crate::server::{Server, rule, until};

const KINDS: [&str; 3] = ["gitea", "github", "gitlab"];
const ANALYTICS: &str = "ghost/traffic-analytics";

fn start(bare: &Bare, forge: &Forge, more: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let section = forge.section(folder.path()).replace("mode = \"pull-request\"\n", "") + "over = \"api\"\n" + more;
    let settings = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, &section);
    // There is none.
    Server::start_in(folder, &(settings + "[git]\nprogram = \"/nowhere/git\"\nretry_for = \"30s\"\n"), &[])
}

#[test]
fn a_push_becomes_a_commit_without_git() {
    for kind in KINDS {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let server = start(&bare, &forge, "");
        let pushed = server.push("micro/app", "one", &["v1"]);
        let promotion = server.reaches("prod", "v1", &["committed"]);
        let expected = OVERLAY.replace(
            "    newTag: latest  # by the build\n",
            &format!("    newTag: v1  # by the build\n    digest: {}\n", pushed.digest),
        );
        assert_eq!(bare.file(FILE), expected, "{kind}");
        assert_eq!(promotion["commit"], bare.git(&["rev-parse", "main"]).trim());
        let message = bare.git(&["log", "-1", "--format=%an <%ae> %B", "main"]);
        assert!(message.starts_with("roadstead[bot] <roadstead[bot]@localhost> promote micro/app to v1 [skip ci]"), "{message}");
        // Somebody changes other files, and then the place.
        bare.human("notes", &[("notes.md", "x")]);
        server.push("micro/app", "two", &["v2"]);
        server.reaches("prod", "v2", &["committed"]);
        bare.human("pin", &[(FILE, &bare.file(FILE).replace("newTag: v2", "newTag: mine"))]);
        server.push("micro/app", "three", &["v3"]);
        server.reaches("prod", "v3", &["held"]);
        assert!(bare.is_linear() && bare.log().len() == 5, "{kind}: {:?}", bare.log());
    }
}

#[test]
fn an_answer_that_is_lost_makes_no_second_commit() {
    for kind in KINDS {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let server = start(&bare, &forge, "");
        // GitHub is asked four times for a commit: each answer is lost once.
        for turn in 0..4 {
            forge.loses_the(turn);
            let tag = format!("v{turn}");
            server.push("micro/app", &tag, &[&tag]);
            server.reaches("prod", &tag, &["committed"]);
        }
        assert_eq!(bare.log().len(), 5, "{kind}: {:?}", bare.log());
    }
}

#[test]
fn our_commit_is_found_though_its_answer_is_lost_and_somebody_changes_the_place_after_it() {
    for kind in KINDS {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let server = start(&bare, &forge, "");
        // At GitHub the fourth request moves the branch.
        forge.loses_the(if kind == "github" { 3 } else { 0 });
        forge.meddles();
        server.push("micro/app", "one", &["v1"]);
        let promotion = server.reaches("prod", "v1", &["committed"]);
        assert_eq!(promotion["commit"], bare.git(&["rev-parse", "main~1"]).trim(), "{kind}");
        assert_eq!(bare.log(), ["first", "promote micro/app to v1 [skip ci]", "mine"], "{kind}");
        server.push("micro/app", "two", &["v2"]);
        server.reaches("prod", "v2", &["held"]);
    }
}

#[test]
fn a_file_keeps_its_mode_and_a_link_is_not_followed() {
    for kind in KINDS {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let mode = |to: &str| {
            let clone = tempfile::tempdir().unwrap();
            git(clone.path(), &["clone", "--quiet", &bare.url(), "."]);
            if to == "link" {
                std::fs::rename(clone.path().join(FILE), clone.path().join("real.yaml")).unwrap();
                std::os::unix::fs::symlink("../../../real.yaml", clone.path().join(FILE)).unwrap();
                git(clone.path(), &["add", "--all"]);
            } else {
                git(clone.path(), &["update-index", "--chmod=+x", FILE]);
            }
            git(clone.path(), &["-c", "user.name=h", "-c", "user.email=h@h", "commit", "--quiet", "-m", to]);
            git(clone.path(), &["push", "--quiet", "origin", "HEAD:main"]);
        };
        mode("program");
        let server = start(&bare, &forge, "");
        server.push("micro/app", "one", &["v1"]);
        server.reaches("prod", "v1", &["committed"]);
        assert!(bare.git(&["ls-tree", "main", FILE]).starts_with("100755"), "{kind}");
        // GitLab does not tell a link from a file.
        if kind != "gitlab" {
            mode("link");
            server.push("micro/app", "two", &["v2"]);
            server.reaches("prod", "v2", &["failed"]);
            assert!(bare.git(&["ls-tree", "main", FILE]).starts_with("120000"), "{kind}");
        }
    }
}

#[test]
fn two_servers_and_a_human_lose_nothing() {
    for kind in KINDS {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let first = start(&bare, &forge, "");
        let other = start(&bare, &forge, "").with(|settings| settings.replace(ANALYTICS, "tinybirdco/tinybird-local"));
        std::thread::scope(|scope| {
            for server in [&first, &other] {
                scope.spawn(move || {
                    for turn in 0..5 {
                        let tag = format!("v{turn}");
                        server.push("micro/app", &tag, &[&tag]);
                        server.reaches("prod", &tag, &["committed"]);
                    }
                });
            }
            for turn in 0..5 {
                bare.human(&format!("human {turn}"), &[("notes.md", &format!("{turn}\n"))]);
            }
        });
        assert_eq!(bare.file(FILE).matches("newTag: v4").count(), 2, "{kind}");
        assert!(bare.is_linear() && bare.log().len() == 16, "{kind}: {:?}", bare.log());
    }
}

#[test]
fn what_the_forge_refuses_is_told() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge, "");
    forge.refuses_changes(Some((403, "branch is protected")));
    server.push("micro/app", "one", &["v1"]);
    let failed = server.reaches("prod", "v1", &["failed"]);
    let why = failed["why"].as_str().unwrap();
    assert!(why.contains("403") && why.contains("branch is protected") && !why.contains(TOKEN), "{why}");
    forge.refuses_changes(Some((423, "archived")));
    server.push("micro/app", "two", &["v2"]);
    assert!(server.reaches("prod", "v2", &["failed"])["why"].as_str().unwrap().contains("the repository is archived"));
    // It can be seen what would be written, and whether the place is there; the rest of the repository is not looked at.
    forge.refuses_changes(None);
    assert!(server.says(&["promotion", "diff", "prod", "--tag", "v1"]).contains("+    newTag: v1"));
    let check = server.says(&["promotion", "check", "prod"]);
    assert!(check.contains("prod: ok at ") && check.contains("0 kustomizations"), "{check}");
}

#[test]
fn a_pull_request_can_be_made_without_git_too() {
    for kind in ["gitea", "old gitea", "github", "gitlab"] {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let server = start(&bare, &forge, "mode = \"pull-request\"\n");
        for tag in ["v1", "v2"] {
            server.push("micro/app", tag, &[tag]);
            server.reaches("prod", tag, &["proposed"]);
        }
        assert_eq!(forge.requests().len(), 1);
        assert!(bare.git(&["show", &format!("roadstead/prod:{FILE}")]).contains("newTag: v2"), "{kind}");
        assert_eq!(bare.git(&["log", "--format=%s", "main..roadstead/prod"]).lines().count(), 1);
        forge.merge(1);
        server.reaches("prod", "v2", &["committed"]);
        until("the branch is gone", || bare.git(&["branch", "--list", "roadstead/*"]).trim().is_empty().then_some(()));
    }
}
