//! Readers at the durable end wait here for the watermark.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::io::sync::Mutex;

type Callback = Box<dyn FnOnce(u64) + Send>;

#[derive(Default)]
pub(crate) struct Tails {
    /// How many wait: the writer looks here before it takes the lock.
    count: AtomicUsize,
    waiting: Mutex<Vec<(u64, Callback)>>,
}

impl Tails {
    /// Calls back once the watermark is over `sequence`. `durable` is read after the entry stands in the list, so that no
    /// publication falls between.
    pub fn wait(&self, sequence: u64, durable: impl Fn() -> u64, callback: Callback) {
        {
            let mut waiting = self.waiting.lock();
            waiting.push((sequence, callback));
            self.count.store(waiting.len(), Ordering::SeqCst);
        }
        let now = durable();
        if now > sequence {
            self.wake(now);
        }
    }

    pub fn wake(&self, durable: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let ready = {
            let mut waiting = self.waiting.lock();
            let (ready, left): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting)
                .into_iter()
                .partition(|(sequence, _)| durable > *sequence);
            *waiting = left;
            self.count.store(waiting.len(), Ordering::SeqCst);
            ready
        };
        for (_, callback) in ready {
            callback(durable);
        }
    }

    /// Drops everyone who waits, uncalled.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut *self.waiting.lock());
        self.count.store(0, Ordering::SeqCst);
        drop(dropped);
    }
}
