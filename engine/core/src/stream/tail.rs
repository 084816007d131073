//! Readers at the durable end wait here for the watermark.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::io::sync::Mutex;

/// Room for entries that is not given back.
const SPARE: usize = 64;

type Callback = Box<dyn FnOnce(u64) + Send>;

#[derive(Default)]
pub(crate) struct Tails {
    /// How many wait: the writer looks here before it takes the lock.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    all: Vec<Entry>,
}

struct Entry {
    id: u64,
    sequence: u64,
    callback: Callback,
}

impl Tails {
    /// Calls back once the watermark is over `sequence`. `durable` is read after the entry stands in the list, so that no
    /// publication falls between. The answer names the entry, for `leave`.
    pub fn wait(&self, sequence: u64, durable: impl Fn() -> u64, callback: Callback) -> u64 {
        let id = {
            let mut waiting = self.waiting.lock();
            let id = waiting.next;
            waiting.next += 1;
            waiting.all.push(Entry {
                id,
                sequence,
                callback,
            });
            self.count.store(waiting.all.len(), Ordering::SeqCst);
            id
        };
        let now = durable();
        if now > sequence {
            self.wake(now);
        }
        id
    }

    pub fn wake(&self, durable: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let ready = {
            let mut waiting = self.waiting.lock();
            let (ready, left): (Vec<_>, Vec<_>) = std::mem::take(&mut waiting.all)
                .into_iter()
                .partition(|entry| durable > entry.sequence);
            waiting.all = left;
            self.count.store(waiting.all.len(), Ordering::SeqCst);
            ready
        };
        for entry in ready {
            (entry.callback)(durable);
        }
    }

    /// Drops an entry, uncalled, if it is still there.
    pub fn leave(&self, id: u64) {
        let mut waiting = self.waiting.lock();
        let Some(at) = waiting.all.iter().position(|entry| entry.id == id) else {
            return;
        };
        let left = waiting.all.swap_remove(at);
        if waiting.all.capacity() > 2 * waiting.all.len() + SPARE {
            waiting.all.shrink_to_fit();
        }
        self.count.store(waiting.all.len(), Ordering::SeqCst);
        drop(waiting);
        drop(left);
    }

    /// Drops everyone who waits, uncalled.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut self.waiting.lock().all);
        self.count.store(0, Ordering::SeqCst);
        drop(dropped);
    }
}
