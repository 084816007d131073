//! The node's commit log: everything that all streams staged goes to stable storage with one write and one sync per round.
//!
//! Callers enlist a stream (or hand over manifest frames) and get the number of the round that will take them. One thread runs
//! the rounds. Nothing is acknowledged before its round is synced; the first error ends the thread and every wait.

pub(crate) mod recycle;
pub(crate) mod replay;
pub(crate) mod round;
pub(crate) mod writer;

use std::sync::Arc;

use aof2_format::StreamNumber;
use aof2_format::journal::Position;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::recycle::Files;
use self::round::Rounds;
use crate::stream::Stream;

pub(crate) struct Journal {
    queue: Mutex<Queue>,
    kick: Condvar,
    pub rounds: Rounds,
    pub files: Files,
}

/// Whole manifest commits and where they lie in their chunk.
pub(crate) struct ManifestFrame {
    pub stream: StreamNumber,
    pub chunk: u64,
    pub position: u64,
    pub bytes: Bytes,
}

/// What the next round takes.
pub(crate) struct Round {
    pub number: u64,
    pub streams: Vec<Arc<Stream>>,
    pub manifests: Vec<ManifestFrame>,
    pub positions: Option<Vec<Position>>,
}

struct Queue {
    next: Round,
    stop: bool,
    interrupted: bool,
}

impl Round {
    fn new(number: u64) -> Round {
        Round {
            number,
            streams: Vec::new(),
            manifests: Vec::new(),
            positions: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.manifests.is_empty() && self.positions.is_none()
    }
}

impl Journal {
    pub fn new(files: Files) -> Journal {
        Journal {
            queue: Mutex::new(Queue {
                next: Round::new(1),
                stop: false,
                interrupted: false,
            }),
            kick: Condvar::new(),
            rounds: Rounds::new(),
            files,
        }
    }

    /// Called once per stream and round, under the stream's lock.
    pub fn enlist(&self, stream: &Arc<Stream>) -> u64 {
        self.add(|round| round.streams.push(stream.clone()))
    }

    pub fn enlist_manifest(&self, frame: ManifestFrame) -> u64 {
        self.add(|round| round.manifests.push(frame))
    }

    pub fn enlist_positions(&self, positions: Vec<Position>) -> u64 {
        self.add(|round| round.positions = Some(positions))
    }

    fn add(&self, put: impl FnOnce(&mut Round)) -> u64 {
        let mut queue = self.queue.lock();
        let was_empty = queue.next.is_empty();
        put(&mut queue.next);
        if was_empty {
            self.kick.notify_one();
        }
        queue.next.number
    }

    /// Waits for something to do. `None`: stopped and nothing is left, or interrupted.
    fn next_round(&self) -> Option<Round> {
        let mut queue = self.queue.lock();
        loop {
            if queue.interrupted {
                return None;
            }
            if !queue.next.is_empty() {
                let number = queue.next.number;
                return Some(std::mem::replace(&mut queue.next, Round::new(number + 1)));
            }
            if queue.stop {
                return None;
            }
            self.kick.wait(&mut queue);
        }
    }

    /// Ends the thread after the rounds that are asked for.
    pub fn stop(&self) {
        self.queue.lock().stop = true;
        self.kick.notify_all();
    }

    /// Ends the thread now: the store is poisoned.
    pub fn interrupt(&self) {
        self.queue.lock().interrupted = true;
        self.kick.notify_all();
        self.files.interrupt();
    }
}
