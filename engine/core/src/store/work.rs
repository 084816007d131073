//! Queues of the background threads: one writes segments, one prepares and names them, one seals, a few open streams.

use std::sync::Arc;

use super::pipeline::Pipeline;
use crate::queue::Queue;
use crate::stream::Stream;
use crate::stream::work::{SealWork, Work};

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

    pub fn run(&self, pipeline: &Pipeline) {
        self.queue.run(|stream| {
            if pipeline.common.poison.is_set() {
                return;
            }
            if let Err(error) = stream.write_out(pipeline, false) {
                pipeline.common.poison.set_by(&error);
            }
        });
    }
}
