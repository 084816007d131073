//! What all Read and Tail calls of this node hold together, so that slow clients cost a bounded amount of memory, however many.
//!
//! A call has at most two batches: one that waits, and one in the transport's hands. A batch is as large as a message may well be as
//! long as the common budget has room for it, and small where it has not, so that clients that stand still hold up nobody.

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

/// A call that was admitted.
pub struct Call(#[allow(dead_code)] OwnedSemaphorePermit);

/// What a batch may take, and then what it takes.
pub struct Share(Option<OwnedSemaphorePermit>);

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
        self.calls.clone().try_acquire_owned().map(Call).map_err(|_| {
            Status::resource_exhausted(format!(
                "{MAX_CALLS} Read and Tail calls are open on this node, which is the limit: end some of them and retry"
            ))
        })
    }

    /// The right to read the store once. `None`: there is no budget any more.
    pub async fn step(&self) -> Option<OwnedSemaphorePermit> {
        self.steps.clone().acquire_owned().await.ok()
    }

    pub fn share(&self) -> Share {
        let units = (BATCH_BYTES / UNIT_BYTES) as u32;
        Share(self.bytes.clone().try_acquire_many_owned(units).ok())
    }
}

impl Share {
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Some(_) => BATCH_BYTES,
            None => SMALL_BATCH_BYTES,
        }
    }

    /// Gives back what the batch does not take.
    pub fn keep(&mut self, bytes: usize) {
        if let Some(whole) = &mut self.0 {
            let kept = bytes.div_ceil(UNIT_BYTES).min(whole.num_permits());
            drop(whole.split(whole.num_permits() - kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_become_small_where_others_hold_the_memory_and_whole_again_when_they_let_go() {
        let budget = Budget::default();
        let held: Vec<Share> = (0..BUDGET_BYTES / BATCH_BYTES)
            .map(|_| budget.share())
            .collect();
        assert!(held.iter().all(|share| share.bytes() == BATCH_BYTES));
        assert_eq!(budget.share().bytes(), SMALL_BATCH_BYTES);
        drop(held);
        let mut tails: Vec<Share> = Vec::new();
        for _ in 0..1000 {
            let mut share = budget.share();
            assert_eq!(share.bytes(), BATCH_BYTES);
            share.keep(100);
            tails.push(share);
        }
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
