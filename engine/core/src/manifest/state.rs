//! The manifest as a pure fold: what a stream's records say about its segments and its snapshots. No I/O, no clock.

use std::collections::{BTreeSet, VecDeque};

use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};
use aof2_format::snapshot_deletion::{self, DeletionStage, SnapshotDeletion};

use crate::residency::Residency;

/// Newest snapshots of a stream that are kept in memory: a repeated request is recognised among them.
pub(crate) const SNAPSHOTS_KEPT: usize = 32;
/// Deleted snapshots of a stream that are kept in memory, those with the greatest ids: all among the newest snapshots, and some before
/// them, so that a repeated request to delete one is recognised.
pub(crate) const DELETIONS_KEPT: usize = 2 * SNAPSHOTS_KEPT;

/// Everything that the records up to `next_sequence` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestState {
    pub residency: Residency,
    /// Of the next record.
    pub next_sequence: u64,
    /// Records of a type that this release does not know.
    pub unknown_records: u64,
    /// The newest `SNAPSHOTS_KEPT`, oldest first.
    pub snapshots: VecDeque<Marked>,
    /// The greatest of all markers.
    pub highest_snapshot_id: SnapshotId,
    /// Their deletion has begun: the bucket may still have their catalogues.
    pub deleting: BTreeSet<SnapshotId>,
    /// Their catalogues are gone; the greatest `DELETIONS_KEPT` ids.
    pub deleted: BTreeSet<SnapshotId>,
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
        ManifestEvent::CustomEvent { schema_id, blob: _ } => {
            [NOTE_SCHEMA_ID, snapshot_deletion::SCHEMA_ID].contains(schema_id)
        }
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

impl ManifestState {
    /// Records come in the order of their sequences; the caller has checked the chain.
    pub fn apply(&mut self, record: &ManifestRecord) {
        self.next_sequence = record.manifest_sequence + 1;
        self.residency.apply(record);
        match &record.event {
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
            ManifestEvent::CustomEvent { schema_id, blob }
                if *schema_id == snapshot_deletion::SCHEMA_ID =>
            {
                if let Ok(deletion) = SnapshotDeletion::decode(blob) {
                    self.delete_snapshot(deletion);
                }
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
            | ManifestEvent::LocalEvicted { .. } => {}
        }
    }
}

impl ManifestState {
    /// Its marker stays where it is: which ones are the newest does not depend on it.
    fn delete_snapshot(&mut self, deletion: SnapshotDeletion) {
        let SnapshotDeletion { snapshot_id, stage } = deletion;
        match stage {
            DeletionStage::Begun => _ = self.deleting.insert(snapshot_id),
            DeletionStage::Done => {
                self.deleting.remove(&snapshot_id);
                self.deleted.insert(snapshot_id);
                if self.deleted.len() > DELETIONS_KEPT {
                    self.deleted.pop_first();
                }
            }
        }
    }

    /// `None`: as far as is remembered, nobody deleted it.
    pub fn deletion_of(&self, id: SnapshotId) -> Option<DeletionStage> {
        match self.deleting.contains(&id) {
            true => Some(DeletionStage::Begun),
            false => self.deleted.contains(&id).then_some(DeletionStage::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::StreamUuid;

    use super::*;

    #[test]
    fn records_of_later_releases_are_counted_and_change_nothing() {
        let mut state = ManifestState::default();
        let events = [
            ManifestEvent::SegmentOpened {
                base_sequence: 0,
                epoch: 1,
            },
            ManifestEvent::Unknown {
                type_id: 99,
                payload: vec![1],
            },
        ];
        for (manifest_sequence, event) in (0..).zip(events) {
            state.apply(&ManifestRecord {
                stream_uuid: StreamUuid::default(),
                segment_id: 1,
                manifest_sequence,
                wall_unix_nanos: 0,
                epoch: 1,
                event,
            });
        }
        assert_eq!(state.unknown_records, 1);
        assert_eq!(state.residency.segments().count(), 1);
        assert_eq!(state.next_sequence, 2);
    }
}
