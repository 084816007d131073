//! What an append passes through: its stream, the journal, the checkpoint, and the queues of the threads between them.
//!
//! The journal asks its members through [`Driver`], a stream whoever has it through [`Host`]: both are this.

use std::sync::Arc;

use aof2_format::journal::Position;

use super::bases::BaseWriter;
use super::work::{SegmentWriter, WorkQueue};
use crate::common::Common;
use crate::journal::member::Driver;
use crate::journal::round::Ended;
use crate::journal::{Journal, ManifestFrame};
use crate::store::checkpoint::Checkpoint;
use crate::stream::Stream;
use crate::stream::host::Host;
use crate::stream::table::Streams;
use crate::stream::work::Work;

pub(crate) struct Pipeline {
    pub common: Arc<Common>,
    pub streams: Arc<Streams>,
    pub journal: Journal<Pipeline>,
    pub checkpoint: Checkpoint,
    pub segment_writer: SegmentWriter,
    pub bases: BaseWriter,
    pub work: WorkQueue,
}

impl Pipeline {
    /// Whoever waits for something that will not come any more learns of it.
    pub fn end_waits(&self) {
        self.journal.interrupt();
        self.common.pacer.stop();
        self.work.interrupt();
    }
}

impl Driver for Pipeline {
    type Member = Stream;

    fn members(&self) -> Vec<Arc<Stream>> {
        self.streams.everything()
    }

    fn checkpoint_table(&self) -> Vec<Position> {
        self.checkpoint.table()
    }

    fn ask_for_checkpoint(&self) {
        self.checkpoint.ask();
    }

    fn note_journaled(&self, bytes: u64) {
        let limit_bytes = self.common.config.load().checkpoint.journal_bytes;
        self.checkpoint.note_journaled(bytes, limit_bytes);
    }

    fn ask_for_file(&self) {
        self.work.push(Work::JournalFile);
    }

    fn is_closing(&self) -> bool {
        self.common.space.is_closing()
    }

    fn ask_to_remove_outdated(&self) {
        self.work.push(Work::OutdatedJournal);
    }
}

impl Host for Pipeline {
    fn common(&self) -> &Common {
        &self.common
    }

    fn enlist(&self, stream: &Arc<Stream>) -> u64 {
        self.journal.enlist(stream)
    }

    fn enlist_and_lead(&self, stream: &Arc<Stream>) -> u64 {
        self.journal.enlist_and_lead(stream)
    }

    fn enlist_manifest(&self, frame: ManifestFrame) -> u64 {
        self.journal.enlist_manifest(frame)
    }

    fn wait_for_round(&self, round: u64) -> Result<(), Ended> {
        self.journal.wait(round)
    }

    fn mark_dirty(&self, stream: &Arc<Stream>) {
        self.checkpoint.mark_dirty(stream);
    }

    fn mark_manifest_dirty(&self, stream: &Arc<Stream>) {
        self.checkpoint.mark_manifest_dirty(stream);
    }

    fn push(&self, work: Work) {
        self.work.push(work);
    }

    fn ask_for_write_out(&self, stream: &Arc<Stream>) {
        self.segment_writer.push(stream.clone());
    }

    fn stream_count(&self) -> usize {
        self.streams.len()
    }
}
