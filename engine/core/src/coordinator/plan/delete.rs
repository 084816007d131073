//! Which objects of segments that nobody reads may go, and what keeps the others: of trimmed ones, of such that were merged into another
//! one, and of outputs of merges that were given up.
//!
//! An object goes in steps: the manifest says that it is to go; the manifest chunk that says so is in Tier 2, and the claim was read
//! again; the grace has passed since. What keeps it is looked for before each of them, and again before the last.

use std::sync::Arc;
use std::time::Duration;

use aof2_format::snapshot::SnapshotId;

use crate::residency::DeletionStage;

/// The object of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub base_sequence: u64,
    pub end_sequence: u64,
    pub segment_id: u64,
    /// Another segment holds its records.
    pub is_superseded: bool,
    pub stage: DeletionStage,
    /// An upload of it is under way in this process, which may still bring an object.
    pub is_uploading: bool,
}

/// What a catalogue in the bucket names, from its first to behind its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub snapshot_id: SnapshotId,
    pub from_sequence: u64,
    pub to_sequence: u64,
    pub segments: Arc<SegmentIds>,
}

/// Ids that mostly follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentIds {
    /// First and last of each run, ascending.
    runs: Vec<(u64, u64)>,
}

impl FromIterator<u64> for SegmentIds {
    fn from_iter<T: IntoIterator<Item = u64>>(ids: T) -> SegmentIds {
        let mut ids: Vec<u64> = ids.into_iter().collect();
        ids.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for id in ids {
            match runs.last_mut() {
                Some((_, last)) if id <= last.saturating_add(1) => *last = id,
                _ => runs.push((id, id)),
            }
        }
        runs.shrink_to_fit();
        SegmentIds { runs }
    }
}

impl SegmentIds {
    pub fn contains(&self, id: u64) -> bool {
        let after = self.runs.partition_point(|(first, _)| *first <= id);
        let before = after.checked_sub(1).map(|at| self.runs[at]);
        before.is_some_and(|(_, last)| id <= last)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Holders<'a> {
    /// Of the stream.
    pub start_sequence: u64,
    /// Every catalogue that is there, whoever took it.
    pub catalogues: &'a [Named],
    /// One that may name what was readable when it began.
    pub is_snapshot_running: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Queue,
    Publish,
    Delete,
    Wait(Why),
}

/// What keeps an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The segment holds records that can be read.
    Readable,
    Snapshot {
        snapshot_id: SnapshotId,
    },
    SnapshotRunning,
    Upload,
    Grace {
        until_unix_nanos: i64,
    },
    /// The clock does not tell whether the grace has passed.
    Clock,
}

/// `now_unix_nanos` is `None` while the clock is not trusted.
pub(crate) fn next(
    object: &Candidate,
    holders: &Holders<'_>,
    grace: Duration,
    now_unix_nanos: Option<i64>,
) -> Next {
    if object.end_sequence > holders.start_sequence && !object.is_superseded {
        return Next::Wait(Why::Readable);
    }
    // One that was superseded is named by itself, or not: what holds its records now may be named in its place.
    let names_it = |named: &&Named| {
        named.from_sequence < object.end_sequence
            && object.base_sequence < named.to_sequence
            && (!object.is_superseded || named.segments.contains(object.segment_id))
    };
    // The newest: it is kept longest.
    let mut naming = holders.catalogues.iter().rev();
    if let Some(Named { snapshot_id, .. }) = naming.find(names_it) {
        return Next::Wait(Why::Snapshot {
            snapshot_id: *snapshot_id,
        });
    }
    if holders.is_snapshot_running {
        return Next::Wait(Why::SnapshotRunning);
    }
    if object.is_uploading {
        return Next::Wait(Why::Upload);
    }
    let at_unix_nanos = match object.stage {
        DeletionStage::NotQueued => return Next::Queue,
        DeletionStage::Queued => return Next::Publish,
        DeletionStage::Published { at_unix_nanos } => at_unix_nanos,
    };
    let grace = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
    let until_unix_nanos = at_unix_nanos.saturating_add(grace);
    match now_unix_nanos {
        _ if grace == 0 => Next::Delete,
        None => Next::Wait(Why::Clock),
        Some(now) if now < until_unix_nanos => Next::Wait(Why::Grace { until_unix_nanos }),
        Some(_) => Next::Delete,
    }
}

const MOST_FREQUENT_PASS: Duration = Duration::from_secs(1);
const RAREST_PASS: Duration = Duration::from_secs(6 * 3600);
/// A pass that queues something closes a manifest chunk, which stays in the bucket.
const PASSES_PER_GRACE: u32 = 4;

