//! What the store says about itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::admission::Admission;
use super::evict::evictable_bytes;
use super::pipeline::Pipeline;
use crate::error::ReadError;
use crate::metrics::{Counters, Metrics, Replay};
use crate::port::{SealedSegment, Watermark};
use crate::producers::Durably;
use crate::request::{ClaimState, SegmentInfo, SegmentState, StreamInfo};
use crate::stream::damage::list_ranges;
use crate::stream::{Entry, Quarantined, Staged, Stream};

impl Stream {
    pub(crate) fn info(&self, has_claims: bool) -> StreamInfo {
        let (next_sequence, quarantined) = {
            let staged = self.staged.lock();
            (staged.next_sequence, staged.quarantined.clone())
        };
        let claim = match &quarantined {
            Some(Quarantined::Superseded { to: _ }) => ClaimState::Superseded,
            Some(Quarantined::Damaged { .. } | Quarantined::Refused { .. } | Quarantined::Gone)
            | None
                if !has_claims =>
            {
                ClaimState::Local
            }
            Some(Quarantined::Damaged { .. } | Quarantined::Refused { .. } | Quarantined::Gone)
            | None => {
                if self.claimed.load(Ordering::Acquire) {
                    ClaimState::Claimed
                } else {
                    ClaimState::ClaimPending
                }
            }
        };
        let damaged_ranges = self.damage.ranges();
        let end = match quarantined {
            Some(Quarantined::Damaged { sequence, message }) => {
                Some(format!("from sequence {sequence}: {message}"))
            }
            Some(
                Quarantined::Superseded { .. } | Quarantined::Refused { .. } | Quarantined::Gone,
            )
            | None => None,
        };
        let told: Vec<String> = end
            .into_iter()
            .chain(list_ranges(&damaged_ranges))
            .collect();
        let damage = (!told.is_empty()).then(|| told.join("; "));
        let segments = self.segments.read();
        StreamInfo {
            name: self.shared_name.clone(),
            epoch: self.epoch().into(),
            first_sequence: self.first.load(Ordering::Acquire),
            next_sequence,
            durable_sequence: self.durable(),
            sealed_sequence: self.sealed.load(Ordering::Acquire),
            uploaded_sequence: self.uploaded.load(Ordering::Acquire),
            segments: segments.len() as u64,
            bytes: segments.iter().map(allocated_bytes).sum(),
            damage,
            damaged_ranges,
            claim,
        }
    }

    pub(crate) fn segment_infos(&self) -> Vec<SegmentInfo> {
        let active = self.staged.lock().active.as_ref().map(|active| active.id);
        let next_sequence = self.staged.lock().next_sequence;
        let segments = self.segments.read().clone();
        let mut infos = Vec::with_capacity(segments.len());
        for (index, entry) in segments.iter().enumerate() {
            let segment = self.manifest.read(|state| {
                let segment = state.residency.segment(entry.id());
                segment.cloned().unwrap_or_default()
            });
            let (mut copies, was_uploaded) = (segment.copies, segment.moves.was_uploaded);
            copies.hot |= matches!(entry, Entry::Open(_));
            let state = match entry {
                Entry::Open(open) if Some(open.id) == active => SegmentState::Active,
                Entry::Open(_) => SegmentState::Sealing,
                Entry::Sealed(_) if was_uploaded => SegmentState::Uploaded,
                Entry::Sealed(_) if copies.warm.is_some() => SegmentState::Warm,
                Entry::Sealed(_) => SegmentState::Sealed,
            };
            let end = match entry {
                Entry::Sealed(sealed) => sealed.info.end_sequence,
                Entry::Open(_) => segments
                    .get(index + 1)
                    .map_or(next_sequence, Entry::base_sequence),
            };
            infos.push(SegmentInfo {
                stream: self.shared_name.clone(),
                segment_id: entry.id(),
                base_sequence: entry.base_sequence(),
                records: end.saturating_sub(entry.base_sequence()),
                bytes: match entry {
                    Entry::Sealed(sealed) => sealed.info.data_end,
                    Entry::Open(open) => open.staged_end(),
                },
                state,
                key: copies.cold.as_ref().map(|cold| cold.key.clone()),
                copies,
                times: segment.seal.map(|seal| seal.times),
                compressed_bytes: segment.compressed_bytes,
            });
        }
        infos
    }

    /// Those that nobody needs and that still have an object, or may have one, ascending by sequence.
    pub(crate) fn trimmed_infos(&self) -> Vec<SegmentInfo> {
        let mut infos: Vec<SegmentInfo> = self.manifest.read(|state| {
            let objects = state.residency.leaving_objects();
            objects
                .map(|leaving| {
                    let segment = leaving.segment;
                    SegmentInfo {
                        stream: self.shared_name.clone(),
                        segment_id: leaving.id,
                        base_sequence: segment.base_sequence,
                        records: leaving.end_sequence - segment.base_sequence,
                        bytes: segment.seal.map_or(0, |seal| seal.data_end),
                        state: match leaving.is_superseded {
                            true => SegmentState::Replaced,
                            false => SegmentState::Trimmed,
                        },
                        copies: segment.copies.clone(),
                        key: Some(leaving.object.key.to_owned()),
                        times: segment.seal.map(|seal| seal.times),
                        compressed_bytes: segment.compressed_bytes,
                    }
                })
                .collect()
        });
        infos.sort_by_key(|info| info.base_sequence);
        infos
    }

