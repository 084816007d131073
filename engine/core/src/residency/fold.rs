//! The fold itself. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aof2_format::compaction;
use aof2_format::manifest_record::{LocalCopy, ManifestEvent, ManifestRecord};
use aof2_format::start_sequence::{self, StartSequence};

use super::Objects;
use super::merge::Unfinished;
use super::segment::{
    ColdCopy, DeletionStage, FailedStep, RecordTimes, Seal, SealedSegment, Segment,
};

/// All segments of a stream, and what may be read of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Residency {
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Ids of sealed segments by their first sequence; of those that were merged the output's alone.
    pub(super) sealed: BTreeMap<u64, u64>,
    pub(super) start_sequence: u64,
    /// Bytes of sealed segments that hold a readable record.
    pub(super) readable_bytes: u64,
    /// Ids of those that nobody needs any more and that still have a copy on this node.
    pub(super) leaving_node: BTreeSet<u64>,
    /// Ids of those that nobody needs any more and that have an object, or may have one.
    pub(super) leaving_bucket: BTreeSet<u64>,
    /// Everything from `start_sequence` to here was uploaded.
    uploaded_upto: u64,
    /// What others are being merged into.
    pub(super) unfinished: Option<Unfinished>,
    /// Of all segments, trimmed ones included.
    objects: Objects,
}

impl Residency {
    /// Records come in the order of their sequences. Those that say nothing about copies change nothing.
    pub fn apply(&mut self, record: &ManifestRecord) {
        let id = record.segment_id;
        let before = self.objects_of(id);
        self.change(id, record);
        // No record changes the object of another segment.
        self.objects.subtract(before);
        self.objects.add(self.objects_of(id));
    }

    fn objects_of(&self, id: u64) -> Objects {
        self.segments.get(&id).map(Objects::of).unwrap_or_default()
    }

    /// Kept with each record, so that whoever asks often walks over no segments.
    pub fn objects(&self) -> Objects {
        self.objects
    }

