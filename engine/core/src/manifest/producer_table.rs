//! The producers of a stream in its manifest: each seal records what its segment changed, in parts that are manifest records of a
//! bounded size, and the fold over all of them is the table as of the end of the last sealed segment.

use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::producer_changes::{
    PART_TARGET_BYTES, ProducerChanges, ProducerRun, SCHEMA_ID, producer, run,
};

use crate::producers::{Changes, Fold, Producers, Runs};

/// The parts, in order; none where nothing changed.
pub(crate) fn encode(changes: &Changes) -> Vec<ManifestEvent> {
    let events = parts_of(changes)
        .into_iter()
        .map(|part| ManifestEvent::CustomEvent {
            schema_id: SCHEMA_ID,
            blob: part.encode(),
        });
    events.collect()
}

pub(crate) fn parts_of(changes: &Changes) -> Vec<ProducerChanges> {
    let Changes {
        forgotten_before,
        recent_from,
        older,
        recent,
    } = changes;
    let mut parts = Vec::new();
    let mut producers: Vec<(u64, Vec<ProducerRun>)> = Vec::new();
    let mut bytes = 0;
    let mut end_part = |producers: Vec<(u64, Vec<ProducerRun>)>| {
        parts.push(ProducerChanges {
            part: u16::try_from(parts.len()).unwrap_or(u16::MAX),
            forgotten_before: *forgotten_before,
            recent_from: *recent_from,
            producers,
        });
    };
    for (id, runs) in older.iter().chain(recent) {
        let runs: Vec<ProducerRun> = runs.iter().copied().collect();
        bytes += producer::BYTES + runs.len() * run::BYTES;
        producers.push((*id, runs));
        if bytes >= PART_TARGET_BYTES {
            end_part(std::mem::take(&mut producers));
            bytes = 0;
        }
    }
    if !producers.is_empty() {
        end_part(producers);
    }
    parts
}

/// The table as the records say, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TableFold {
    fold: Fold,
    /// Of a segment whose seal has not come yet.
    pending: Option<Pending>,
    damage: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Pending {
    segment_id: u64,
    parts: u16,
    changes: Changes,
}

impl TableFold {
    /// As of the last seal in the chunks that a base stands for.
    pub fn of_base(base: &ManifestBase) -> TableFold {
        let rows = base.producers.iter().flat_map(|part| &part.producers);
        let rows = rows.filter_map(|(id, runs)| Some((*id, Runs::from_ascending(runs.clone())?)));
        TableFold {
            fold: Fold::of_table(rows, base.forgotten_before, base.recent_from),
            pending: None,
            damage: None,
        }
    }

    /// For a base. Parts of a segment whose seal has not come yet are not in it: their records are. What is damaged has none.
    pub fn table(&self) -> Result<Changes, String> {
        match &self.damage {
            None => Ok(self.fold.table()),
            Some(damage) => Err(damage.clone()),
        }
    }

    pub fn apply(&mut self, record: &ManifestRecord) {
        match &record.event {
            ManifestEvent::CustomEvent { schema_id, blob } if *schema_id == SCHEMA_ID => {
                let taken = ProducerChanges::decode(blob)
                    .map_err(|damage| damage.to_string())
                    .and_then(|changes| self.take_part(record.segment_id, changes));
                if let Err(why) = taken {
                    // Without it a batch that is known may be taken for new.
                    let at = record.manifest_sequence;
                    self.damage
                        .get_or_insert_with(|| format!("manifest record {at}: {why}"));
                }
            }
            ManifestEvent::SealSegment { .. } => {
                let pending = self.pending.take();
                if let Some(pending) = pending.filter(|it| it.segment_id == record.segment_id) {
                    self.fold.apply(pending.changes);
                }
            }
            ManifestEvent::CustomEvent { .. }
            | ManifestEvent::SegmentOpened { .. }
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
            | ManifestEvent::SnapshotMarker { .. }
            | ManifestEvent::Unknown { .. } => {}
        }
    }