    /// A segment whose seal is committed, with its tiers as the manifest has them.
    pub(crate) fn sealed_segment(&self, segment_id: u64) -> Option<SealedSegment> {
        self.manifest.read(|state| {
            state
                .residency
                .sealed_segment(&self.shared_name, segment_id)
        })
    }

    /// Sealed, and never uploaded. The fold knows of a seal before it is durable and before its segment can be read: then it is not
    /// among these.
    pub(crate) fn pending_segments(&self) -> Vec<SealedSegment> {
        let sealed = self.sealed.load(Ordering::Acquire);
        let mut pending = self
            .manifest
            .read(|state| state.residency.pending(&self.shared_name));
        pending.retain(|segment| segment.end_sequence() <= sealed);
        pending
    }

    pub(crate) fn unsealed_bytes(&self) -> u64 {
        self.open_segments()
            .iter()
            .map(|segment| segment.staged_end())
            .sum()
    }

    pub(crate) fn watermark(&self) -> Watermark {
        // Not the stream's lock: a drain keeps its bounds whoever holds it.
        Watermark {
            is_damaged: self.damaged_end.is_some() || self.damage.count() > 0,
            damaged_end: self.damaged_end.clone(),
            stream: self.shared_name.clone(),
            epoch: self.epoch().into(),
            acked: self.durable(),
            sealed: self.sealed.load(Ordering::Acquire),
            sealed_uploaded: self.uploaded.load(Ordering::Acquire),
            unsealed_bytes: self.unsealed_bytes(),
        }
    }
}

fn allocated_bytes(entry: &Entry) -> u64 {
    match entry {
        Entry::Open(segment) => segment.allocated(),
        Entry::Sealed(segment) if segment.is_hot() => segment.info.file_bytes(),
        Entry::Sealed(_) => 0,
    }
}

/// Where the table does not reach back to what is durable, everything staged is made durable first.
pub(super) fn last_producer_seq(
    pipeline: &Pipeline,
    stream: &Arc<Stream>,
    producer_id: u64,
) -> Result<Option<u64>, ReadError> {
    let told = |staged: &Staged| staged.producers.durably(producer_id, stream.durable());
    loop {
        let round = {
            let mut staged = stream.staged.lock();
            match told(&staged) {
                Durably::Upto(last) => return Ok(last),
                Durably::NotTold => stream.enlist(pipeline, &mut staged),
            }
        };
        if pipeline.journal.wait(round).is_err() {
            return Err(ReadError::Closed);
        }
    }
}

pub(super) fn metrics(pipeline: &Pipeline, admission: &Admission, replay: Replay) -> Metrics {
    let Counters {
        journal_bytes,
        journal_rounds,
        checkpoints,
        manifest_records,
        records_appended,
        bytes_appended,
        records_read,
        duplicates,
        segments_sealed,
        disk_full_refusals,
        served: _,
        trimmed_records,
        expired_records,
        would_block: _,
    } = &*pipeline.common.counters;
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let streams: Vec<Arc<Stream>> = pipeline.streams.existing();
    let pending: Vec<SealedSegment> = streams
        .iter()
        .flat_map(|stream| stream.pending_segments())
        .collect();
    let config = pipeline.common.config.load();
    Metrics {
        streams: streams.len() as u64,
        tier0_total_bytes: pipeline.common.space.tier0_bytes(),
        tier0_instance_quota_bytes: config.tier0.instance_quota_bytes,
        tier0_cluster_max_bytes: config.tier0.cluster_max_bytes,
        storage_bytes: config.capacity_bytes,
        staged_bytes: pipeline.common.staging.bytes(),
        unsealed_bytes: streams.iter().map(|stream| stream.unsealed_bytes()).sum(),
        journal_files: pipeline.journal.files.count(),
        journal_bytes: read(journal_bytes),
        journal_rounds: read(journal_rounds),
        checkpoints: read(checkpoints),
        manifest_records: read(manifest_records),
        manifest_replay_version: aof2_format::manifest_record::REPLAY_VERSION,
        records_appended: read(records_appended),
        bytes_appended: read(bytes_appended),
        records_read: read(records_read),
        served: pipeline.common.counters.served(),
        tier0_evictable_bytes: evictable_bytes(&streams),
        duplicates: read(duplicates),
        segments_sealed: read(segments_sealed),
        flush_failures: pipeline.common.poison.disk_failures(),
        would_block: pipeline.common.counters.would_block(),
        disk_full_refusals: read(disk_full_refusals),
        trimmed_records: read(trimmed_records),
        expired_records: read(expired_records),
        pending_claims: pipeline
            .streams
            .everything()
            .iter()
            .filter(|stream| !stream.exists())
            .count() as u64,
        pending_upload_segments: pending.len() as u64,
        pending_upload_bytes: pending.iter().map(|segment| segment.bytes).sum(),
        damaged_streams: streams
            .iter()
            .filter(|stream| {
                let quarantined = &stream.staged.lock().quarantined;
                stream.damage.count() > 0
                    || matches!(quarantined, Some(Quarantined::Damaged { .. }))
            })
            .count() as u64,
        damaged_ranges: streams.iter().map(|stream| stream.damage.count()).sum(),
        poisoned: pipeline.common.poison.is_set(),
        owes_volume_check: admission.is_owed(),
        replay,
    }
}
