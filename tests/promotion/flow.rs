//! The whole way: from a push to a commit, and what people do about it.

use serde_json::json;

use crate::forge::{Bare, FILE, OVERLAY};
use crate::server::{Server, rule, until};

const TINYBIRD: &str = "tinybirdco/tinybird-local";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ANALYTICS: &str = "ghost/traffic-analytics";

fn every(url: &str) -> String {
    rule("prod", "micro/app", "[{ glob = \"*\" }]", url, ANALYTICS, "")
}

fn of_tag(bare: &Bare) -> String {
    let text = bare.file(FILE);
    text.lines().find(|line| line.contains("by the build")).unwrap().trim().to_owned()
}

#[test]
fn a_push_becomes_a_commit() {
    let bare = Bare::new();
    let server = Server::start(&every(&bare.url()));
    let pushed = server.push("micro/app", "one", &["main-abc1234"]);
    let promotion = server.reaches("prod", "main-abc1234", &["committed"]);
    assert_eq!(promotion["digest"], pushed.digest);
    assert_eq!(promotion["before"], json!({ "tag": "latest" }));
    let expected = OVERLAY.replace(
        "    newTag: latest  # by the build\n",
        &format!("    newTag: main-abc1234  # by the build\n    digest: {}\n", pushed.digest),
    );
    assert_eq!(bare.file(FILE), expected);
    let message = bare.git(&["log", "-1", "--format=%an <%ae>%n%B", "main"]);
    assert_eq!(
        message.trim_end(),
        format!(
            "roadstead[bot] <roadstead[bot]@localhost>\npromote micro/app to main-abc1234 [skip ci]\n\n\
             {FILE}: latest -> main-abc1234@{digest} (micro/app)\n\nPromotion: prod/1\n\
             Promoted-image: micro/app:main-abc1234@{digest}\nPromoted-by: roadstead",
            digest = pushed.digest
        )
    );
    assert_eq!(promotion["commit"], bare.git(&["rev-parse", "main"]).trim());
    // The same again changes nothing.
    server.push("micro/app", "one", &["main-abc1234"]);
    server.push("micro/app", "two", &["main-def5678"]);
    server.reaches("prod", "main-def5678", &["committed"]);
    assert_eq!(bare.log().len(), 3, "{:?}", bare.log());
    let list = server.says(&["promotion", "list"]);
    assert!(list.contains("prod  micro/app   main-def5678"), "{list}");
}

#[test]
fn a_tag_that_moves_is_followed_by_its_digest() {
    let bare = Bare::new();
    let settings = rule("follow", "micro/tinybird-local", "[\"latest\"]", &bare.url(), TINYBIRD, "");
    let server = Server::start(&settings);
    for (week, content) in ["one", "two", "three"].iter().enumerate() {
        let pushed = server.push("micro/tinybird-local", content, &["latest"]);
        until("the digest stands there", || bare.file(FILE).contains(&format!("digest: {}", pushed.digest)).then_some(()));
        assert_eq!(bare.log().len(), 2 + week);
    }
}

#[test]
fn of_several_tags_the_most_specific_is_written_once() {
    let bare = Bare::new();
    let server = Server::start(&(every(&bare.url()) + "[git]\nbatch = \"1s\"\n"));
    server.push("micro/app", "one", &["latest", "main-abc1234", "main"]);
    server.reaches("prod", "main-abc1234", &["committed"]);
    server.reaches("prod", "latest", &["superseded"]);
    let main = server.reaches("prod", "main", &["superseded"]);
    assert_eq!(main["why"], "the same image stands there as main-abc1234");
    assert_eq!(bare.log().len(), 2);
    assert!(of_tag(&bare).starts_with("newTag: main-abc1234"));
}

