//! G8 and G9: a blob that the proxy has not, asked for by one client or by many at once.
//!
//! The upstream is distribution v3, whose log of requests tells how often it was asked. Upstream, proxy and clients share both processors.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, Sink};
use crate::content::{Blob, LARGE, Unique};
use crate::goal::Bound::AtMost;
use crate::goal::Criterion;
use crate::machine::{Processors, now, since};
use crate::peers::Role;
use crate::samples::{Column, Outcome, Samples, column, shown};
use crate::seed::Set;
use crate::server::{Kind, MB, Sampler, Server};
use crate::stage::Stage;
use crate::stats::{float, ratios, spread};

const REPOSITORY: &str = "bench/pulled";
const PROXIES: [Kind; 4] = [Kind::Roadstead, Kind::V2Deb, Kind::V3, Kind::Nginx];
/// How many clients the rounds have that are only counted, and of how many rounds.
const COUNTED: [usize; 2] = [5, 50];
const COUNTED_ROUNDS: usize = 3;
/// A proxy may ask its upstream once more after it has answered.
const AFTERTHOUGHT: Duration = Duration::from_millis(400);
const COLUMNS: [Column; 6] = [
    column("wall", "all done, s"),
    column("first", "first byte p50, ms"),
    column("cpu", "proxy's CPU-s"),
    column("asked", "GETs at the upstream"),
    column("anonymous", "anonymous MB"),
    column("peak", "VmHWM MB"),
];

/// The upstream and its proxies.
struct Chain {
    upstream: Server,
    proxies: Vec<Server>,
    blobs: Unique,
}

/// How some clients fared that asked at the same time.
struct Pulled {
    wall: f64,
    first: f64,
}

impl Chain {
    fn start(stage: &Stage) -> Result<Self> {
        let processors = Processors::Shared;
        let start = |kind, role| stage.start_in(kind, role, &stage.data(kind, Set::Empty)?, processors);
        let upstream = start(Kind::V3, Role::Upstream)?;
        let mut proxies = Vec::new();
        for kind in stage.present(&PROXIES) {
            proxies.push(start(kind, Role::Proxy(upstream.port))?);
        }
        processors.enter()?;
        Ok(Self { upstream, proxies, blobs: Unique::new(LARGE) })
    }

    /// Rounds with so many clients. In each, every proxy is asked for the same new blob.
    fn rounds(&self, count: usize, clients: usize, sink: Sink) -> Result<Samples> {
        let mut samples = Samples::default();
        for round in 0..count {
            let blob = self.blobs.next();
            Client::connect(self.upstream.port)?.push(REPOSITORY, &blob)?;
            let direct = pull(self.upstream.port, &blob, clients, sink)?;
            samples.push(Kind::Roadstead, "direct wall", direct.wall);
            samples.push(Kind::Roadstead, "direct first", direct.first);
            self.upstream.settle()?;
            let mut order: Vec<&Server> = self.proxies.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for proxy in order {
                self.turn(proxy, &blob, clients, sink, &mut samples).with_context(|| proxy.kind.key().to_owned())?;
            }
            // Nobody asks for it again, and the disk has an end.
            for server in self.proxies.iter().chain([&self.upstream]) {
                remove_large(&server.data)?;
                server.forget_log()?;
            }
        }
        Ok(samples)
    }

    fn turn(&self, proxy: &Server, blob: &Blob, clients: usize, sink: Sink, samples: &mut Samples) -> Result<()> {
        let (asked, used) = (self.asked(blob)?, proxy.cpu()?);
        let watch = Sampler::start(proxy);
        let pulled = pull(proxy.port, blob, clients, sink)?;
        thread::sleep(AFTERTHOUGHT);
        proxy.settle()?;
        self.upstream.settle()?;
        let memory = watch.stop()?;
        samples.push(proxy.kind, "wall", pulled.wall);
        samples.push(proxy.kind, "first", pulled.first);
        samples.push(proxy.kind, "cpu", proxy.cpu()?.saturating_sub(used).as_secs_f64());
        samples.push(proxy.kind, "asked", self.asked(blob)? - asked);
        samples.push(proxy.kind, "anonymous", float(memory.anonymous) / MB);
        samples.push(proxy.kind, "peak", float(memory.peak) / MB);
        Ok(())
    }

    /// How often the upstream has been asked for a blob so far.
    fn asked(&self, blob: &Blob) -> Result<f64> {
        let log = fs::read_to_string(&self.upstream.log)?;
        let line = format!("\"GET {}", path(blob));
        Ok(float(log.lines().filter(|entry| entry.contains(&line)).count() as u64))
    }
}

fn path(blob: &Blob) -> String {
    format!("/v2/{REPOSITORY}/blobs/sha256:{}", blob.digest)
}