    fn change(&mut self, id: u64, record: &ManifestRecord) {
        match &record.event {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => {
                let segment = self.entry(id);
                segment.base_sequence = *base_sequence;
                segment.epoch = *epoch;
            }
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                ext_id: _,
                watermark,
                flush_failure: _,
                chain,
                first_unix_nanos,
                last_unix_nanos,
                sealed_unix_nanos,
            } => {
                let start = self.start_sequence;
                let segment = self.entry(id);
                segment.copies.hot = true;
                let before = segment.seal.replace(Seal {
                    data_end: *durable_bytes,
                    crc64: *segment_crc64,
                    end_sequence: *watermark,
                    chain: *chain,
                    times: RecordTimes {
                        first_unix_nanos: *first_unix_nanos,
                        last_unix_nanos: *last_unix_nanos,
                    },
                    sealed_unix_nanos: *sealed_unix_nanos,
                });
                let base = segment.base_sequence;
                self.sealed.insert(base, id);
                if let Some(before) = before.filter(|seal| seal.end_sequence > start) {
                    self.readable_bytes -= before.data_end;
                }
                if *watermark > start {
                    self.readable_bytes += *durable_bytes;
                }
                self.note_leaving(id);
            }
            ManifestEvent::CompressionStarted => {
                let segment = self.entry(id);
                segment.moves.compression_started = true;
                segment.moves.is_compressing_again = segment.copies.warm.is_some();
            }
            ManifestEvent::CompressionDone {
                compressed_bytes,
                dictionary_id: _,
            } => {
                let segment = self.entry(id);
                segment.copies.warm = Some(*compressed_bytes);
                segment.moves.is_compressing_again = false;
                // An object stays as it is, whatever becomes of the file.
                if !segment.moves.was_uploaded {
                    segment.compressed_bytes = Some(*compressed_bytes);
                }
                self.note_leaving(id);
            }
            ManifestEvent::CompressionFailed { reason } => {
                let moves = &mut self.entry(id).moves;
                moves.note_failure(FailedStep::Compression, (*reason).into());
            }
            ManifestEvent::UploadStarted { key } => {
                let segment = self.entry(id);
                segment.moves.upload_started = Some(key.clone());
                segment.moves.upload_begun = true;
                segment.begun_key = Some(key.clone());
                // What was queued was what an earlier upload may have left.
                if segment.copies.cold.is_none() {
                    segment.deletion = DeletionStage::NotQueued;
                }
                self.note_leaving(id);
            }
            ManifestEvent::UploadDone { key, etag } => {
                let segment = self.entry(id);
                segment.moves.upload_started = None;
                segment.begun_key = None;
                segment.moves.was_uploaded = true;
                segment.deletion = DeletionStage::NotQueued;
                segment.copies.cold = Some(ColdCopy {
                    key: key.clone(),
                    etag: etag.clone(),
                });
                self.note_leaving(id);
                self.advance();
            }
            ManifestEvent::UploadFailed { key: _, reason } => {
                let moves = &mut self.entry(id).moves;
                moves.upload_started = None;
                moves.note_failure(FailedStep::Upload, (*reason).into());
            }
            ManifestEvent::Tier2DeleteQueued { key } => {
                let segment = self.entry(id);
                if segment.may_have_object(key) {
                    segment.deletion = match segment.deletion {
                        DeletionStage::NotQueued => DeletionStage::Queued,
                        DeletionStage::Queued => DeletionStage::Published {
                            at_unix_nanos: record.wall_unix_nanos,
                        },
                        published @ DeletionStage::Published { .. } => published,
                    };
                }
            }
            ManifestEvent::Tier2Deleted { key } => {
                // An older object of the segment may go while a newer one stays.
                let segment = self.entry(id);
                if segment.may_have_object(key) {
                    segment.copies.cold = None;
                    segment.begun_key = None;
                    segment.deletion = DeletionStage::NotQueued;
                }
                self.note_leaving(id);
            }
            ManifestEvent::LocalEvicted { copy, bytes: _ } => {
                let segment = self.entry(id);
                match copy {
                    LocalCopy::Hot => segment.copies.hot = false,
                    LocalCopy::Warm => {
                        segment.copies.warm = None;
                        segment.moves.is_compressing_again = false;
                    }
                }
                self.note_leaving(id);
            }
            ManifestEvent::HydrationDone { copy, bytes } => {
                let segment = self.entry(id);
                match copy {
                    LocalCopy::Hot => segment.copies.hot = true,
                    LocalCopy::Warm => {
                        segment.copies.warm = Some(*bytes);
                        segment.moves.is_compressing_again = false;
                    }
                }
                self.note_leaving(id);
            }
            ManifestEvent::CustomEvent { schema_id, blob }
                if *schema_id == start_sequence::SCHEMA_ID =>
            {
                // A blob of a later version: a start that is too low serves records that are gone elsewhere, and loses none.
                if let Ok(start) = StartSequence::decode(blob) {
                    self.begin_at(start.start_sequence);
                }
            }
            ManifestEvent::CustomEvent { schema_id, blob }
                if *schema_id == compaction::SCHEMA_ID =>
            {
                // One of a later version: its inputs count on, and are missed if their files are gone.
                if let Ok(event) = compaction::Compaction::decode(blob) {
                    self.compact(id, event);
                }
            }
            ManifestEvent::HydrationStarted { source: _ }
            | ManifestEvent::HydrationFailed { reason: _ }
            | ManifestEvent::SnapshotMarker { .. }
            | ManifestEvent::CustomEvent { .. }
            | ManifestEvent::Unknown { .. } => {}
        }
    }

    pub(super) fn entry(&mut self, id: u64) -> &mut Segment {
        self.segments.entry(id).or_default()
    }

    fn begin_at(&mut self, start_sequence: u64) {
        if start_sequence <= self.start_sequence {
            return;
        }
        let passed: Vec<(u64, u64)> = self
            .sealed_from(self.start_sequence)
            .take_while(|(_, _, seal)| seal.end_sequence <= start_sequence)
            .map(|(id, _, seal)| (id, seal.data_end))
            .collect();
        self.start_sequence = start_sequence;
        for (id, bytes) in passed {
            self.readable_bytes -= bytes;
            self.note_leaving(id);
        }
        self.advance();
    }

    /// Sealed segments that begin below `sequence`, the last first.
    pub fn sealed_below(&self, sequence: u64) -> impl Iterator<Item = (u64, &Segment, &Seal)> {
        let below = self.sealed.range(..sequence).rev();
        below.filter_map(|(_, id)| self.of(*id))
    }

    /// Bytes of sealed segments that hold a readable record and end at or before `sequence`.
    pub fn readable_bytes_upto(&self, sequence: u64) -> u64 {
        let behind = self.sealed.iter().rev().filter_map(|(_, id)| self.of(*id));
        let from = sequence.max(self.start_sequence);
        let behind = behind.take_while(|(_, _, seal)| seal.end_sequence > from);
        let behind: u64 = behind.map(|(_, _, seal)| seal.data_end).sum();
        self.readable_bytes - behind
    }

    pub(super) fn advance(&mut self) {
        self.uploaded_upto = self.uploaded_upto.max(self.start_sequence);
        while let Some((_, segment, seal)) = self.holding(self.uploaded_upto)
            && segment.moves.was_uploaded
        {
            self.uploaded_upto = seal.end_sequence;
        }
    }

    /// First sequence that may be read.
    pub fn start_sequence(&self) -> u64 {
        self.start_sequence
    }

    /// End of what was uploaded without a hole from the start on.
    pub fn uploaded_upto(&self) -> u64 {
        self.uploaded_upto
    }

    /// End of the last sealed segment.
    pub fn sealed_upto(&self) -> u64 {
        let end = self.last().map_or(0, |(_, _, seal)| seal.end_sequence);
        end.max(self.start_sequence)
    }

    /// Chain behind the last sealed segment; `None` before the first seal.
    pub fn chain(&self) -> Option<u32> {
        self.last().map(|(_, _, seal)| seal.chain)
    }

    fn last(&self) -> Option<(u64, &Segment, &Seal)> {
        self.of(*self.sealed.last_key_value()?.1)
    }

    pub(super) fn of(&self, id: u64) -> Option<(u64, &Segment, &Seal)> {
        let segment = self.segments.get(&id)?;
        Some((id, segment, segment.seal.as_ref()?))
    }

    /// The sealed segment that holds a sequence.
    pub fn holding(&self, sequence: u64) -> Option<(u64, &Segment, &Seal)> {
        let (_, id) = self.sealed.range(..=sequence).next_back()?;
        self.of(*id)
            .filter(|(_, _, seal)| sequence < seal.end_sequence)
    }

    /// Sealed segments that hold a readable record, ascending by sequence.
    pub fn readable(&self) -> impl Iterator<Item = (u64, &Segment, &Seal)> {
        self.sealed_from(self.start_sequence)
    }

    /// Sealed segments from the one that holds `sequence` on, ascending.
    pub fn sealed_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &Segment, &Seal)> {
        let first = self.sealed.range(..=sequence).next_back();
        let first = first.map_or(sequence, |(base, _)| *base);
        self.sealed
            .range(first..)
            .filter_map(|(_, id)| self.of(*id))
            .filter(move |(_, _, seal)| seal.end_sequence > sequence)
    }

    pub fn segment(&self, id: u64) -> Option<&Segment> {
        self.segments.get(&id)
    }

    pub fn is_sealed(&self, id: u64) -> bool {
        self.of(id).is_some()
    }

    /// The manifest dropped the segment file, and the bytes are somewhere else, or nobody may read them any more.
    pub fn is_dropped(&self, id: u64) -> bool {
        self.of(id).is_some_and(|(_, segment, seal)| {
            let is_needed =
                seal.end_sequence > self.start_sequence && segment.replaced_by.is_none();
            !is_needed || (!segment.copies.hot && !segment.copies.is_empty())
        })
    }

    /// All that were ever opened, by id.
    pub fn segments(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments.iter().map(|(id, segment)| (*id, segment))
    }

    /// With what callers hold on to.
    pub fn sealed_segment(&self, stream: &Arc<str>, id: u64) -> Option<SealedSegment> {
        let (segment_id, segment, seal) = self.of(id)?;
        Some(shared(stream, segment_id, segment, seal))
    }

    /// Readable segments that wait for their upload and have a local copy to make it from, ascending by sequence.
    pub fn pending(&self, stream: &Arc<str>) -> Vec<SealedSegment> {
        self.sealed_from(self.uploaded_upto)
            .filter(|(_, segment, _)| {
                let has_local = segment.copies.hot || segment.copies.warm.is_some();
                !segment.moves.was_uploaded && has_local
            })
            .map(|(id, segment, seal)| shared(stream, id, segment, seal))
            .collect()
    }

    /// Sealed segments that were uploaded, trimmed or merged and have no copy in Tier 1.
    pub fn without_warm_copy(&self, stream: &Arc<str>) -> Vec<SealedSegment> {
        self.segments
            .keys()
            .filter_map(|id| self.of(*id))
            .filter(|(id, segment, _)| segment.moves.was_uploaded || !self.is_needed(*id))
            .filter(|(_, segment, _)| segment.copies.warm.is_none())
            .map(|(id, segment, seal)| shared(stream, id, segment, seal))
            .collect()
    }

    /// All that were ever sealed, also such that were merged into another one; those among them that are wanted, ascending by sequence.
    pub fn sealed_segments(
        &self,
        stream: &Arc<str>,
        wanted: impl Fn(&Segment) -> bool,
    ) -> Vec<SealedSegment> {
        let all = self.segments.keys().filter_map(|id| self.of(*id));
        let mut found: Vec<SealedSegment> = all
            .filter(|(_, segment, _)| wanted(segment))
            .map(|(id, segment, seal)| shared(stream, id, segment, seal))
            .collect();
        found.sort_by_key(|segment| segment.base_sequence);
        found
    }

    /// Readable segments with an object, without a hole from the start on.
    pub fn cold_from_start(&self, stream: &Arc<str>) -> Vec<SealedSegment> {
        let mut upto = self.start_sequence;
        self.readable()
            .take_while(|(_, segment, seal)| {
                let follows = segment.base_sequence <= upto;
                upto = seal.end_sequence;
                follows && segment.copies.cold.is_some()
            })
            .map(|(id, segment, seal)| shared(stream, id, segment, seal))
            .collect()
    }
}

pub(super) fn shared(
    stream: &Arc<str>,
    segment_id: u64,
    segment: &Segment,
    seal: &Seal,
) -> SealedSegment {
    let Segment {
        base_sequence,
        epoch,
        seal: _,
        copies,
        moves,
        deletion: _,
        compressed_bytes,
        begun_key: _,
        merge: _,
        replaced_by: _,
    } = segment;
    let Seal {
        data_end,
        crc64,
        end_sequence,
        chain: _,
        times,
        sealed_unix_nanos,
    } = *seal;
    SealedSegment {
        stream: stream.clone(),
        segment_id,
        epoch: (*epoch).into(),
        base_sequence: *base_sequence,
        records: end_sequence - base_sequence,
        bytes: data_end,
        crc64,
        times,
        sealed_unix_nanos,
        copies: copies.clone(),
        moves: moves.clone(),
        compressed_bytes: *compressed_bytes,
    }
}