#[test]
fn an_older_build_that_ends_later_is_superseded() {
    let bare = Bare::new();
    let tags = "[{ regex = \"main-([0-9]+)-[0-9a-f]+\" }]";
    let settings = rule("prod", "micro/app", tags, &bare.url(), ANALYTICS, "order = \"number\"");
    let server = Server::start(&settings);
    server.push("micro/app", "b", &["main-10-bbb"]);
    server.reaches("prod", "main-10-bbb", &["committed"]);
    server.push("micro/app", "a", &["main-9-aaa"]);
    let older = server.reaches("prod", "main-9-aaa", &["superseded"]);
    assert_eq!(older["why"], "main-10-bbb stands there, and is later");
    assert!(of_tag(&bare).starts_with("newTag: main-10-bbb"));
    // Somebody wants it all the same.
    let said = server.says(&["promotion", "run", "prod", "--tag", "main-9-aaa"]);
    assert!(said.starts_with("prod/3 main-9-aaa committed in "), "{said}");
    assert!(of_tag(&bare).starts_with("newTag: main-9-aaa"));
}

#[test]
fn what_somebody_wrote_is_held_and_released() {
    let bare = Bare::new();
    let server = Server::start(&every(&bare.url()));
    server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["committed"]);
    let text = bare.file(FILE).replace("newTag: v1", "newTag: swagger-fix");
    bare.human("pin", &[(FILE, &text)]);
    server.push("micro/app", "two", &["v2"]);
    let held = server.reaches("prod", "v2", &["held"]);
    assert!(held["why"].as_str().unwrap().contains("has swagger-fix@sha256:"), "{held}");
    server.push("micro/app", "three", &["v3"]);
    let waiting = server.reaches("prod", "v3", &["waiting"]);
    assert!(waiting["commit"].is_null());
    assert!(of_tag(&bare).starts_with("newTag: swagger-fix"));
    let list = server.says(&["promotion", "list"]);
    assert!(list.contains(" held ") && list.contains("which somebody else wrote"), "{list}");
    server.says(&["promotion", "release", "prod"]);
    server.reaches("prod", "v3", &["committed"]);
    server.reaches("prod", "v2", &["superseded"]);
    assert!(of_tag(&bare).starts_with("newTag: v3"));
    assert_eq!(bare.log().len(), 4);
}

#[test]
fn a_rollback_is_a_commit_and_stays() {
    let bare = Bare::new();
    let server = Server::start(&every(&bare.url()));
    let first = server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["committed"]);
    let second = server.push("micro/app", "two", &["v2"]);
    server.reaches("prod", "v2", &["committed"]);
    let said = server.says(&["promotion", "rollback", "prod"]);
    assert!(said.starts_with("prod/3 v1 committed in "), "{said}");
    assert!(of_tag(&bare).starts_with("newTag: v1") && bare.file(FILE).contains(&first.digest));
    server.reaches("prod", "v2", &["rolled-back"]);
    // The next push does not undo it.
    server.push("micro/app", "three", &["v3"]);
    server.reaches("prod", "v3", &["waiting"]);
    server.says(&["promotion", "release", "prod"]);
    server.reaches("prod", "v3", &["committed"]);
    // The digest is refused, under whatever tag.
    server.push("micro/app", "two", &["v4"]);
    let refused = server.reaches("prod", "v4", &["refused"]);
    assert!(refused["why"].as_str().unwrap().contains("rolled back from v2 to v1"), "{refused}");
    server.says(&["promotion", "release", "prod", "--digest", &second.digest]);
    server.says(&["promotion", "run", "prod", "--tag", "v4"]);
    assert!(of_tag(&bare).starts_with("newTag: v4"));
}

#[test]
fn an_approval_is_for_a_digest() {
    let bare = Bare::new();
    let settings = rule("prod", "micro/app", "[\"stable\"]", &bare.url(), ANALYTICS, "approval = true");
    let server = Server::start(&settings);
    let first = server.push("micro/app", "one", &["stable"]);
    let waits = server.reaches("prod", "stable", &["waiting"]);
    until("it is asked for", || server.promotion("prod", 1)?["why"].as_str()?.contains("approval").then_some(()));
    assert_eq!(waits["digest"], first.digest);
    // The tag has moved before anybody looked: what is approved now is not the first.
    let second = server.push("micro/app", "two", &["stable"]);
    until("the second waits", || server.promotion("prod", 2)?["why"].as_str()?.contains(&second.digest).then_some(()));
    let late = server.command(&["promotion", "approve", "prod", &first.digest]);
    assert_eq!(bare.log().len(), 1);
    drop(late);
    server.says(&["promotion", "approve", "prod", &second.digest]);
    until("it is committed", || (server.promotion("prod", 2)?["phase"] == "committed").then_some(()));
    assert!(bare.file(FILE).contains(&second.digest));
    let third = server.push("micro/app", "three", &["stable"]);
    until("another one needs its own", || server.promotion("prod", 3)?["why"].as_str()?.contains(&third.digest).then_some(()));
    assert_eq!(bare.log().len(), 2);
}

