//! G11: one download from the disk, and what four clients with small requests feel of it on the same processor.

use std::fs::File;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rustix::fs::{Advice, fadvise};

use crate::client::{Client, Sink, request};
use crate::content::{LARGE, REPOSITORY};
use crate::goal::Bound::AtMost;
use crate::goal::Criterion;
use crate::load::{Window, Work, run};
use crate::machine::Processors;
use crate::peers::stored;
use crate::samples::{Column, Outcome, Samples, column};
use crate::seed::Set;
use crate::server::{Kind, Server};
use crate::stage::{Stage, rounds};

const CONNECTIONS: usize = 4;
const WARM_UP: Duration = Duration::from_millis(200);
const LENGTH: Duration = Duration::from_millis(600);
const COLUMNS: [Column; 4] = [
    column("worst", "slowest small request, ms"),
    column("p99", "their p99, ms"),
    column("calm", "slowest without a download, ms"),
    column("download", "100 MiB, ms"),
];

/// Forgets what the page cache has of the large blob of a server.
fn forget(stage: &Stage, server: &Server) -> Result<()> {
    let file = File::open(stored(server.kind, &server.data, REPOSITORY, &stage.paths.large_digest))?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

fn measure(stage: &Stage, server: &Server, samples: &mut Samples) -> Result<()> {
    let requests = vec![request("GET", server.port, &stage.paths.tag)];
    let work = Work { port: server.port, requests, connections: CONNECTIONS, threads: 1, copies: true, bodiless: false };
    let window = Window { warm_up: WARM_UP, length: LENGTH };
    let calm = run(&work, window, &|| server.cpu())?;
    forget(stage, server)?;
    let (mut client, path) = (Client::connect(server.port)?, stage.paths.large.as_str());
    let before = server.read_from_disk()?;
    let (counted, download) = thread::scope(|scope| {
        let download = scope.spawn(move || {
            thread::sleep(WARM_UP + Duration::from_millis(50));
            client.download(path, Sink::Discard)
        });
        let counted = run(&work, window, &|| server.cpu());
        let Ok(download) = download.join() else { bail!("the client of the download ended") };
        Ok((counted?, download?))
    })?;
    let read = server.read_from_disk()? - before;
    ensure!(read > LARGE as u64 / 2, "{} read {read} bytes from the disk: the blob was still in memory", server.kind.key());
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    samples.push(server.kind, "worst", ms(counted.latencies.slowest()));
    samples.push(server.kind, "p99", ms(counted.latencies.percentile(99)));
    samples.push(server.kind, "calm", ms(calm.latencies.slowest()));
    samples.push(server.kind, "download", ms(download.total));
    Ok(())
}

/// Rounds of a download from the disk beside small requests.
pub(crate) fn download(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let servers = stage.field(&Kind::ALL, Set::Content, Processors::Pinned)?;
    let samples = rounds(&servers, count, |server, samples| measure(stage, server, samples))?;
    let title = "100 MiB that are not in the page cache, beside 4 connections with GET manifest by tag, pinned:";
    outcome.add("cold download", &samples, samples.table(title, &COLUMNS, ("worst", "slowest")));
    outcome.criteria = vec![
        Criterion::held("G11", "slowest small request", AtMost(12.0), samples.of(Kind::Roadstead, "worst").to_vec()).unit("ms"),
        Criterion::held("G11", "ours ÷ nginx's", AtMost(1.5), samples.ours_over(Kind::Nginx, "worst")).stretch(AtMost(1.0)),
    ];
    Ok(outcome)
}
