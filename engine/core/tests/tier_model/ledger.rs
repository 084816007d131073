//! What the manifest of a stream says, read from the files of the volume: chunks, their base, and what the journal holds beyond them.
//! The fold is this program's own.

use std::collections::BTreeMap;

use aof2_format::Seed;
use aof2_format::compaction::{self, Compaction, Inputs};
use aof2_format::journal::{FIRST_COMMIT_OFFSET, Frame, JournalHeader, decode_commit};
use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_chunk::{self, DATA_OFFSET};
use aof2_format::manifest_record::{LocalCopy, ManifestEvent, ManifestRecord};
use aof2_format::names::file;
use aof2_format::start_sequence::{self, StartSequence};
use aof2_format::stream_header::StreamHeader;

use crate::content::Content;
use crate::disk::Files;

#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub base: u64,
    pub epoch: u32,
    pub seal: Option<Seal>,
    pub hot: bool,
    pub warm: bool,
    /// Key of its object.
    pub cold: Option<String>,
    pub was_uploaded: bool,
    /// An object may lie there, whatever became of the upload.
    pub begun: Option<String>,
    /// Times that its deletion was queued since it was uploaded, and when last.
    pub queued: (u32, i64),
    /// Others are merged into it, up to this sequence.
    pub merged_upto: Option<u64>,
    /// Another segment holds its records, or it is an output that was given up.
    pub is_superseded: bool,
    /// Records of each kind of failure and reason.
    pub failures: BTreeMap<(&'static str, u16), u32>,
}

#[derive(Clone, Copy, Debug)]
pub struct Seal {
    pub end: u64,
    pub data_end: u64,
    pub crc64: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub segments: BTreeMap<u64, Segment>,
    pub start: u64,
    pub seed: Option<Seed>,
    pub markers: Vec<u64>,
    /// An output that was begun, and neither swapped nor given up.
    pub unfinished: Option<u64>,
    pub merges: u64,
    /// What no manifest may say.
    pub wrong: Option<String>,
    next_record: u64,
}

impl Segment {
    pub fn has_copy(&self) -> bool {
        self.hot || self.warm || self.cold.is_some()
    }

    /// Nobody reads it any more.
    pub fn is_unneeded(&self, start: u64) -> bool {
        self.is_superseded || self.seal.is_some_and(|seal| seal.end <= start)
    }

    pub fn name(&self, id: u64) -> String {
        format!("{:020}-{:010}-{id:020}", self.base, self.epoch)
    }
}

impl Ledger {
    /// `None`: the stream is not there.
    pub fn read(files: &Files<'_>, stream: &str) -> Result<Option<Ledger>, String> {
        let root = format!("streams/{stream}");
        let Some(header) = files.get(&format!("{root}/stream.header")) else {
            return Ok(None);
        };
        let told = |what: &str| format!("{stream}: {what}");
        let header = StreamHeader::decode(&whole(header)).map_err(|it| told(&it.to_string()))?;
        let seed = Seed::new(header.stream_salt);
        let mut ledger = Ledger {
            seed: Some(seed),
            ..Ledger::default()
        };
        let mut first_chunk = 0;
        if let Some(base) = files.get(&format!("{root}/manifest/base")) {
            let base = ManifestBase::decode(&whole(base)).map_err(|it| told(&it.to_string()))?;
            first_chunk = base.chunks.len() as u64;
            base.records.iter().for_each(|record| ledger.apply(record));
            ledger.next_record = base.next_manifest_sequence();
        }
        let mut chunks = chunks_of(files, &format!("{root}/manifest/"));
        overlay(files, header.stream_number.0, &mut chunks);
        for (number, bytes) in chunks.range(first_chunk..) {
            for commit in manifest_chunk::commits(bytes, DATA_OFFSET as usize, seed) {
                // Behind the last one are zeroes.
                let Ok(commit) = commit else { break };
                for record in &commit.records {
                    if record.manifest_sequence != ledger.next_record {
                        return Err(format!(
                            "{stream}: record {} of the manifest is missing before chunk {number} has {}",
                            ledger.next_record, record.manifest_sequence
                        ));
                    }
                    ledger.next_record += 1;
                    ledger.apply(record);
                }
            }
        }
        Ok(Some(ledger))
    }