#[test]
fn stages_follow_one_another() {
    let bare = Bare::new();
    bare.overlay("dev");
    let dev = rule("dev", "micro/app", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, "").replace("overlays/prod", "overlays/dev");
    let prod = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, "after = \"dev\"\nsoak = \"3s\"");
    let server = Server::start(&(dev + &prod));
    server.push("micro/app", "one", &["v1"]);
    let there = server.reaches("dev", "v1", &["committed"]);
    let waits = server.reaches("prod", "v1", &["waiting"]);
    assert!(waits["commit"].is_null());
    let after = server.reaches("prod", "v1", &["committed"]);
    let time = |promotion: &serde_json::Value| -> jiff::Timestamp { promotion["committed"].as_str().unwrap().parse().unwrap() };
    let soaked = time(&after).duration_since(time(&there));
    assert!(soaked >= jiff::SignedDuration::from_secs(3), "{soaked:?}");
    assert_eq!(bare.log().len(), 4);
}

#[test]
fn a_dry_run_shows_the_diff_and_writes_nothing() {
    let bare = Bare::new();
    let server = Server::start(&(every(&bare.url()) + "approval = true\n"));
    let pushed = server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["waiting"]);
    let said = server.says(&["promotion", "run", "prod", "--tag", "v1", "--dry-run"]);
    let expected = format!(
        "# v1 {0} would change {FILE}\n--- a/{FILE}\n+++ b/{FILE}\n@@ -9,7 +9,8 @@\n   - name: tinybirdco/tinybird-local\n     newTag: latest\n   - name: ghost/traffic-analytics\n-    newTag: latest  # by the build\n+    newTag: v1  # by the build\n+    digest: {0}\n \n patchesStrategicMerge:\n   - resource-limits.yaml\n",
        pushed.digest
    );
    assert_eq!(said, expected);
    assert_eq!(server.says(&["promotion", "diff", "prod", "--tag", "v1"]), expected);
    assert_eq!(bare.log().len(), 1);
}

#[test]
fn what_goes_in_a_circle_stops_by_itself() {
    let bare = Bare::new();
    let settings = every(&bare.url()) + "limit = 3\nlimit_within = \"1h\"\n[git]\nbatch = \"0s\"\n";
    let server = Server::start(&settings);
    for number in 1..=4 {
        server.push("micro/app", &number.to_string(), &[&format!("v{number}")]);
        server.reaches("prod", &format!("v{number}"), if number < 4 { &["committed"] } else { &["waiting"] });
    }
    let held = until("it is held", || Some(server.api("promotions/prod")["hold"]["why"].as_str()?.to_owned()));
    assert!(held.contains("3 commits within 3600 s"), "{held}");
    server.says(&["promotion", "release", "prod"]);
    server.reaches("prod", "v4", &["committed"]);
}

#[test]
fn what_is_attached_or_incomplete_is_not_promoted() {
    let bare = Bare::new();
    let server = Server::start(&every(&bare.url()));
    let pushed = server.push("micro/app", "one", &["v1"]);
    let artifact = String::from_utf8(pushed.manifest.clone()).unwrap().replace("oci.image.config.v1", "example.thing.v1");
    assert_eq!(server.put_manifest("micro/app", "chart", artifact.as_bytes()), 201);
    let refused = server.reaches("prod", "chart", &["refused"]);
    assert!(refused["why"].as_str().unwrap().contains("is an artifact"), "{refused}");
    let signature = format!("sha256-{}.sig", &pushed.digest[7..]);
    assert_eq!(server.put_manifest("micro/app", &signature, &pushed.manifest), 201);
    assert_eq!(server.put_manifest("micro/app", "broken", b"{}"), 400);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let shown = server.api("promotions/prod");
    let tags: Vec<&str> = shown["promotions"].as_array().unwrap().iter().filter_map(|one| one["tag"].as_str()).collect();
    assert!(!tags.contains(&signature.as_str()) && !tags.contains(&"broken"), "{tags:?}");
}

