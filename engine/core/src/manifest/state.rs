//! The manifest as a pure fold: what a stream's records say about its segments. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};

use crate::port::{FailedStep, SealedSegment, TierState};

/// Newest snapshots of a stream that are kept in memory: a repeated request is recognised among them.
pub(crate) const SNAPSHOTS_KEPT: usize = 32;

/// Everything that the records up to `next_sequence` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestState {
    pub segments: BTreeMap<u64, Ledger>,
    /// Of the next record.
    pub next_sequence: u64,
    /// Records of a type that this release does not know.
    pub unknown_records: u64,
    /// The newest `SNAPSHOTS_KEPT`, oldest first.
    pub snapshots: VecDeque<Marked>,
    /// The greatest of all markers.
    pub highest_snapshot_id: SnapshotId,
}

/// A `SnapshotMarker`: its catalogue is in Tier 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub snapshot_id: SnapshotId,
    pub chunk_index: u64,
    pub chunk_offset: u64,
    pub at_unix_nanos: i64,
    /// `None` where no note stands behind the marker, or one that cannot be understood.
    pub note: Option<SnapshotNote>,
}

/// Such records change nothing that a catalogue says: a chunk of nothing else is not closed again.
pub(crate) fn is_about_snapshots(event: &ManifestEvent) -> bool {
    match event {
        ManifestEvent::SnapshotMarker { .. } => true,
        ManifestEvent::CustomEvent { schema_id, blob: _ } => *schema_id == NOTE_SCHEMA_ID,
        ManifestEvent::SegmentOpened { .. }
        | ManifestEvent::SealSegment { .. }
        | ManifestEvent::CompressionStarted
        | ManifestEvent::CompressionDone { .. }
        | ManifestEvent::CompressionFailed { .. }
        | ManifestEvent::UploadStarted { .. }
        | ManifestEvent::UploadDone { .. }
        | ManifestEvent::UploadFailed { .. }
        | ManifestEvent::Tier2DeleteQueued { .. }
        | ManifestEvent::Tier2Deleted { .. }
        | ManifestEvent::HydrationStarted { .. }
        | ManifestEvent::HydrationDone { .. }
        | ManifestEvent::HydrationFailed { .. }
        | ManifestEvent::LocalEvicted { .. }
        | ManifestEvent::Unknown { .. } => false,
    }
}

/// One segment's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub base_sequence: u64,
    pub epoch: u32,
    pub sealed: Option<SealEntry>,
    pub tier: TierState,
    /// Bytes given back when the local copy went.
    pub evicted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealEntry {
    pub data_end: u64,
    pub crc64: u64,
    pub end_sequence: u64,
}

