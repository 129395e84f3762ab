//! Where the cases play: servers with their content, and rounds in which each has its turn.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::client::{Client, Sink};
use crate::load::{Counted, Window, Work, run};
use crate::machine::Processors;
use crate::options::Options;
use crate::peers::{Programs, Role, stored};
use crate::samples::Samples;
use crate::secure;
use crate::seed::{Paths, Set, push, write};
use crate::server::{Kind, MB, Sampler, Server, empty_folder};
use crate::stats::float;

/// The first port that is used. The network is our own, so no other program has it.
const FIRST_PORT: u16 = 5400;

/// What all cases share.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) programs: Programs,
    pub(crate) paths: Paths,
    /// What lasts as long as this run.
    pub(crate) run: PathBuf,
    next: Cell<u16>,
}

impl Stage {
    /// A stage in the folder of the options.
    pub(crate) fn new(options: Options, programs: Programs) -> Result<Self> {
        let run = options.work.join("run");
        empty_folder(&run)?;
        secure::issue(&run)?;
        Ok(Self { options, programs, paths: Paths::new(), run, next: Cell::new(0) })
    }

    /// Those of these servers that take part in the run.
    pub(crate) fn present(&self, kinds: &[Kind]) -> Vec<Kind> {
        let present = self.programs.kinds();
        kinds.iter().copied().filter(|kind| kind.is_ours() || present.contains(kind)).collect()
    }

    /// How long each round counts.
    pub(crate) fn window(&self) -> Window {
        let (warm_up, length) = if self.options.quick { (100, 400) } else { (200, 900) };
        Window { warm_up: Duration::from_millis(warm_up), length: Duration::from_millis(length) }
    }

    /// A port that no server of this run has had.
    pub(crate) fn port(&self) -> u16 {
        self.next.set(self.next.get() + 1);
        FIRST_PORT + self.next.get()
    }

    /// The folder in which a server has this content. What other registries hold is kept for the next run: pushing it to them takes
    /// minutes, and it is the same bytes each time.
    pub(crate) fn data(&self, kind: Kind, set: Set) -> Result<PathBuf> {
        if set == Set::Empty {
            let folder = self.run.join(format!("{}-data-{}", kind.key(), self.port()));
            fs::create_dir_all(&folder)?;
            return Ok(folder);
        }
        let kept = self.options.work.join("kept").join(format!("{}-{}", kind.key(), self.stamp(kind)?));
        let parent = if kind.is_ours() { self.run.join(kind.key()) } else { kept };
        let (folder, done) = (parent.join(set.folder()), parent.join(format!("{}.done", set.folder())));
        if !done.exists() {
            eprintln!("   {}: {}", kind.key(), set.folder());
            empty_folder(&folder)?;
            if kind == Kind::Nginx {
                write(&folder)?;
            } else {
                Processors::Shared.enter()?;
                let server = self.start_in(kind, Role::Registry, &folder, Processors::Shared)?;
                push(server.port, set).with_context(|| format!("filling {}", kind.key()))?;
            }
            rustix::fs::sync();
            fs::write(done, "")?;
        }
        Ok(folder)
    }

    /// Tells one build of a program from another.
    fn stamp(&self, kind: Kind) -> Result<String> {
        let about = fs::metadata(self.programs.path(kind)?)?;
        let built = about.modified()?.duration_since(UNIX_EPOCH)?;
        Ok(format!("{}-{}", about.len(), built.as_secs()))
    }

    /// Starts a server on a folder.
    pub(crate) fn start_in(&self, kind: Kind, role: Role, data: &Path, processors: Processors) -> Result<Server> {
        let recipe = self.programs.recipe(kind, role, processors, self.port(), data, &self.run)?;
        Server::start(&recipe, processors)
    }

    /// Starts those of these servers that take part, with the same content, and takes the clients' processors.
    pub(crate) fn field(&self, kinds: &[Kind], set: Set, processors: Processors) -> Result<Vec<Server>> {
        self.field_as(kinds, |_| Role::Registry, set, processors)
    }

    /// The same, each in its role.
    pub(crate) fn field_as(
        &self,
        kinds: &[Kind],
        role: impl Fn(Kind) -> Role,
        set: Set,
        processors: Processors,
    ) -> Result<Vec<Server>> {
        let mut servers = Vec::new();
        for kind in self.present(kinds) {
            servers.push(self.start_in(kind, role(kind), &self.data(kind, set)?, processors)?);
        }
        processors.enter()?;
        Ok(servers)
    }

    /// Fails unless each server gives the right bytes for the large blob.
    pub(crate) fn check_content(&self, servers: &[Server]) -> Result<()> {
        for server in servers {
            let found = Client::connect(server.port)?.download(&self.paths.large, Sink::Hash)?;
            let right = found.digest.as_ref() == Some(&self.paths.large_digest);
            ensure!(right, "{} serves other bytes than were pushed", server.kind.key());
            let file = stored(server.kind, &server.data, crate::content::REPOSITORY, &self.paths.large_digest);
            ensure!(file.exists(), "{} does not keep its blobs at {}", server.kind.key(), file.display());
        }
        Ok(())
    }

    /// Runs a load against a server, and keeps what is known of its memory beside it.
    pub(crate) fn load(&self, server: &Server, work: &Work, samples: &mut Samples) -> Result<Counted> {
        let watch = Sampler::start(server);
        let counted = run(work, self.window(), &|| server.cpu()).with_context(|| server.kind.key().to_owned())?;
        let memory = watch.stop()?;
        // Not shown: to see in the raw figures that the load is cheaper than the servers.
        samples.push(server.kind, "client", counted.own.as_secs_f64() / counted.seconds);
        samples.push(server.kind, "anonymous", float(memory.anonymous) / MB);
        samples.push(server.kind, "peak", float(memory.peak) / MB);
        Ok(counted)
    }
}

/// Gives every server its turn in each round: first to last, then last to first.
pub(crate) fn rounds(
    servers: &[Server],
    count: usize,
    mut measure: impl FnMut(&Server, &mut Samples) -> Result<()>,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..count {
        let mut order: Vec<&Server> = servers.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for server in order {
            measure(server, &mut samples)?;
            server.settle()?;
            server.forget_log()?;
        }
    }
    Ok(samples)
}
