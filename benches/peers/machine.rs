//! The machine: its clocks, its processors, its network, and what has to be known of it to read the figures.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rustix::fs::statfs;
use rustix::net::sockopt::tcp_congestion;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId as Clock, clock_gettime};

/// The congestion control that everything is measured with: under BBR the loopback itself costs more than the servers.
const CONGESTION: &str = "cubic";
const TMPFS: i64 = 0x0102_1994;

/// Which processors servers and clients have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processors {
    /// The server has the first, the client the second.
    Pinned,
    /// Both have both.
    Shared,
}

impl Processors {
    /// How many a server has.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Pinned => 1,
            Self::Shared => 2,
        }
    }

    /// Puts this thread, and the threads that it will start, where clients run.
    pub(crate) fn enter(self) -> Result<()> {
        self.confine(1)
    }

    /// Does something where servers run: a process that is started there stays there.
    pub(crate) fn as_server<T>(self, act: impl FnOnce() -> T) -> Result<T> {
        let before = sched_getaffinity(None)?;
        self.confine(0)?;
        let done = act();
        sched_setaffinity(None, &before)?;
        Ok(done)
    }

    fn confine(self, processor: usize) -> Result<()> {
        let mut set = CpuSet::new();
        let also = if self == Self::Shared { 1 - processor } else { processor };
        set.set(processor);
        set.set(also);
        sched_setaffinity(None, &set).context("cannot choose the processors; two are needed")
    }
}

/// The time since some start that does not change.
pub(crate) fn now() -> Duration {
    duration(clock_gettime(Clock::Monotonic))
}

/// The time that has passed since then.
pub(crate) fn since(begin: Duration) -> Duration {
    now().saturating_sub(begin)
}

/// The processor time that this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    duration(clock_gettime(Clock::ThreadCPUTime))
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

/// The processor time that a process has used, all of its threads, in nanoseconds.
pub(crate) fn process_cpu(process: u32) -> Result<Duration> {
    let clock =
        clock_getcpuclockid(Pid::from_raw(process.cast_signed())).with_context(|| format!("process {process} is gone"))?;
    Ok(ClockId::now(clock)?.into())
}

/// Fails unless this is a network of its own, with loopback alone, whose connections use the congestion control of the figures.
pub(crate) fn check_network() -> Result<()> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let devices: Vec<&str> = devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    ensure!(
        devices == ["lo"],
        "measured in a network namespace that has loopback alone, not beside {devices:?}; use benches/peers/run"
    );
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for side in [tcp_congestion(&client)?, tcp_congestion(&server)?] {
        let used = side.trim_end_matches('\0');
        ensure!(used == CONGESTION, "loopback uses {used} and not {CONGESTION}; use benches/peers/run");
    }
    Ok(())
}

/// Fails unless the folder is on a disk.
pub(crate) fn check_disk(folder: &Path) -> Result<()> {
    let kind = statfs(folder)?.f_type;
    ensure!(kind != TMPFS, "{} is in memory: a push costs nothing there", folder.display());
    Ok(())
}

/// What a reader of the figures has to know, as lines of a table.
pub(crate) fn facts(folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("0");
    let kib: u64 = total.split_whitespace().next().unwrap_or_default().parse()?;
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    Ok(vec![
        ("processor", format!("{cores} x {}", model.trim_start_matches([' ', '\t', ':']))),
        ("memory", format!("{} GiB", kib.div_ceil(1024 * 1024))),
        ("kernel", said("uname", &["-sr"])?),
        ("file system", said("stat", &["-f", "-c", "%T", &folder.to_string_lossy()])?),
        ("congestion control", CONGESTION.to_owned()),
        ("load average at the start", load),
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?),
    ])
}

/// The first line that a command says, on either of its outputs.
pub(crate) fn said(command: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(command).args(arguments).output().with_context(|| format!("cannot run {command}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(line.trim().to_owned())
}
