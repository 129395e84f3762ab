//! G14: how long a server takes to start, what it weighs when idle and at work, and how large its program is.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::request;
use crate::goal::Bound::AtMost;
use crate::goal::Criterion;
use crate::load::Work;
use crate::machine::{Processors, now, said, since};
use crate::peers::Role;
use crate::push::busy;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::Set;
use crate::server::{Kind, MB, Server};
use crate::stage::Stage;
use crate::stats::float;

/// How many repositories Roadstead starts with, and how many the others.
const OURS: usize = 10_000;
const THEIRS: usize = 1000;
const START_COLUMNS: [Column; 6] = [
    column("accept", "first accept, ms"),
    column("answer", "first answer, ms"),
    column("cpu", "CPU until then, ms"),
    column("idle", "idle anonymous MB"),
    column("resident", "idle VmRSS MB"),
    column("size", "program stripped MB"),
];
const LOAD_COLUMNS: [Column; 3] =
    [column("blobs", "8 downloads of 100 MiB"), column("small", "64 x GET manifest"), column("pushes", "4 pushes of 100 MiB")];

fn set(kind: Kind) -> Set {
    match kind {
        Kind::Roadstead | Kind::Guarded => Set::Repositories(OURS),
        Kind::Nginx => Set::Content,
        Kind::V2Deb | Kind::V3 | Kind::Zot => Set::Repositories(THEIRS),
    }
}

/// How large a program is without its symbols.
fn size(stage: &Stage, kind: Kind) -> Result<f64> {
    let copy = stage.run.join(format!("{}-stripped", kind.key()));
    fs::copy(stage.programs.path(kind)?, &copy)?;
    let complaint = said("strip", &[&copy.to_string_lossy()])?;
    ensure!(complaint.is_empty(), "strip: {complaint}");
    Ok(float(fs::metadata(&copy)?.len()) / MB)
}

fn start(stage: &Stage, kind: Kind, samples: &mut Samples) -> Result<()> {
    let data = stage.data(kind, set(kind))?;
    let recipe = stage.programs.recipe(kind, Role::Registry, Processors::Pinned, stage.port(), &data, &stage.run)?;
    Processors::Pinned.enter()?;
    let begin = now();
    let mut server = Server::launch(&recipe, Processors::Pinned)?;
    server.accepts()?;
    samples.push(kind, "accept", since(begin).as_secs_f64() * 1000.0);
    samples.push(kind, "cpu", server.cpu()?.as_secs_f64() * 1000.0);
    server.wait()?;
    samples.push(kind, "answer", since(begin).as_secs_f64() * 1000.0);
    thread::sleep(Duration::from_millis(if stage.options.quick { 200 } else { 1000 }));
    let memory = server.memory()?;
    samples.push(kind, "idle", float(memory.anonymous) / MB);
    samples.push(kind, "resident", float(memory.resident) / MB);
    samples.push(kind, "size", size(stage, kind)?);
    Ok(())
}

/// The most memory of a server that has done nothing before, under each of three loads on both processors.
fn at_work(stage: &Stage, kind: Kind, samples: &mut Samples) -> Result<()> {
    let peak =
        |set: Set, name: &'static str, act: &dyn Fn(&Server, &mut Samples) -> Result<()>, samples: &mut Samples| -> Result<()> {
            let server = stage.start_in(kind, Role::Registry, &stage.data(kind, set)?, Processors::Shared)?;
            Processors::Shared.enter()?;
            let mut found = Samples::default();
            act(&server, &mut found)?;
            found.of(kind, "anonymous").iter().for_each(|value| samples.push(kind, name, *value));
            Ok(())
        };
    let load = |path: &str, connections: usize| {
        let path = path.to_owned();
        move |server: &Server, found: &mut Samples| {
            let requests = vec![request("GET", server.port, &path)];
            let work = Work { port: server.port, requests, connections, threads: 1, copies: true, bodiless: false };
            stage.load(server, &work, found).map(drop)
        }
    };
    peak(Set::Content, "blobs", &load(&stage.paths.large, 8), samples)?;
    peak(Set::Content, "small", &load(&stage.paths.tag, 64), samples)?;
    if kind != Kind::Nginx {
        peak(Set::Empty, "pushes", &|server, found| busy(stage, server, found), samples)?;
    }
    Ok(())
}

/// Starts of every server in turns, then the loads.
pub(crate) fn weight(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let kinds = stage.present(&Kind::ALL);
    let mut starts = Samples::default();
    for round in 0..count {
        let mut order = kinds.clone();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().try_for_each(|kind| start(stage, kind, &mut starts))?;
    }
    let title = format!("Start, idle memory and size; Roadstead with {OURS} repositories, the other registries with {THEIRS}:");
    outcome.add("start", &starts, starts.table(title, &START_COLUMNS, ("cpu", "CPU")));
    let mut loads = Samples::default();
    for kind in &kinds {
        at_work(stage, *kind, &mut loads)?;
    }
    let title = "Most anonymous memory at work, MB, a fresh process on both processors for each:";
    outcome.add("memory at work", &loads, loads.table(title, &LOAD_COLUMNS, ("blobs", "memory of downloads")));
    let ours = |what: &str| starts.of(Kind::Roadstead, what).to_vec();
    let work = |what: &str, goal: &str| {
        let values = loads.of(Kind::Roadstead, what).to_vec();
        Criterion::must("G14", format!("anonymous memory under {goal}"), AtMost(25.0), values).unit("MB")
    };
    outcome.criteria = vec![
        Criterion::held("G14", "start to first accept", AtMost(50.0), ours("accept")).stretch(AtMost(15.0)).unit("ms"),
        Criterion::must("G14", "idle anonymous memory", AtMost(15.0), ours("idle")).stretch(AtMost(12.0)).unit("MB"),
        Criterion::must("G14", "program, stripped", AtMost(30.0), ours("size")).stretch(AtMost(15.0)).unit("MB"),
        work("blobs", "G1"),
        work("small", "G3"),
        work("pushes", "G6"),
    ];
    Ok(outcome)
}
