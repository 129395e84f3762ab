//! G12 and G13: lists of tags and of repositories.

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::Value;

use crate::client::Client;
use crate::goal::Bound::{AtLeast, AtMost};
use crate::goal::Criterion;
use crate::machine::{Processors, now, since};
use crate::push::REGISTRIES;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::{Set, TAGGED, TAGS, tag};
use crate::server::Kind;
use crate::stage::{Stage, rounds};
use crate::stats::{count as number, float};

const REPOSITORIES: usize = 1000;
const PAGE: usize = 100;
const COLUMNS: [Column; 3] = [column("time", "ms each"), column("cpu", "CPU-ms each"), column("entries", "entries each")];

/// What is asked for.
#[derive(Clone, Copy)]
struct List {
    set: Set,
    /// The list's name in the answer.
    key: &'static str,
    /// Whether all of it is wanted, and not one page: a server that gives it in pages is asked for each of them.
    whole: bool,
}

/// Reads a list and counts its entries, if it is told how.
fn read(client: &mut Client, path: String, whole: bool, key: Option<&str>) -> Result<usize> {
    let (mut next, mut entries) = (Some(path), 0);
    while let Some(path) = next {
        let answer = client.expect(200, "GET", &path, "", &[])?;
        if let Some(key) = key {
            let list: Value = serde_json::from_slice(&answer.body)?;
            entries += list[key].as_array().with_context(|| format!("no list of {key}"))?.len();
        }
        next = answer.next.filter(|_| whole);
    }
    Ok(entries)
}

/// Asks every server for a list again and again, one request after another.
fn measure(stage: &Stage, count: usize, list: List, path: impl Fn(&mut SmallRng) -> String) -> Result<Samples> {
    let List { set, key, whole } = list;
    let servers = stage.field(&REGISTRIES, set, Processors::Pinned)?;
    let mut random = SmallRng::seed_from_u64(12);
    rounds(&servers, count, |server, samples| {
        let mut client = Client::connect(server.port)?;
        let entries = read(&mut client, path(&mut random), whole, Some(key))?;
        let (begin, used) = (now(), server.cpu()?);
        let mut asked = 0;
        while since(begin) < stage.window().length {
            read(&mut client, path(&mut random), whole, None)?;
            asked += 1;
        }
        let (time, cpu) = (since(begin), server.cpu()?.saturating_sub(used));
        samples.push(server.kind, "time", time.as_secs_f64() * 1000.0 / float(asked));
        samples.push(server.kind, "cpu", cpu.as_secs_f64() * 1000.0 / float(asked));
        samples.push(server.kind, "entries", number(entries));
        Ok(())
    })
}

/// What both lists of tags and the list of repositories are held to.
fn judge(goal: &'static str, what: &str, samples: &Samples, wish: f64) -> Vec<Criterion> {
    let ours = samples.of(Kind::Roadstead, "time").to_vec();
    vec![
        Criterion::must(goal, format!("v3's CPU ÷ ours, {what}"), AtLeast(100.0), samples.over_ours(Kind::V3, "cpu")),
        Criterion::held(goal, format!("v3's time ÷ ours, {what}"), AtLeast(100.0), samples.over_ours(Kind::V3, "time")),
        Criterion::wish(goal, format!("time, {what}"), AtMost(wish), ours).unit("ms"),
    ]
}

fn check(samples: &Samples, entries: usize) -> Result<()> {
    let right = samples.of(Kind::Roadstead, "entries").iter().all(|found| (found - number(entries)).abs() < 0.5);
    ensure!(right, "our list has not {entries} entries");
    Ok(())
}

/// G12: ten thousand tags, all of them, and pages from anywhere.
pub(crate) fn tags(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let list = List { set: Set::Tags, key: "tags", whole: true };
    let full = measure(stage, count, list, |_| format!("/v2/{TAGGED}/tags/list"))?;
    check(&full, TAGS)?;
    let title = format!("tags/list of {TAGS} tags, pinned, 1 connection; who gives it in pages is asked for all of them:");
    outcome.add("tags, full", &full, full.table(title, &COLUMNS, ("cpu", "CPU")));
    // The last page would be shorter than the others.
    let page = |random: &mut SmallRng| {
        let after = random.random_range(0..TAGS - PAGE - 1);
        format!("/v2/{TAGGED}/tags/list?n={PAGE}&last={}", tag(after))
    };
    let pages = measure(stage, count, List { whole: false, ..list }, page)?;
    check(&pages, PAGE)?;
    let title = format!("tags/list?n={PAGE} from anywhere in {TAGS} tags (distribution 2.8 does not heed `n`):");
    outcome.add("tags, pages", &pages, pages.table(title, &COLUMNS, ("cpu", "CPU")));
    outcome.criteria = [judge("G12", "full", &full, 0.3), judge("G12", "a page", &pages, 0.1)].concat();
    Ok(outcome)
}

/// G13: a thousand repositories.
pub(crate) fn repositories(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let path = format!("/v2/_catalog?n={REPOSITORIES}");
    let list = List { set: Set::Repositories(REPOSITORIES), key: "repositories", whole: false };
    let samples = measure(stage, count, list, |_| path.clone())?;
    check(&samples, REPOSITORIES)?;
    let title = format!("_catalog?n={REPOSITORIES} of {REPOSITORIES} repositories, pinned, 1 connection:");
    outcome.add("catalog", &samples, samples.table(title, &COLUMNS, ("cpu", "CPU")));
    outcome.criteria = judge("G13", "all", &samples, 0.2);
    Ok(outcome)
}
