//! How the two pipelines failed that this server replaces, each failure once in the old way and once in ours.
//!
//! Elsewhere: the sed that cuts the overlay in two (`kustomize.rs`), what somebody pinned and an older build that ends later
//! (`flow.rs`), the index that becomes one image (`tests/mirror/pipeline.rs`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::forge::{Bare, FILE, OVERLAY, executable, git};
use crate::server::{Server, rule, until};

const ANALYTICS: &str = "ghost/traffic-analytics";
const TINYBIRD: &str = "tinybirdco/tinybird-local";
/// The plain manifest of the second pipeline.
const BACKEND: &str = "apps/backend/deployment.yaml";
const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: task-api
spec:
  template:
    spec:
      containers:
        - name: task-api
          image: \"registry.local:5000/task-api:old\"  # set by the build
        - name: proxy
          image: registry.local:5000/proxy:1
";

/// A script in a clone of the branch, as a step of a workflow runs. Gives whether it ended well.
fn step(bare: &Bare, script: &str, environment: &[(&str, &str)]) -> bool {
    let clone = tempfile::tempdir().unwrap();
    git(clone.path(), &["clone", "--quiet", &bare.url(), "."]);
    for (key, value) in [("user.name", "bot"), ("user.email", "bot@h")] {
        git(clone.path(), &["config", key, value]);
    }
    let mut command = Command::new("bash");
    command.args(["-ec", script]).current_dir(clone.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.envs(environment.iter().copied()).output().unwrap().status.success()
}

fn settings(bare: &Bare) -> String {
    rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, "")
}

fn of_backend(bare: &Bare) -> String {
    let edit = format!("edit = {{ manifest = \"{BACKEND}\", object = \"task-api\", container = \"task-api\", write = \"tag\" }}");
    let kustomization = format!("edit = {{ kustomization = \"k8s/overlays/prod\", image = \"{ANALYTICS}\" }}");
    settings(bare).replace(&kustomization, &edit)
}

