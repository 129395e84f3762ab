//! Any sequence of submissions, cancellations, deaths, pauses, stops and broken lines, on any number of processes: each job ends, and
//! ends once; at most one process works for a key; a stamp happens once.
//!
//! Every process is a runtime of its own on this thread, so that one that is not driven stands still as a whole and comes back later
//! in the belief that no time has passed. `ROADSTEAD_SEQUENCES` says how many sequences are tried; 100 if unset.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use roadstead_jobs::{JobId, Jobs, Kind, Level, NewJob, Outcome, Running, Work};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use telemetry::{Clock, Metrics};
use testing::ManualClock;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::harness::options;
use crate::state::{Cloud, Line};

const PROCESSES: usize = 3;
const KEYS: [&str; 3] = ["a", "b", "c/d"];

/// What a work does.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Script {
    steps: u64,
    /// What it waits on each, in milliseconds.
    pause: u64,
    /// It does not listen when it is cancelled.
    deaf: bool,
    /// What it answers on its first attempts.
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Trouble {
    None,
    Retry,
    Later,
    Failed,
    Panic,
}

#[derive(Clone, Debug)]
enum Event {
    Submit { process: usize, key: usize, stamp: Option<u64>, script: Script },
    Cancel { process: usize, job: usize },
    Retry { process: usize, job: usize },
    Kill(usize),
    Stop(usize),
    Start(usize),
    Pause(usize),
    Resume(usize),
    Disturb { process: usize, latency: u32, fail: f64 },
    Cut { process: usize, cut: bool },
    Pass(u64),
    Act(usize),
}

