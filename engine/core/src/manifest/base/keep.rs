//! Which records still count. Everything does that is not known to be superseded: what a later release reads from a record, this one need
//! not know.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use aof2_format::compaction::{self, Compaction};
use aof2_format::manifest_record::{LocalCopy, ManifestEvent, ManifestRecord, ReasonCode};
use aof2_format::producer_changes::{self, ProducerChanges};
use aof2_format::snapshot::NOTE_SCHEMA_ID;
use aof2_format::snapshot_deletion::{self, DeletionStage, SnapshotDeletion};
use aof2_format::start_sequence::{self, StartSequence};

use crate::manifest::state::{DELETIONS_KEPT, SNAPSHOTS_KEPT};

/// Of a segment: a record of the same kind supersedes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Last {
    Hot,
    Warm,
    Compressed,
    /// The same once there was an object, which is as long as the one before says.
    CompressedAgain,
    /// Behind the first, until the file in Tier 1 is what some record says.
    CompressingAgain,
    HydrationStarted,
    HydrationFailed,
    UploadStarted,
    /// Of the records of an upload, where nothing else keeps it: it says whether one is under way.
    Upload,
}

/// Of a segment: the first one says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum First {
    CompressionStarted,
    CompressionFailed(ReasonCode),
    UploadFailed(ReasonCode),
}

/// A marker with the notes behind it, by their sequences.
#[derive(Debug)]
struct Marker {
    snapshot_id: u64,
    sequence: u64,
    notes: Vec<u64>,
}

/// The records that still count, of those that were added in their order.
#[derive(Debug, Default)]
pub(super) struct Kept {
    records: BTreeMap<u64, ManifestRecord>,
    last: HashMap<(u64, Last), u64>,
    first: HashSet<(u64, First)>,
    /// The newest ones, as many as the fold knows.
    markers: VecDeque<Marker>,
    /// An older one with the greatest id of all.
    highest: Option<(u64, u64)>,
    /// Of snapshots that are being deleted and that are deleted, the record by their ids.
    deleting: BTreeMap<u64, u64>,
    deleted: BTreeMap<u64, u64>,
    /// Parts of the producers of a segment whose seal has not come yet.
    parts: Vec<u64>,
    /// Segments that were uploaded at some time.
    uploaded: HashSet<u64>,
    /// Of what others are being merged into: its beginning, and what failed of it.
    merges: HashMap<u64, Vec<u64>>,
    /// Sequence of the last start, and value and sequence of the greatest.
    start: Option<u64>,
    highest_start: Option<(u64, u64)>,
}

impl Kept {
    pub fn into_records(self) -> Vec<ManifestRecord> {
        self.records.into_values().collect()
    }

    pub fn add(&mut self, record: &ManifestRecord) {
        let (id, sequence) = (record.segment_id, record.manifest_sequence);
        let counts = match &record.event {
            ManifestEvent::SegmentOpened { .. }
            | ManifestEvent::Tier2DeleteQueued { .. }
            | ManifestEvent::Tier2Deleted { .. }
            | ManifestEvent::Unknown { .. } => true,
            ManifestEvent::SealSegment { .. } => {
                // The table of producers has them from here on.
                self.drop_parts();
                true
            }
            ManifestEvent::CompressionStarted => {
                self.first.insert((id, First::CompressionStarted))
                    || self.supersede(id, Last::CompressingAgain, sequence)
            }
            ManifestEvent::CompressionDone { .. } => {
                self.drop_last(id, Last::CompressingAgain);
                match self.uploaded.contains(&id) {
                    true => self.supersede(id, Last::CompressedAgain, sequence),
                    false => self.supersede(id, Last::Compressed, sequence),
                }
            }
            ManifestEvent::CompressionFailed { reason } => {
                self.first.insert((id, First::CompressionFailed(*reason)))
            }
            ManifestEvent::UploadStarted { .. } => {
                self.of_upload(id, sequence, true);
                // Under its key an object may be, however the upload ended.
                self.supersede(id, Last::UploadStarted, sequence)
            }
            ManifestEvent::UploadDone { .. } => {
                self.uploaded.insert(id);
                self.of_upload(id, sequence, true)
            }
            ManifestEvent::UploadFailed { key: _, reason } => {
                let is_first = self.first.insert((id, First::UploadFailed(*reason)));
                self.of_upload(id, sequence, is_first)
            }
            ManifestEvent::HydrationStarted { .. } => {
                self.supersede(id, Last::HydrationStarted, sequence)
            }
            ManifestEvent::HydrationFailed { .. } => {
                self.supersede(id, Last::HydrationFailed, sequence)
            }
            ManifestEvent::HydrationDone { copy, bytes: _ }
            | ManifestEvent::LocalEvicted { copy, bytes: _ } => {
                let place = match copy {
                    LocalCopy::Hot => Last::Hot,
                    LocalCopy::Warm => {
                        self.drop_last(id, Last::CompressingAgain);
                        Last::Warm
                    }
                };
                self.supersede(id, place, sequence)
            }
            ManifestEvent::SnapshotMarker {
                chunk_index: _,
                chunk_offset: _,
                snapshot_id,
            } => {
                self.marker(*snapshot_id, sequence);
                true
            }
            ManifestEvent::CustomEvent { schema_id, blob } => match *schema_id {
                NOTE_SCHEMA_ID => match self.markers.back_mut() {
                    Some(marker) => {
                        marker.notes.push(sequence);
                        true
                    }
                    None => false,
                },
                producer_changes::SCHEMA_ID => {
                    let is_first = matches!(
                        ProducerChanges::decode(blob),
                        Ok(ProducerChanges { part: 0, .. })
                    );
                    if is_first {
                        self.drop_parts();
                    }
                    self.parts.push(sequence);
                    true
                }
                start_sequence::SCHEMA_ID => {
                    if let Ok(start) = StartSequence::decode(blob) {
                        self.start(start.start_sequence, sequence);
                    }
                    true
                }
                snapshot_deletion::SCHEMA_ID => {
                    match SnapshotDeletion::decode(blob) {
                        Ok(deletion) => self.delete_snapshot(deletion, record),
                        Err(_) => _ = self.records.insert(sequence, record.clone()),
                    }
                    return;
                }
                compaction::SCHEMA_ID => {
                    if let Ok(event) = Compaction::decode(blob) {
                        self.merge(id, &event, sequence);
                    }
                    true
                }
                _ => true,
            },
        };
        if counts {
            self.records.insert(sequence, record.clone());
        }
    }

