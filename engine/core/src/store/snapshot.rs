//! What a snapshot needs of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof2_format::manifest_record::ManifestEvent;
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};
use aof2_format::snapshot_deletion::{self, DeletionStage, SnapshotDeletion};
use aof2_format::{ClusterId, StreamName, StreamUuid};

use super::{Store, settle};
use crate::error::StoreError;
use crate::manifest::ClosedChunk;
use crate::manifest::cut::Cut;
use crate::manifest::state::{ManifestState, Marked};
use crate::stream::{Quarantined, Stream};

/// Where a stream stands, for the planner of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamFacts {
    pub epoch: u32,
    pub durable: u64,
    pub sealed: u64,
    pub uploaded: u64,
    pub superseded_by: Option<u64>,
    pub damage: Option<String>,
}

/// Who a stream is, in names and catalogues.
#[derive(Clone, Debug)]
pub(crate) struct StreamNames {
    pub cluster_id: ClusterId,
    pub name: StreamName,
    pub uuid: StreamUuid,
    pub epoch: u32,
}

impl Store {
    pub(crate) fn snapshot_facts(&self, stream: &str) -> Result<StreamFacts, StoreError> {
        let stream = self.known(stream)?;
        let quarantined = stream.staged.lock().quarantined.clone();
        Ok(facts_of(&stream, quarantined))
    }

    /// The same, and `None` where it would have to be waited for: an append may hold the stream while the disk gives it blocks.
    pub(crate) fn snapshot_facts_at_once(
        &self,
        stream: &str,
    ) -> Result<Option<StreamFacts>, StoreError> {
        let stream = self.known(stream)?;
        let Some(staged) = stream.staged.try_lock() else {
            return Ok(None);
        };
        let quarantined = staged.quarantined.clone();
        drop(staged);
        Ok(Some(facts_of(&stream, quarantined)))
    }
    pub(crate) fn stream_names(&self, stream: &str) -> Result<StreamNames, StoreError> {
        let stream = self.known(stream)?;
        Ok(StreamNames {
            cluster_id: self.parts().admission.volume.ids.cluster_id,
            name: stream.name.clone(),
            uuid: stream.identity.uuid,
            epoch: stream.epoch(),
        })
    }

    /// Rolls: the seal is done when the stream's sealed count reaches the answer. `None` where it would have to be waited for.
    pub(crate) fn begin_seal_at_once(&self, stream: &str) -> Result<Option<u64>, StoreError> {
        let stream = self.known(stream)?;
        let Some(mut staged) = stream.staged.try_lock() else {
            return Ok(None);
        };
        settle::roll_for_seal(self.pipeline(), &stream, &mut staged).map(Some)
    }

    /// Newest first, without those that somebody has deleted or is deleting.
    pub(crate) fn marked_snapshots(&self, stream: &str) -> Result<Vec<Marked>, StoreError> {
        let stream = self.known(stream)?;
        Ok(stream.manifest.read(|state| {
            let newest_first = state.snapshots.iter().rev();
            let is_there = |marked: &&Marked| state.deletion_of(marked.snapshot_id).is_none();
            newest_first.filter(is_there).cloned().collect()
        }))
    }

    /// `None`: nobody deleted it, or so long ago that it is not remembered.
    pub(crate) fn snapshot_deletion(
        &self,
        stream: &str,
        id: SnapshotId,
    ) -> Result<Option<DeletionStage>, StoreError> {
        let stream = self.known(stream)?;
        Ok(stream.manifest.read(|state| state.deletion_of(id)))
    }

    /// Snapshots whose catalogues are still to be deleted, oldest first.
    pub(crate) fn begun_snapshot_deletions(
        &self,
        stream: &str,
    ) -> Result<Vec<SnapshotId>, StoreError> {
        let stream = self.known(stream)?;
        let begun = |state: &ManifestState| state.deleting.iter().copied().collect();
        Ok(stream.manifest.read(begun))
    }

