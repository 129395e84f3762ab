//! G6 and G7: pushes of large and of small blobs, each of three requests, each of bytes that no server has seen.

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

use crate::client::Client;
use crate::content::{LARGE, SMALL, Unique, noise};
use crate::goal::Bound::{AtLeast, AtMost};
use crate::goal::Criterion;
use crate::machine::{Processors, now, since, thread_cpu};
use crate::peers::stored;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::Set;
use crate::server::{Kind, MB, Sampler, Server};
use crate::stage::{Stage, rounds};
use crate::stats::{count as number, float};

const REPOSITORY: &str = "bench/pushed";
pub(crate) const REGISTRIES: [Kind; 4] = [Kind::Roadstead, Kind::V2Deb, Kind::V3, Kind::Zot];
const LARGE_COLUMNS: [Column; 5] = [
    column("rate", "MB/s"),
    column("cpu", "CPU-s / GB"),
    column("hash", "of it sha256, %"),
    column("anonymous", "anonymous MB"),
    column("peak", "VmHWM MB"),
];
const SMALL_COLUMNS: [Column; 4] =
    [column("rate", "pushes/s"), column("cpu", "CPU-s / 10k"), column("anonymous", "anonymous MB"), column("peak", "VmHWM MB")];

/// What some clients pushed in a round.
struct Pushed {
    digests: Vec<String>,
    seconds: f64,
    cpu: Duration,
}

/// Has some clients push one blob after another for as long as a round is.
fn push(stage: &Stage, server: &Server, unique: &Unique, clients: usize, seen: &mut Samples) -> Result<Pushed> {
    let digests = Mutex::new(Vec::new());
    let sampler = Sampler::start(server);
    let (begin, used) = (now(), server.cpu()?);
    let end = begin + stage.window().length;
    thread::scope(|scope| {
        let digests = &digests;
        let work = || -> Result<()> {
            let mut client = Client::connect(server.port)?;
            while now() < end {
                let blob = unique.next();
                client.push(REPOSITORY, &blob)?;
                if let Ok(mut digests) = digests.lock() {
                    digests.push(blob.digest);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let Ok(done) = thread.join() else { bail!("a client ended") };
            done?;
        }
        Ok(())
    })?;
    let (seconds, cpu) = (since(begin).as_secs_f64(), server.cpu()?.saturating_sub(used));
    let memory = sampler.stop()?;
    seen.push(server.kind, "anonymous", float(memory.anonymous) / MB);
    seen.push(server.kind, "peak", float(memory.peak) / MB);
    Ok(Pushed { digests: digests.into_inner().unwrap_or_default(), seconds, cpu })
}

/// Processor seconds that sha256 takes for a gigabyte, here and now.
fn hash_cost() -> f64 {
    let bytes = noise(2, 32 * 1024 * 1024);
    let begin = thread_cpu();
    std::hint::black_box(Sha256::digest(&bytes));
    thread_cpu().saturating_sub(begin).as_secs_f64() / number(bytes.len()) * 1e9
}

fn measure_large(stage: &Stage, count: usize, clients: usize, processors: Processors) -> Result<Samples> {
    let servers = stage.field(&REGISTRIES, Set::Empty, processors)?;
    let blobs = Unique::new(LARGE);
    rounds(&servers, count, |server, samples| {
        let pushed = push(stage, server, &blobs, clients, samples)?;
        let bytes = number(pushed.digests.len() * LARGE);
        let cpu = pushed.cpu.as_secs_f64() / bytes * 1e9;
        samples.push(server.kind, "rate", bytes / pushed.seconds / 1e6);
        samples.push(server.kind, "cpu", cpu);
        samples.push(server.kind, "hash", hash_cost() / cpu * 100.0);
        // They are unlike all others, so nobody misses them; the disk would.
        pushed.digests.iter().try_for_each(|digest| fs::remove_file(stored(server.kind, &server.data, REPOSITORY, digest)))?;
        Ok(())
    })
}

/// Four clients push large blobs for a while; what is seen of memory goes to `seen`.
pub(crate) fn busy(stage: &Stage, server: &Server, seen: &mut Samples) -> Result<()> {
    push(stage, server, &Unique::new(LARGE), 4, seen).map(drop)
}

/// G6: large blobs, one at a time and four at once.
pub(crate) fn large(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let one = measure_large(stage, count, 1, Processors::Pinned)?;
    let table = one.table("Push of 100 MiB, 1 connection, pinned:", &LARGE_COLUMNS, ("cpu", "CPU"));
    outcome.add("push 100 MiB, 1 connection, pinned", &one, table);
    let four = measure_large(stage, count, 4, Processors::Shared)?;
    let table = four.table("Push of 100 MiB, 4 connections, both processors:", &LARGE_COLUMNS, ("cpu", "CPU"));
    outcome.add("push 100 MiB, 4 connections, both processors", &four, table);
    outcome.criteria = vec![
        Criterion::must("G6", "our CPU ÷ v3's, 1 connection", AtMost(0.68), one.ours_over(Kind::V3, "cpu")).stretch(AtMost(0.50)),
        Criterion::must("G6", "our CPU ÷ v3's, 4 connections", AtMost(0.68), four.ours_over(Kind::V3, "cpu"))
            .stretch(AtMost(0.50)),
        Criterion::must("G6", "sha256 in our CPU", AtLeast(50.0), one.of(Kind::Roadstead, "hash").to_vec()).unit("%"),
        Criterion::held("G6", "our MB/s ÷ v3's, 4 connections", AtLeast(1.6), four.ours_over(Kind::V3, "rate")),
    ];
    Ok(outcome)
}

/// G7: small blobs, four clients.
pub(crate) fn small(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let servers = stage.field(&REGISTRIES, Set::Empty, Processors::Pinned)?;
    let blobs = Unique::new(SMALL);
    let samples = rounds(&servers, count, |server, samples| {
        let pushed = push(stage, server, &blobs, 4, samples)?;
        let times = number(pushed.digests.len());
        samples.push(server.kind, "rate", times / pushed.seconds);
        samples.push(server.kind, "cpu", pushed.cpu.as_secs_f64() / times * 10_000.0);
        Ok(())
    })?;
    let table = samples.table("Push of 4 KiB (three requests), 4 connections, pinned:", &SMALL_COLUMNS, ("cpu", "CPU"));
    outcome.add("push 4 KiB, 4 connections, pinned", &samples, table);
    outcome.criteria =
        vec![Criterion::must("G7", "v3's CPU ÷ ours", AtLeast(12.0), samples.over_ours(Kind::V3, "cpu")).stretch(AtLeast(20.0))];
    Ok(outcome)
}
