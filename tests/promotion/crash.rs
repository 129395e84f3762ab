//! `kill -9` at every step of a promotion: after the restart each ends exactly once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::forge::{Bare, executable};
use crate::server::{Server, rule, until};

/// A git that kills the server at a step, when it is told to.
struct Killer {
    folder: tempfile::TempDir,
}

impl Killer {
    fn new() -> Self {
        let killer = Self { folder: tempfile::tempdir().unwrap() };
        let told = killer.folder.path().join("told");
        let text = format!(
            "#!/bin/sh\n# told has the step and whether it is done before.\nstep=; for word in \"$@\"; do case $word in -*|*=*) ;; *) step=$word; break ;; esac; done\n\
             read -r at when 2>/dev/null < {0} || exec git \"$@\"\n[ \"$at\" = \"$step\" ] || exec git \"$@\"\nrm {0}\n\
             [ \"$when\" = after ] && git \"$@\" > /dev/null 2>&1\nkill -9 $PPID\nsleep 5\n",
            told.display()
        );
        executable(&killer.program(), &text);
        killer
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("git")
    }

    fn tell(&self, step: &str, when: &str) {
        fs::write(self.folder.path().join("told"), format!("{step} {when}\n")).unwrap();
    }

    fn is_done(&self) -> bool {
        !self.folder.path().join("told").exists()
    }
}

fn settings(bare: &Bare, program: &Path) -> String {
    let rule = rule("prod", "micro/app", "[{ glob = \"*\" }]", &bare.url(), "ghost/traffic-analytics", "limit = 1000");
    format!("{rule}[git]\nprogram = \"{}\"\nbatch = \"0s\"\n", program.display())
}

/// Each of these was promoted once: in the ledger and in Git.
fn once(server: &Server, bare: &Bare, tags: &[String]) {
    let log = bare.log();
    let shown = server.api("promotions/prod");
    for tag in tags {
        let commits = log.iter().filter(|subject| subject.contains(&format!("to {tag} "))).count();
        assert_eq!(commits, 1, "{tag}: {log:?}");
        let of_tag: Vec<_> = shown["promotions"].as_array().unwrap().iter().filter(|one| one["tag"] == **tag).collect();
        // The oldest are forgotten.
        assert!(of_tag.len() <= 1, "{of_tag:?}");
        assert!(of_tag.iter().all(|one| one["phase"] == "committed"), "{of_tag:?}");
    }
    assert_eq!(log.len(), tags.len() + 1, "{log:?}");
    assert!(bare.is_linear());
    assert_eq!(fs::read_dir(server.folder.path().join("data/journal")).map_or(0, Iterator::count), 0, "the journal is empty");
}

#[test]
fn a_server_killed_at_any_step_of_git_finishes_what_it_began() {
    let (bare, killer) = (Bare::new(), Killer::new());
    let mut server = Server::start(&settings(&bare, &killer.program()));
    let mut tags = Vec::new();
    for (step, when) in [
        ("init", "before"),
        ("fetch", "before"),
        ("ls-tree", "after"),
        ("hash-object", "after"),
        ("commit-tree", "after"),
        ("push", "before"),
        ("push", "after"),
    ] {
        if step == "init" {
            // The cache is made when it is first needed.
            server.kill();
            server.begin();
        }
        killer.tell(step, when);
        let tag = format!("{step}-{when}");
        server.push("micro/app", &tag, &[&tag]);
        until(&format!("git is at {tag}"), || killer.is_done().then_some(()));
        server.kill();
        server.begin();
        let promotion = server.reaches("prod", &tag, &["committed"]);
        assert_eq!(promotion["commit"], bare.git(&["rev-parse", "main"]).trim(), "{tag}");
        tags.push(tag);
    }
    once(&server, &bare, &tags);
}

#[test]
fn a_server_killed_at_any_moment_loses_no_push_and_promotes_none_twice() {
    let kills = std::env::var("ROADSTEAD_KILLS").map_or(10, |kills| kills.parse::<u32>().unwrap());
    let bare = Bare::new();
    let mut server = Server::start(&settings(&bare, Path::new("git")));
    let mut tags = Vec::new();
    for number in 0..kills {
        let tag = format!("v{number}");
        server.push("micro/app", &tag, &[&tag]);
        // From the moment of the answer to after the commit, which takes some 60 ms.
        let wait = Duration::from_millis(u64::from(number) * 37 % 150);
        std::thread::sleep(wait);
        server.kill();
        server.begin();
        server.reaches("prod", &tag, &["committed"]);
        tags.push(tag);
    }
    once(&server, &bare, &tags);
}
