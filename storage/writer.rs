//! The one thread that changes the objects of a folder: it gathers the requests that wait, writes what they will change to the redo
//! log in one go, and then makes the changes. So there are no locks on keys, and conditions are looked at by whoever acts on them.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::Path as FsPath;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use tokio::sync::oneshot;

use crate::files::{Files, Staged, entity_tag};
use crate::op::{Done, Op, Refusal, When};
use crate::redo::{Change, Place, Redo};

/// Without a request for so long, what was written is brought to its place on disk, so that a start finds nothing to do.
const IDLE: Duration = Duration::from_secs(1);

/// Operations that are done all or, if the disk fails, the first of them; in this order also for whoever looks after a crash.
struct Request {
    ops: Vec<Op>,
    answer: oneshot::Sender<Done>,
}

/// The way to the thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    closed: bool,
    /// Everything was synced since the log was turned.
    settled: bool,
    /// Why that has not worked yet.
    trouble: Option<io::Error>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the thread over an opened log.
    pub(crate) fn start(files: Arc<Files>, redo: Redo) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let work = Work { shared: Arc::clone(&shared), files, redo, owed: Vec::new(), settling: None };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
            let _ending = Ending(Arc::clone(&work.shared));
            work.run();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Does these operations, in this order, durably.
    pub(crate) async fn write(&self, ops: Vec<Op>) -> Done {
        let (answer, answered) = oneshot::channel();
        let closed = || Refusal::Io(io::Error::other("the folder is closed"));
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(closed());
            }
            state.waiting.push_back(Request { ops, answer });
        }
        self.shared.work.notify_one();
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing left to do but to end; a panic in it was told when it happened.
            let _ = thread.join();
        }
    }
}

/// Lets nobody wait for a thread that has ended, also if it has panicked.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
    }
}

/// A request whose changes stand in the log or are about to.
struct Prepared {
    steps: Vec<Step>,
    answer: oneshot::Sender<Done>,
}

/// One change, ready to be made.
enum Step {
    /// A file without a name that the object is to have.
    Named(Path, Staged, Bytes),
    /// An object without content.
    Touched(Path),
    Removed(Path),
    /// Made, and on disk.
    Settled(Path),
}

impl Step {
    fn key(&self) -> &Path {
        match self {
            Self::Named(key, ..) | Self::Touched(key) | Self::Removed(key) | Self::Settled(key) => key,
        }
    }

