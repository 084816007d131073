//! How far recovery has come.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that recovery has read, and has to read.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    pub fn set(&self, done_bytes: u64, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.done_bytes.store(done_bytes, Ordering::Relaxed);
    }

    pub fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    /// 0.0..=1.0; below 1.0 until recovery is over, whatever the bytes say.
    pub fn fraction(&self) -> f64 {
        let total = self.total_bytes.load(Ordering::Relaxed);
        if total == 0 {
            0.0
        } else {
            (self.done_bytes() as f64 / total as f64).min(0.99)
        }
    }
}