/// Has some clients, connected already, ask for a blob at the same moment.
fn pull(port: u16, blob: &Blob, clients: usize, sink: Sink) -> Result<Pulled> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(Client::connect(port)?);
    }
    let (path, start) = (path(blob), Barrier::new(clients + 1));
    thread::scope(|scope| {
        let (path, start) = (&path, &start);
        let work = |mut client: Client| {
            start.wait();
            client.download(path, sink)
        };
        let threads: Vec<_> = connected.into_iter().map(|client| scope.spawn(move || work(client))).collect();
        start.wait();
        let begin = now();
        let mut firsts = Vec::new();
        for thread in threads {
            let Ok(done) = thread.join() else { bail!("a client ended") };
            let done = done?;
            ensure!(done.size == blob.size() as u64, "{} bytes instead of {}", done.size, blob.size());
            ensure!(done.digest.is_none_or(|digest| digest == blob.digest), "other bytes than were pushed");
            firsts.push(done.first_byte.as_secs_f64() * 1000.0);
        }
        let first = spread(&firsts).map_or(f64::NAN, |found| found.median);
        Ok(Pulled { wall: since(begin).as_secs_f64(), first })
    })
}

/// Removes every large file below a folder, whatever the server calls it.
fn remove_large(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let about = fs::symlink_metadata(&path)?;
        if about.is_dir() {
            remove_large(&path)?;
        } else if about.len() == LARGE as u64 || about.len() > LARGE as u64 && about.len() < LARGE as u64 + 4096 {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Shows the rounds of so many clients, with a row for those who asked the upstream itself.
fn show(outcome: &mut Outcome, samples: &Samples, clients: usize) {
    let many = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients at once") };
    let mut table = samples.table(format!("Pull-through of 100 MiB that are not cached, {many}:"), &COLUMNS, ("cpu", "CPU"));
    let median = |what| spread(samples.of(Kind::Roadstead, what)).map_or_else(|| "–".to_owned(), |found| shown(found.median));
    let mut row = vec!["(the upstream itself)".to_owned(), median("direct wall"), median("direct first")];
    row.resize(table.head.len(), "–".to_owned());
    table.rows.push(row);
    outcome.add(&format!("pull-through, {clients} clients"), samples, table);
}

/// G8 and G9.
pub(crate) fn cold(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let chain = Chain::start(stage)?;
    let one = chain.rounds(count, 1, Sink::Copy)?;
    show(&mut outcome, &one, 1);
    let twenty = chain.rounds(count, 20, Sink::Copy)?;
    show(&mut outcome, &twenty, 20);
    let mut asked = [one.of(Kind::Roadstead, "asked"), twenty.of(Kind::Roadstead, "asked")].concat();
    for clients in COUNTED {
        // Who only counts can look at the bytes as well.
        let samples = chain.rounds(count.min(COUNTED_ROUNDS), clients, Sink::Hash)?;
        show(&mut outcome, &samples, clients);
        asked.extend(samples.of(Kind::Roadstead, "asked"));
    }
    let most = asked.into_iter().fold(0.0, f64::max);
    let direct = one.of(Kind::Roadstead, "direct first");
    let later = one.of(Kind::Roadstead, "first").iter().zip(direct).map(|(ours, direct)| ours - direct).collect();
    let walls = ratios(one.of(Kind::Roadstead, "wall"), one.of(Kind::V3, "wall"));
    outcome.criteria = vec![
        Criterion::must("G8", "GETs at the upstream, 1, 5, 20 and 50 clients, the most of all rounds", AtMost(1.0), vec![most]),
        Criterion::must("G8", "our CPU ÷ v3's, 20 clients", AtMost(0.40), twenty.ours_over(Kind::V3, "cpu"))
            .stretch(AtMost(0.30)),
        Criterion::held("G8", "our time ÷ v3's, 20 clients", AtMost(0.35), twenty.ours_over(Kind::V3, "wall"))
            .stretch(AtMost(0.28)),
        Criterion::held("G8", "our time ÷ nginx's, 20 clients", AtMost(0.60), twenty.ours_over(Kind::Nginx, "wall"))
            .stretch(AtMost(0.48)),
        Criterion::held("G8", "our first byte ÷ v3's, 20 clients", AtMost(0.08), twenty.ours_over(Kind::V3, "first"))
            .stretch(AtMost(0.035)),
        Criterion::held("G9", "our first byte after the upstream's", AtMost(2.0), later).stretch(AtMost(1.0)).unit("ms"),
        Criterion::held("G9", "our time ÷ v3's", AtMost(0.70), walls).stretch(AtMost(0.57)),
    ];
    Ok(outcome)
}
