//! L1: the manifest's chunks, replayed, give the catalogue.

use std::collections::BTreeMap;

use aof2_format::compaction::{self, Compaction, Inputs, Output};
use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::snapshot::{Catalogue, CatalogueChunk, CatalogueSegment};
use aof2_format::start_sequence::{self, StartSequence};
use aof2_format::{Damage, Seed};

use super::{Fault, Read, Reader, Verdict, missing};
use crate::objects::{ObjectError, crc64nvme};

/// A segment as the records tell it.
#[derive(Clone, Debug, Default)]
struct Life {
    epoch: u32,
    base_sequence: u64,
    /// Bytes, checksum, sequence behind the last record.
    sealed: Option<(u64, u64, u64)>,
    /// Of the last batch.
    chain: u32,
    /// Key and etag.
    uploaded: Option<(String, String)>,
}

#[derive(Default)]
struct Replay {
    lives: BTreeMap<u64, Life>,
    /// First sequence that may be read.
    start: u64,
    chain: u32,
    next_sequence: u64,
}

/// By segment: the chain of its last batch, as its seal is recorded.
pub(super) type Chains = BTreeMap<u64, u32>;

pub(super) fn check(
    reader: &Reader<'_>,
    catalogue: &Catalogue,
    mut verdict: Verdict,
) -> Result<(Verdict, Chains), ObjectError> {
    let none = Chains::new();
    let mut replay = Replay::default();
    for chunk in &catalogue.chunks {
        let bytes = match reader.get(&chunk.key, chunk.bytes)? {
            Read::Bytes(bytes) => bytes,
            Read::Missing => {
                verdict.missing.push(chunk.key.clone());
                let verdict = verdict.faulty(Fault::ObjectMissing, missing(&chunk.key));
                return Ok((verdict, none));
            }
            Read::Faulty(fault, message) => return Ok((verdict.faulty(fault, message), none)),
        };
        if bytes.len() as u64 != chunk.bytes || crc64nvme(&bytes) != chunk.crc64.0 {
            let message = format!("object {} differs from what was written", chunk.key);
            return Ok((verdict.faulty(Fault::DigestMismatch, message), none));
        }
        if let Err((fault, problem)) = replay.chunk(catalogue, chunk, &bytes) {
            verdict.records_replayed = replay.next_sequence;
            let problem = format!("{}: {problem}", chunk.key);
            return Ok((verdict.faulty(fault, problem), none));
        }
    }
    verdict.records_replayed = replay.next_sequence;
    let verdict = match replay.difference(catalogue) {
        None => verdict,
        Some(difference) => verdict.faulty(Fault::ReplayDiffers, difference),
    };
    let lives = replay.lives.iter();
    Ok((verdict, lives.map(|(id, life)| (*id, life.chain)).collect()))
}

impl Replay {
    fn chunk(
        &mut self,
        catalogue: &Catalogue,
        chunk: &CatalogueChunk,
        bytes: &[u8],
    ) -> Result<(), (Fault, String)> {
        let undecodable = |error: Damage| (Fault::Undecodable, error.to_string());
        let header = ManifestChunkHeader::decode(bytes).map_err(undecodable)?;
        let is_next = header.cluster_id == catalogue.cluster_id
            && header.stream == catalogue.stream
            && header.stream_uuid == catalogue.stream_uuid
            && header.chunk == chunk.index
            && header.prev_chain == self.chain
            && header.base_manifest_sequence == self.next_sequence;
        if !is_next {
            let problem = "chunk does not continue the previous chunk".to_owned();
            return Err((Fault::ReplayDiffers, problem));
        }
        let seed = Seed::new(header.stream_salt);
        let mut offset = DATA_OFFSET as usize;
        while offset < bytes.len() {
            let commit =
                manifest_chunk::decode_commit(&bytes[offset..], seed).map_err(undecodable)?;
            if commit.prev_chain != self.chain {
                let problem = format!("commit chain is broken at byte {offset}");
                return Err((Fault::ReplayDiffers, problem));
            }
            for record in &commit.records {
                if record.manifest_sequence != self.next_sequence {
                    let problem = format!(
                        "record {} found, expected {}",
                        record.manifest_sequence, self.next_sequence
                    );
                    return Err((Fault::ReplayDiffers, problem));
                }
                self.record(record);
                self.next_sequence += 1;
            }
            self.chain = commit.chain;
            offset += commit.bytes;
        }
        Ok(())
    }

