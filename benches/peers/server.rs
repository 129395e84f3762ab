//! A server as a process: started on given processors, watched, and killed by its number.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, address};
use crate::machine::{Processors, now, process_cpu, since};
use crate::secure;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_mins(1);
/// How often memory is looked at.
const SAMPLING: Duration = Duration::from_millis(20);

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Roadstead,
    /// The same program, told who may do what.
    Guarded,
    V2Deb,
    V3,
    Zot,
    Nginx,
}

impl Kind {
    /// All programs, in the order of the tables.
    pub(crate) const ALL: [Self; 5] = [Self::Roadstead, Self::V2Deb, Self::V3, Self::Zot, Self::Nginx];

    /// What it is called on the command line.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Roadstead => "roadstead",
            Self::Guarded => "guarded",
            Self::V2Deb => "v2deb",
            Self::V3 => "v3",
            Self::Zot => "zot",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it is Roadstead, however it is set up.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Roadstead | Self::Guarded)
    }

    /// What it is called in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Roadstead => "**Roadstead**",
            Self::Guarded => "Roadstead with rules",
            Self::V2Deb => "distribution 2.8 (Debian)",
            Self::V3 => "distribution v3",
            Self::Zot => "zot",
            Self::Nginx => "nginx",
        }
    }
}

/// How to start one.
pub(crate) struct Recipe {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    pub(crate) port: u16,
    /// Where its content is.
    pub(crate) data: PathBuf,
    /// Where its outputs go.
    pub(crate) log: PathBuf,
    /// What it shows to clients, if its connections are encrypted.
    pub(crate) certificate: Option<PathBuf>,
}

/// Memory in bytes, of all processes of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What is its own and not a file's.
    pub(crate) anonymous: u64,
    /// All that is resident.
    pub(crate) resident: u64,
    /// The most that was resident since the start.
    pub(crate) peak: u64,
}

/// A running server, killed when dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    certificate: Option<PathBuf>,
    child: Child,
    processes: Vec<u32>,
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) fn start(recipe: &Recipe, processors: Processors) -> Result<Self> {
        let mut server = Self::launch(recipe, processors)?;
        server.wait()?;
        Ok(server)
    }

    /// Starts one without waiting for it. A taken port is refused: another server behind it would halve the figures.
    pub(crate) fn launch(recipe: &Recipe, processors: Processors) -> Result<Self> {
        let port = recipe.port;
        ensure!(TcpStream::connect(address(port)).is_err(), "port {port} is taken: something answers there");
        drop(TcpListener::bind(address(port)).with_context(|| format!("port {port} is taken"))?);
        let log = OpenOptions::new().create(true).append(true).open(&recipe.log)?;
        let mut command = Command::new(&recipe.program);
        command.args(&recipe.arguments).envs(recipe.environment.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = processors.as_server(|| command.spawn())?;
        let child = child.with_context(|| format!("cannot start {}", recipe.program.display()))?;
        let processes = vec![child.id()];
        let (data, log, certificate) = (recipe.data.clone(), recipe.log.clone(), recipe.certificate.clone());
        Ok(Self { kind: recipe.kind, port, data, log, certificate, child, processes })
    }

    /// Waits until it accepts a connection, looking all the time; what it then takes to answer is not waited for.
    pub(crate) fn accepts(&mut self) -> Result<()> {
        let begin = now();
        while TcpStream::connect(address(self.port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.kind.key(), fs::read_to_string(&self.log)?);
            }
            ensure!(since(begin) < START, "{} does not listen: {}", self.kind.key(), fs::read_to_string(&self.log)?);
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Waits until it answers.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.accepts()?;
        let status = match &self.certificate {
            Some(certificate) => secure::status(certificate, self.port, "/v2/")?,
            None => Client::connect(self.port)?.ask("GET", "/v2/", "", &[])?.status,
        };
        ensure!(status < 500, "{} answers {status}", self.kind.key());
        self.processes = descendants(self.child.id())?;
        Ok(())
    }

    /// The processor time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total = process_cpu(self.child.id())?;
        for process in self.processes.iter().filter(|process| **process != self.child.id()) {
            // A worker that had nothing to do may have ended.
            total += process_cpu(*process).unwrap_or_default();
        }
        Ok(total)
    }

    /// Waits until it has nothing more to do: what one client left behind must not cost the next one.
    pub(crate) fn settle(&self) -> Result<()> {
        for _ in 0..150 {
            let before = self.cpu()?;
            thread::sleep(Duration::from_millis(20));
            if self.cpu()?.saturating_sub(before) < Duration::from_millis(1) {
                break;
            }
        }
        Ok(())
    }

    /// Its memory now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        memory(&self.processes)
    }

    /// Empties its log, which is not what is measured.
    pub(crate) fn forget_log(&self) -> Result<()> {
        OpenOptions::new().write(true).truncate(true).open(&self.log)?;
        Ok(())
    }

    /// How many bytes it has read from disks so far.
    pub(crate) fn read_from_disk(&self) -> Result<u64> {
        let mut total = 0;
        for process in &self.processes {
            let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
            total += line.map_or(Ok(0), str::parse)?;
        }
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children: Vec<u32> = self.processes.iter().copied().filter(|process| *process != self.child.id()).collect();
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Workers whose master was killed would go on.
        for process in children {
            if let Some(process) = rustix::process::Pid::from_raw(process.cast_signed()) {
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        }
    }
}

