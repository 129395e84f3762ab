//! Commits in real repositories, and everything that can come between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use promotion::{LandError, Login, Outcome};

use crate::forge::{Bare, FILE, OVERLAY, Promoter, executable, intent};

const ANALYTICS: &str = "ghost/traffic-analytics";
const TINYBIRD: &str = "tinybirdco/tinybird-local";

#[tokio::test]
async fn a_promotion_is_one_commit_of_one_line() {
    let bare = Bare::new();
    let promoter = Promoter::plain(&bare.url()).await;
    let outcomes = promoter.promote(&[intent(ANALYTICS, "main-abc1234")]).await.unwrap();
    let [Outcome::Committed { commit, path, before, after, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((path.as_str(), before.tag.as_deref(), after.tag.as_deref()), (FILE, Some("latest"), Some("main-abc1234")));
    assert_eq!(bare.git(&["rev-parse", "main"]).trim(), commit.as_str());
    assert_eq!(bare.file(FILE), OVERLAY.replace("newTag: latest  #", "newTag: main-abc1234  #"));
    let stat = bare.git(&["show", "--numstat", "--format=%an <%ae> %cn %at%n%B", "main"]);
    assert_eq!(
        stat.trim(),
        format!("roadstead <roadstead@localhost> roadstead 1771200000\npromote main-abc1234\n\n\n1\t1\t{FILE}")
    );
    // Again it is there already.
    let outcomes = promoter.promote(&[intent(ANALYTICS, "main-abc1234")]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Present { commit: there, .. }] if there == commit), "{outcomes:?}");
    assert_eq!(bare.log().len(), 2);
}

#[tokio::test]
async fn several_edits_make_one_commit_and_what_is_refused_stops_no_other() {
    let bare = Bare::new();
    bare.human(
        "second",
        &[("a/kustomization.yaml", "images: []\n"), ("a/kustomization.yml", "images: []\n"), ("b/Kustomization", "images: {}\n")],
    );
    let promoter = Promoter::plain(&bare.url()).await;
    let at = |path: &str| promotion::Intent { path: path.to_owned(), ..intent(ANALYTICS, "v2") };
    let intents = [intent(ANALYTICS, "v1"), at("a"), at("b"), at("none"), intent(TINYBIRD, "v3")];
    let outcomes = promoter.promote(&intents).await.unwrap();
    let refusals: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Refused { refusal, .. } => Some(refusal.to_string()),
            _ => None,
        })
        .collect();
    assert!(
        refusals[0].contains("takes only one")
            && refusals[1].contains("no list")
            && refusals[2].contains("not in the repository")
    );
    assert_eq!(bare.log(), ["first", "second", "promote v1 v3"]);
}

#[tokio::test]
async fn a_place_has_one_writer_in_a_commit_and_a_path_stays_inside() {
    let bare = Bare::new();
    let promoter = Promoter::plain(&bare.url()).await;
    let at = |path: &str| promotion::Intent { path: path.to_owned(), ..intent(TINYBIRD, "v3") };
    let intents = [intent(ANALYTICS, "v1"), intent(ANALYTICS, "v2"), at("../x.yaml"), at("/x.yaml"), at("./k8s//overlays/prod/")];
    let outcomes = promoter.promote(&intents).await.unwrap();
    let refused =
        |outcome: &Outcome, text: &str| matches!(outcome, Outcome::Refused { refusal, .. } if refusal.why.contains(text));
    assert!(refused(&outcomes[0], "another promotion") && refused(&outcomes[2], "no path") && refused(&outcomes[3], "no path"));
    assert!(matches!(&outcomes[1], Outcome::Committed { .. }) && matches!(&outcomes[4], Outcome::Committed { .. }));
    // Once more nothing is left to do: no commit without a change.
    promoter.promote(&intents).await.unwrap();
    let again = promoter.promote(&[intent(ANALYTICS, "v2"), intent(TINYBIRD, "v3")]).await.unwrap();
    assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Present { .. })), "{again:?}");
    assert_eq!(bare.log().len(), 2);
}