    fn compacted(&mut self, id: u64, event: &Compaction) {
        match event {
            Compaction::Begun(inputs) => {
                self.give_up(self.unfinished);
                let output = self.segments.entry(id).or_default();
                output.base = inputs.base_sequence;
                output.epoch = inputs.epoch;
                output.merged_upto = Some(inputs.end_sequence);
                self.unfinished = Some(id);
            }
            Compaction::Merged(inputs, made) => {
                self.merges += 1;
                self.hold_against(id, inputs);
                for input in &inputs.segment_ids {
                    let input = self.segments.entry(*input).or_default();
                    (input.hot, input.warm, input.is_superseded) = (false, false, true);
                }
                let output = self.segments.entry(id).or_default();
                output.base = inputs.base_sequence;
                output.epoch = inputs.epoch;
                output.merged_upto = Some(inputs.end_sequence);
                output.hot = true;
                output.seal = Some(Seal {
                    end: inputs.end_sequence,
                    data_end: made.durable_bytes,
                    crc64: made.segment_crc64,
                });
                self.give_up(self.unfinished.filter(|it| *it != id));
                self.unfinished = None;
            }
            Compaction::Failed { reason } => {
                let output = self.segments.entry(id).or_default();
                *output.failures.entry(("merge", reason.code())).or_default() += 1;
            }
            Compaction::GivenUp => self.give_up(self.unfinished.filter(|it| *it == id)),
        }
    }

    fn give_up(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.segments.entry(id).or_default().is_superseded = true;
            self.unfinished = None;
        }
    }

    /// What is merged counts, follows each other, is in Tier 2 and is none that was trimmed; so is what it becomes.
    fn hold_against(&mut self, id: u64, inputs: &Inputs) {
        let mut next = inputs.base_sequence;
        let output = self.segments.get(&id);
        let mut is_safe = output.is_none_or(|output| output.cold.is_some());
        for input in &inputs.segment_ids {
            let segment = self.segments.get(input);
            let found = segment.and_then(|segment| Some((segment, segment.seal?)));
            let Some((segment, seal)) = found.filter(|(segment, _)| !segment.is_superseded) else {
                self.wrong = Some(format!("input {input} of segment {id} is none"));
                return;
            };
            is_safe &= segment.base == next && seal.end > self.start && segment.cold.is_some();
            next = seal.end;
        }
        if !is_safe || next != inputs.end_sequence {
            self.wrong = Some(format!("{inputs:?} became segment {id}"));
        }
    }

    fn apply(&mut self, record: &ManifestRecord) {
        if let ManifestEvent::CustomEvent { schema_id, blob } = &record.event {
            if *schema_id == compaction::SCHEMA_ID
                && let Ok(event) = Compaction::decode(blob)
            {
                self.compacted(record.segment_id, &event);
            }
            if *schema_id == start_sequence::SCHEMA_ID
                && let Ok(start) = StartSequence::decode(blob)
            {
                self.start = self.start.max(start.start_sequence);
            }
            return;
        }
        if let ManifestEvent::SnapshotMarker { snapshot_id, .. } = record.event {
            self.markers.push(snapshot_id);
            return;
        }
        let segment = self.segments.entry(record.segment_id).or_default();
        let mut fails = |what, reason| *segment.failures.entry((what, reason)).or_default() += 1;
        match &record.event {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => (segment.base, segment.epoch) = (*base_sequence, *epoch),
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                watermark,
                ..
            } => {
                segment.hot = true;
                segment.seal = Some(Seal {
                    end: *watermark,
                    data_end: *durable_bytes,
                    crc64: *segment_crc64,
                });
            }
            ManifestEvent::CompressionDone { .. } => segment.warm = true,
            ManifestEvent::CompressionFailed { reason } => fails("compression", reason.code()),
            ManifestEvent::UploadStarted { key } => segment.begun = Some(key.clone()),
            ManifestEvent::UploadDone { key, .. } => {
                segment.cold = Some(key.clone());
                segment.was_uploaded = true;
                segment.queued = (0, 0);
            }
            ManifestEvent::UploadFailed { reason, .. } => fails("upload", reason.code()),
            ManifestEvent::Tier2DeleteQueued { .. } => {
                segment.queued = (segment.queued.0 + 1, record.wall_unix_nanos);
            }
            ManifestEvent::Tier2Deleted { key } => {
                if segment.cold.as_ref() == Some(key) {
                    segment.cold = None;
                }
                if segment.begun.as_ref() == Some(key) {
                    segment.begun = None;
                }
            }
            ManifestEvent::HydrationDone { copy, .. } => match copy {
                LocalCopy::Hot => segment.hot = true,
                LocalCopy::Warm => segment.warm = true,
            },
            ManifestEvent::LocalEvicted { copy, .. } => match copy {
                LocalCopy::Hot => segment.hot = false,
                LocalCopy::Warm => segment.warm = false,
            },
            ManifestEvent::CompressionStarted
            | ManifestEvent::HydrationStarted { .. }
            | ManifestEvent::HydrationFailed { .. }
            | ManifestEvent::SnapshotMarker { .. }
            | ManifestEvent::CustomEvent { .. }
            | ManifestEvent::Unknown { .. } => {}
        }
    }

    /// Sealed segments that others hold nothing of, by their first sequence.
    pub fn sealed(&self) -> Vec<(u64, &Segment, Seal)> {
        let sealed = self.segments.iter();
        let sealed = sealed
            .filter(|(_, segment)| !segment.is_superseded)
            .filter_map(|(id, segment)| Some((*id, segment, segment.seal?)));
        let mut sealed: Vec<_> = sealed.collect();
        sealed.sort_by_key(|(_, segment, _)| segment.base);
        sealed
    }

    /// Those with a record that may be read.
    pub fn readable(&self) -> Vec<(u64, &Segment, Seal)> {
        let mut readable = self.sealed();
        readable.retain(|(_, _, seal)| seal.end > self.start);
        readable
    }

    /// End of what was uploaded without a hole from the start on.
    pub fn uploaded_upto(&self) -> u64 {
        let mut upto = self.start;
        for (_, segment, seal) in self.readable() {
            if segment.base > upto || !segment.was_uploaded {
                break;
            }
            upto = seal.end;
        }
        upto
    }
}