    /// Blocks until it is durable.
    pub(crate) fn note_snapshot_deletion(
        &self,
        stream: &str,
        snapshot_id: SnapshotId,
        stage: DeletionStage,
    ) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let deletion = ManifestEvent::CustomEvent {
            schema_id: snapshot_deletion::SCHEMA_ID,
            blob: SnapshotDeletion { snapshot_id, stage }.encode().to_vec(),
        };
        let owned = stream.owned(self.pipeline());
        // Of no segment.
        stream.manifest.commit(&owned, 0, vec![deletion])
    }

    pub(crate) fn highest_snapshot_id(&self, stream: &str) -> Result<SnapshotId, StoreError> {
        let stream = self.known(stream)?;
        Ok(stream.manifest.read(|state| state.highest_snapshot_id))
    }

    /// Blocks while files are made and synced.
    pub(crate) fn cut_manifest(&self, stream: &str) -> Result<Cut, StoreError> {
        let stream = self.known(stream)?;
        stream.manifest.cut(&stream.owned(self.pipeline()))
    }

    pub(crate) fn closed_chunk_bytes(
        &self,
        stream: &str,
        chunk: ClosedChunk,
    ) -> Result<Vec<u8>, StoreError> {
        let stream: Arc<Stream> = self.known(stream)?;
        stream
            .manifest
            .closed_bytes(&stream.owned(self.pipeline()), chunk)
    }

    /// Blocks until marker and note are durable: one commit, both or neither. The catalogue is in Tier 2 already.
    pub(crate) fn commit_snapshot_marker(
        &self,
        stream: &str,
        chunk_index: u64,
        chunk_offset: u64,
        note: &SnapshotNote,
    ) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let events = vec![
            ManifestEvent::SnapshotMarker {
                chunk_index,
                chunk_offset,
                snapshot_id: note.snapshot_id.0,
            },
            ManifestEvent::CustomEvent {
                schema_id: NOTE_SCHEMA_ID,
                blob: note.encode(),
            },
        ];
        // Of no segment: ids begin at 1.
        stream
            .manifest
            .commit(&stream.owned(self.pipeline()), 0, events)?;
        stream.manifest.settle_now(&stream.owned(self.pipeline()))
    }

    /// Writes the base of the stream's manifest where one is due. It stands for chunks that a snapshot names. Blocks on the disk.
    pub(crate) fn write_manifest_base(&self, stream: &str) -> Result<bool, StoreError> {
        let stream = self.known(stream)?;
        let below = stream.manifest.read(named_by_snapshots);
        stream
            .manifest
            .write_base(&stream.owned(self.pipeline()), below)
    }

    /// Chunks on the volume that the base stands for and a snapshot names, oldest first.
    pub(crate) fn prunable_chunks(&self, stream: &str) -> Result<Vec<ClosedChunk>, StoreError> {
        let stream = self.known(stream)?;
        let below = stream.manifest.read(named_by_snapshots);
        stream
            .manifest
            .prunable(&stream.owned(self.pipeline()), below)
    }

    /// A closed chunk, where its file is not on the volume any more.
    pub(crate) fn pruned_chunk(
        &self,
        stream: &str,
        number: u64,
    ) -> Result<Option<ClosedChunk>, StoreError> {
        let stream = self.known(stream)?;
        Ok(stream.manifest.pruned(number))
    }

    /// Removes the file of one of these, whose object was read back. Answers whether it did.
    pub(crate) fn prune_chunk(&self, stream: &str, chunk: ClosedChunk) -> Result<bool, StoreError> {
        let stream = self.known(stream)?;
        stream.manifest.prune(&stream.owned(self.pipeline()), chunk)
    }

    pub(crate) fn unix_nanos(&self) -> i64 {
        self.pipeline().common.env.clock.unix_nanos()
    }
}

/// Chunks below the answer are in the catalogue of a snapshot whose marker is in the manifest.
fn named_by_snapshots(state: &ManifestState) -> u64 {
    let newest = state.snapshots.back();
    newest.map_or(0, |marked| marked.chunk_index + 1)
}

fn facts_of(stream: &Stream, quarantined: Option<Quarantined>) -> StreamFacts {
    let (superseded_by, damage) = match quarantined {
        Some(Quarantined::Superseded { to }) => (Some(to), None),
        Some(Quarantined::Damaged { sequence, message }) => {
            (None, Some(format!("from sequence {sequence}: {message}")))
        }
        Some(Quarantined::Refused { .. } | Quarantined::Gone) | None => (None, None),
    };
    StreamFacts {
        epoch: stream.epoch(),
        durable: stream.durable(),
        sealed: stream.sealed.load(Ordering::Acquire),
        uploaded: stream.uploaded.load(Ordering::Acquire),
        superseded_by,
        damage,
    }
}