    fn supersede(&mut self, id: u64, kind: Last, sequence: u64) -> bool {
        if let Some(before) = self.last.insert((id, kind), sequence) {
            self.records.remove(&before);
        }
        true
    }

    fn drop_last(&mut self, id: u64, kind: Last) {
        if let Some(before) = self.last.remove(&(id, kind)) {
            self.records.remove(&before);
        }
    }

    /// Whatever else keeps it or not, the last one of an upload counts.
    fn of_upload(&mut self, id: u64, sequence: u64, counts_anyway: bool) -> bool {
        self.drop_last(id, Last::Upload);
        if !counts_anyway {
            self.last.insert((id, Last::Upload), sequence);
        }
        true
    }

    fn drop_parts(&mut self) {
        for part in self.parts.drain(..) {
            self.records.remove(&part);
        }
    }

    /// An output that is sealed says all of it; of one that was given up the beginning stays, which says what it would have held.
    fn merge(&mut self, id: u64, event: &Compaction, sequence: u64) {
        let before = self.merges.entry(id).or_default();
        let superseded = match event {
            Compaction::Begun(_) | Compaction::Failed { .. } => {
                before.push(sequence);
                return;
            }
            Compaction::Merged(..) => &before[..],
            Compaction::GivenUp => before.get(1..).unwrap_or_default(),
        };
        for old in superseded {
            self.records.remove(old);
        }
        self.merges.remove(&id);
    }

    fn marker(&mut self, snapshot_id: u64, sequence: u64) {
        self.markers.push_back(Marker {
            snapshot_id,
            sequence,
            notes: Vec::new(),
        });
        if self.markers.len() > SNAPSHOTS_KEPT
            && let Some(oldest) = self.markers.pop_front()
        {
            for note in oldest.notes {
                self.records.remove(&note);
            }
            let known = self.highest.map_or(0, |(id, _)| id);
            let dropped = match oldest.snapshot_id > known {
                true => {
                    let before = self.highest.replace((oldest.snapshot_id, oldest.sequence));
                    before.map(|(_, sequence)| sequence)
                }
                false => Some(oldest.sequence),
            };
            if let Some(dropped) = dropped {
                self.records.remove(&dropped);
            }
        }
    }

    /// A deletion that is done says all of it, as long as it is remembered.
    fn delete_snapshot(&mut self, deletion: SnapshotDeletion, record: &ManifestRecord) {
        let SnapshotDeletion { snapshot_id, stage } = deletion;
        let (id, sequence) = (snapshot_id.0, record.manifest_sequence);
        self.records.insert(sequence, record.clone());
        let mut old = vec![self.deleting.remove(&id)];
        match stage {
            DeletionStage::Begun => _ = self.deleting.insert(id, sequence),
            DeletionStage::Done => {
                old.push(self.deleted.insert(id, sequence));
                if self.deleted.len() > DELETIONS_KEPT {
                    old.push(self.deleted.pop_first().map(|(_, sequence)| sequence));
                }
            }
        }
        for old in old.into_iter().flatten() {
            self.records.remove(&old);
        }
    }

    /// The greatest says where the stream begins, and the last one when that was looked at.
    fn start(&mut self, value: u64, sequence: u64) {
        let before = self.start.replace(sequence);
        let highest = self.highest_start;
        // Of equal ones the first: the others changed nothing.
        let is_highest = highest.is_none_or(|(known, _)| value > known);
        if is_highest {
            self.highest_start = Some((value, sequence));
        }
        let still_highest = self.highest_start.map(|(_, sequence)| sequence);
        for old in before.into_iter().chain(highest.map(|(_, old)| old)) {
            if Some(old) != still_highest {
                self.records.remove(&old);
            }
        }
    }
}
