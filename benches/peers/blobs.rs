//! G1: a blob of 100 MiB that is in the page cache, eight downloads at once.

use anyhow::Result;

use crate::client::request;
use crate::goal::Bound::{AtLeast, AtMost};
use crate::goal::Criterion;
use crate::load::Work;
use crate::machine::Processors;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::Set;
use crate::server::Kind;
use crate::stage::{Stage, rounds};
use crate::stats::float;

const CONNECTIONS: usize = 8;
const COLUMNS: [Column; 4] =
    [column("rate", "GB/s"), column("cpu", "CPU-s / GB"), column("anonymous", "anonymous MB"), column("peak", "VmHWM MB")];

fn measure(stage: &Stage, count: usize, processors: Processors) -> Result<Samples> {
    let servers = stage.field(&Kind::ALL, Set::Content, processors)?;
    stage.check_content(&servers)?;
    let copies = processors == Processors::Shared;
    rounds(&servers, count, |server, samples| {
        let requests = vec![request("GET", server.port, &stage.paths.large)];
        let threads = processors.count();
        let work = Work { port: server.port, requests, connections: CONNECTIONS, threads, copies, bodiless: false };
        let counted = stage.load(server, &work, samples)?;
        let gigabytes = float(counted.bytes) / 1e9;
        samples.push(server.kind, "rate", gigabytes / counted.seconds);
        samples.push(server.kind, "cpu", counted.cpu.as_secs_f64() / gigabytes);
        Ok(())
    })
}

/// Downloads whose client throws the bytes away, then on both processors downloads whose client copies them.
pub(crate) fn hot(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let pinned = measure(stage, count, Processors::Pinned)?;
    let title = "GET 100 MiB, 8 connections, pinned, the client discards:";
    outcome.add("100 MiB, pinned", &pinned, pinned.table(title, &COLUMNS, ("cpu", "CPU")));
    let shared = measure(stage, count, Processors::Shared)?;
    let title = "GET 100 MiB, 8 connections, both processors, the client copies:";
    outcome.add("100 MiB, both processors", &shared, shared.table(title, &COLUMNS, ("cpu", "CPU")));
    outcome.criteria = vec![
        Criterion::must("G1", "our CPU ÷ nginx's by sendfile", AtMost(1.25), pinned.ours_over(Kind::Nginx, "cpu"))
            .stretch(AtMost(1.10)),
        Criterion::must("G1", "our CPU ÷ v3's", AtMost(0.33), pinned.ours_over(Kind::V3, "cpu")),
        Criterion::held("G1", "our GB/s ÷ v3's, both processors", AtLeast(2.3), shared.ours_over(Kind::V3, "rate")),
    ];
    Ok(outcome)
}
