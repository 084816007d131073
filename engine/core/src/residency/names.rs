//! Which objects the manifest of a stream speaks for.

use aof2_format::names::SegmentRef;

use super::Residency;

impl Residency {
    /// It names the object under this key, on its way out of the bucket too, or the segment may still be uploaded there.
    pub fn speaks_for(&self, segment: &SegmentRef, key: &str) -> bool {
        let id = segment.segment_id;
        if self
            .unfinished
            .as_ref()
            .is_some_and(|it| it.output_id == id)
        {
            return true;
        }
        let Some(known) = self.segments.get(&id) else {
            return false;
        };
        let names = [
            known.copies.cold.as_ref().map(|cold| &*cold.key),
            known.begun_key.as_deref(),
            known.moves.upload_started.as_deref(),
        ];
        let is_same = known.epoch == segment.epoch && known.base_sequence == segment.base_sequence;
        names.contains(&Some(key)) || (is_same && self.is_needed(id))
    }

    /// Some segment of it was opened in this epoch.
    pub fn knows_epoch(&self, epoch: u32) -> bool {
        self.segments.values().any(|segment| segment.epoch == epoch)
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::manifest_record::ManifestEvent;

    use super::*;
    use crate::residency::merge::tests::{begun, inputs};
    use crate::residency::tests::{apply, deleted, fold, opened, sealed, start, uploaded};

    fn of(segment_id: u64, base_sequence: u64) -> SegmentRef {
        SegmentRef {
            base_sequence,
            epoch: 1,
            segment_id,
        }
    }

    fn upload_started(key: &str) -> ManifestEvent {
        ManifestEvent::UploadStarted { key: key.into() }
    }

    #[test]
    fn an_object_is_spoken_for_from_before_there_can_be_one_until_it_is_deleted() {
        let queued = |key: &str| ManifestEvent::Tier2DeleteQueued { key: key.into() };
        let steps = [
            (1, opened(0), true),
            (1, sealed(10), true),
            (1, upload_started("k"), true),
            (1, uploaded("k"), true),
            (1, start(10), true),
            (1, queued("k"), true),
            (1, queued("k"), true),
            (1, deleted("k"), false),
        ];
        let mut residency = Residency::default();
        assert!(!residency.speaks_for(&of(1, 0), "k"));
        for (id, event, is_spoken_for) in steps {
            apply(&mut residency, &[(id, event.clone())]);
            let found = residency.speaks_for(&of(1, 0), "k");
            assert_eq!(found, is_spoken_for, "{event:?}");
        }
        assert!(!residency.speaks_for(&of(2, 0), "k"));
    }

    #[test]
    fn an_upload_that_was_begun_and_given_up_is_spoken_for_and_nothing_else_of_its_id() {
        let residency = fold(&[
            (1, opened(0)),
            (1, sealed(10)),
            (1, upload_started("k")),
            (1, start(10)),
        ]);
        assert!(residency.speaks_for(&of(1, 0), "k"));
        // Trimmed: nobody uploads it elsewhere any more.
        assert!(!residency.speaks_for(&of(1, 0), "other"));
        let readable = fold(&[(1, opened(0)), (1, sealed(10)), (1, uploaded("k"))]);
        assert!(!readable.speaks_for(&of(1, 7), "other"), "another history");
        let of_before = SegmentRef {
            epoch: 0,
            ..of(1, 0)
        };
        assert!(!readable.speaks_for(&of_before, "other"));
        assert!(readable.knows_epoch(1) && !readable.knows_epoch(0));
    }

    #[test]
    fn an_unfinished_output_is_spoken_for() {
        let residency = fold(&[
            (1, opened(0)),
            (1, sealed(10)),
            (2, opened(10)),
            (2, sealed(20)),
            (3, begun(inputs(&[1, 2], 0, 20))),
        ]);
        assert!(residency.speaks_for(&of(3, 0), "k"));
        assert!(residency.speaks_for(&of(3, 5), "k"), "whatever its key");
    }
}
