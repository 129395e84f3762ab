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

/// Asks every server for a list again and again, one request after another. `key` is the list's name in the answer.
fn measure(stage: &Stage, count: usize, set: Set, key: &str, path: impl Fn(&mut SmallRng) -> String) -> Result<Samples> {
    let servers = stage.field(&REGISTRIES, set, Processors::Pinned)?;
    let mut random = SmallRng::seed_from_u64(12);
    rounds(&servers, count, |server, samples| {
        let mut client = Client::connect(server.port)?;
        let answer = client.expect(200, "GET", &path(&mut random), "", &[])?;
        let list: Value = serde_json::from_slice(&answer.body)?;
        let entries = list[key].as_array().with_context(|| format!("no list of {key}"))?.len();
        let (begin, used) = (now(), server.cpu()?);
        let mut asked = 0;
        while since(begin) < stage.window().length {
            let answer = client.ask("GET", &path(&mut random), "", &[])?;
            ensure!(answer.status == 200, "a list: {}", answer.status);
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
    let full = measure(stage, count, Set::Tags, "tags", |_| format!("/v2/{TAGGED}/tags/list"))?;
    check(&full, TAGS)?;
    let title = format!("tags/list of {TAGS} tags, pinned, 1 connection:");
    outcome.add("tags, full", &full, full.table(title, &COLUMNS, ("cpu", "CPU")));
    // The last page would be shorter than the others.
    let page = |random: &mut SmallRng| {
        let last = random.random_range(0..TAGS - PAGE - 1);
        format!("/v2/{TAGGED}/tags/list?n={PAGE}&last={}", tag(last))
    };
    let pages = measure(stage, count, Set::Tags, "tags", page)?;
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
    let samples = measure(stage, count, Set::Repositories(REPOSITORIES), "repositories", |_| path.clone())?;
    check(&samples, REPOSITORIES)?;
    let title = format!("_catalog?n={REPOSITORIES} of {REPOSITORIES} repositories, pinned, 1 connection:");
    outcome.add("catalog", &samples, samples.table(title, &COLUMNS, ("cpu", "CPU")));
    outcome.criteria = judge("G13", "all", &samples, 0.2);
    Ok(outcome)
}