    fn take_part(&mut self, segment_id: u64, changes: ProducerChanges) -> Result<(), String> {
        let ProducerChanges {
            part,
            forgotten_before,
            recent_from,
            producers,
        } = changes;
        if part == 0 {
            // An attempt that was cut off left its parts without a seal.
            self.pending = None;
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            segment_id,
            parts: 0,
            changes: Changes::default(),
        });
        if (pending.segment_id, pending.parts) != (segment_id, part) {
            return Err(format!(
                "part {part} of the producers of segment {segment_id} follows {} of segment {}",
                pending.parts, pending.segment_id
            ));
        }
        pending.parts += 1;
        let changes = &mut pending.changes;
        (changes.forgotten_before, changes.recent_from) = (forgotten_before, recent_from);
        changes.recent.extend(
            producers
                .into_iter()
                .filter_map(|(id, runs)| Runs::from_ascending(runs).map(|runs| (id, runs))),
        );
        Ok(())
    }

    /// And what is wrong with it, if anything is.
    pub fn finish(self) -> (Producers, Option<String>) {
        let TableFold {
            fold,
            pending: _,
            damage,
        } = self;
        (fold.finish(), damage)
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::StreamUuid;
    use aof2_format::manifest_record::MAX_PAYLOAD_BYTES;

    use super::*;
    use crate::producers::{GENERATION, Verdict};

    fn record(segment_id: u64, event: ManifestEvent) -> ManifestRecord {
        ManifestRecord {
            stream_uuid: StreamUuid::default(),
            segment_id,
            manifest_sequence: 0,
            wall_unix_nanos: 0,
            epoch: 1,
            event,
        }
    }

    fn sealed(segment_id: u64) -> ManifestRecord {
        record(
            segment_id,
            ManifestEvent::SealSegment {
                durable_bytes: 4096,
                segment_crc64: 1,
                ext_id: 0,
                watermark: 1,
                flush_failure: false,
                chain: 0,
                first_unix_nanos: 0,
                last_unix_nanos: 0,
                sealed_unix_nanos: 0,
            },
        )
    }

    fn bytes_of(parts: &[ManifestEvent]) -> usize {
        let blobs = parts.iter().map(|part| match part {
            ManifestEvent::CustomEvent { blob, .. } => blob.len(),
            other => panic!("{other:?}"),
        });
        blobs.sum()
    }

    #[test]
    fn what_a_seal_records_grows_with_what_its_segment_changed() {
        let mut producers = Producers::default();
        for id in 0..10_000u64 {
            producers.note(id, 0, 1, id);
        }
        assert!(bytes_of(&encode(&producers.take_changes())) > 10_000 * run::BYTES);
        assert!(encode(&producers.take_changes()).is_empty());
        producers.note(7, 1, 1, 10_000);
        producers.note(7, 2, 1, 10_001);
        producers.note(8, 1, 1, 10_002);
        assert!(bytes_of(&encode(&producers.take_changes())) < 200);
    }

    #[test]
    fn a_table_of_any_size_is_records_of_a_bounded_one() {
        let mut producers = Producers::default();
        for sequence in 0..3 * GENERATION as u64 {
            producers.note(sequence, 0, 1, sequence);
        }
        let parts = encode(&producers.take_changes());
        assert!(parts.len() > 10, "{}", parts.len());
        let mut fold = TableFold::default();
        for part in parts {
            assert!(bytes_of(std::slice::from_ref(&part)) < MAX_PAYLOAD_BYTES / 2);
            fold.apply(&record(3, part));
        }
        fold.apply(&sealed(3));
        let (again, damage) = fold.finish();
        assert_eq!(damage, None);
        for id in [GENERATION as u64, 3 * GENERATION as u64 - 1] {
            let known = Verdict::Known {
                first_sequence: Some(id),
                next: 1,
            };
            assert_eq!(again.judge(id, 0, 0, 1), known);
            assert_eq!(producers.judge(id, 0, 0, 1), known);
        }
        let forgotten = Verdict::Forgotten {
            before: GENERATION as u64,
        };
        assert_eq!(again.judge(3, 0, 0, 1), forgotten);
        assert_eq!(producers.judge(3, 0, 0, 1), forgotten);
    }

    #[test]
    fn parts_count_from_the_seal_that_ends_them() {
        let mut producers = Producers::default();
        producers.note(7, 0, 2, 0);
        let parts = encode(&producers.take_changes());
        let mut fold = TableFold::default();
        // Cut off: the segment was replayed, sealed again, and said the same.
        for part in parts.iter().chain(&parts) {
            fold.apply(&record(1, part.clone()));
        }
        fold.apply(&sealed(1));
        producers.note(9, 0, 1, 2);
        // Its seal never came.
        for part in encode(&producers.take_changes()) {
            fold.apply(&record(2, part));
        }
        let (again, damage) = fold.finish();
        assert_eq!(damage, None);
        let known = Verdict::Known {
            first_sequence: Some(1),
            next: 2,
        };
        assert_eq!(again.judge(7, 0, 1, 1), known);
        assert_eq!(again.judge(9, 0, 0, 1), Verdict::New);
    }

    #[test]
    fn a_part_that_cannot_be_read_or_is_missing_is_damage_and_never_an_empty_table() {
        let mut producers = Producers::default();
        producers.note(7, 0, 2, 0);
        let part = |part| {
            let changes = ProducerChanges {
                part,
                ..ProducerChanges::default()
            };
            changes.encode()
        };
        for blob in [vec![1; 40], part(1)] {
            let mut fold = TableFold::default();
            fold.apply(&record(
                1,
                ManifestEvent::CustomEvent {
                    schema_id: SCHEMA_ID,
                    blob,
                },
            ));
            fold.apply(&sealed(1));
            assert!(fold.finish().1.is_some());
        }
    }
}
