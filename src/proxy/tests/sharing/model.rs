use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::sharing::{Entered, Sharing};

/// What becomes of a fetch.
#[derive(Clone, Copy)]
pub(crate) enum Upstream {
    Sends,
    Fails,
    /// It sends, but the store cannot keep what it sent.
    SendsInVain,
}

/// As in `fill.rs`; the states between the first byte and the last are one.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Asking,
    Running,
    Verified,
    Failed,
}

/// The model of a watch channel: the last value, and whether there is a sender.
struct Channel {
    state: Mutex<(Progress, bool)>,
    changed: Condvar,
    receivers: AtomicUsize,
}

struct Sender(Arc<Channel>);
struct Receiver(Arc<Channel>);

impl Sender {
    fn new() -> (Receiver, Self) {
        let channel =
            Channel { state: Mutex::new((Progress::Asking, true)), changed: Condvar::new(), receivers: AtomicUsize::new(1) };
        let channel = Arc::new(channel);
        (Receiver(Arc::clone(&channel)), Self(channel))
    }

    fn send(&self, progress: Progress) {
        self.0.state.lock().unwrap().0 = progress;
        self.0.changed.notify_all();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().1 = false;
        self.0.changed.notify_all();
    }
}

impl Receiver {
    /// The first progress for which this holds; `None` when the sender is gone before. A reader that waits for ever is a deadlock,
    /// which the checker reports.
    fn wait_for(&self, wanted: impl Fn(Progress) -> bool) -> Option<Progress> {
        let mut state = self.0.state.lock().unwrap();
        loop {
            if wanted(state.0) {
                return Some(state.0);
            }
            if !state.1 {
                return None;
            }
            state = self.0.changed.wait(state).unwrap();
        }
    }
}

impl Clone for Receiver {
    fn clone(&self) -> Self {
        self.0.receivers.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Fill {
    server: Server,
    progress: Sender,
}

/// A pull-through for one blob.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    upstream: Upstream,
    sharing: Sharing<u8, Receiver>,
    /// Does the cache have the blob?
    kept: AtomicBool,
    /// Are the bytes known to be right?
    verified: AtomicBool,
    fetching: AtomicUsize,
    fetches: AtomicUsize,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self(Arc::new(Inner {
            upstream,
            sharing: Sharing::new(),
            kept: AtomicBool::new(false),
            verified: AtomicBool::new(false),
            fetching: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            tasks: Mutex::new(Vec::new()),
        }))
    }

    pub(crate) fn fetches(&self) -> usize {
        self.0.fetches.load(Ordering::Acquire)
    }

    /// Waits for the fills; then none is under way.
    pub(crate) fn is_idle_at_the_end(&self) -> bool {
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap());
        for task in tasks {
            task.join().unwrap();
        }
        self.0.sharing.running(&0).is_none()
    }

    /// As `PullThrough::blob_cached`, and then as a reader to the last byte.
    pub(crate) fn read(&self, attempts: usize) -> Result<(), &'static str> {
        for _ in 0..attempts {
            let progress = match self.0.sharing.running(&0) {
                Some(progress) => progress,
                None if self.0.kept.load(Ordering::Acquire) => return Ok(()),
                None => self.fill(),
            };
            match progress.wait_for(|progress| progress != Progress::Asking) {
                None | Some(Progress::Asking) => {}
                Some(Progress::Failed) => return Err("failed"),
                Some(Progress::Running | Progress::Verified) => return self.last_byte(&progress),
            }
        }
        Err("abandoned")
    }

    /// The last byte is given with `Verified` alone.
    fn last_byte(&self, progress: &Receiver) -> Result<(), &'static str> {
        match progress.wait_for(|progress| matches!(progress, Progress::Verified | Progress::Failed)) {
            Some(Progress::Verified) => {
                assert!(self.0.verified.load(Ordering::Acquire), "the last byte of a blob that is not verified");
                Ok(())
            }
            Some(_) => Err("failed"),
            None => Err("broke off"),
        }
    }

    /// A client that is gone before there is an answer.
    pub(crate) fn start_and_leave(&self) {
        drop(self.fill());
    }

    fn fill(&self) -> Receiver {
        let (receiver, first) = self.0.sharing.enter(&0, Sender::new);
        if let Some((entered, progress)) = first {
            let fill = Fill { server: self.clone(), progress };
            let task = thread::spawn(move || run(fill, entered));
            self.0.tasks.lock().unwrap().push(task);
        }
        receiver
    }
}

/// The task of a fill. Dropped in the reverse order, as in `blobs.rs`.
fn run(fill: Fill, entered: Entered<u8, Receiver>) {
    let fill = fill;
    let _entered = entered;
    fill.run();
}

impl Fill {
    /// As `Fill::run`.
    fn run(&self) {
        let server = &self.server.0;
        if self.progress.0.receivers.load(Ordering::Acquire) <= 1 || server.kept.load(Ordering::Acquire) {
            return;
        }
        assert_eq!(server.fetching.fetch_add(1, Ordering::AcqRel), 0, "two fetches of one blob at once");
        server.fetches.fetch_add(1, Ordering::AcqRel);
        self.progress.send(Progress::Running);
        if matches!(server.upstream, Upstream::Fails) {
            self.progress.send(Progress::Failed);
        } else {
            server.verified.store(true, Ordering::Release);
            self.progress.send(Progress::Verified);
            // Nobody waits for this any more, but whoever comes meanwhile joins.
            server.kept.store(matches!(server.upstream, Upstream::Sends), Ordering::Release);
        }
        server.fetching.fetch_sub(1, Ordering::AcqRel);
    }
}