/// A process and all below it.
fn descendants(process: u32) -> Result<Vec<u32>> {
    let mut found = vec![process];
    let mut index = 0;
    while let Some(process) = found.get(index) {
        let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        for child in text.split_whitespace() {
            found.push(child.parse()?);
        }
        index += 1;
    }
    Ok(found)
}

fn memory(processes: &[u32]) -> Result<Memory> {
    let mut total = Memory::default();
    for process in processes {
        let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let bytes = |name: &str| -> Result<u64> {
            let kib = fields.get(name).and_then(|value| value.split_whitespace().next()).unwrap_or("0");
            Ok(kib.parse::<u64>()? * 1024)
        };
        total.anonymous += bytes("RssAnon")?;
        total.resident += bytes("VmRSS")?;
        total.peak += bytes("VmHWM")?;
    }
    Ok(total)
}

/// Looks at a server's memory again and again and keeps the largest.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Memory>,
}

impl Sampler {
    /// Begins.
    pub(crate) fn start(server: &Server) -> Self {
        let (stop, processes) = (Arc::new(AtomicBool::new(false)), server.processes.clone());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = Memory::default();
            loop {
                if let Ok(found) = memory(&processes) {
                    most.anonymous = most.anonymous.max(found.anonymous);
                    most.resident = most.resident.max(found.resident);
                    most.peak = most.peak.max(found.peak);
                }
                if stopped.load(Ordering::Relaxed) {
                    return most;
                }
                thread::sleep(SAMPLING);
            }
        });
        Self { stop, thread }
    }

    /// Ends, with the most of each.
    pub(crate) fn stop(self) -> Result<Memory> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(most) = self.thread.join() else { bail!("the thread that looks at memory ended") };
        Ok(most)
    }
}

/// A million bytes.
pub(crate) const MB: f64 = 1e6;

/// A folder for a server's data, made empty.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    Ok(fs::create_dir_all(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(port: u16, program: &str) -> Recipe {
        let (folder, arguments) = (std::env::temp_dir(), vec!["60".to_owned()]);
        let log = folder.join(format!("roadstead-peers-test-{}-{port}.log", std::process::id()));
        let environment = Vec::new();
        Recipe { kind: Kind::Zot, program: program.into(), arguments, environment, port, data: folder, log, certificate: None }
    }

    #[test]
    fn a_taken_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = Server::launch(&recipe(port, "/bin/sleep"), Processors::Shared).map(drop).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
    }

    #[test]
    fn a_server_is_killed_when_it_is_dropped() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let recipe = recipe(port, "/bin/sleep");
        let server = Server::launch(&recipe, Processors::Shared).unwrap();
        let process = server.child.id();
        assert!(process_cpu(process).is_ok() && server.memory().unwrap().resident > 0);
        drop(server);
        assert!(process_cpu(process).is_err(), "{process} is still there");
        fs::remove_file(recipe.log).unwrap();
    }

    #[test]
    fn a_server_that_ends_at_its_start_is_told_of() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let recipe = recipe(port, "/bin/false");
        let error = Server::start(&recipe, Processors::Shared).map(drop).unwrap_err();
        assert!(error.to_string().contains("ended with"), "{error}");
        fs::remove_file(recipe.log).unwrap();
    }
}