/// A forge that builds each commit to main that does not ask it not to: the names of the images are in a file.
fn building_forge(bare: &Bare) -> std::path::PathBuf {
    let builds = bare.folder.path().join("builds");
    fs::write(&builds, "").unwrap();
    let hook = format!(
        "#!/bin/bash\nwhile read -r old new ref; do\n  git log -1 --format=%B \"$new\" | grep -qE '\\[(skip ci|ci skip|no ci|skip actions|actions skip)\\]' \
         || echo \"main-${{new:0:7}}\" >> {}\ndone\n",
        builds.display()
    );
    executable(&bare.path().join("hooks/post-receive"), &hook);
    builds
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_commit_of_the_bot_starts_no_build_that_commits_again() {
    let old = Bare::new();
    let builds = building_forge(&old);
    old.human("a change", &[("readme.md", "1\n")]);
    // The job of the pipeline, for each build there is; without the limit it would go on for ever.
    for turn in 0..5 {
        let tag = lines(&builds)[turn].clone();
        let script = "sed -i '/traffic-analytics/{n;s/newTag: .*/newTag: '$TAG'/}' k8s/overlays/prod/kustomization.yaml\n\
                      git diff --quiet || git commit -qam \"chore: update image tags to $TAG\"\ngit push -q origin HEAD:main";
        assert!(step(&old, script, &[("TAG", &tag)]));
    }
    assert_eq!(lines(&builds).len(), 6, "each commit was built and committed again");

    let bare = Bare::new();
    let builds = building_forge(&bare);
    let server = Server::start(&settings(&bare));
    bare.human("a change", &[("readme.md", "1\n")]);
    let tag = lines(&builds)[0].clone();
    server.push("micro/app", &tag, &[&tag]);
    server.reaches("prod", &tag, &["committed"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((lines(&builds).len(), bare.log().len()), (1, 3));
}

#[test]
fn a_weekly_mirror_rolls_out() {
    let old = Bare::new();
    let script =
        "sed -i '/tinybird-local/{n;s/newTag: .*/newTag: latest/}' k8s/overlays/prod/kustomization.yaml\ngit commit -qam week";
    assert!(!step(&old, script, &[]), "there was nothing to commit, whatever the image was");

    let bare = Bare::new();
    let server = Server::start(&rule("weekly", "micro/tinybird-local", "[\"latest\"]", &bare.url(), TINYBIRD, ""));
    for week in ["first", "second"] {
        let pushed = server.push("micro/tinybird-local", week, &["latest"]);
        until("it rolls out", || bare.file(FILE).contains(&pushed.digest).then_some(()));
    }
    // And the old way cannot be asked for.
    let folder = tempfile::tempdir().unwrap();
    let text = rule("weekly", "a", "[\"latest\"]", &bare.url(), TINYBIRD, "").replace("\" }\n\n", "\", write = \"tag\" }\n");
    fs::write(folder.path().join("r.toml"), text).unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_roadstead")).args(["check", "--config"]).arg(folder.path().join("r.toml")).output();
    let said = String::from_utf8(check.unwrap().stderr).unwrap();
    assert!(said.contains("writes \"latest\" each time"), "{said}");
}

#[test]
fn a_commit_that_lands_during_the_build_fails_nothing() {
    let old = Bare::new();
    let meanwhile = format!(
        "other=$(mktemp -d); git clone -q {} $other; (cd $other; date +%s%N > notes; git add -A; git -c user.name=h -c user.email=h@h commit -qm human; git push -q origin HEAD:main); rm -r $other",
        old.url()
    );
    let script = format!(
        "{meanwhile}\nsed -i 's/newTag: latest/newTag: new/' k8s/overlays/prod/kustomization.yaml\ngit commit -qam bump\ngit push -q origin HEAD:main"
    );
    assert!(!step(&old, &script, &[]), "the push was refused, and the job with it");

    let bare = Bare::new();
    // Somebody commits each time between our look and our push, three times.
    let program = bare.folder.path().join("git");
    let left = bare.folder.path().join("left");
    fs::write(&left, "xxx").unwrap();
    let text = format!(
        "#!/bin/bash\nif [[ \" $* \" == *' push '* && -s {0} ]]; then\n  truncate -s -1 {0}\n  env -i PATH=\"$PATH\" HOME=/ bash -ec '{1}' > /dev/null\nfi\nexec git \"$@\"\n",
        left.display(),
        meanwhile.replace(&old.url(), &bare.url())
    );
    executable(&program, &text);
    let server = Server::start(&(settings(&bare) + &format!("[git]\nprogram = \"{}\"\n", program.display())));
    server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["committed"]);
    assert_eq!(bare.log().iter().filter(|subject| *subject == "human").count(), 3);
    assert!(bare.file(FILE).contains("newTag: v1") && bare.is_linear());
}

#[test]
fn a_release_is_promoted() {
    let bare = Bare::new();
    let releases = rule("release", "micro/app", "[{ semver = \"*\" }]", &bare.url(), ANALYTICS, "");
    let server = Server::start(&releases);
    // As the pipeline tags them, in this order, and a branch beside them.
    server.push("micro/app", "one", &["v1.2.0", "1", "1.2", "main"]);
    server.reaches("release", "v1.2.0", &["committed"]);
    server.push("micro/app", "two", &["v1.10.0"]);
    server.reaches("release", "v1.10.0", &["committed"]);
    server.push("micro/app", "fix", &["v1.9.1"]);
    server.reaches("release", "v1.9.1", &["superseded"]);
    assert!(bare.file(FILE).contains("newTag: v1.10.0"));
    let shown = server.api("promotions/release");
    assert!(shown["promotions"].as_array().unwrap().iter().all(|one| one["tag"] != "main"), "{shown}");
}

#[test]
fn a_commit_names_the_source_that_the_image_was_built_from() {
    let bare = Bare::new();
    let more = "message = \"bump to {tag}\\n\\nSource: {label:org.opencontainers.image.source} {label:org.opencontainers.image.revision}\"";
    let server = Server::start(&rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), ANALYTICS, more));
    let labels = serde_json::json!({
        "org.opencontainers.image.source": "https://github.com/TryGhost/TrafficAnalytics",
        "org.opencontainers.image.revision": "0123abc",
    });
    server.push_labelled("micro/app", "one", &["v1"], &labels);
    server.reaches("prod", "v1", &["committed"]);
    let message = bare.git(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("\n\nSource: https://github.com/TryGhost/TrafficAnalytics 0123abc\n\n"), "{message}");
}