#[test]
fn a_platform_that_is_asked_for_must_be_there() {
    let bare = Bare::new();
    let server = Server::start(&(every(&bare.url()) + "platforms = [\"linux/arm64\"]\n"));
    let image = server.push("micro/app", "one", &["v1"]);
    let refused = server.reaches("prod", "v1", &["refused"]);
    assert_eq!(refused["why"], "is for linux/amd64 and not for linux/arm64");
    let index = |platforms: &[(&str, &str)]| {
        let entry = |(digest, architecture): &(&str, &str)| {
            let platform = json!({ "os": "linux", "architecture": architecture });
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": image.manifest.len(), "platform": platform })
        };
        let manifests: Vec<_> = platforms.iter().map(entry).collect();
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string()
    };
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    let sparse = index(&[(&image.digest, "amd64"), (&elsewhere, "arm64")]);
    assert_eq!(server.put_typed("micro/app", "v2", INDEX, sparse.as_bytes()), 201);
    let waits = until("it waits", || server.promotion("prod", 2).filter(|promotion| promotion["why"].is_string()));
    assert_eq!(waits["why"], format!("waits for its content: the image {elsewhere} for linux/arm64"));
    assert_eq!(server.put_typed("micro/app", "v3", INDEX, index(&[(&image.digest, "arm64")]).as_bytes()), 201);
    server.reaches("prod", "v3", &["committed"]);
    assert_eq!(bare.log().len(), 2);
}

#[test]
fn a_tag_that_is_removed_is_not_promoted_any_more() {
    let bare = Bare::new();
    let server = Server::start(&(every(&bare.url()) + "approval = true\n"));
    server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["waiting"]);
    server.delete_tag("micro/app", "v1");
    let gone = server.reaches("prod", "v1", &["superseded"]);
    assert_eq!(gone["why"], "the tag was removed");
}

#[test]
fn what_is_asked_for_in_vain_leaves_nothing_behind() {
    let bare = Bare::new();
    let settings = rule("prod", "micro/app", "[{ glob = \"v*\" }]", &bare.url(), ANALYTICS, "");
    let server = Server::start(&settings);
    server.push("micro/app", "one", &["v1", "other"]);
    server.reaches("prod", "v1", &["committed"]);
    let refused = |arguments: &[&str], why: &str| {
        let output = server.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{said}");
    };
    refused(&["promotion", "run", "prod", "--tag", "other"], "other is none of its tags");
    server.says(&["promotion", "hold", "prod"]);
    server.push("micro/app", "two", &["v2"]);
    server.reaches("prod", "v2", &["waiting"]);
    refused(&["promotion", "run", "prod", "--tag", "v1"], "release it first");
    server.says(&["promotion", "release", "prod"]);
    server.reaches("prod", "v2", &["committed"]);
    assert_eq!(bare.log().len(), 3, "{:?}", bare.log());
    // What a person has changed is seen before the next image comes.
    bare.human("pin", &[(FILE, &bare.file(FILE).replace("newTag: v2", "newTag: mine"))]);
    let output = server.command(&["promotion", "check", "prod"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("which somebody else wrote after v2"), "{said}");
}

#[test]
fn a_rollback_says_so_in_git() {
    let bare = Bare::new();
    let server = Server::start(&every(&bare.url()));
    for tag in ["v1", "v2"] {
        server.push("micro/app", tag, &[tag]);
        server.reaches("prod", tag, &["committed"]);
    }
    server.says(&["promotion", "rollback", "prod"]);
    let text = bare.git(&["log", "-1", "--format=%B", "main"]);
    assert!(text.starts_with("roll back: promote micro/app to v1") && text.contains("\nRolled-back: v2@sha256:"), "{text}");
}