fn scripts() -> impl Strategy<Value = Script> {
    let trouble = prop_oneof![
        4 => Just(Trouble::None),
        2 => Just(Trouble::Retry),
        1 => Just(Trouble::Later),
        1 => Just(Trouble::Failed),
        1 => Just(Trouble::Panic),
    ];
    (0..6_u64, prop_oneof![Just(0), 0..20_000_u64], any::<bool>(), trouble).prop_map(|(steps, pause, deaf, trouble)| Script {
        steps,
        pause,
        deaf,
        trouble,
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let process = 0..PROCESSES;
    let event = prop_oneof![
        6 => (process.clone(), 0..KEYS.len(), prop::option::of(1..6_u64), scripts())
            .prop_map(|(process, key, stamp, script)| Event::Submit { process, key, stamp, script }),
        2 => (process.clone(), 0..10_usize).prop_map(|(process, job)| Event::Cancel { process, job }),
        1 => (process.clone(), 0..10_usize).prop_map(|(process, job)| Event::Retry { process, job }),
        2 => process.clone().prop_map(Event::Kill),
        1 => process.clone().prop_map(Event::Stop),
        3 => process.clone().prop_map(Event::Start),
        3 => process.clone().prop_map(Event::Pause),
        3 => process.clone().prop_map(Event::Resume),
        2 => (process.clone(), 0..6_u32, prop_oneof![Just(0.0), 0.0..0.5])
            .prop_map(|(process, latency, fail)| Event::Disturb { process, latency, fail }),
        1 => (process, any::<bool>()).prop_map(|(process, cut)| Event::Cut { process, cut }),
        8 => prop_oneof![1..2000_u64, 2000..40_000_u64].prop_map(Event::Pass),
        6 => (1..60_usize).prop_map(Event::Act),
    ];
    prop::collection::vec(event, 1..60)
}

/// Who worked for which key, in order.
#[derive(Default)]
struct Trace {
    current: HashMap<String, (JobId, u64)>,
    past: HashSet<(JobId, u64)>,
    broken: Vec<String>,
}

impl Trace {
    /// A run works. Once another one has for its key, it must not any more.
    fn works(&mut self, job: &Running) {
        let run = (job.id(), job.record().epoch);
        if self.past.contains(&run) {
            self.broken.push(format!("{run:?} works after another one has"));
        }
        if let Some(before) = self.current.insert(job.key().to_owned(), run).filter(|before| *before != run) {
            self.past.insert(before);
        }
    }
}

struct Works {
    trace: Arc<Mutex<Trace>>,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Work for Works {
    async fn run(&self, job: Running) -> Outcome {
        let script: Script = serde_json::from_value(job.input().clone()).unwrap();
        let begin = job.checkpoint().as_u64().unwrap_or(0);
        for step in begin..script.steps {
            self.trace.lock().unwrap().works(&job);
            job.progress(json!(step));
            job.log(Level::Info, format!("step {step}"));
            let cancelled = job.cancelled();
            tokio::select! {
                biased;
                () = cancelled.cancelled(), if !script.deaf => {
                    self.trace.lock().unwrap().works(&job);
                    return Outcome::Yield(json!(step));
                }
                () = self.clock.sleep(Duration::from_millis(script.pause)) => {}
            }
            self.trace.lock().unwrap().works(&job);
            if job.save(json!(step + 1)).await.is_err() {
                // About to be dropped.
                std::future::pending::<()>().await;
            }
        }
        self.trace.lock().unwrap().works(&job);
        match script.trouble {
            Trouble::Retry if job.attempt() < 3 => Outcome::Retry { reason: "busy".to_owned(), after: None },
            Trouble::Later if job.record().epoch < 3 => {
                Outcome::Later { after: Duration::from_secs(20), reason: "full".to_owned() }
            }
            Trouble::Failed => Outcome::Failed { reason: "no".to_owned(), result: Value::Null },
            Trouble::Panic => panic!("as the script says"),
            Trouble::None | Trouble::Retry | Trouble::Later => Outcome::Done(json!(job.record().epoch)),
        }
    }
}

struct Machine {
    runtime: Runtime,
    jobs: Jobs,
    line: Line,
    stop: CancellationToken,
    paused: bool,
}

#[derive(Default)]
struct Storm {
    /// There is one process, and it knows that.
    alone: bool,
    clock: Arc<ManualClock>,
    cloud: Cloud,
    trace: Arc<Mutex<Trace>>,
    machines: HashMap<usize, Machine>,
    seed: u64,
}

impl Storm {
    fn start(&mut self, process: usize) {
        if self.machines.contains_key(&process) || (self.alone && process > 0) {
            return;
        }
        self.seed += 1;
        let runtime = Builder::new_current_thread().build().unwrap();
        let (line, stop) = (self.cloud.line(self.alone, self.seed), CancellationToken::new());
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let jobs = Jobs::new(Arc::new(line.clone()), clock, Metrics::new(), options(self.seed));
        let kind = Kind { history: 1000, backoff: Duration::from_secs(4), attempts: 4, ..Kind::default() };
        jobs.register("test", kind, Arc::new(Works { trace: Arc::clone(&self.trace), clock: Arc::clone(&self.clock) }));
        let (running, stopping) = (jobs.clone(), stop.clone());
        runtime.spawn(async move { running.run(stopping).await });
        self.machines.insert(process, Machine { runtime, jobs, line, stop, paused: false });
    }

    /// Everyone who does not stand still acts.
    fn act(&self, turns: usize) {
        for process in 0..PROCESSES {
            if let Some(machine) = self.machines.get(&process).filter(|machine| !machine.paused) {
                machine.runtime.block_on(async {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                });
            }
        }
    }

    fn job(&self, number: usize) -> Option<JobId> {
        let jobs = self.cloud.jobs();
        jobs.get(number % jobs.len().max(1)).copied()
    }

    fn submit(&self, process: usize, key: usize, stamp: Option<u64>, script: &Script) {
        let Some(machine) = self.machines.get(&process) else { return };
        let input = serde_json::to_value(script).unwrap();
        let (kind, key) = ("test".to_owned(), KEYS[key].to_owned());
        let (job, jobs) = (NewJob { kind, key, input, due: self.clock.now(), stamp, by: None }, machine.jobs.clone());
        machine.runtime.spawn(async move { jobs.submit(job).await });
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Submit { process, key, stamp, script } => self.submit(*process, *key, *stamp, script),
            Event::Cancel { process, job } => {
                if let (Some(machine), Some(id)) = (self.machines.get(process), self.job(*job)) {
                    let jobs = machine.jobs.clone();
                    machine.runtime.spawn(async move { jobs.cancel(id, "somebody").await });
                }
            }
            Event::Retry { process, job } => {
                if let (Some(machine), Some(id)) = (self.machines.get(process), self.job(*job)) {
                    let jobs = machine.jobs.clone();
                    machine.runtime.spawn(async move { jobs.retry(id, "somebody").await });
                }
            }
            Event::Kill(process) => drop(self.machines.remove(process)),
            Event::Start(process) => self.start(*process),
            Event::Stop(process) => self.with(*process, |machine| machine.stop.cancel()),
            Event::Pause(process) => self.with(*process, |machine| machine.paused = true),
            Event::Resume(process) => self.with(*process, |machine| machine.paused = false),
            Event::Disturb { process, latency, fail } => {
                self.with(*process, |machine| machine.line.disturb(*latency, *fail));
            }
            Event::Cut { process, cut } => self.with(*process, |machine| machine.line.cut(*cut)),
            Event::Pass(millis) => {
                self.clock.advance(Duration::from_millis(*millis));
                self.act(5);
            }
            Event::Act(turns) => self.act(*turns),
        }
    }

    fn with(&mut self, process: usize, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get_mut(&process) {
            change(machine);
        }
    }

    /// Quiet weather; then everything must come to its end.
    fn calm(&mut self) {
        for process in 0..PROCESSES {
            if self.machines.get(&process).is_some_and(|machine| machine.stop.is_cancelled()) {
                self.machines.remove(&process);
            }
            self.start(process);
            self.with(process, |machine| {
                machine.paused = false;
                machine.line.disturb(1, 0.0);
                machine.line.cut(false);
            });
        }
        for _ in 0..1500 {
            self.clock.advance(Duration::from_secs(1));
            self.act(40);
            if self.cloud.jobs().len() == self.cloud.archived() {
                return;
            }
        }
        let ended = self.cloud.ended();
        let open: Vec<JobId> = self.cloud.jobs().into_iter().filter(|id| !ended.contains_key(id)).collect();
        panic!("not every job comes to its end: {open:?} are open");
    }

    fn check(&self) {
        assert_eq!(self.cloud.broken(), Vec::<String>::new());
        assert_eq!(self.trace.lock().unwrap().broken, Vec::<String>::new());
        let mut stamps = HashSet::new();
        for record in self.cloud.ended().into_values() {
            if let Some(stamp) = record.stamp.filter(|_| record.retry_of.is_none()) {
                assert!(stamps.insert((record.key.clone(), stamp)), "a stamp happened twice: {record:?}");
            }
        }
    }
}

fn weather(alone: bool) {
    let cases = std::env::var("ROADSTEAD_SEQUENCES").map_or(100, |text| text.parse().unwrap());
    // Panics of works are part of the game.
    std::panic::set_hook(Box::new(|panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"as the script says") {
            eprintln!("{panic}");
        }
    }));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&events(), |events| {
        let mut storm = Storm { alone, ..Storm::default() };
        for process in 0..PROCESSES {
            storm.start(process);
        }
        for event in &events {
            storm.happen(event);
        }
        storm.calm();
        storm.check();
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn every_job_ends_once_whatever_happens_to_those_who_do_it() {
    weather(false);
}

#[test]
fn every_job_ends_once_where_there_is_one_process_at_a_time() {
    weather(true);
}
