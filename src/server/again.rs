//! Polling once more in place what wakes itself.
//!
//! hyper passes a request's body through a channel between two futures of one task: each piece wakes the task from within. The
//! runtime answers that by calling another thread to help, which takes the task, its buffers and the state of its hash away to
//! another processor, for every piece.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

/// How often a future is polled before other tasks have their turn.
const MOST: usize = 4;

/// The waker of a future that is polled with [`Again::poll`].
pub(crate) struct Again {
    waker: Waker,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Set while the future runs: who wakes it now is heard when it returns.
    polling: AtomicBool,
    woken: AtomicBool,
    /// The task that polled it first, and as a rule the only one.
    task: OnceLock<Waker>,
    /// The future wants others to have their turn.
    yields: AtomicBool,
}

/// With this a future says, before it wakes itself, that others shall have their turn first.
pub(crate) struct Yields(Arc<Shared>);

impl Yields {
    /// Puts the task behind those that are ready now. The caller answers `Pending`.
    pub(crate) fn put_off(&self, cx: &Context<'_>) {
        self.0.yields.store(true, Ordering::Relaxed);
        cx.waker().wake_by_ref();
    }
}

impl Again {
    pub(crate) fn new() -> Self {
        let shared = Arc::new(Shared::default());
        Self { waker: Arc::clone(&shared).into(), shared }
    }

    pub(crate) fn yields(&self) -> Yields {
        Yields(Arc::clone(&self.shared))
    }

    /// Polls until the future is ready, or waits for something outside of it, or has had its turn.
    pub(crate) fn poll<T>(&self, cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let shared = &*self.shared;
        if !shared.task.get_or_init(|| cx.waker().clone()).will_wake(cx.waker()) {
            return poll(cx);
        }
        for _ in 0..MOST {
            shared.polling.store(true, Ordering::SeqCst);
            let polled = poll(&mut Context::from_waker(&self.waker));
            shared.polling.store(false, Ordering::SeqCst);
            // Whoever wakes after this sees that nobody listens here, and wakes the task.
            let woken = shared.woken.swap(false, Ordering::SeqCst);
            if polled.is_ready() || !woken {
                return polled;
            }
            if shared.yields.swap(false, Ordering::Relaxed) {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task.get().into_iter().for_each(Waker::wake_by_ref);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often it was polled, and how often the task was woken.
    fn polled(mut poll: impl FnMut(&mut Context<'_>, &Yields, usize) -> Poll<()>) -> (usize, usize) {
        let task = Arc::new(Counted::default());
        let again = Again::new();
        let yields = again.yields();
        let mut times = 0;
        let waker = Arc::clone(&task).into();
        let _ = again.poll(&mut Context::from_waker(&waker), |cx| {
            times += 1;
            poll(cx, &yields, times)
        });
        (times, task.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_in_place_but_not_for_ever() {
        let itself = |cx: &mut Context<'_>, _: &Yields, times| {
            cx.waker().wake_by_ref();
            if times == 2 { Poll::Ready(()) } else { Poll::Pending }
        };
        assert_eq!(polled(itself), (2, 0));
        let for_ever = |cx: &mut Context<'_>, _: &Yields, _| {
            cx.waker().wake_by_ref();
            Poll::Pending
        };
        assert_eq!(polled(for_ever), (MOST, 1));
        assert_eq!(polled(|_, _, _| Poll::Pending), (1, 0));
    }

    #[test]
    fn what_puts_itself_off_lets_others_have_their_turn() {
        let yields = |cx: &mut Context<'_>, yields: &Yields, _| {
            yields.put_off(cx);
            Poll::Pending
        };
        assert_eq!(polled(yields), (1, 1));
    }

    #[test]
    fn who_wakes_it_later_wakes_the_task() {
        let task = Arc::new(Counted::default());
        let again = Again::new();
        let mut kept = None;
        let waker = Arc::clone(&task).into();
        let polled = again.poll(&mut Context::from_waker(&waker), |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!(task.0.load(Ordering::SeqCst), 0);
        kept.into_iter().for_each(Waker::wake);
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }
}
