//! Queues of the background threads: one writes segments, one prepares and names them, one seals, a few open streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pipeline::Pipeline;
use crate::error::StoreError;
use crate::io::is_rejection;
use crate::io::sync::Mutex;
use crate::queue::Queue;
use crate::stream::Stream;
use crate::stream::work::{SealWork, Work};

#[derive(Default)]
pub(crate) struct WorkQueue {
    pub prepare: Queue<Work>,
    pub seal: Queue<SealWork>,
    pub open: Queue<Arc<Stream>>,
    pub rejected_seals: RejectedSeals,
}

/// Seals that the disk had no room for. Nothing of them is lost: they are tried again with each tick of the checkpoint.
#[derive(Default)]
pub(crate) struct RejectedSeals {
    state: Mutex<Rejected>,
}

#[derive(Default)]
struct Rejected {
    works: Vec<(SealWork, StoreError)>,
    /// By stream and segment: rejected at least once, and not done since. The log has named them.
    undone: BTreeMap<(u64, u64), StoreError>,
}

impl RejectedSeals {
    /// Why a seal of this stream waits, if one does.
    pub fn of(&self, stream: &Stream) -> Option<StoreError> {
        let state = self.state.lock();
        let mut works = state.works.iter();
        let of_stream =
            works.find(|(work, _)| work.stream.identity.number == stream.identity.number);
        of_stream.map(|(_, error)| error.clone())
    }

    /// What an earlier segment of the same stream waits for, also while it is on its way to the sealing thread once more: the later one
    /// waits behind it.
    pub fn ahead_of(&self, work: &SealWork) -> Option<StoreError> {
        let (stream, segment) = key_of(work);
        let state = self.state.lock();
        let mut ahead = state.undone.range((stream, 0)..(stream, segment));
        ahead.next().map(|(_, error)| error.clone())
    }

    pub fn add(&self, work: SealWork, error: StoreError) {
        let mut state = self.state.lock();
        if state.undone.insert(key_of(&work), error.clone()).is_none() {
            tracing::warn!(stream = %work.stream.name, segment_id = work.segment.id, "segment not sealed, retrying: {error}");
        }
        state.works.push((work, error));
    }

    pub fn done(&self, work: &SealWork) {
        self.state.lock().undone.remove(&key_of(work));
    }

    pub fn take(&self) -> Vec<SealWork> {
        let works = std::mem::take(&mut self.state.lock().works);
        works.into_iter().map(|(work, _)| work).collect()
    }
}

fn key_of(work: &SealWork) -> (u64, u64) {
    (work.stream.identity.number.0, work.segment.id)
}

impl WorkQueue {
    /// The store is poisoned: a thread that would do the work may be missing.
    pub fn interrupt(&self) {
        self.prepare.interrupt();
        self.seal.interrupt();
        self.open.interrupt();
    }

    /// In front of later seals of the same streams.
    pub fn retry_seals(&self) {
        self.seal.push_front(self.rejected_seals.take().into_iter());
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

    pub fn run(&self, pipeline: &Pipeline) {
        self.queue.run(|stream| {
            if pipeline.common.poison.is_set() {
                return;
            }
            // What is rejected stays staged; the next checkpoint writes it.
            if let Err(error) = stream.write_out(pipeline, false)
                && !is_rejection(&error.source)
            {
                pipeline.common.poison.set_by(&error);
            }
        });
    }
}