pub fn whole(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; content.length() as usize];
    content.read(&mut bytes, 0);
    bytes
}

fn chunks_of(files: &Files<'_>, directory: &str) -> BTreeMap<u64, Vec<u8>> {
    let inside = files.range(directory.to_owned()..);
    let inside = inside.take_while(|(path, _)| path.starts_with(directory));
    let chunks = inside.filter_map(|(path, content)| {
        let (_, number) = file::parse_manifest_chunk(&path[directory.len()..])?;
        // All of it: the last record may end with zeroes.
        Some((number, whole(content)))
    });
    chunks.collect()
}

/// Adds what the journal has of these chunks. Bytes at a place of a chunk never change, so it matters nothing that some are old.
fn overlay(files: &Files<'_>, stream_number: u64, chunks: &mut BTreeMap<u64, Vec<u8>>) {
    for (_, content) in files.range("journal/".to_owned().."journal0".to_owned()) {
        let bytes = content.bytes();
        let Ok(header) = JournalHeader::decode_any(&bytes) else {
            continue;
        };
        let seed = Seed::new(header.salt);
        let mut rest = bytes
            .get(FIRST_COMMIT_OFFSET as usize..)
            .unwrap_or_default();
        while let Ok(commit) = decode_commit(rest, header.salt, seed) {
            for frame in commit.frames() {
                let Frame::Manifest {
                    stream,
                    chunk,
                    position,
                    bytes,
                } = frame
                else {
                    continue;
                };
                let Some(whole) = chunks.get_mut(&chunk).filter(|_| stream.0 == stream_number)
                else {
                    continue;
                };
                let end = position as usize + bytes.len();
                whole.resize(whole.len().max(end), 0);
                whole[position as usize..end].copy_from_slice(bytes);
            }
            rest = rest.get(commit.padded_bytes()..).unwrap_or_default();
        }
    }
}