#[test]
fn an_image_that_is_not_there_is_not_promoted() {
    let old = Bare::new();
    let script = "sed -i 's/newTag: latest/newTag: never-pushed/' k8s/overlays/prod/kustomization.yaml\ngit commit -qam bump\ngit push -q origin HEAD:main";
    assert!(step(&old, script, &[]) && old.file(FILE).contains("never-pushed"));

    let bare = Bare::new();
    let server = Server::start(&settings(&bare));
    server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["committed"]);
    let output = server.command(&["promotion", "run", "prod", "--tag", "never-pushed"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("micro/app:never-pushed is not here"), "{said}");
    // Nor a name that no tag can have, as branches make them.
    assert_eq!(server.put_manifest("micro/app", "-12-x", b"{}"), 400);
    assert_eq!(bare.log().len(), 2);
}

#[test]
fn an_empty_tag_is_never_written() {
    let old = Bare::new();
    old.human("backend", &[(BACKEND, DEPLOYMENT)]);
    // The variable was replaced by nothing before the shell saw it.
    let script = "IMAGE_TAG=\nsed -i \"s|image: .*task-api:.*|image: registry.local:5000/task-api:${IMAGE_TAG}|\" apps/backend/deployment.yaml\n\
                  git commit -qam \"ci: bump task-api image to ${IMAGE_TAG}\"\ngit push -q origin HEAD:main";
    assert!(step(&old, script, &[]));
    assert!(old.file(BACKEND).contains("image: registry.local:5000/task-api:\n"), "an image without a tag, synced at once");

    let bare = Bare::new();
    bare.human("backend", &[(BACKEND, DEPLOYMENT)]);
    let server = Server::start(&of_backend(&bare));
    let pushed = server.push("micro/app", "one", &["abc1234"]);
    server.reaches("prod", "abc1234", &["committed"]);
    assert_eq!(server.put_manifest("micro/app", "", &pushed.manifest), 400);
    let output = server.command(&["promotion", "run", "prod", "--tag", ""]);
    assert!(!output.status.success(), "{output:?}");
    // One line has changed, in its own quotes and with its comment, which six commits of the pipeline did not reach.
    assert_eq!(bare.file(BACKEND), DEPLOYMENT.replace("task-api:old", "task-api:abc1234"));
    assert!(bare.git(&["log", "-1", "--format=%s", "main"]).contains("abc1234"));
}

#[test]
fn what_somebody_pinned_stays() {
    let old = Bare::new();
    let pinned = DEPLOYMENT.replace("task-api:old", "task-api:swagger-fix");
    old.human("pin", &[(BACKEND, &pinned)]);
    let script = "sed -i 's|image: .*task-api:.*|image: registry.local:5000/task-api:new|' apps/backend/deployment.yaml\ngit commit -qam bump\ngit push -q origin HEAD:main";
    assert!(step(&old, script, &[]) && !old.file(BACKEND).contains("swagger-fix"), "the next run overwrote it");

    let bare = Bare::new();
    bare.human("backend", &[(BACKEND, DEPLOYMENT)]);
    let server = Server::start(&of_backend(&bare));
    server.push("micro/app", "one", &["v1"]);
    server.reaches("prod", "v1", &["committed"]);
    bare.human("pin", &[(BACKEND, &pinned)]);
    server.push("micro/app", "two", &["v2"]);
    server.reaches("prod", "v2", &["held"]);
    assert_eq!(bare.file(BACKEND), pinned);
    assert!(OVERLAY.contains("patchesStrategicMerge"));
}
