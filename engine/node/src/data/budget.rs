//! What all Read and Tail calls of this node hold together, so that slow clients cost a bounded amount of memory, however many.
//!
//! A call has at most two batches: one that waits, and one in the transport's hands. They are as large as a message may well be as
//! long as the common budget has room for them. Where it has not, the call has one, a small one, so that clients that stand still
//! hold up nobody.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Calls at a time.
const MAX_CALLS: usize = 1024;
/// Reads of the store at a time. Each may need a whole batch of a segment in memory, to verify it.
const MAX_STEPS: usize = 8;
/// Of all batches together that are larger than small ones.
const BUDGET_BYTES: usize = 64 << 20;
/// Bytes of a batch; a single record may be larger.
const BATCH_BYTES: usize = 1 << 20;
const SMALL_BATCH_BYTES: usize = 64 << 10;
const UNIT_BYTES: usize = 1 << 10;

#[derive(Clone)]
pub struct Budget {
    calls: Arc<Semaphore>,
    steps: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A call that was admitted: counts until the last clone goes.
#[derive(Clone)]
pub struct Call {
    /// One batch outside the common budget.
    own: Arc<Semaphore>,
    _admitted: Arc<OwnedSemaphorePermit>,
}

/// What a batch may take, and then what it takes.
pub enum Share {
    Common(OwnedSemaphorePermit),
    Own { _batch: OwnedSemaphorePermit },
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            steps: Arc::new(Semaphore::new(MAX_STEPS)),
            bytes: Arc::new(Semaphore::new(BUDGET_BYTES / UNIT_BYTES)),
        }
    }
}

impl Budget {
    pub fn admit(&self) -> Result<Call, Status> {
        let admitted = self.calls.clone().try_acquire_owned();
        let admitted = admitted.map_err(|_| {
            Status::resource_exhausted(format!(
                "{MAX_CALLS} Read and Tail calls are open on this node (the limit); end some of them and retry"
            ))
        })?;
        Ok(Call {
            own: Arc::new(Semaphore::new(1)),
            _admitted: Arc::new(admitted),
        })
    }

    /// The right to read the store once. `None`: there is no budget any more.
    pub async fn step(&self) -> Option<OwnedSemaphorePermit> {
        self.steps.clone().acquire_owned().await.ok()
    }

    /// Waits until the common budget has room, or the call has no batch of its own under way.
    pub async fn share(&self, call: &Call) -> Option<Share> {
        let units = (BATCH_BYTES / UNIT_BYTES) as u32;
        if let Ok(common) = self.bytes.clone().try_acquire_many_owned(units) {
            return Some(Share::Common(common));
        }
        tokio::select! {
            biased;
            own = call.own.clone().acquire_owned() => Some(Share::Own { _batch: own.ok()? }),
            common = self.bytes.clone().acquire_many_owned(units) => Some(Share::Common(common.ok()?)),
        }
    }
}

impl Share {
    pub fn bytes(&self) -> usize {
        match self {
            Share::Common(_) => BATCH_BYTES,
            Share::Own { .. } => SMALL_BATCH_BYTES,
        }
    }

    /// Gives back what the batch does not take.
    pub fn keep(&mut self, bytes: usize) {
        match self {
            Share::Common(whole) => {
                let kept = bytes.div_ceil(UNIT_BYTES).min(whole.num_permits());
                drop(whole.split(whole.num_permits() - kept));
            }
            Share::Own { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn share(budget: &Budget, call: &Call) -> Share {
        budget.share(call).await.expect("the budget is there")
    }

    #[tokio::test]
    async fn a_call_has_one_small_batch_where_others_hold_the_memory_and_whole_ones_when_they_let_go()
     {
        let budget = Budget::default();
        let (one, other) = (budget.admit().unwrap(), budget.admit().unwrap());
        let mut held = Vec::new();
        for _ in 0..BUDGET_BYTES / BATCH_BYTES {
            held.push(share(&budget, &one).await);
        }
        assert!(held.iter().all(|share| share.bytes() == BATCH_BYTES));
        let own = share(&budget, &other).await;
        assert_eq!(own.bytes(), SMALL_BATCH_BYTES);
        {
            let mut second = std::pin::pin!(budget.share(&other));
            assert!(!is_ready(second.as_mut()).await, "it has one already");
        }
        drop(held);
        let mut tails = vec![own];
        for _ in 0..1000 {
            let mut whole = share(&budget, &other).await;
            assert_eq!(whole.bytes(), BATCH_BYTES);
            whole.keep(100);
            tails.push(whole);
        }
    }

    async fn is_ready(mut future: std::pin::Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_ready())
        })
        .await
    }

    #[test]
    fn a_call_beyond_the_limit_is_refused_by_name_until_another_ends() {
        let budget = Budget::default();
        let mut calls: Vec<Call> = (0..MAX_CALLS).filter_map(|_| budget.admit().ok()).collect();
        assert_eq!(calls.len(), MAX_CALLS);
        let refused = budget.admit().err().expect("one too many");
        assert!(refused.message().contains("1024"), "{refused}");
        calls.pop();
        assert!(budget.admit().is_ok());
    }
}
