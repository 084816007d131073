//! How far appends may run ahead of the disk: bytes staged in memory, and bytes in the page cache that the device has not got.
//!
//! Much dirty memory written at once stalls every commit behind it. So pieces go to the device one by one, the next when the
//! last is done, and no more than a bounded number of bytes wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::io::sync::{Condvar, Mutex};

use crate::io::DiskFile;

/// Staged and not yet in segment files.
const STAGED_LIMIT_BYTES: u64 = 96 << 20;
/// Payloads of appends that wait for a claim or a segment.
pub(crate) const HELD_LIMIT_BYTES: u64 = 32 << 20;
/// In segment files and not yet on the device.
const UNWRITTEN_LIMIT_BYTES: u64 = 256 << 20;
/// Adjacent pieces are paced together up to this.
const PIECE_BYTES: u64 = 256 << 10;

#[derive(Default)]
pub(crate) struct Staging {
    bytes: AtomicU64,
    held_bytes: AtomicU64,
    waiting: Mutex<()>,
    less: Condvar,
}

impl Staging {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.bytes() > STAGED_LIMIT_BYTES
    }

    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.less.notify_all();
    }

    /// Counts an append that waits for a segment, unless too many do. One alone may always.
    pub fn hold(&self, bytes: u64) -> bool {
        let before = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before + bytes <= HELD_LIMIT_BYTES;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether any append waits.
    pub fn holds(&self) -> bool {
        self.held_bytes() > 0
    }

    /// What `hold` counted waits no longer.
    pub fn release(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns after something was written, or after a moment.
    pub fn wait(&self, moment: Duration) {
        let mut guard = self.waiting.lock();
        let _ = self.less.wait_for(&mut guard, moment);
    }
}

struct Piece {
    file: Arc<dyn DiskFile>,
    offset: u64,
    length: u64,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: u64,
    stop: bool,
}

#[derive(Default)]
pub(crate) struct Pacer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Pacer {
    /// Queues a written range; waits while too much is queued.
    pub fn push(&self, file: &Arc<dyn DiskFile>, offset: u64, length: u64) {
        let mut queue = self.queue.lock();
        while queue.bytes > UNWRITTEN_LIMIT_BYTES && !queue.stop {
            self.changed.wait(&mut queue);
        }
        queue.bytes += length;
        match queue.pieces.back_mut() {
            Some(last)
                if Arc::ptr_eq(&last.file, file)
                    && last.offset + last.length == offset
                    && last.length + length <= PIECE_BYTES =>
            {
                last.length += length;
            }
            _ => queue.pieces.push_back(Piece {
                file: file.clone(),
                offset,
                length,
            }),
        }
        if queue.pieces.len() == 1 {
            self.changed.notify_all();
        }
    }

    /// Waits until what is queued is written out, or until then: a checkpoint syncs less at once.
    pub fn drain(&self, deadline: Instant) {
        let mut queue = self.queue.lock();
        while queue.bytes > 0 && !queue.stop {
            if self.changed.wait_until(&mut queue, deadline).timed_out() {
                return;
            }
        }
    }

    pub fn stop(&self) {
        self.queue.lock().stop = true;
        self.changed.notify_all();
    }

    /// The pacing thread.
    pub fn run(&self) {
        loop {
            let piece = {
                let mut queue = self.queue.lock();
                loop {
                    if queue.stop {
                        return;
                    }
                    match queue.pieces.pop_front() {
                        Some(piece) => break piece,
                        None => self.changed.wait(&mut queue),
                    }
                }
            };
            // Not a step of durability, and its failure is one of a sync all the same: no later sync reports it. The file has
            // told the store.
            if let Err(error) = piece.file.pace(piece.offset, piece.length) {
                tracing::error!(path = %piece.file.path().display(), %error, "write-out failed");
                self.stop();
                return;
            }
            let mut queue = self.queue.lock();
            queue.bytes -= piece.length;
            drop(queue);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_one_alone_always_may() {
        let staging = Staging::default();
        assert!(staging.hold(HELD_LIMIT_BYTES + 1));
        assert!(!staging.hold(1));
        assert_eq!(staging.held_bytes(), HELD_LIMIT_BYTES + 1);
        staging.release(HELD_LIMIT_BYTES + 1);
        assert!(!staging.holds());
        assert!(staging.hold(HELD_LIMIT_BYTES));
        assert!(!staging.hold(1));
        staging.release(1);
        assert!(staging.hold(1));
    }
}
