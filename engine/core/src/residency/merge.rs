//! What the manifest says of segments that are merged into one.

use std::collections::BTreeSet;
use std::sync::Arc;

use aof2_format::compaction::{Compaction, Inputs, Output};

use super::Residency;
use super::segment::{FailureReason, Merge, MergeStage, RecordTimes, Seal};

/// An output that was begun, and is neither sealed nor given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub output_id: u64,
    pub inputs: Inputs,
    /// What the manifest says once, however often it was tried.
    pub failures: BTreeSet<FailureReason>,
}

/// A readable sealed segment, for whoever plans merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    pub end_sequence: u64,
    /// Header and batches.
    pub bytes: u64,
    pub times: RecordTimes,
    /// In Tier 0 and whole, as far as anybody knows, and with Tier 2 uploaded: nothing is on its way.
    pub is_settled: bool,
}

/// The segments of one stream, ascending by sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub stream: Arc<str>,
    pub pieces: Vec<Piece>,
    /// Of an output that was begun, with its inputs.
    pub unfinished: Option<(u64, Vec<u64>)>,
}

impl Residency {
    pub(super) fn compact(&mut self, id: u64, event: Compaction) {
        match event {
            Compaction::Begun(inputs) => {
                if let Some(before) = self.unfinished.take() {
                    self.give_up(before.output_id);
                }
                self.begin(id, inputs);
            }
            Compaction::Merged(inputs, output) => self.merge(id, &inputs, &output),
            Compaction::Failed { reason } => {
                if let Some(unfinished) = self.unfinished_as(id) {
                    unfinished.failures.insert(reason.into());
                }
            }
            Compaction::GivenUp => {
                if self.unfinished_as(id).is_some() {
                    self.unfinished = None;
                    self.give_up(id);
                }
            }
        }
    }

    fn unfinished_as(&mut self, id: u64) -> Option<&mut Unfinished> {
        let unfinished = self.unfinished.as_mut();
        unfinished.filter(|unfinished| unfinished.output_id == id)
    }

    fn begin(&mut self, id: u64, inputs: Inputs) {
        let segment = self.entry(id);
        segment.base_sequence = inputs.base_sequence;
        segment.epoch = inputs.epoch;
        segment.merge = Some(Merge {
            end_sequence: inputs.end_sequence,
            stage: MergeStage::Unfinished,
        });
        self.unfinished = Some(Unfinished {
            output_id: id,
            inputs,
            failures: BTreeSet::new(),
        });
    }

    fn give_up(&mut self, id: u64) {
        if let Some(merge) = &mut self.entry(id).merge {
            merge.stage = MergeStage::GivenUp;
        }
        self.note_leaving(id);
    }

    /// All at once: the output counts, and the inputs do not any more.
    fn merge(&mut self, id: u64, inputs: &Inputs, output: &Output) {
        // Whoever commits it has looked. What is not so would take records from readers.
        if !self.are_sealed(inputs) {
            return;
        }
        let start = self.start_sequence;
        for input in &inputs.segment_ids {
            let replaced = self.entry(*input);
            replaced.replaced_by = Some(id);
            replaced.copies.hot = false;
            replaced.copies.warm = None;
            replaced.moves.is_compressing_again = false;
            let base = replaced.base_sequence;
            let readable = replaced.seal.filter(|seal| seal.end_sequence > start);
            self.readable_bytes -= readable.map_or(0, |seal| seal.data_end);
            self.sealed.remove(&base);
            self.note_leaving(*input);
        }
        let Output {
            durable_bytes,
            segment_crc64,
            object_bytes,
            first_unix_nanos,
            last_unix_nanos,
            sealed_unix_nanos,
            chain,
        } = *output;
        let segment = self.entry(id);
        segment.base_sequence = inputs.base_sequence;
        segment.epoch = inputs.epoch;
        segment.copies.hot = true;
        segment.compressed_bytes = (object_bytes > 0).then_some(object_bytes);
        segment.seal = Some(Seal {
            data_end: durable_bytes,
            crc64: segment_crc64,
            end_sequence: inputs.end_sequence,
            chain,
            times: RecordTimes {
                first_unix_nanos,
                last_unix_nanos,
            },
            sealed_unix_nanos,
        });
        segment.merge = Some(Merge {
            end_sequence: inputs.end_sequence,
            stage: MergeStage::Done,
        });
        self.sealed.insert(inputs.base_sequence, id);
        if inputs.end_sequence > start {
            self.readable_bytes += durable_bytes;
        }
        // A base leaves out that it was begun, which gave up what was begun before it.
        if let Some(unfinished) = self.unfinished.take()
            && unfinished.output_id != id
        {
            self.give_up(unfinished.output_id);
        }
        self.advance();
        self.note_leaving(id);
    }

    /// These are sealed segments of that epoch, they follow each other, and none is missing between them.
    pub fn are_sealed(&self, inputs: &Inputs) -> bool {
        let Inputs {
            base_sequence,
            end_sequence,
            epoch,
            segment_ids,
        } = inputs;
        let sealed = self.sealed.range(base_sequence..end_sequence);
        if !sealed.map(|(_, id)| id).eq(segment_ids) {
            return false;
        }
        let mut next = *base_sequence;
        segment_ids.iter().all(|id| {
            self.of(*id).is_some_and(|(_, segment, seal)| {
                let follows = segment.base_sequence == next && segment.epoch == *epoch;
                next = seal.end_sequence;
                follows
            })
        }) && next == *end_sequence
    }

    pub fn unfinished(&self) -> Option<&Unfinished> {
        self.unfinished.as_ref()
    }

    /// An output that is not sealed: a file of it is none of an open segment.
    pub fn is_unsealed_output(&self, id: u64) -> bool {
        self.segment(id).is_some_and(|segment| {
            let stage = segment.merge.map(|merge| merge.stage);
            matches!(stage, Some(MergeStage::Unfinished | MergeStage::GivenUp))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