    fn record(&mut self, record: &ManifestRecord) {
        let mut change = |change: &dyn Fn(&mut Life)| {
            change(self.lives.entry(record.segment_id).or_default());
        };
        match &record.event {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => change(&|life| {
                life.base_sequence = *base_sequence;
                life.epoch = *epoch;
            }),
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                ext_id: _,
                watermark,
                flush_failure: _,
                chain,
                first_unix_nanos: _,
                last_unix_nanos: _,
                sealed_unix_nanos: _,
            } => change(&|life| {
                life.sealed = Some((*durable_bytes, *segment_crc64, *watermark));
                life.chain = *chain;
            }),
            ManifestEvent::UploadDone { key, etag } => change(&|life| {
                life.uploaded = Some((key.clone(), etag.clone()));
            }),
            ManifestEvent::Tier2Deleted { key } => change(&|life| {
                life.uploaded.take_if(|(uploaded, _)| uploaded == key);
            }),
            ManifestEvent::CustomEvent { schema_id, blob }
                if *schema_id == start_sequence::SCHEMA_ID =>
            {
                if let Ok(start) = StartSequence::decode(blob) {
                    self.start = self.start.max(start.start_sequence);
                }
            }
            ManifestEvent::CustomEvent { schema_id, blob }
                if *schema_id == compaction::SCHEMA_ID =>
            {
                if let Ok(Compaction::Merged(inputs, output)) = Compaction::decode(blob) {
                    self.merged(record.segment_id, &inputs, &output);
                }
            }
            ManifestEvent::CompressionStarted
            | ManifestEvent::CompressionDone { .. }
            | ManifestEvent::CompressionFailed { .. }
            | ManifestEvent::UploadStarted { .. }
            | ManifestEvent::UploadFailed { .. }
            | ManifestEvent::Tier2DeleteQueued { .. }
            | ManifestEvent::HydrationStarted { .. }
            | ManifestEvent::HydrationDone { .. }
            | ManifestEvent::HydrationFailed { .. }
            | ManifestEvent::LocalEvicted { .. }
            | ManifestEvent::SnapshotMarker { .. }
            | ManifestEvent::CustomEvent { .. }
            | ManifestEvent::Unknown { .. } => {}
        }
    }

    /// The output holds what the inputs held, and they hold nothing any more.
    fn merged(&mut self, id: u64, inputs: &Inputs, output: &Output) {
        for input in &inputs.segment_ids {
            self.lives.entry(*input).or_default().sealed = None;
        }
        let life = self.lives.entry(id).or_default();
        life.base_sequence = inputs.base_sequence;
        life.epoch = inputs.epoch;
        life.chain = output.chain;
        life.sealed = Some((
            output.durable_bytes,
            output.segment_crc64,
            inputs.end_sequence,
        ));
    }

    /// The first thing that the catalogue says otherwise.
    fn difference(&self, catalogue: &Catalogue) -> Option<String> {
        if self.start != catalogue.start_sequence {
            return Some(format!(
                "stream begins at sequence {} in the manifest and at {} in the catalogue",
                self.start, catalogue.start_sequence
            ));
        }
        let mut lives: Vec<(u64, &Life, (u64, u64, u64))> = self
            .lives
            .iter()
            .filter_map(|(id, life)| life.sealed.map(|sealed| (*id, life, sealed)))
            .filter(|(_, _, (_, _, end))| *end > self.start)
            .collect();
        lives.sort_by_key(|(_, life, _)| life.base_sequence);
        let mut lives = lives.into_iter();
        let mut upto = self.start;
        for segment in &catalogue.segments {
            let CatalogueSegment {
                segment_id,
                epoch,
                base_sequence,
                records,
                bytes,
                crc64,
                key,
                etag,
                object_bytes: _,
                object_crc64: _,
            } = segment;
            let Some((id, life, (sealed_bytes, sealed_crc64, end))) = lives.next() else {
                return Some(format!(
                    "segment {segment_id} is not sealed in the manifest"
                ));
            };
            let is_same = id == *segment_id
                && life.epoch == *epoch
                && life.base_sequence == *base_sequence
                && life.base_sequence.checked_add(*records) == Some(end)
                && sealed_bytes == *bytes
                && sealed_crc64 == crc64.0
                && life.uploaded.as_ref() == Some(&(key.clone(), etag.clone()));
            if !is_same {
                return Some(format!(
                    "segment {segment_id} differs from segment {id} in the manifest, which holds {}..{end} and is uploaded as {:?}",
                    life.base_sequence, life.uploaded
                ));
            }
            upto = end;
        }
        if upto != catalogue.uploaded_sequence {
            return Some(format!(
                "{upto} records are uploaded, {} in the catalogue",
                catalogue.uploaded_sequence
            ));
        }
        match lives.next() {
            Some((id, life, _)) if life.uploaded.is_some() && life.base_sequence <= upto => Some(
                format!("segment {id} is uploaded but missing in the catalogue"),
            ),
            Some(_) | None => None,
        }
    }
}
