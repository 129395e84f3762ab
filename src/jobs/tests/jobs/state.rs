//! A state in memory that many processes reach over lines with faults. It watches every write for what must never be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use roadstead_jobs::{Changed, JobId, Record, State, StateError, Version};
use serde::Deserialize;
use tokio::sync::Notify;

/// What all processes share. As in some stores, the version of an object is its content.
#[derive(Clone, Default)]
pub(crate) struct Cloud(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    reads: usize,
    lists: usize,
    /// As each job ended.
    ended: BTreeMap<JobId, Record>,
    /// The last epoch of each job.
    epochs: BTreeMap<JobId, u64>,
    /// In the history, also if it was trimmed.
    archived: BTreeMap<JobId, String>,
    /// What must never be, and was. A panic could be taken for one of a work.
    broken: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Slot {
    revision: u64,
    #[serde(default)]
    stamp: Option<u64>,
    open: Option<Record>,
}

impl Inner {
    /// A write of a slot must follow from what was there.
    fn watch_slot(&mut self, key: &str, bytes: &Bytes) -> Result<(), String> {
        let before: Slot = self.objects.get(key).map(|bytes| serde_json::from_slice(bytes).unwrap()).unwrap_or_default();
        let after: Slot = serde_json::from_slice(bytes).unwrap();
        must(after.revision == before.revision + 1, "a revision was left out")?;
        must(after.stamp >= before.stamp, "the stamp went back")?;
        if let Some(old) = &before.open
            && after.open.as_ref().is_none_or(|new| new.id != old.id)
        {
            must(old.state.is_ended(), "a job vanished before it ended")?;
            must(self.archived.contains_key(&old.id), "a job vanished before it was in the history")?;
        }
        let Some(record) = after.open else { return Ok(()) };
        let epoch = self.epochs.entry(record.id).or_default();
        must(record.epoch >= *epoch, "a holder that was replaced has written")?;
        *epoch = record.epoch;
        match self.ended.get(&record.id) {
            Some(ended) => must(*ended == record, "a job that had ended was changed")?,
            None if record.state.is_ended() => drop(self.ended.insert(record.id, record)),
            None => {}
        }
        Ok(())
    }

    fn watch_history(&mut self, key: &str, bytes: &Bytes) -> Result<(), String> {
        let record: Record = serde_json::from_slice(bytes).unwrap();
        must(self.ended.get(&record.id) == Some(&record), "the history has another end")?;
        let there = self.archived.insert(record.id, key.to_owned());
        must(there.is_none_or(|there| there == key), "a job is twice in the history")
    }
}

fn must(held: bool, broken: &str) -> Result<(), String> {
    if held { Ok(()) } else { Err(broken.to_owned()) }
}

impl Cloud {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A way to the state for one process.
    pub(crate) fn line(&self, exclusive: bool, seed: u64) -> Line {
        let faults =
            Faults { latency: 0, fail: 0.0, cut: false, unheard: 0, held: None, calls: 0, random: StdRng::seed_from_u64(seed) };
        Line { cloud: self.clone(), exclusive, faults: Arc::new(Mutex::new(faults)) }
    }

    /// Reads and listings so far.
    pub(crate) fn looks(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.reads, inner.lists)
    }

    /// Every job that was ever in a slot.
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        self.lock().epochs.keys().copied().collect()
    }

    /// Those that ended.
    pub(crate) fn ended(&self) -> BTreeMap<JobId, Record> {
        self.lock().ended.clone()
    }

    /// Those that are in the history, or were.
    pub(crate) fn archived(&self) -> usize {
        self.lock().archived.len()
    }

    /// What was seen that must never be.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    pub(crate) fn put(&self, key: &str, text: &'static str) {
        self.lock().objects.insert(key.to_owned(), Bytes::from_static(text.as_bytes()));
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }
}

/// The way of one process to the state.
#[derive(Clone)]
pub(crate) struct Line {
    cloud: Cloud,
    exclusive: bool,
    faults: Arc<Mutex<Faults>>,
}

/// What is answered at last to a write that was done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Right,
    /// That it was not.
    Wrong,
}

struct Faults {
    /// Turns of the scheduler that a call takes at most, each way.
    latency: u32,
    /// How many of the calls fail: half of them before they are done, half of them after.
    fail: f64,
    /// Nothing comes through.
    cut: bool,
    /// Writes whose answers will be lost.
    unheard: u32,
    /// The answer of the next write that is done waits for this, and then may deny that it was.
    held: Option<(Arc<Notify>, Answer)>,
    calls: usize,
    random: StdRng,
}

