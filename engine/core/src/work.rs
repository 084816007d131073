//! Queues of the background threads: one writes segments, one prepares and names them, one seals, a few open streams.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::io::sync::{Condvar, Mutex};

use crate::segment::active::ActiveSegment;
use crate::store::shared::Shared;
use crate::stream::Stream;
use crate::stream::producers::Changes;

/// First in, first out, until stopped.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    /// Taken and not finished.
    running: usize,
    stop: bool,
    /// Nobody waits for the rest.
    interrupted: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                running: 0,
                stop: false,
                interrupted: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    pub fn push(&self, item: T) {
        self.state.lock().items.push_back(item);
        self.changed.notify_all();
    }

    /// `None` once stopped and empty.
    fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                state.running += 1;
                return Some(item);
            }
            if state.stop {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn finished(&self) {
        self.state.lock().running -= 1;
        self.changed.notify_all();
    }

    /// Does every item until stopped.
    pub fn run(&self, mut work: impl FnMut(T)) {
        while let Some(item) = self.take() {
            let _finished = Finished(self);
            work(item);
        }
    }

    /// Waits until everything that was pushed is done, or never will be.
    pub fn wait_idle(&self) {
        let mut state = self.state.lock();
        while !state.interrupted && (!state.items.is_empty() || state.running > 0) {
            self.changed.wait(&mut state);
        }
    }

    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    fn interrupt(&self) {
        self.state.lock().interrupted = true;
        self.changed.notify_all();
    }
}

/// Counts an item as done, also when its work panics.
struct Finished<'a, T>(&'a Queue<T>);

impl<T> Drop for Finished<'_, T> {
    fn drop(&mut self) {
        self.0.finished();
    }
}

pub(crate) enum Work {
    /// Make the next segment of a stream ahead.
    Prepare(Arc<Stream>),
    /// One more journal file, while there are fewer than configured.
    JournalFile,
    /// Remove the journal files that the configuration no longer asks for.
    OutdatedJournal,
    /// Give a segment its own name.
    Name {
        stream: Arc<Stream>,
        segment: Arc<ActiveSegment>,
    },
    /// The segment takes no more records.
    Seal(SealWork),
    /// Claim a stream or make a segment, then do what waits for it.
    Open(Arc<Stream>),
}

pub(crate) struct SealWork {
    pub stream: Arc<Stream>,
    pub segment: Arc<ActiveSegment>,
    /// Offset behind the last batch.
    pub end: u64,
    pub end_sequence: u64,
    /// Chain of the last batch.
    pub chain: u32,
    /// What the segment changed of the stream's producers.
    pub changes: Changes,
}

#[derive(Default)]
pub(crate) struct WorkQueue {
    pub prepare: Queue<Work>,
    pub seal: Queue<SealWork>,
    pub open: Queue<Arc<Stream>>,
}

impl WorkQueue {
    /// The store is poisoned: a thread that would do the work may be missing.
    pub fn interrupt(&self) {
        self.prepare.interrupt();
        self.seal.interrupt();
        self.open.interrupt();
    }

    pub fn push(&self, work: Work) {
        match work {
            Work::Prepare(_) | Work::JournalFile | Work::OutdatedJournal | Work::Name { .. } => {
                self.prepare.push(work)
            }
            Work::Seal(seal) => self.seal.push(seal),
            Work::Open(stream) => self.open.push(stream),
        }
    }
}

/// Writes full pieces of staged bytes, stream by stream.
#[derive(Default)]
pub(crate) struct SegmentWriter {
    queue: Queue<Arc<Stream>>,
}

impl SegmentWriter {
    pub fn push(&self, stream: Arc<Stream>) {
        self.queue.push(stream);
    }

    pub fn stop(&self) {
        self.queue.stop();
    }

    pub fn run(&self, shared: &Shared) {
        self.queue.run(|stream| {
            if shared.poison.is_set() {
                return;
            }
            if let Err(error) = stream.write_out(shared, false) {
                shared.poison_by(&error);
            }
        });
    }
}