/// How long after a pass the next one is due.
pub(crate) fn pause(grace: Duration) -> Duration {
    (grace / PASSES_PER_GRACE).clamp(MOST_FREQUENT_PASS, RAREST_PASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: i64 = 1_800_000_000_000_000_000;

    fn object(stage: DeletionStage) -> Candidate {
        Candidate {
            base_sequence: 10,
            end_sequence: 20,
            segment_id: 2,
            is_superseded: false,
            stage,
            is_uploading: false,
        }
    }

    fn published(age: Duration) -> Candidate {
        let at_unix_nanos = NOW - age.as_nanos() as i64;
        object(DeletionStage::Published { at_unix_nanos })
    }

    fn free() -> Holders<'static> {
        Holders {
            start_sequence: 20,
            catalogues: &[],
            is_snapshot_running: false,
        }
    }

    #[test]
    fn an_object_goes_step_by_step() {
        let next = |object: &Candidate| next(object, &free(), HOUR, Some(NOW));
        assert_eq!(next(&object(DeletionStage::NotQueued)), Next::Queue);
        assert_eq!(next(&object(DeletionStage::Queued)), Next::Publish);
        let waits = Next::Wait(Why::Grace {
            until_unix_nanos: NOW + 1,
        });
        assert_eq!(next(&published(HOUR - Duration::from_nanos(1))), waits);
        assert_eq!(next(&published(HOUR)), Next::Delete);
    }

    #[test]
    fn what_is_needed_stays_at_every_step() {
        let id = |number| SnapshotId::new(1, number);
        let named = |number, from_sequence, to_sequence| Named {
            snapshot_id: id(number),
            from_sequence,
            to_sequence,
            segments: Arc::default(),
        };
        let stages = [
            object(DeletionStage::NotQueued),
            object(DeletionStage::Queued),
            published(2 * HOUR),
        ];
        for object in stages {
            let why = |holders: Holders<'_>| match next(&object, &holders, HOUR, Some(NOW)) {
                Next::Wait(why) => Some(why),
                Next::Queue | Next::Publish | Next::Delete => None,
            };
            let readable = Holders {
                start_sequence: 19,
                ..free()
            };
            assert_eq!(why(readable), Some(Why::Readable));
            let running = Holders {
                is_snapshot_running: true,
                ..free()
            };
            assert_eq!(why(running), Some(Why::SnapshotRunning));
            let uploading = Candidate {
                is_uploading: true,
                ..object
            };
            let waits = next(&uploading, &free(), HOUR, Some(NOW));
            assert_eq!(waits, Next::Wait(Why::Upload));
            for (catalogues, keeper) in [
                (vec![named(1, 0, 30)], Some(1)),
                (
                    vec![named(1, 0, 30), named(2, 19, 21), named(3, 20, 40)],
                    Some(2),
                ),
                (vec![named(1, 0, 11)], Some(1)),
                (vec![named(1, 0, 10)], None),
                (vec![named(1, 20, 40)], None),
            ] {
                let holders = Holders {
                    catalogues: &catalogues,
                    ..free()
                };
                let kept = keeper.map(|number| Why::Snapshot {
                    snapshot_id: id(number),
                });
                assert_eq!(why(holders), kept, "{catalogues:?}");
            }
        }
    }

    #[test]
    fn what_was_merged_is_kept_by_the_catalogues_that_name_it_and_by_no_other() {
        let of = |number, segments: &[u64]| Named {
            snapshot_id: SnapshotId::new(1, number),
            from_sequence: 0,
            to_sequence: 100,
            segments: Arc::new(segments.iter().copied().collect()),
        };
        let merged = Candidate {
            is_superseded: true,
            ..object(DeletionStage::NotQueued)
        };
        let readable = Holders {
            start_sequence: 0,
            ..free()
        };
        let next = |object: &Candidate, catalogues: &[Named]| {
            let holders = Holders {
                catalogues,
                ..readable
            };
            next(object, &holders, HOUR, Some(NOW))
        };
        // Its records can be read, from another segment.
        assert_eq!(next(&merged, &[]), Next::Queue);
        assert_eq!(next(&merged, &[of(1, &[1, 9, 4])]), Next::Queue);
        let kept = Next::Wait(Why::Snapshot {
            snapshot_id: SnapshotId::new(1, 1),
        });
        assert_eq!(next(&merged, &[of(1, &[1, 2, 3]), of(2, &[1, 9])]), kept);
        let running = Holders {
            is_snapshot_running: true,
            ..readable
        };
        let waits = super::next(&merged, &running, HOUR, Some(NOW));
        assert_eq!(waits, Next::Wait(Why::SnapshotRunning));
    }

    #[test]
    fn ids_are_found_wherever_they_lie() {
        let ids: SegmentIds = [7, 1, 2, 3, 9, 8, u64::MAX].into_iter().collect();
        assert_eq!(ids.runs, [(1, 3), (7, 9), (u64::MAX, u64::MAX)]);
        let found = (0..12).filter(|id| ids.contains(*id));
        assert_eq!(found.collect::<Vec<_>>(), [1, 2, 3, 7, 8, 9]);
        assert!(ids.contains(u64::MAX) && !SegmentIds::default().contains(0));
    }

    #[test]
    fn without_a_clock_the_grace_does_not_pass_and_none_needs_no_clock() {
        let old = published(100 * HOUR);
        assert_eq!(next(&old, &free(), HOUR, None), Next::Wait(Why::Clock));
        assert_eq!(next(&old, &free(), Duration::ZERO, None), Next::Delete);
        // Published at a time that the clock has not reached again.
        let ahead = object(DeletionStage::Published {
            at_unix_nanos: NOW + 1,
        });
        assert!(matches!(
            next(&ahead, &free(), HOUR, Some(NOW)),
            Next::Wait(Why::Grace { .. })
        ));
        let never = object(DeletionStage::Published {
            at_unix_nanos: i64::MAX,
        });
        assert!(matches!(
            next(&never, &free(), HOUR, Some(NOW)),
            Next::Wait(Why::Grace { .. })
        ));
    }

    #[test]
    fn passes_are_rarer_the_longer_the_grace_is() {
        assert_eq!(pause(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(pause(HOUR), HOUR / 4);
        assert_eq!(pause(24 * HOUR), 6 * HOUR);
        assert_eq!(pause(1000 * HOUR), 6 * HOUR);
    }
}
