//! Roadstead beside other registries and nginx: the same work, measured in turns on one machine, and held against the goals.
//!
//! `benches/peers/run` builds and installs everything and starts this in a network of its own. What counts is the server's processor
//! time for a unit of work, as a ratio that is formed within each round: absolute figures move with the machine, ratios hardly do.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be"))]

mod authorized;
mod blobs;
mod client;
mod cold;
mod content;
mod fills;
mod goal;
mod histogram;
mod http;
mod lists;
mod load;
mod machine;
mod options;
mod page;
mod peers;
mod push;
mod samples;
mod secure;
mod seed;
mod server;
mod small;
mod stage;
mod stalled;
mod start;
mod stats;
mod tls;
mod zb;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser as _;

use crate::goal::{Criterion, Verdict};
use crate::machine::{check_disk, check_network, facts};
use crate::options::Options;
use crate::page::{Page, Section};
use crate::peers::Programs;
use crate::samples::Outcome;
use crate::server::Kind;
use crate::stage::Stage;

/// A case: its section on the page, the goals that it judges, and how it is run.
struct Case {
    section: &'static str,
    goals: &'static [&'static str],
    run: fn(&Stage, usize) -> Result<Outcome>,
}

const CASES: &[Case] = &[
    Case { section: "Small requests", goals: &["G3"], run: small::by_tag },
    Case { section: "Small requests", goals: &["G4"], run: small::head },
    Case { section: "Small requests", goals: &["G5"], run: small::blobs },
    Case { section: "Small requests", goals: &["small"], run: small::others },
    Case { section: "Blobs", goals: &["G1"], run: blobs::hot },
    Case { section: "Blobs", goals: &["G10"], run: stalled::downloads },
    Case { section: "Blobs", goals: &["G11"], run: cold::download },
    Case { section: "TLS", goals: &["G2", "tls"], run: tls::encrypted },
    Case { section: "Rules and tokens", goals: &["authorized"], run: authorized::small },
    Case { section: "Push", goals: &["G6"], run: push::large },
    Case { section: "Push", goals: &["G7"], run: push::small },
    Case { section: "Pull-through", goals: &["G8", "G9"], run: fills::cold },
    Case { section: "Lists", goals: &["G12"], run: lists::tags },
    Case { section: "Lists", goals: &["G13"], run: lists::repositories },
    Case { section: "Start, memory, size", goals: &["G14"], run: start::weight },
    Case { section: "Another's load tool", goals: &["zb"], run: zb::against_both },
];

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    fs::create_dir_all(&options.work)?;
    check_network()?;
    check_disk(&options.work)?;
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| *kind == Kind::Roadstead || options.peers.contains(kind)).collect();
    let programs = Programs::find(&options.server, &options.tools, &kinds)?;
    let mut page = Page::new(facts(&options.work)?, kinds.iter().map(|kind| (*kind, programs.version(*kind).ok())).collect());
    let stage = Stage::new(options, programs)?;
    let wanted: Vec<&Case> = CASES.iter().filter(|case| stage.options.wants(case.goals)).collect();
    ensure!(!wanted.is_empty(), "no case has any of these goals: {}", stage.options.only.join(", "));
    for case in wanted {
        let name = case.goals.join(" ");
        eprintln!("== {}: {name}", case.section);
        let outcome = judged(&stage, case).with_context(|| name.clone())?;
        let raw = stage.options.work.join(format!("{}.json", name.replace(' ', "-")));
        fs::write(raw, serde_json::to_string_pretty(&outcome.raw)?)?;
        page.add(Section { title: case.section, outcome });
    }
    page.finish(&stage)?;
    Ok(if page.criteria().any(|criterion| criterion.verdict() == Verdict::Missed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Runs a case; once more with twice the rounds, if something is missed by so little that noise may be the cause.
fn judged(stage: &Stage, case: &Case) -> Result<Outcome> {
    let rounds = stage.options.rounds();
    let outcome = (case.run)(stage, rounds)?;
    if stage.options.quick || !outcome.criteria.iter().any(Criterion::is_near) {
        return Ok(outcome);
    }
    eprintln!("   missed by little: once more with {} rounds", rounds * 2);
    (case.run)(stage, rounds * 2)
}
