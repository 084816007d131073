//! Who may work now. Many looks at once would be more than the processor can do in the time that each has; but one that waits for somebody
//! else must not keep those waiting that could go on.

use std::time::Duration;

use tokio::sync::Semaphore;

/// After it a look counts as one that waits: an engine that hangs, a webhook that is slow.
const PATIENCE: Duration = Duration::from_millis(250);

/// Looks under way for each that may work: what each holds in memory is bounded too.
const UNDER_WAY: usize = 8;

pub struct Turns {
    turns: Semaphore,
    under_way: Semaphore,
    patience: Duration,
}

impl Turns {
    /// At most so many work at once, not counting those that last longer than a moment; with these, eight times as many.
    pub fn new(count: u16) -> Self {
        Self::with_patience(count, PATIENCE)
    }

    fn with_patience(count: u16, patience: Duration) -> Self {
        let count = usize::from(count.max(1));
        Self {
            turns: Semaphore::new(count),
            under_way: Semaphore::new(count * UNDER_WAY),
            patience,
        }
    }

    /// Waits for its turn, in the order of the callers. A look that takes long gives its turn to the next and goes on. It is made when its turn has
    /// come: a thousand that wait would hold 100 KiB each.
    pub async fn run<F: Future>(&self, look: impl FnOnce() -> F) -> F::Output {
        // Never closed.
        let _under_way = self.under_way.acquire().await.ok();
        let turn = self.turns.acquire().await.ok();
        let mut look = Box::pin(look());
        match tokio::time::timeout(self.patience, &mut look).await {
            Ok(done) => done,
            Err(_) => {
                drop(turn);
                look.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn those_that_hang_give_their_turn_to_the_others() {
        let turns = Turns::with_patience(4, Duration::from_millis(5));
        let hang =
            futures::future::join_all((0..31).map(|_| turns.run(std::future::pending::<()>)));
        // It comes last of all.
        let healthy = async { turns.run(tokio::task::yield_now).await };
        let waited = async {
            tokio::select! {
                _ = hang => false,
                () = healthy => true,
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
        assert_eq!(waited, Ok(true), "31 that hang keep it waiting for ever");
    }

    #[tokio::test]
    async fn no_more_than_that_work_at_once() {
        let turns = Turns::new(4);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = (0..40).map(|_| {
            turns.run(async || {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
            })
        });
        futures::future::join_all(work).await;
        assert_eq!(most.load(Ordering::Relaxed), 4);
    }
}
