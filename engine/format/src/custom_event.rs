//! What `CustomEvent` records hold, by their schema: every one that this release writes has a row here, which a test holds.

use crate::compaction::{self, Compaction};
use crate::cut::{self, StreamCut};
use crate::damage::Damage;
use crate::producer_changes::{self, ProducerChanges};
use crate::snapshot::{NOTE_SCHEMA_ID, SnapshotNote};
use crate::start_sequence::{self, StartSequence};

/// A decoded blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomEvent {
    ProducerChanges(ProducerChanges),
    SnapshotNote(SnapshotNote),
    StartSequence(StartSequence),
    StreamCut(StreamCut),
    Compaction(Compaction),
}

/// Schemas and their names, ascending.
pub const SCHEMAS: [(u32, &str); 5] = [
    (producer_changes::SCHEMA_ID, "ProducerChanges"),
    (NOTE_SCHEMA_ID, "SnapshotNote"),
    (start_sequence::SCHEMA_ID, "StartSequence"),
    (cut::SCHEMA_ID, "StreamCut"),
    (compaction::SCHEMA_ID, "Compaction"),
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
        _ => return None,
    })
}