impl Line {
    pub(crate) fn disturb(&self, latency: u32, fail: f64) {
        let mut faults = self.faults.lock().unwrap();
        (faults.latency, faults.fail) = (latency, fail);
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.faults.lock().unwrap().cut = cut;
    }

    /// How often something was sent or answered.
    pub(crate) fn calls(&self) -> usize {
        self.faults.lock().unwrap().calls
    }

    /// The answer of the next write is lost.
    pub(crate) fn lose_an_answer(&self) {
        self.faults.lock().unwrap().unheard += 1;
    }

    /// The next write is done and waits for its answer until it is told.
    pub(crate) fn hold_an_answer(&self, answer: Answer) -> Arc<Notify> {
        let told = Arc::new(Notify::new());
        self.faults.lock().unwrap().held = Some((Arc::clone(&told), answer));
        told
    }

    fn is_unheard(&self) -> bool {
        let mut faults = self.faults.lock().unwrap();
        let before = faults.unheard;
        faults.unheard = before.saturating_sub(1);
        before > 0
    }

    async fn way(&self, key: &str) -> Result<(), StateError> {
        let (turns, fails) = {
            let mut faults = self.faults.lock().unwrap();
            let latency = faults.latency;
            faults.calls += 1;
            let (turns, chance) = (faults.random.random_range(0..=latency), faults.fail / 2.0);
            (turns, faults.cut || faults.random.random_bool(chance))
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if fails { Err(StateError::new(key, "the line is broken")) } else { Ok(()) }
    }

    async fn call<T>(&self, key: &str, call: impl FnOnce(&mut Inner) -> T + Send) -> Result<T, StateError> {
        self.way(key).await?;
        let answer = call(&mut self.cloud.lock());
        self.way(key).await?;
        Ok(answer)
    }
}

#[async_trait]
impl State for Line {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, StateError> {
        self.call(key, |inner| {
            inner.reads += 1;
            inner.objects.get(key).map(|bytes| (bytes.clone(), Version::new(bytes.clone())))
        })
        .await
    }

    async fn read_if_changed(&self, key: &str, known: &Version) -> Result<Changed, StateError> {
        let known = known.downcast_ref::<Bytes>().unwrap().clone();
        self.call(key, move |inner| {
            inner.reads += 1;
            match inner.objects.get(key) {
                Some(bytes) if *bytes == known => Changed::Not,
                Some(bytes) => Changed::To(bytes.clone(), Version::new(bytes.clone())),
                None => Changed::Gone,
            }
        })
        .await
    }

    async fn swap(&self, key: &str, bytes: Bytes, expected: Option<&Version>) -> Result<Option<Version>, StateError> {
        let expected = expected.map(|version| version.downcast_ref::<Bytes>().unwrap().clone());
        let sent = bytes.clone();
        let swapped = self.call(key, move |inner| {
            if inner.objects.get(key) != expected.as_ref() {
                return None;
            }
            let slot = key.starts_with("slots/");
            let watched = if slot { inner.watch_slot(key, &bytes) } else { inner.watch_history(key, &bytes) };
            if let Err(broken) = watched {
                inner.broken.push(format!("{key}: {broken}: {}", String::from_utf8_lossy(&bytes)));
            }
            inner.objects.insert(key.to_owned(), bytes.clone());
            Some(Version::new(bytes))
        });
        let swapped = swapped.await?;
        if swapped.is_some() {
            let held = self.faults.lock().unwrap().held.take();
            if let Some((told, answer)) = held {
                told.notified().await;
                return Ok(swapped.filter(|_| answer == Answer::Right));
            }
            if self.is_unheard() {
                return Err(StateError::new(key, "the answer is lost"));
            }
        }
        if swapped.is_none() || self.way(key).await.is_ok() {
            return Ok(swapped);
        }
        // The answer is lost, it is sent again, and refused. Then it counts as done if what is there is what was sent.
        self.call(key, move |inner| (inner.objects.get(key) == Some(&sent)).then(|| Version::new(sent))).await
    }

    async fn remove(&self, key: &str) -> Result<(), StateError> {
        self.call(key, |inner| drop(inner.objects.remove(key))).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.call(prefix, |inner| {
            inner.lists += 1;
            let below = inner.objects.keys().filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('/'));
            below.filter(|rest| !rest.contains('/')).map(str::to_owned).collect()
        })
        .await
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}