#[tokio::test]
async fn the_locks_of_a_git_that_was_killed_stop_nobody() {
    let bare = Bare::new();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("git");
    executable(
        &program,
        &format!(
            "#!/bin/sh\nif [ \"$1\" = fetch ] && mkdir {0}/once 2>/dev/null; then touch $GIT_DIR/shallow.lock $GIT_DIR/edited.lock; sleep 600; fi\nexec /usr/bin/git \"$@\"\n",
            folder.path().display()
        ),
    );
    let promoter = Promoter::new(&bare.url(), Login::Nobody, &program, Duration::from_secs(3)).await;
    assert!(promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap_err().to_string().contains("did not end"));
    let outcomes = promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Committed { .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn links_are_not_followed() {
    let bare = Bare::new();
    let clone = tempfile::tempdir().unwrap();
    crate::forge::git(clone.path(), &["clone", "--quiet", &bare.url(), "."]);
    std::os::unix::fs::symlink("/etc/passwd", clone.path().join("link.yaml")).unwrap();
    crate::forge::git(clone.path(), &["add", "."]);
    crate::forge::git(clone.path(), &["-c", "user.name=h", "-c", "user.email=h@h", "commit", "--quiet", "-m", "link"]);
    crate::forge::git(clone.path(), &["push", "--quiet", "origin", "HEAD:main"]);
    let promoter = Promoter::plain(&bare.url()).await;
    let link = promotion::Intent { path: "link.yaml".to_owned(), ..intent(ANALYTICS, "v1") };
    let outcomes = promoter.promote(&[link, intent(ANALYTICS, "v2")]).await.unwrap();
    assert!(matches!(&outcomes[0], Outcome::Refused { refusal, .. } if refusal.why.contains("is a link")), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Outcome::Committed { .. }), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_is_run_again_on_what_the_other_wrote() {
    let bare = Bare::new();
    let folder = tempfile::tempdir().unwrap();
    // Before the first push somebody else is faster.
    let other = format!(
        "d=$(mktemp -d); cd $d; unset GIT_DIR; git clone -q {url} . && echo x > new && git add new && git -c user.name=h -c user.email=h@h commit -qm human && git push -q origin HEAD:main",
        url = bare.url()
    );
    let program = folder.path().join("git");
    executable(
        &program,
        &format!(
            "#!/bin/sh\nif [ \"$1\" = push ] && mkdir {0}/once 2>/dev/null; then (PATH=/usr/local/bin:/usr/bin:/bin; {other}) >/dev/null 2>&1; fi\nexec /usr/bin/git \"$@\"\n",
            folder.path().display()
        ),
    );
    let promoter = Promoter::new(&bare.url(), Login::Nobody, &program, Duration::from_secs(30)).await;
    let outcomes = promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Committed { .. }]), "{outcomes:?}");
    assert_eq!(bare.log(), ["first", "human", "promote v2"]);
    assert!(bare.is_linear());
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_not_made_twice() {
    let bare = Bare::new();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("git");
    executable(
        &program,
        "#!/bin/sh\n[ \"$1\" = push ] || exec /usr/bin/git \"$@\"\n/usr/bin/git \"$@\" >/dev/null 2>&1\necho 'fatal: the remote end hung up unexpectedly' >&2\nexit 128\n",
    );
    let promoter = Promoter::new(&bare.url(), Login::Nobody, &program, Duration::from_secs(30)).await;
    let outcomes = promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap();
    assert!(matches!(&outcomes[..], [Outcome::Committed { .. }]), "{outcomes:?}");
    assert_eq!(bare.log(), ["first", "promote v2"]);
}

#[tokio::test]
async fn what_the_server_does_not_want_is_told_in_its_words_and_not_tried_again() {
    let bare = Bare::new();
    let count = bare.folder.path().join("count");
    executable(
        &bare.path().join("hooks/pre-receive"),
        &format!("#!/bin/sh\necho x >> {}\necho 'main is protected' >&2\nexit 1\n", count.display()),
    );
    let promoter = Promoter::plain(&bare.url()).await;
    let error = promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap_err();
    assert!(matches!(&error, LandError::Refused(reason) if reason.contains("main is protected")), "{error}");
    assert!(error.to_string().contains("hook declined"), "{error}");
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\n");
    assert_eq!(bare.log(), ["first"]);
}

#[tokio::test]
async fn a_git_that_hangs_is_ended_with_all_that_it_started() {
    let bare = Bare::new();
    let folder = tempfile::tempdir().unwrap();
    let (program, marker) = (folder.path().join("git"), folder.path().join("pid"));
    executable(
        &program,
        &format!(
            "#!/bin/sh\n[ \"$1\" = fetch ] || exec /usr/bin/git \"$@\"\nsleep 600 &\necho $! > {}\nwait\n",
            marker.display()
        ),
    );
    let promoter = Promoter::new(&bare.url(), Login::Nobody, &program, Duration::from_millis(500)).await;
    let error = promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap_err();
    assert!(error.to_string().contains("did not end within"), "{error}");
    let pid = fs::read_to_string(&marker).unwrap();
    for _ in 0..100 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what git started is still there");
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let bare = Bare::new();
    let gone = Promoter::plain("file:///nowhere/repo.git").await;
    let error = gone.promote(&[intent(ANALYTICS, "v2")]).await.unwrap_err();
    assert!(error.to_string().contains("does not appear to be a git repository"), "{error}");
    let remote = promotion::Remote::new(&bare.url(), "other", Login::Nobody).unwrap();
    let promoter = Promoter::of(remote, Path::new("git"), Duration::from_secs(30)).await;
    let error = promoter.promote(&[intent(ANALYTICS, "v2")]).await.unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
    assert_eq!(promoter.ask().await, None);
}

/// `ROADSTEAD_SERVERS` servers (4 if unset) each promote `ROADSTEAD_BURST` tags (6 if unset) of their own, while a human commits.
#[tokio::test(flavor = "multi_thread")]
async fn many_servers_and_a_human_lose_nothing() {
    let number = |name: &str, unset: usize| std::env::var(name).map_or(unset, |text| text.parse().unwrap());
    let (servers, burst) = (number("ROADSTEAD_SERVERS", 4), number("ROADSTEAD_BURST", 6));
    let bare = std::sync::Arc::new(Bare::new());
    let tasks: Vec<_> = (0..servers)
        .map(|server| {
            let url = bare.url();
            tokio::spawn(async move {
                let promoter = Promoter::plain(&url).await;
                for round in 0..burst {
                    let wanted = intent(&format!("server/{server}"), &format!("v{round}"));
                    let outcomes = promoter.promote(&[wanted]).await.unwrap();
                    assert!(matches!(&outcomes[..], [Outcome::Committed { .. }]), "{outcomes:?}");
                }
            })
        })
        .collect();
    let human = std::sync::Arc::clone(&bare);
    let human = tokio::task::spawn_blocking(move || {
        for number in 0..burst {
            human.human(&format!("human {number}"), &[(&format!("human/{number}"), "x\n")]);
        }
    });
    for task in tasks {
        task.await.unwrap();
    }
    human.await.unwrap();
    assert!(bare.is_linear());
    assert_eq!(bare.log().len(), 1 + burst + servers * burst);
    let file = bare.file(FILE);
    for server in 0..servers {
        assert!(file.contains(&format!("  - name: server/{server}\n    newTag: v{}\n", burst - 1)), "{file}");
    }
}
