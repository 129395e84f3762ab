//! Changes come to their end, whoever leaves.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A change that is made within the connection that asks for it, so that its bytes go from socket to disk without passing from one
/// thread to another; and that goes on as a task of its own when that connection ends before it.
///
/// A client that leaves drops the future that answers it. What that has begun to change must come to its end all the same, or the
/// store and what is remembered of it would part.
pub(crate) struct ToTheEnd<T: Send + 'static> {
    change: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    tasks: TaskTracker,
}

impl<T: Send + 'static> ToTheEnd<T> {
    /// `tasks` takes the change over if need be, and whoever stops the server waits for them.
    pub(crate) fn new(change: impl Future<Output = T> + Send + 'static, tasks: TaskTracker) -> Self {
        Self { change: Some(Box::pin(change)), tasks }
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(change) = &mut self.change else { return Poll::Pending };
        let done = ready!(change.as_mut().poll(cx));
        self.change = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        let Some(change) = self.change.take() else { return };
        // One that has panicked cannot go on; and where the runtime itself ends, nothing can.
        if !std::thread::panicking()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(self.tasks.spawn_on(async move { drop(change.await) }, &runtime));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn a_change_is_made_where_it_is_waited_for() {
        let tasks = TaskTracker::new();
        let change = ToTheEnd::new(async { tokio::task::id() }, tasks.clone());
        let asked = tokio::spawn(async { (change.await, tokio::task::id()) });
        let (there, here) = asked.await.unwrap();
        assert_eq!((there, tasks.len()), (here, 0));
    }

    #[tokio::test]
    async fn a_change_that_nobody_waits_for_any_more_goes_on() {
        let tasks = TaskTracker::new();
        let go_on = Arc::new(Notify::new());
        let (told, done) = oneshot::channel();
        let waited = Arc::clone(&go_on);
        let mut change = ToTheEnd::new(
            async move {
                waited.notified().await;
                told.send("done").unwrap();
            },
            tasks.clone(),
        );
        assert!(futures_util::poll!(&mut change).is_pending());
        drop(change);
        assert_eq!(tasks.len(), 1);
        go_on.notify_one();
        assert_eq!(done.await.unwrap(), "done");
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn a_change_that_panics_ends_with_its_connection() {
        let tasks = TaskTracker::new();
        let change = ToTheEnd::new(async { panic!("a defect") }, tasks.clone());
        assert!(tokio::spawn(change).await.unwrap_err().is_panic());
        assert!(tasks.is_empty());
    }
}
