//! What can go wrong on the other side is told on the promotion, and tried again only where that can help.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::forge::{Bare, FILE, executable, git};
use crate::server::{Server, rule, until, until_within};

const ANALYTICS: &str = "ghost/traffic-analytics";

/// The lines of `more` are those of `[git]`.
fn settings(url: &str, more: &str) -> String {
    rule("prod", "micro/app", "[{ glob = \"*\" }]", url, ANALYTICS, "") + "[git]\nretry_for = \"6s\"\n" + more
}

/// The promotion of v1, when it has failed.
fn failed(server: &Server) -> Value {
    server.push("micro/app", "one", &["v1"]);
    let what = "it has failed";
    until_within(Duration::from_mins(2), what, || server.promotion("prod", 1).filter(|one| one["phase"] == "failed"))
}

fn why(promotion: &Value) -> &str {
    promotion["why"].as_str().unwrap()
}

#[test]
fn a_hook_that_refuses_is_not_asked_again() {
    let bare = Bare::new();
    let (hook, asked) = (bare.path().join("hooks/pre-receive"), bare.folder.path().join("asked"));
    executable(&hook, &format!("#!/bin/sh\necho x >> {}\necho 'main is protected' >&2\nexit 1\n", asked.display()));
    let server = Server::start(&settings(&bare.url(), ""));
    let promotion = failed(&server);
    assert!(
        why(&promotion).starts_with("the repository refused the commit: ") && why(&promotion).contains("protected"),
        "{promotion}"
    );
    assert_eq!(fs::read_to_string(&asked).unwrap().lines().count(), 1);
    assert!(server.says(&["promotion", "list"]).contains("main is protected"));
    // Once it is allowed, the next one goes.
    fs::remove_file(hook).unwrap();
    server.says(&["promotion", "run", "prod"]);
    assert!(bare.file(FILE).contains("newTag: v1"));
}

#[test]
fn what_one_promotion_is_refused_does_not_stop_the_others() {
    let bare = Bare::new();
    bare.overlay("stage");
    let text = "#!/bin/sh\nread -r old new ref\ngit diff --name-only $old $new | grep -q overlays/prod || exit 0\necho 'prod is frozen' >&2\nexit 1\n";
    executable(&bare.path().join("hooks/pre-receive"), text);
    let prod = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, "");
    let stage = prod.replace("\"prod\"", "\"stage\"").replace("overlays/prod", "overlays/stage");
    let server = Server::start(&(prod + &stage));
    server.push("micro/app", "one", &["v1"]);
    let refused = server.reaches("prod", "v1", &["failed"]);
    assert!(why(&refused).contains("prod is frozen"), "{refused}");
    server.reaches("stage", "v1", &["committed"]);
    assert!(bare.file("k8s/overlays/stage/kustomization.yaml").contains("newTag: v1") && !bare.file(FILE).contains("newTag: v1"));
}

#[test]
fn a_repository_that_is_gone_is_tried_for_a_while() {
    let bare = Bare::new();
    let gone = format!("{}-gone", bare.url());
    let server = Server::start(&settings(&gone, ""));
    server.push("micro/app", "one", &["v1"]);
    let told = until("it is told while it is tried", || server.promotion("prod", 1).filter(|one| one["why"].is_string()));
    assert_eq!(told["phase"], "committing");
    assert!(why(&told).contains("git fetch failed"), "{told}");
    // It comes back in time.
    fs::rename(bare.path(), bare.folder.path().join("repo.git-gone")).unwrap();
    server.reaches("prod", "v1", &["committed"]);
}

#[test]
fn a_git_that_hangs_is_ended_and_told() {
    let bare = Bare::new();
    let program = bare.folder.path().join("git");
    executable(&program, "#!/bin/sh\ncase \"$*\" in *fetch*) sleep 600 & wait ;; *) exec git \"$@\" ;; esac\n");
    let more = format!("program = \"{}\"\ntime_limit = \"1s\"\n", program.display());
    let server = Server::start(&settings(&bare.url(), &more));
    let promotion = failed(&server);
    assert!(why(&promotion).contains("git fetch did not end within 1 s"), "{promotion}");
}

#[test]
fn a_server_without_git_serves_and_says_so() {
    let bare = Bare::new();
    let server = Server::start(&settings(&bare.url(), "program = \"/nowhere/git\"\n"));
    let promotion = failed(&server);
    assert!(why(&promotion).contains("git cannot be run"), "{promotion}");
}

#[test]
fn a_file_that_cannot_be_edited_is_told_with_its_line() {
    let bare = Bare::new();
    let text = bare.file(FILE).replace("newTag: latest  #", "newTag: &tag latest  #");
    bare.human("anchors", &[(FILE, &text)]);
    let server = Server::start(&settings(&bare.url(), ""));
    let promotion = failed(&server);
    assert!(why(&promotion).starts_with(&format!("{FILE}: line 12: ")), "{promotion}");
    assert_eq!(bare.log().len(), 2);
    let wrong = settings(&bare.url(), "").replace("overlays/prod", "overlays/stage");
    let other = Server::start(&wrong);
    assert!(why(&failed(&other)).contains("is not in the repository"));
}

#[test]
fn a_disk_that_is_full_is_told() {
    let bare = Bare::new();
    let program = bare.folder.path().join("git");
    executable(
        &program,
        "#!/bin/sh\ncase \"$*\" in *hash-object*) echo 'fatal: unable to write file: No space left on device' >&2; exit 128 ;; *) exec git \"$@\" ;; esac\n",
    );
    let server = Server::start(&settings(&bare.url(), &format!("program = \"{}\"\n", program.display())));
    server.push("micro/app", "one", &["v1"]);
    let told = until("it is told", || server.promotion("prod", 1).filter(|one| one["why"].is_string()));
    assert!(why(&told).contains("No space left on device"), "{told}");
    // There is space again.
    executable(&program, "#!/bin/sh\nexec git \"$@\"\n");
    server.reaches("prod", "v1", &["committed"]);
}

#[test]
fn a_hold_holds_also_what_could_not_be_written_yet() {
    let bare = Bare::new();
    let gone = format!("{}-gone", bare.url());
    let server = Server::start(&settings(&gone, "").replace("\"6s\"", "\"10m\""));
    server.push("micro/app", "one", &["v1"]);
    until("it is told while it is tried", || server.promotion("prod", 1).filter(|one| one["why"].is_string()));
    server.says(&["promotion", "hold", "prod", "--why", "release freeze"]);
    fs::rename(bare.path(), bare.folder.path().join("repo.git-gone")).unwrap();
    server.reaches("prod", "v1", &["waiting"]);
    let commits = git(&bare.folder.path().join("repo.git-gone"), &["log", "--format=%s", "main"]);
    assert_eq!(commits.lines().count(), 1, "{commits}");
    server.says(&["promotion", "release", "prod"]);
    server.reaches("prod", "v1", &["committed"]);
}

#[test]
fn a_rule_that_cannot_be_looked_at_keeps_no_other_from_its_commit() {
    let bare = Bare::new();
    bare.overlay("stage");
    let stage =
        rule("stage", "micro/other", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, "").replace("overlays/prod", "overlays/stage");
    let server = Server::start(&(settings(&bare.url(), "") + &stage));
    // Its ledger is damaged.
    let ledgers = server.folder.path().join("data/promotions");
    server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["committed"]);
    fs::write(ledgers.join("prod"), "{").unwrap();
    server.push("micro/other", "two", &["v2"]);
    server.reaches("stage", "v2", &["committed"]);
}
