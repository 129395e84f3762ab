//! zot's own load tool against Roadstead and zot: another's idea of what matters, with another's client.
//!
//! Distribution cannot be measured with it: the tool leaves out the query of an upload's location, without which distribution refuses
//! the bytes, and all of its tests push first.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::{Processors, now, since};
use crate::peers::Role;
use crate::samples::{Outcome, Table, shown};
use crate::seed::Set;
use crate::server::Kind;
use crate::stage::Stage;

const TESTS: [&str; 9] = [
    "Push Monolith 1MB",
    "Push Monolith 10MB",
    "Push Monolith 100MB",
    "Push Chunk Streamed 1MB",
    "Push Chunk Streamed 10MB",
    "Push Chunk Streamed 100MB",
    "Pull 1MB",
    "Pull 10MB",
    "Pull 100MB",
];
const REGISTRIES: [Kind; 2] = [Kind::Roadstead, Kind::Zot];
const CONCURRENCY: &str = "4";
/// How long it may take with one registry.
const LIMIT: Duration = Duration::from_mins(10);

/// What it says of one of its tests.
struct Said {
    rate: f64,
    failed: u64,
    half: f64,
    most: f64,
}

/// Every test's figures, from what it prints.
fn parse(text: &str) -> BTreeMap<String, Said> {
    let mut tests = BTreeMap::new();
    for part in text.split("Test name:").skip(1) {
        let name = part.lines().next().unwrap_or_default().trim().to_owned();
        let after = |label: &str| {
            let line = part.lines().find_map(|line| line.split_once(label));
            line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let rate = after("Requests per second:").parse().unwrap_or(f64::NAN);
        let failed = after("Failed requests:").parse().unwrap_or(u64::MAX);
        tests.insert(name, Said { rate, failed, half: milliseconds(&after("p50:")), most: milliseconds(&after("p99:")) });
    }
    tests
}

/// A time as Go writes it, such as `1m2.5s` or `855.045µs`.
fn milliseconds(text: &str) -> f64 {
    let mut total = 0.0;
    let mut rest = text;
    while let Some(end) = rest.find(|letter: char| letter.is_alphabetic()) {
        let (number, after) = rest.split_at(end);
        let unit = &after[..after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len())];
        let factor = match unit {
            "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            _ => f64::NAN,
        };
        total += number.parse().unwrap_or(f64::NAN) * factor;
        rest = &after[unit.len()..];
    }
    total
}

/// Runs it against one registry.
fn run(stage: &Stage, kind: Kind) -> Result<BTreeMap<String, Said>> {
    let zb = stage.programs.zb.as_ref().context("zb is not at hand")?;
    let server = stage.start_in(kind, Role::Registry, &stage.data(kind, Set::Empty)?, Processors::Shared)?;
    Processors::Shared.enter()?;
    let (folder, output) = (stage.run.join("zb"), stage.run.join(format!("zb-{}.txt", kind.key())));
    fs::create_dir_all(&folder)?;
    let file = fs::File::create(&output)?;
    let mut command = Command::new(zb);
    command.args([
        "-c",
        CONCURRENCY,
        "-n",
        if stage.options.quick { "8" } else { "40" },
        "-t",
        &format!("^({})$", TESTS.join("|")),
    ]);
    // It cleans up with requests that not every registry has; the folder is removed instead.
    command.arg("--skip-cleanup").arg("-d").arg(&folder).arg(format!("http://127.0.0.1:{}", server.port));
    command.current_dir(&folder).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn()?;
    let begin = now();
    while child.try_wait()?.is_none() {
        if since(begin) > LIMIT {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let text = fs::read_to_string(&output)?;
    let tests = parse(&text);
    if tests.is_empty() {
        eprintln!("   zb gave up: {text}");
    }
    fs::copy(&output, stage.options.work.join(format!("zb-{}.txt", kind.key())))?;
    fs::remove_dir_all(&server.data)?;
    Ok(tests)
}

/// Runs it against both, one after the other.
pub(crate) fn against_both(stage: &Stage, _count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if stage.programs.zb.is_none() {
        eprintln!("   zb is not at hand: not run");
        return Ok(outcome);
    }
    let mut results = Vec::new();
    for kind in stage.present(&REGISTRIES) {
        results.push((kind, run(stage, kind).with_context(|| kind.key().to_owned())?));
    }
    let mut head = vec!["zb".to_owned()];
    head.extend(results.iter().map(|(kind, _)| kind.title().to_owned()));
    let cell = |test: &str, said: &BTreeMap<String, Said>| match said.get(test) {
        Some(said) if said.failed == 0 => format!("{} ({} / {})", shown(said.rate), shown(said.half), shown(said.most)),
        Some(said) => format!("{} of its requests failed", said.failed),
        None => "it gave up".to_owned(),
    };
    let row = |test: &&str| [vec![(*test).to_owned()], results.iter().map(|(_, said)| cell(test, said)).collect()].concat();
    let title =
        format!("zot's load tool `zb`, {CONCURRENCY} at once, both processors, one run each: requests/s (p50 / p99 in ms):");
    outcome.tables.push(Table { title, head, rows: TESTS.iter().map(row).collect() });
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_understood() {
        let text = "2026/11/22 Test name:\tPull 1MB\n2026/11/22 Time taken for tests:\t45ms\n2026/11/22 Requests per second:\t2202.7788\n\
                    2026/11/22 Complete requests:\t100\n2026/11/22 Failed requests:\t0\n2026/11/22 p50:\t855.045µs\n2026/11/22 p99:\t2ms\n\
                    Test name:\tPull 10MB\nRequests per second:\t20.5\nFailed requests:\t3\n";
        let tests = parse(text);
        let first = &tests["Pull 1MB"];
        assert_eq!(
            ([first.rate, first.half, first.most].map(shown), first.failed),
            (["2203", "0.855", "2.00"].map(str::to_owned), 0)
        );
        assert_eq!([milliseconds("1m2.5s"), milliseconds("4s")].map(shown), ["62,500", "4000"]);
        assert_eq!(tests["Pull 10MB"].failed, 3);
    }
}