    fn change(&self) -> Change {
        match self {
            Self::Named(key, _, bytes) => Change::Put(key.clone(), bytes.clone()),
            Self::Touched(key) => Change::Put(key.clone(), Bytes::new()),
            Self::Removed(key) => Change::Remove(key.clone()),
            Self::Settled(key) => Change::Settled(key.clone()),
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    files: Arc<Files>,
    redo: Redo,
    /// Frames that say more than was done, and what of them was.
    owed: Vec<(Place, Vec<Change>)>,
    /// Everything is being synced; what has a smaller number than this will be on disk.
    settling: Option<u64>,
}

impl Work {
    fn run(mut self) {
        while let Some(requests) = self.next() {
            self.serve(requests);
        }
    }

    /// The requests that wait, together. `None` once there will be no more.
    fn next(&mut self) -> Option<VecDeque<Request>> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if state.settled {
                drop(state);
                self.settled();
                state = shared.lock();
            }
            if !state.waiting.is_empty() {
                return Some(std::mem::take(&mut state.waiting));
            }
            if state.closed {
                return None;
            }
            if self.redo.is_empty() || self.settling.is_some() {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (woken, waited) = shared.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if waited.timed_out() && state.waiting.is_empty() {
                drop(state);
                self.turn();
                state = shared.lock();
            }
        }
    }

    fn serve(&mut self, requests: VecDeque<Request>) {
        let mut round: Vec<Prepared> = Vec::new();
        let mut touched: HashSet<Path> = HashSet::new();
        for Request { ops, answer } in requests {
            // What comes later in a round sees nothing of what comes before it.
            if ops.iter().any(|op| touched.contains(op.key())) {
                self.finish(std::mem::take(&mut round));
                touched.clear();
            }
            match self.prepare(ops) {
                // All of it is there already, and what is there is in the log or on disk.
                Ok(steps) if steps.is_empty() => drop(answer.send(Ok(None))),
                Ok(steps) => {
                    touched.extend(steps.iter().map(|step| step.key().clone()));
                    round.push(Prepared { steps, answer });
                }
                Err(refusal) => drop(answer.send(Err(refusal))),
            }
        }
        self.finish(round);
        if self.redo.is_full() && self.settling.is_none() {
            self.turn();
        }
    }

    /// Looks whether the conditions hold and writes the bytes to files that nobody sees.
    fn prepare(&self, ops: Vec<Op>) -> Result<Vec<Step>, Refusal> {
        for op in &ops {
            op.check(&self.files)?;
        }
        let steps = ops.into_iter().map(|op| self.step(op));
        let steps: io::Result<Vec<Option<Step>>> = steps.collect();
        Ok(steps?.into_iter().flatten().collect())
    }

    fn step(&self, op: Op) -> io::Result<Option<Step>> {
        Ok(match op {
            Op::Put(key, bytes, when) if self.stays(&key, bytes.len() as u64, &when)? => None,
            Op::Place(key, _, length) if self.stays(&key, length, &When::NotWhole)? => None,
            Op::Put(key, bytes, When::Missing) if bytes.is_empty() => Some(Step::Touched(key)),
            Op::Put(key, bytes, _) => {
                let staged = self.files.stage(&bytes)?;
                Some(Step::Named(key, staged, bytes))
            }
            Op::Adopt(key, path, file) => {
                self.files.adopt(&key, &path, &file)?;
                Some(Step::Settled(key))
            }
            Op::Place(key, mut staged, ..) => {
                self.files.place_synced(&mut staged, &key)?;
                Some(Step::Settled(key))
            }
            Op::Remove(key) => Some(Step::Removed(key)),
        })
    }

    /// Is what is there as good as what would be written?
    fn stays(&self, key: &Path, length: u64, when: &When) -> io::Result<bool> {
        Ok(match when {
            When::Always | When::Absent | When::Is(_) => false,
            When::Missing => self.files.length(key)?.is_some(),
            When::NotWhole => match self.files.length(key)? {
                Some(there) if there != length => {
                    tracing::error!(key = %key, size_bytes = there, "a damaged blob is replaced");
                    false
                }
                there => there.is_some(),
            },
        })
    }

    /// Writes a round to the log, makes its changes and answers.
    fn finish(&mut self, round: Vec<Prepared>) {
        if round.is_empty() {
            return;
        }
        let logged = self.log(&round);
        match logged {
            Ok(places) => {
                for (Prepared { steps, answer }, place) in round.into_iter().zip(places) {
                    let done = self.make(steps, place);
                    let _ = answer.send(done);
                }
            }
            Err(failure) => {
                for Prepared { answer, .. } in round {
                    let _ = answer.send(Err(again(&failure).into()));
                }
            }
        }
    }

    fn log(&mut self, round: &[Prepared]) -> io::Result<Vec<Place>> {
        while let Some((place, done)) = self.owed.last() {
            self.redo.amend(*place, done)?;
            self.owed.pop();
        }
        if self.redo.is_overfull() {
            self.await_settled()?;
            self.turn();
        }
        let changes: Vec<Vec<Change>> = round.iter().map(|request| request.steps.iter().map(Step::change).collect()).collect();
        self.redo.append(&changes)
    }

    /// Makes the changes of one request. If one cannot be made, the log is told of those that were.
    fn make(&mut self, mut steps: Vec<Step>, place: Place) -> Done {
        let failed = steps.iter_mut().enumerate().find_map(|(index, step)| {
            let made = match step {
                Step::Named(key, staged, _) => self.files.place(staged, key),
                Step::Touched(key) => self.files.touch(key),
                Step::Removed(key) => self.files.remove(key),
                Step::Settled(_) => Ok(()),
            };
            made.err().map(|failure| (index, failure))
        });
        let Some((index, failure)) = failed else {
            // Who writes several objects swaps none of them.
            let [only] = &steps[..] else { return Ok(None) };
            return Ok(entity_tag(&self.files.path(only.key())).ok());
        };
        let done: Vec<Change> = steps[..index].iter().map(Step::change).collect();
        if self.redo.amend(place, &done).is_err() {
            // Before anything else is acknowledged.
            self.owed.push((place, done));
        }
        Err(failure.into())
    }

    /// Goes on in the other file of the log, while what stands in this one is brought to its place on disk.
    fn turn(&mut self) {
        self.settling = Some(self.redo.next());
        self.redo.turn();
        let (shared, files) = (Arc::clone(&self.shared), Arc::clone(&self.files));
        let started = thread::Builder::new().name("settle".to_owned()).spawn(move || settle(&shared, &files));
        if let Err(failure) = started {
            // Here, then.
            tracing::warn!(error = %failure, "no thread could be started");
            settle(&self.shared, &self.files);
        }
    }

    /// Everything was synced.
    fn settled(&mut self) {
        self.shared.lock().settled = false;
        let Some(number) = self.settling.take() else { return };
        self.redo.settled(number);
        // Nothing came meanwhile: say it, so that a start need not play anything back.
        if self.redo.is_empty()
            && let Err(error) = self.redo.tell_floor()
        {
            tracing::debug!(%error, "the end of the redo log could not be told");
        }
    }

    /// Waits until the other file of the log is free; an error if the disk cannot do that now.
    fn await_settled(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        while self.settling.is_some() {
            if state.settled {
                drop(state);
                self.settled();
                return Ok(());
            }
            if let Some(trouble) = &state.trouble {
                return Err(again(trouble));
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// Syncs everything, again and again until that has worked or nobody waits for it any more.
fn settle(shared: &Shared, files: &Files) {
    loop {
        let synced = files.sync_all();
        let mut state = shared.lock();
        match synced {
            Ok(()) => {
                state.settled = true;
                state.trouble = None;
            }
            Err(error) => {
                tracing::error!(%error, "the folder could not be synced; trying again");
                state.trouble = Some(error);
            }
        }
        let done = state.settled || state.closed;
        drop(state);
        shared.work.notify_one();
        if done {
            return;
        }
        thread::sleep(IDLE);
    }
}

/// The same failure for one more who waited.
fn again(failure: &io::Error) -> io::Error {
    match failure.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(failure.kind(), failure.to_string()),
    }
}

/// Makes everything what the log says, after a start.
pub(crate) fn play_back(files: &Files, changes: &[Change]) -> io::Result<()> {
    for change in changes {
        match change {
            Change::Put(key, bytes) if is(&files.path(key), bytes)? => {}
            Change::Put(key, bytes) => {
                files.put_unsynced(key, bytes)?;
            }
            Change::Remove(key) => match files.remove(key) {
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            },
            Change::Settled(_) => {}
        }
    }
    if !changes.is_empty() {
        files.sync_all()?;
    }
    Ok(())
}

fn is(path: &FsPath, bytes: &Bytes) -> io::Result<bool> {
    match fs::read(path) {
        Ok(there) => Ok(there == *bytes),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(other) => Err(other),
    }
}
