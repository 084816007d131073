//! What `CustomEvent` records hold, by their schema: every one that this release writes has a row here, which a test holds.

use crate::compaction::{self, Compaction};
use crate::cut::{self, StreamCut};
use crate::damage::Damage;
use crate::producer_changes::{self, ProducerChanges};
use crate::snapshot::{NOTE_SCHEMA_ID, SnapshotNote};
use crate::snapshot_deletion::{self, SnapshotDeletion};
use crate::start_sequence::{self, StartSequence};

/// A decoded blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomEvent {
    ProducerChanges(ProducerChanges),
    SnapshotNote(SnapshotNote),
    StartSequence(StartSequence),
    StreamCut(StreamCut),
    Compaction(Compaction),
    SnapshotDeletion(SnapshotDeletion),
}

/// Schemas and their names, ascending.
pub const SCHEMAS: [(u32, &str); 6] = [
    (producer_changes::SCHEMA_ID, "ProducerChanges"),
    (NOTE_SCHEMA_ID, "SnapshotNote"),
    (start_sequence::SCHEMA_ID, "StartSequence"),
    (cut::SCHEMA_ID, "StreamCut"),
    (compaction::SCHEMA_ID, "Compaction"),
    (snapshot_deletion::SCHEMA_ID, "SnapshotDeletion"),
];

/// `None`: of a newer release.
pub fn name(schema_id: u32) -> Option<&'static str> {
    let mut schemas = SCHEMAS.iter();
    let found = schemas.find(|(id, _)| *id == schema_id);
    found.map(|(_, name)| *name)
}

/// `None`: of a newer release.
pub fn decode(schema_id: u32, blob: &[u8]) -> Option<Result<CustomEvent, Damage>> {
    Some(match schema_id {
        producer_changes::SCHEMA_ID => {
            ProducerChanges::decode(blob).map(CustomEvent::ProducerChanges)
        }
        NOTE_SCHEMA_ID => SnapshotNote::decode(blob).map(CustomEvent::SnapshotNote),
        start_sequence::SCHEMA_ID => StartSequence::decode(blob).map(CustomEvent::StartSequence),
        cut::SCHEMA_ID => StreamCut::decode(blob).map(CustomEvent::StreamCut),
        compaction::SCHEMA_ID => Compaction::decode(blob).map(CustomEvent::Compaction),
        snapshot_deletion::SCHEMA_ID => {
            SnapshotDeletion::decode(blob).map(CustomEvent::SnapshotDeletion)
        }
        _ => return None,
    })
}
