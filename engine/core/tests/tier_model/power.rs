//! The power of a node: it goes after so many steps, and with it everything that is not durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aof2_core::objects::memory::MemoryStore;
use parking_lot::Mutex;

use crate::volume::Volume;

/// The moment at which the power went.
pub struct Cut {
    pub volume: Volume,
    pub bucket: Arc<MemoryStore>,
}

/// Counts changes of the disk and requests to the bucket.
pub struct Power {
    bucket: Arc<MemoryStore>,
    /// 0: it stays.
    steps_left: AtomicU64,
    is_out: AtomicBool,
    cut: Mutex<Option<Cut>>,
}

impl Power {
    pub fn new(bucket: Arc<MemoryStore>) -> Arc<Power> {
        Arc::new(Power {
            bucket,
            steps_left: AtomicU64::new(0),
            is_out: AtomicBool::new(false),
            cut: Mutex::default(),
        })
    }

    /// It goes at this step from now on; 1 = the next.
    pub fn cut_after(&self, steps: u64) {
        self.steps_left.store(steps, Ordering::SeqCst);
    }

    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::SeqCst)
    }

    /// Before each step.
    pub fn step(&self, volume: impl FnOnce() -> Volume) {
        let left = self.steps_left.load(Ordering::SeqCst);
        if left == 0 || self.is_out() {
            return;
        }
        self.steps_left.store(left - 1, Ordering::SeqCst);
        if left == 1 {
            self.go(volume());
        }
    }

    /// Now.
    pub fn go(&self, volume: Volume) {
        let bucket = Arc::new(self.bucket.copy());
        self.is_out.store(true, Ordering::SeqCst);
        *self.cut.lock() = Some(Cut { volume, bucket });
    }

    pub fn take_cut(&self) -> Option<Cut> {
        self.cut.lock().take()
    }
}
