//! Many servers, each with its own store, and one branch.

use std::fmt::Write as _;
use std::time::Duration;

use crate::forge::{Bare, FILE};
use crate::server::{Server, rule, until_within};

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn image(server: usize, place: usize) -> String {
    format!("image-{server}-{place}")
}

/// A kustomization with a place for each, and the servers that write there.
fn servers(bare: &Bare, count: usize, places: usize) -> Vec<Server> {
    let mut text = "kind: Kustomization\nimages:\n".to_owned();
    for server in 0..count {
        for place in 0..places {
            let _ = write!(text, "  - name: {}\n    newTag: none\n", image(server, place));
        }
    }
    bare.human("places", &[(FILE, &text)]);
    let settings = |server| {
        let section = |place| {
            let (name, repository) = (format!("p{place}"), format!("micro/app{place}"));
            rule(&name, &repository, "[{ glob = \"*\" }]", &bare.url(), &image(server, place), "limit = 1000")
        };
        (0..places).map(section).collect::<String>()
    };
    (0..count).map(|server| Server::start(&settings(server))).collect()
}

#[test]
fn servers_that_burst_into_one_branch_lose_nothing() {
    let (count, places) = (number("ROADSTEAD_SERVERS", 3), number("ROADSTEAD_BURST", 8));
    let bare = Bare::new();
    let servers = servers(&bare, count, places);
    std::thread::scope(|scope| {
        for server in &servers {
            scope.spawn(move || {
                for place in 0..places {
                    server.push(&format!("micro/app{place}"), &format!("{place}"), &["v1"]);
                }
            });
        }
        for turn in 0..5 {
            std::thread::sleep(Duration::from_millis(300));
            bare.human(&format!("human {turn}"), &[("notes.md", &format!("{turn}\n"))]);
        }
    });
    let mut commits = std::collections::BTreeSet::new();
    for server in &servers {
        for place in 0..places {
            let name = format!("p{place}");
            let committed = until_within(Duration::from_mins(5), "all have landed", || {
                server.promotion(&name, 1).filter(|one| one["phase"] == "committed")
            });
            commits.insert(committed["commit"].as_str().unwrap().to_owned());
        }
    }
    let text = bare.file(FILE);
    assert_eq!(text.matches("newTag: v1").count(), count * places);
    assert_eq!(text.matches("digest: sha256:").count(), count * places);
    assert!(!text.contains("newTag: none") && bare.is_linear());
    // Each promotion is named by one commit, and no commit is anybody's but ours and the human's.
    let bodies = bare.git(&["log", "--format=%B", "main"]);
    assert_eq!(bodies.lines().filter(|line| line.starts_with("Promotion: ")).count(), count * places);
    assert_eq!(bare.log().len(), commits.len() + 7);
    eprintln!("{count} servers, {places} promotions each, {} commits", commits.len());
}

/// Not a test of time, which is told: what must hold is that all arrive.
#[test]
fn one_promotion_after_the_other_over_all_servers() {
    let (count, turns) = (number("ROADSTEAD_SERVERS", 3), number("ROADSTEAD_TURNS", 6));
    let bare = Bare::new();
    let servers = servers(&bare, count, 1);
    for turn in 0..turns {
        servers[turn % count].push("micro/app0", &turn.to_string(), &[&format!("t{turn}")]);
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut took = Vec::new();
    for turn in 0..turns {
        let promotion = servers[turn % count].reaches("p0", &format!("t{turn}"), &["committed"]);
        took.push(promotion["duration_ms"].as_u64().unwrap());
    }
    took.sort_unstable();
    eprintln!("from push to commit: median {} ms, longest {} ms", took[turns / 2], took[turns - 1]);
    assert_eq!(bare.log().len(), turns + 2);
    assert!(bare.is_linear());
}
