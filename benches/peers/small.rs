//! Small requests: manifests by tag and by digest, HEAD, blobs of 4 KiB, the version check.

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

const CONNECTIONS: usize = 64;
const COLUMNS: [Column; 6] = [
    column("rate", "req/s"),
    column("cpu", "CPU-s / 10k"),
    column("p50", "p50 ms"),
    column("p99", "p99 ms"),
    column("anonymous", "anonymous MB"),
    column("peak", "VmHWM MB"),
];
/// Who is in the runs on both processors.
const HEADLINE: [Kind; 3] = [Kind::Roadstead, Kind::V3, Kind::Nginx];

/// Asks every server for the same paths.
fn measure(stage: &Stage, count: usize, method: &str, paths: &[String], processors: Processors) -> Result<Samples> {
    let kinds: &[Kind] = if processors == Processors::Pinned { &Kind::ALL } else { &HEADLINE };
    let servers = stage.field(kinds, Set::Content, processors)?;
    rounds(&servers, count, |server, samples| {
        let requests = paths.iter().map(|path| request(method, server.port, path)).collect();
        let bodiless = method == "HEAD";
        let work = Work { port: server.port, requests, connections: CONNECTIONS, threads: 1, copies: true, bodiless };
        let counted = stage.load(server, &work, samples)?;
        let requests = float(counted.requests);
        samples.push(server.kind, "rate", requests / counted.seconds);
        samples.push(server.kind, "cpu", counted.cpu.as_secs_f64() / requests * 10_000.0);
        samples.push(server.kind, "p50", counted.latencies.percentile(50).as_secs_f64() * 1000.0);
        samples.push(server.kind, "p99", counted.latencies.percentile(99).as_secs_f64() * 1000.0);
        Ok(())
    })
}

/// Measures and shows it.
fn case(stage: &Stage, count: usize, outcome: &mut Outcome, what: (&str, &str, &[String]), on: Processors) -> Result<Samples> {
    let (title, method, paths) = what;
    let place = if on == Processors::Pinned { "pinned" } else { "both processors" };
    let samples = measure(stage, count, method, paths, on)?;
    outcome.add(&format!("{title}, {place}"), &samples, samples.table(format!("{title}, {place}:"), &COLUMNS, ("cpu", "CPU")));
    Ok(samples)
}

/// G3: an image's manifest by its tag.
pub(crate) fn by_tag(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let paths = [stage.paths.tag.clone()];
    let what = ("GET manifest by tag", "GET", paths.as_slice());
    let pinned = case(stage, count, &mut outcome, what, Processors::Pinned)?;
    let shared = case(stage, count, &mut outcome, what, Processors::Shared)?;
    outcome.criteria = vec![
        Criterion::must("G3", "v3's CPU ÷ ours", AtLeast(18.0), pinned.over_ours(Kind::V3, "cpu")).stretch(AtLeast(25.0)),
        Criterion::must("G3", "our CPU ÷ nginx's for a file", AtMost(1.2), pinned.ours_over(Kind::Nginx, "cpu"))
            .stretch(AtMost(1.0)),
        Criterion::held("G3", "our req/s ÷ v3's, both processors", AtLeast(10.0), shared.ours_over(Kind::V3, "rate"))
            .stretch(AtLeast(13.0)),
        Criterion::held("G3", "p99, both processors", AtMost(3.0), shared.of(Kind::Roadstead, "p99").to_vec()).unit("ms"),
    ];
    Ok(outcome)
}

/// G4: whether a manifest is there.
pub(crate) fn head(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let paths = [stage.paths.tag.clone()];
    let pinned = case(stage, count, &mut outcome, ("HEAD manifest by tag", "HEAD", &paths), Processors::Pinned)?;
    outcome.criteria =
        vec![Criterion::must("G4", "v3's CPU ÷ ours", AtLeast(20.0), pinned.over_ours(Kind::V3, "cpu")).stretch(AtLeast(28.0))];
    Ok(outcome)
}

/// G5: small blobs.
pub(crate) fn blobs(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let what = ("GET 4 KiB blobs, 512 distinct", "GET", stage.paths.small.as_slice());
    let pinned = case(stage, count, &mut outcome, what, Processors::Pinned)?;
    let shared = case(stage, count, &mut outcome, what, Processors::Shared)?;
    outcome.criteria = vec![
        Criterion::must("G5", "v3's CPU ÷ ours", AtLeast(70.0), pinned.over_ours(Kind::V3, "cpu")).stretch(AtLeast(90.0)),
        Criterion::must("G5", "our CPU ÷ nginx's for files", AtMost(1.2), pinned.ours_over(Kind::Nginx, "cpu")),
        Criterion::held("G5", "our req/s ÷ v3's, both processors", AtLeast(45.0), shared.ours_over(Kind::V3, "rate")),
    ];
    Ok(outcome)
}

/// What has no goal of its own.
pub(crate) fn others(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let (manifest, version) = ([stage.paths.manifest.clone()], ["/v2/".to_owned()]);
    case(stage, count, &mut outcome, ("GET manifest by digest", "GET", &manifest), Processors::Pinned)?;
    case(stage, count, &mut outcome, ("GET /v2/", "GET", &version), Processors::Pinned)?;
    Ok(outcome)
}
