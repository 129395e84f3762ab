//! Promotions by pull request, at three forges.

use serde_json::Value;

use crate::forge::{Bare, FILE};
use crate::forge_api::{Forge, TOKEN};
use crate::server::{Server, rule, until};

const KINDS: [&str; 3] = ["gitea", "github", "gitlab"];

fn start(bare: &Bare, forge: &Forge, more: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let section = forge.section(folder.path()) + more;
    let settings = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), "ghost/traffic-analytics", &section);
    Server::start_in(folder, &settings, &[])
}

fn branches(bare: &Bare) -> Vec<String> {
    bare.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]).lines().map(str::to_owned).collect()
}

/// A promotion as it is when the forge was looked at again, which takes up to a quarter of a minute.
fn of_tag(server: &Server, tag: &str, phase: &str) -> Value {
    server.reaches("prod", tag, &[phase])
}

#[test]
fn a_pull_request_is_opened_renewed_in_place_and_merged() {
    for kind in KINDS {
        let bare = Bare::new();
        let forge = Forge::start(&bare, kind);
        let server = start(&bare, &forge, "");
        server.push("micro/app", "one", &["v1"]);
        let proposed = of_tag(&server, "v1", "proposed");
        assert!(proposed["pull_request"]["url"].as_str().unwrap().starts_with("http://forge/"), "{proposed}");
        assert_eq!(bare.log().len(), 1, "{kind}: nothing is in the base yet");
        assert!(bare.git(&["show", &format!("roadstead/prod:{FILE}")]).contains("newTag: v1"));
        let [request] = &forge.requests()[..] else { panic!("{kind}") };
        assert_eq!((request.title.as_str(), request.base.as_str()), ("promote micro/app to v1", "main"));
        assert!(request.body.contains("latest -> v1@sha256:") && request.body.contains("Promotion: prod/1"), "{}", request.body);

        // Somebody commits to the base, and a later image comes: the same request, on the new base.
        bare.human("meanwhile", &[("notes.md", "x")]);
        server.push("micro/app", "two", &["v2"]);
        of_tag(&server, "v2", "proposed");
        let older = of_tag(&server, "v1", "superseded");
        assert_eq!(older["why"], "a later one took its place in the pull request");
        assert_eq!((forge.requests().len(), forge.requests()[0].title.as_str()), (1, "promote micro/app to v2"));
        assert_eq!(bare.git(&["log", "--format=%s", "main..roadstead/prod"]).lines().count(), 1);

        forge.merge(1);
        let merged = of_tag(&server, "v2", "committed");
        assert_eq!(merged["commit"], bare.git(&["rev-parse", "main"]).trim());
        until("the branch is gone", || (branches(&bare) == ["main"]).then_some(()));
        // The next one is another request.
        server.push("micro/app", "three", &["v3"]);
        of_tag(&server, "v3", "proposed");
        assert_eq!(forge.requests().len(), 2);
        assert!(forge.tokens().iter().all(|token| token == TOKEN));
    }
}

#[test]
fn one_that_somebody_closes_is_not_opened_again() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge, "");
    let pushed = server.push("micro/app", "one", &["v1"]);
    of_tag(&server, "v1", "proposed");
    forge.close(1);
    let rejected = of_tag(&server, "v1", "rejected");
    assert!(rejected["why"].as_str().unwrap().contains("was closed"), "{rejected}");
    server.push("micro/app", "one", &["again"]);
    of_tag(&server, "again", "refused");
    server.says(&["promotion", "release", "prod", "--digest", &pushed.digest]);
    let said = server.says(&["promotion", "run", "prod", "--tag", "v1"]);
    assert!(said.contains("proposed"), "{said}");
    assert_eq!(forge.requests().len(), 2);
}

#[test]
fn one_that_is_of_no_use_any_more_is_closed_with_a_word() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge, "");
    server.push("micro/app", "one", &["v1"]);
    of_tag(&server, "v1", "proposed");
    // Somebody writes the next one by hand.
    let pushed = server.push("micro/app", "two", &["unwanted"]);
    of_tag(&server, "unwanted", "proposed");
    let text = bare.file(FILE).replace(
        "    newTag: latest  # by the build\n",
        &format!("    newTag: v3  # by the build\n    digest: {}\n", pushed.digest),
    );
    bare.human("by hand", &[(FILE, &text)]);
    server.push("micro/app", "two", &["v3"]);
    // It has the same digest under another tag; nothing is left to propose.
    server.says(&["promotion", "run", "prod", "--tag", "v3"]);
    until("it is closed", || (forge.requests()[0].state == "closed").then_some(()));
    assert_eq!(forge.comments().len(), 1);
    until("its branch is gone", || (branches(&bare) == ["main"]).then_some(()));
}

#[test]
fn a_forge_that_loses_answers_gets_one_request_and_one_that_refuses_is_told() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "github");
    let server = start(&bare, &forge, "[git]\nretry_for = \"1m\"\n");
    forge.loses(1);
    server.push("micro/app", "one", &["v1"]);
    of_tag(&server, "v1", "proposed");
    assert_eq!(forge.requests().len(), 1);
    forge.refuses(Some((401, "{\"message\": \"Bad credentials\"}")));
    server.push("micro/app", "two", &["v2"]);
    let failed = of_tag(&server, "v2", "failed");
    let why = failed["why"].as_str().unwrap();
    assert!(
        why.contains("the token is wrong or has expired") && why.contains("Bad credentials") && !why.contains(TOKEN),
        "{why}"
    );
    forge.refuses(Some((503, "")));
    server.push("micro/app", "three", &["v3"]);
    until("it is told", || server.promotion("prod", 3).filter(|one| one["why"].is_string()));
    forge.refuses(None);
    of_tag(&server, "v3", "proposed");
}

#[test]
fn what_comes_right_after_a_merge_is_proposed_on_it() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge, "");
    for (number, tag) in ["v1", "v2"].into_iter().enumerate() {
        server.push("micro/app", tag, &[tag]);
        of_tag(&server, tag, "proposed");
        forge.merge(number + 1);
        if number == 0 {
            of_tag(&server, "v1", "committed");
        }
    }
    // Nobody has looked at the second one since it was merged.
    server.push("micro/app", "v3", &["v3"]);
    of_tag(&server, "v3", "proposed");
    let merged = of_tag(&server, "v2", "committed");
    assert_eq!(merged["commit"], bare.git(&["rev-parse", "main"]).trim());
    assert!(server.api("promotions/prod")["hold"].is_null());
}

#[test]
fn what_we_close_ourselves_is_no_rejection() {
    let bare = Bare::new();
    let forge = Forge::start(&bare, "gitea");
    let server = start(&bare, &forge, "");
    server.push("micro/app", "one", &["v1"]);
    of_tag(&server, "v1", "proposed");
    let pushed = server.push("micro/app", "two", &["unwanted"]);
    of_tag(&server, "unwanted", "proposed");
    let text = bare.file(FILE).replace(
        "    newTag: latest  # by the build\n",
        &format!("    newTag: v3  # by the build\n    digest: {}\n", pushed.digest),
    );
    bare.human("by hand", &[(FILE, &text)]);
    // The answer to the closing is lost: the process may as well have ended there.
    forge.refuses_closing(true);
    server.push("micro/app", "two", &["v3"]);
    until("it is being closed", || (forge.requests()[0].state == "closed").then_some(()));
    forge.refuses_closing(false);
    of_tag(&server, "unwanted", "superseded");
}
