//! The word to stop, for which every connection listens at every step.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

/// Finish what runs, begin nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain {
    token: CancellationToken,
    /// Read at every step, where the token would take a lock that all connections share.
    begun: Arc<AtomicBool>,
}

impl Drain {
    /// Tells everyone.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Resolves once it has begun. To be polled by one task to its end, since a later poll does not leave its waker.
    pub(crate) async fn begun(&self) {
        let mut told = pin!(self.token.cancelled());
        let mut asked = false;
        poll_fn(|cx| {
            if asked && !self.begun.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            asked = true;
            told.as_mut().poll(cx)
        })
        .await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn everyone_hears_of_it_however_often_they_were_woken_before() {
        let drain = Drain::default();
        let waiting: Vec<_> = (0..10)
            .map(|number| {
                let drain = drain.clone();
                tokio::spawn(async move {
                    let mut begun = pin!(drain.begun());
                    for _ in 0..number {
                        let other = tokio::task::yield_now();
                        tokio::select! {
                            biased;
                            () = &mut begun => return,
                            () = other => {}
                        }
                    }
                    begun.await;
                })
            })
            .collect();
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(waiting.iter().all(|task| !task.is_finished()));
        drain.begin();
        for task in waiting {
            tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
        }
        drain.begun().await;
    }
}