impl ManifestState {
    /// Records come in the order of their sequences; the caller has checked the chain.
    pub fn apply(&mut self, record: &ManifestRecord) {
        self.next_sequence = record.manifest_sequence + 1;
        let ledger = |segments: &mut BTreeMap<u64, Ledger>, change: &dyn Fn(&mut Ledger)| {
            change(segments.entry(record.segment_id).or_default());
        };
        let segments = &mut self.segments;
        match &record.event {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => ledger(segments, &|entry| {
                entry.base_sequence = *base_sequence;
                entry.epoch = *epoch;
            }),
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                ext_id: _,
                watermark,
                flush_failure: _,
            } => {
                ledger(segments, &|entry| {
                    entry.sealed = Some(SealEntry {
                        data_end: *durable_bytes,
                        crc64: *segment_crc64,
                        end_sequence: *watermark,
                    });
                });
            }
            ManifestEvent::CompressionDone {
                compressed_bytes,
                dictionary_id: _,
            } => ledger(segments, &|entry| {
                entry.tier.compressed_bytes = Some(*compressed_bytes);
            }),
            ManifestEvent::CompressionStarted => {
                ledger(segments, &|entry| entry.tier.compression_started = true);
            }
            ManifestEvent::CompressionFailed { reason } => ledger(segments, &|entry| {
                let reason = (*reason).into();
                entry.tier.note_failure(FailedStep::Compression, reason);
            }),
            ManifestEvent::UploadStarted { key } => ledger(segments, &|entry| {
                entry.tier.upload_started = Some(key.clone());
                entry.tier.upload_begun = true;
            }),
            ManifestEvent::UploadDone { key, etag } => ledger(segments, &|entry| {
                entry.tier.upload_started = None;
                entry.tier.uploaded = Some((key.clone(), etag.clone()));
            }),
            ManifestEvent::UploadFailed { key: _, reason } => ledger(segments, &|entry| {
                entry.tier.upload_started = None;
                let reason = (*reason).into();
                entry.tier.note_failure(FailedStep::Upload, reason);
            }),
            ManifestEvent::Tier2Deleted { key: _ } => {
                ledger(segments, &|entry| entry.tier.uploaded = None)
            }
            ManifestEvent::LocalEvicted { bytes: _ } => {
                ledger(segments, &|entry| entry.evicted = true)
            }
            ManifestEvent::HydrationDone { bytes: _ } => {
                ledger(segments, &|entry| entry.evicted = false)
            }
            ManifestEvent::Tier2DeleteQueued { key: _ }
            | ManifestEvent::HydrationStarted { source: _ }
            | ManifestEvent::HydrationFailed { reason: _ } => {}
            ManifestEvent::SnapshotMarker {
                chunk_index,
                chunk_offset,
                snapshot_id,
            } => {
                let snapshot_id = SnapshotId(*snapshot_id);
                self.highest_snapshot_id = self.highest_snapshot_id.max(snapshot_id);
                if self.snapshots.len() == SNAPSHOTS_KEPT {
                    self.snapshots.pop_front();
                }
                self.snapshots.push_back(Marked {
                    snapshot_id,
                    chunk_index: *chunk_index,
                    chunk_offset: *chunk_offset,
                    at_unix_nanos: record.wall_unix_nanos,
                    note: None,
                });
            }
            // Producers have a fold of their own, which only recovery needs.
            ManifestEvent::CustomEvent { schema_id, blob } => {
                if *schema_id == NOTE_SCHEMA_ID
                    && let Some(marked) = self.snapshots.back_mut()
                    && let Ok(note) = SnapshotNote::decode(blob)
                    && note.snapshot_id == marked.snapshot_id
                {
                    marked.note = Some(note);
                }
            }
            ManifestEvent::Unknown {
                type_id: _,
                payload: _,
            } => self.unknown_records += 1,
        }
    }

    pub fn sealed(&self) -> impl Iterator<Item = (u64, &Ledger, SealEntry)> {
        self.segments
            .iter()
            .filter_map(|(id, ledger)| ledger.sealed.map(|seal| (*id, ledger, seal)))
    }

    /// A segment whose seal is committed.
    pub fn sealed_segment(&self, stream: &Arc<str>, segment_id: u64) -> Option<SealedSegment> {
        let ledger = self.segments.get(&segment_id)?;
        let seal = ledger.sealed?;
        Some(SealedSegment {
            stream: stream.clone(),
            segment_id,
            epoch: ledger.epoch.into(),
            base_sequence: ledger.base_sequence,
            records: seal.end_sequence - ledger.base_sequence,
            bytes: seal.data_end,
            crc64: seal.crc64,
            tier: ledger.tier.clone(),
        })
    }

    /// Count of records in sealed and uploaded segments, without a hole from the first one on.
    pub fn uploaded_upto(&self) -> u64 {
        let mut upto = 0;
        for (_, ledger, seal) in self.sealed() {
            if ledger.tier.uploaded.is_none() {
                break;
            }
            upto = seal.end_sequence;
        }
        upto
    }

    pub fn sealed_upto(&self) -> u64 {
        self.sealed()
            .map(|(_, _, seal)| seal.end_sequence)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::StreamUuid;

    use super::*;
    use crate::port::FailureReason;

    fn fold(events: &[(u64, ManifestEvent)]) -> ManifestState {
        let mut state = ManifestState::default();
        for (sequence, (segment_id, event)) in events.iter().enumerate() {
            state.apply(&ManifestRecord {
                stream_uuid: StreamUuid::default(),
                segment_id: *segment_id,
                manifest_sequence: sequence as u64,
                wall_unix_nanos: 0,
                epoch: 1,
                event: event.clone(),
            });
        }
        state
    }

    fn opened(base_sequence: u64) -> ManifestEvent {
        ManifestEvent::SegmentOpened {
            base_sequence,
            epoch: 1,
        }
    }

    fn sealed(end_sequence: u64) -> ManifestEvent {
        ManifestEvent::SealSegment {
            durable_bytes: 4096,
            segment_crc64: 1,
            ext_id: 0,
            watermark: end_sequence,
            flush_failure: false,
        }
    }

    fn uploaded() -> ManifestEvent {
        ManifestEvent::UploadDone {
            key: "k".into(),
            etag: "e".into(),
        }
    }

    #[test]
    fn uploaded_counts_end_at_the_first_segment_that_is_not() {
        let state = fold(&[
            (1, opened(0)),
            (1, sealed(10)),
            (2, opened(10)),
            (2, sealed(20)),
            (3, opened(20)),
            (3, sealed(30)),
            (1, uploaded()),
            (3, uploaded()),
        ]);
        assert_eq!(state.uploaded_upto(), 10);
        assert_eq!(state.sealed_upto(), 30);
        assert_eq!(state.next_sequence, 8);
    }

    #[test]
    fn a_failed_upload_may_be_started_again() {
        let started = ManifestEvent::UploadStarted { key: "k".into() };
        let failed = ManifestEvent::UploadFailed {
            key: "k".into(),
            reason: aof2_format::manifest_record::ReasonCode::BucketOrNetwork,
        };
        let state = fold(&[
            (1, opened(0)),
            (1, sealed(1)),
            (1, started.clone()),
            (1, failed),
        ]);
        let tier = &state.segments[&1].tier;
        assert_eq!(tier.upload_started, None);
        assert!(tier.has_failed(FailedStep::Upload, FailureReason::BucketOrNetwork));
        let state = fold(&[(1, opened(0)), (1, sealed(1)), (1, started)]);
        assert_eq!(state.segments[&1].tier.upload_started.as_deref(), Some("k"));
    }

    #[test]
    fn records_of_later_releases_are_counted_and_change_nothing() {
        let unknown = ManifestEvent::Unknown {
            type_id: 99,
            payload: vec![1],
        };
        let state = fold(&[(1, opened(0)), (7, unknown)]);
        assert_eq!((state.unknown_records, state.segments.len()), (1, 1));
    }
}
