//! Bases of manifests where no snapshot writes them: behind a checkpoint, and on a thread of their own. Chunks are read again and verified
//! for one, which takes its time, and the next checkpoint is what frees the journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use aof2_format::StreamNumber;

use crate::io::sync::Mutex;
use crate::queue::Queue;
use crate::store::pipeline::Pipeline;
use crate::stream::Stream;

#[derive(Default)]
pub(crate) struct BaseWriter {
    queue: Queue<Arc<Stream>>,
    /// Streams in the queue, each once.
    waiting: Mutex<BTreeSet<StreamNumber>>,
}

impl BaseWriter {
    /// Waits for nothing. Streams whose base is not due are left out.
    pub fn ask(&self, pipeline: &Pipeline, streams: &[Arc<Stream>]) {
        for stream in streams {
            let owned = stream.owned(pipeline);
            if stream.manifest.is_base_due(&owned, u64::MAX)
                && self.waiting.lock().insert(stream.identity.number)
            {
                self.queue.push(stream.clone());
            }
        }
    }

    /// What waits is written first.
    pub fn stop(&self) {
        self.queue.stop();
    }

    pub fn run(&self, pipeline: &Pipeline) {
        self.queue.run(|stream| {
            self.waiting.lock().remove(&stream.identity.number);
            if pipeline.common.poison.is_set() {
                return;
            }
            let owned = stream.owned(pipeline);
            if let Err(error) = stream.manifest.write_base(&owned, u64::MAX) {
                // The chunks are all there: a start reads them, and the checkpoint after the next commit asks again.
                tracing::warn!(stream = %stream.name, "manifest base not written: {error}");
            }
        });
    }
}
