//! Writing the log without waiting for it: lines are gathered for a moment and written together by a thread of their own.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered. A server that is killed loses no more than this.
const GATHERED: Duration = Duration::from_millis(10);
/// More than this does not wait: whoever logs waits for the reader of the log, as without this.
const MOST: usize = 1024 * 1024;

/// The way to a log that is written a moment later. Cheap to clone.
#[derive(Clone)]
pub(super) struct Behind(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or to end.
    work: Condvar,
    /// There is room again, or everything is written.
    done: Condvar,
}

#[derive(Default)]
struct State {
    gathered: Vec<u8>,
    is_idle: bool,
    is_writing: bool,
    hurry: bool,
}

impl Behind {
    /// Starts the thread that writes to `out`, for the life of the process.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let behind = Self(Arc::clone(&shared));
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut lines = Vec::new();
            loop {
                shared.take(&mut lines);
                // There is nowhere to say that the log cannot be written.
                let _ = out.write_all(&lines).and_then(|()| out.flush());
                lines.clear();
                shared.written();
            }
        })?;
        Ok(behind)
    }

    /// Returns once everything that was logged is written.
    pub(super) fn flush(&self) {
        let mut state = self.0.lock();
        state.hurry = true;
        self.0.work.notify_one();
        while !state.gathered.is_empty() || state.is_writing {
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.hurry = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines, and a moment for more of them.
    fn take(&self, lines: &mut Vec<u8>) {
        let mut state = self.lock();
        while state.gathered.is_empty() {
            state.is_idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_idle = false;
        if !state.hurry && state.gathered.len() < MOST {
            state = self.work.wait_timeout(state, GATHERED).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.gathered, lines);
        state.is_writing = true;
    }

    fn written(&self) {
        self.lock().is_writing = false;
        self.done.notify_all();
    }
}

impl fmt::Debug for Behind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Behind").finish_non_exhaustive()
    }
}

impl Write for Behind {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        while state.gathered.len() > MOST {
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.gathered.extend_from_slice(line);
        if state.is_idle {
            state.is_idle = false;
            self.0.work.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Behind {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A slow reader.
            thread::sleep(Duration::from_micros(100));
            let taken = bytes.len().min(300_000);
            self.0.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_of_every_thread_is_written_whole_and_in_its_order() {
        let out = Out::default();
        let behind = Behind::start(out.clone()).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mut behind = behind.clone();
                thread::spawn(move || {
                    for number in 0..20_000 {
                        behind.write_all(format!("{thread} {number} {}\n", "x".repeat(100)).as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        behind.flush();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let mut next = [0; 4];
        for line in text.lines() {
            let mut words = line.split(' ');
            let (thread, number): (usize, i32) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
            assert_eq!((number, words.next().unwrap().len()), (next[thread], 100));
            next[thread] += 1;
        }
        assert_eq!(next, [20_000; 4]);
    }
}
