//! What the sealed segments of a stream hold in each tier: a sum over the fold. No I/O, no clock.

use super::Residency;
use super::segment::{ColdCopy, RecordTimes, Seal, SealedExtent, Segment};
use crate::segment::sealed::file_bytes;

/// Copies, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub objects: u64,
    pub bytes: u64,
}

impl Held {
    pub(crate) fn note(&mut self, bytes: u64) {
        self.add(Held { objects: 1, bytes });
    }

    pub(crate) fn add(&mut self, other: Held) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

/// Objects of segments in Tier 2, without catalogues and manifest chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    pub count: u64,
    /// Compressed, of those whose size the manifest says.
    pub bytes: u64,
    pub of_unknown_size: u64,
}

impl Objects {
    /// Of one segment: none, or one.
    pub(super) fn of(segment: &Segment) -> Objects {
        let bytes = segment.compressed_bytes;
        // Of one that others are merged into, too: its object is there before it is sealed.
        match segment.copies.cold.is_some() {
            true => Objects {
                count: 1,
                bytes: bytes.unwrap_or(0),
                of_unknown_size: u64::from(bytes.is_none()),
            },
            false => Objects::default(),
        }
    }

    pub(crate) fn add(&mut self, other: Objects) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.of_unknown_size += other.of_unknown_size;
    }

    /// `part` was added before.
    pub(super) fn subtract(&mut self, part: Objects) {
        self.count -= part.count;
        self.bytes -= part.bytes;
        self.of_unknown_size -= part.of_unknown_size;
    }
}

/// What segments were compressed from, and to; of those with a copy that is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compressed {
    pub uncompressed_bytes: u64,
    pub compressed_bytes: u64,
}

/// What a report knows of a readable segment in addition to its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentDetail {
    /// Of its first record.
    pub oldest_unix_nanos: i64,
    /// Of its object; 0 where there is none, or its size is not known.
    pub cold_bytes: u64,
}

/// What was appended in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendedSpan {
    /// Uncompressed.
    pub bytes: u64,
    pub times: RecordTimes,
}

/// The object of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatedObject {
    pub sealed_unix_nanos: i64,
    pub key: String,
}

/// Segments that nobody needs and that still have a copy count in the tiers; everything else is about readable ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentUsage {
    /// Whole files.
    pub hot: Held,
    pub warm: Held,
    /// Without the bytes of objects whose size the manifest does not say.
    pub cold: Held,
    pub unsized_objects: u64,
    /// Header and batches.
    pub readable_bytes: u64,
    pub compressed: Compressed,
    /// Where the first readable segment begins: at the start of the stream, or below it.
    pub first_sequence: Option<u64>,
    /// Readable, ascending, and the same segments in more detail.
    pub extents: Vec<SealedExtent>,
    pub details: Vec<SegmentDetail>,
    /// Trimmed, without a hole up to the first of those, the last first: what was appended lately.
    pub trimmed_lately: Vec<AppendedSpan>,
    /// By the times of their seals.
    pub oldest_object: Option<DatedObject>,
    pub newest_object: Option<DatedObject>,
}

impl SegmentUsage {
    /// Adds at most `most` segments that nobody needs from this id on: trimmed ones, such that were merged into another one, and outputs that
    /// were given up. Answers the id to go on with; `None`: that was the last one. What lies below `start` was trimmed when the walk began.
    pub fn add_leaving(
        &mut self,
        residency: &Residency,
        from: u64,
        start: u64,
        most: usize,
    ) -> Option<u64> {
        let mut walked = 0;
        let mut next = None;
        for (id, segment) in residency.leaving_from(from).take(most) {
            walked += 1;
            next = Some(id + 1);
            let is_below = |seal: Seal| seal.end_sequence <= start;
            // What takes its place counts as a segment of its own, with copies of its own.
            if residency.is_superseded(id) || segment.seal.is_some_and(is_below) {
                self.note_copies(segment);
            }
        }
        next.filter(|_| walked == most)
    }

    /// Adds at most `most` segments that hold a record from `from` on and end at `upto` or before. Answers the sequence to go on with. Between
    /// two calls the fold may have changed: what began before `from` counts in the first call alone.
    pub fn add_readable(
        &mut self,
        residency: &Residency,
        from: u64,
        upto: u64,
        most: usize,
    ) -> Option<u64> {
        let is_first = self.extents.is_empty();
        let mut walked = 0;
        let mut next = None;
        let segments = residency.sealed_from(from);
        let segments = segments.take_while(|(_, _, seal)| seal.end_sequence <= upto);
        for (_, segment, seal) in segments.take(most) {
            walked += 1;
            next = Some(seal.end_sequence);
            if is_first || segment.base_sequence >= from {
                self.note_readable(segment, seal);
            }
        }
        next.filter(|_| walked == most)
    }

    /// Adds at most `most` segments below the sequence `below` that hold records of `since` or later, whether a copy of them is left or not.
    /// Answers the sequence to go on below.
    pub fn add_trimmed_lately(
        &mut self,
        residency: &Residency,
        mut below: u64,
        since_unix_nanos: i64,
        most: usize,
    ) -> Option<u64> {
        let mut walked = 0;
        for (_, segment, seal) in residency.sealed_below(below).take(most) {
            // One that holds the start is readable.
            let is_next = seal.end_sequence == below;
            if !is_next || seal.times.last_unix_nanos < since_unix_nanos {
                return None;
            }
            self.trimmed_lately.push(AppendedSpan {
                bytes: seal.data_end,
                times: seal.times,
            });
            walked += 1;
            below = segment.base_sequence;
        }
        (walked == most).then_some(below)
    }

    fn note_readable(&mut self, segment: &Segment, seal: &Seal) {
        let cold_bytes = self.note_copies(segment);
        self.readable_bytes += seal.data_end;
        self.first_sequence.get_or_insert(segment.base_sequence);
        self.extents.push(SealedExtent {
            end_sequence: seal.end_sequence,
            bytes: seal.data_end,
            newest_unix_nanos: seal.times.last_unix_nanos,
        });
        self.details.push(SegmentDetail {
            oldest_unix_nanos: seal.times.first_unix_nanos,
            cold_bytes,
        });
        let copies = &segment.copies;
        let compressed_bytes = copies.warm.or(segment.compressed_bytes);
        if let Some(bytes) = compressed_bytes
            && (copies.warm.is_some() || copies.cold.is_some())
        {
            self.compressed.uncompressed_bytes += seal.data_end;
            self.compressed.compressed_bytes += bytes;
        }
    }

    /// Answers the bytes of the object.
    fn note_copies(&mut self, segment: &Segment) -> u64 {
        let copies = &segment.copies;
        if copies.hot
            && let Some(seal) = &segment.seal
        {
            self.hot.note(file_bytes(seal.data_end));
        }
        if let Some(bytes) = copies.warm {
            self.warm.note(bytes);
        }
        let Some(cold) = &copies.cold else { return 0 };
        let bytes = segment.compressed_bytes;
        self.cold.note(bytes.unwrap_or(0));
        self.unsized_objects += u64::from(bytes.is_none());
        if let Some(seal) = &segment.seal {
            self.note_object(cold, seal.sealed_unix_nanos);
        }
        bytes.unwrap_or(0)
    }

    fn note_object(&mut self, cold: &ColdCopy, sealed_unix_nanos: i64) {
        let object = || {
            Some(DatedObject {
                sealed_unix_nanos,
                key: cold.key.clone(),
            })
        };
        let at = |object: &Option<DatedObject>| object.as_ref().map(|it| it.sealed_unix_nanos);
        if at(&self.oldest_object).is_none_or(|oldest| sealed_unix_nanos < oldest) {
            self.oldest_object = object();
        }
        if at(&self.newest_object).is_none_or(|newest| sealed_unix_nanos > newest) {
            self.newest_object = object();
        }
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::compaction::Compaction;
    use aof2_format::manifest_record::{LocalCopy, ManifestEvent};

    use super::*;
    use crate::residency::merge::tests::{begun, inputs, merged};
    use crate::residency::tests::{
        apply, compacted, compressed, evicted, fold, opened, sealed, start, uploaded,
    };

    /// Segments 1 to 5 of ten records: compressed and uploaded but for the last, and the first two left Tier 0.
    fn five() -> Vec<(u64, ManifestEvent)> {
        let mut events = Vec::new();
        for id in 1..=5 {
            events.push((id, opened((id - 1) * 10)));
            events.push((id, sealed(id * 10)));
            if id < 5 {
                events.push((id, compressed(1000 + id)));
                events.push((id, uploaded(&format!("k{id}"))));
            }
        }
        events.push((1, evicted(LocalCopy::Hot)));
        events.push((2, evicted(LocalCopy::Hot)));
        events.push((1, evicted(LocalCopy::Warm)));
        events
    }

    /// The whole walk, in steps of so many segments.
    fn walked(residency: &Residency, most: usize) -> SegmentUsage {
        let mut usage = SegmentUsage::default();
        let start = residency.start_sequence();
        let mut next = Some(0);
        while let Some(from) = next {
            next = usage.add_leaving(residency, from, start, most);
        }
        let mut next = Some(start);
        while let Some(from) = next {
            next = usage.add_readable(residency, from, residency.sealed_upto(), most);
        }
        usage
    }

    #[test]
    fn each_copy_counts_in_its_tier_and_the_ratio_is_that_of_compressed_segments() {
        let usage = walked(&fold(&five()), 100);
        let file = file_bytes(4096);
        let held = |objects, bytes| Held { objects, bytes };
        assert_eq!(usage.hot, held(3, 3 * file));
        assert_eq!(usage.warm, held(3, 1002 + 1003 + 1004));
        assert_eq!(usage.cold, held(4, 1001 + 1002 + 1003 + 1004));
        assert_eq!(usage.unsized_objects, 0);
        assert_eq!(usage.readable_bytes, 5 * 4096);
        assert_eq!(
            usage.compressed,
            Compressed {
                uncompressed_bytes: 4 * 4096,
                compressed_bytes: 4010
            }
        );
        let ends: Vec<u64> = usage.extents.iter().map(|it| it.end_sequence).collect();
        assert_eq!(ends, [10, 20, 30, 40, 50]);
        let cold: Vec<u64> = usage.details.iter().map(|it| it.cold_bytes).collect();
        assert_eq!(cold, [1001, 1002, 1003, 1004, 0]);
    }

    #[test]
    fn trimmed_segments_count_in_the_tiers_as_long_as_they_have_a_copy() {
        let mut events = five();
        events.push((0, start(25)));
        let usage = walked(&fold(&events), 100);
        // The object of the first alone, and the warm file of the second.
        assert_eq!((usage.cold.objects, usage.warm.objects), (4, 3));
        assert_eq!(usage.readable_bytes, 3 * 4096);
        assert_eq!(usage.extents.len(), 3);
        events.push((1, crate::residency::tests::deleted("k1")));
        let usage = walked(&fold(&events), 100);
        assert_eq!((usage.cold.objects, usage.warm.objects), (3, 3));
    }

    #[test]
    fn merged_segments_count_in_the_bucket_until_their_objects_go_and_not_as_readable() {
        let both = || inputs(&[1, 2], 0, 20);
        let mut events = five();
        events.push((7, begun(both())));
        events.push((7, uploaded("k7")));
        // As long as it does not count, nothing does of it.
        let before = walked(&fold(&events), 100);
        assert_eq!(before, walked(&fold(&five()), 100));
        events.push((7, merged(both())));
        let usage = walked(&fold(&events), 100);
        let file = file_bytes(4096);
        let held = |objects, bytes| Held { objects, bytes };
        assert_eq!(usage.cold, held(5, 1001 + 1002 + 99 + 1003 + 1004));
        assert_eq!(usage.hot, held(4, 3 * file + file_bytes(9_000)));
        assert_eq!(usage.warm, held(2, 1003 + 1004));
        assert_eq!(usage.readable_bytes, 9_000 + 3 * 4096);
        let ends: Vec<u64> = usage.extents.iter().map(|it| it.end_sequence).collect();
        assert_eq!(ends, [20, 30, 40, 50]);
        let cold: Vec<u64> = usage.details.iter().map(|it| it.cold_bytes).collect();
        assert_eq!(cold, [99, 1003, 1004, 0]);
        for id in [1, 2] {
            let key = format!("k{id}");
            events.push((id, crate::residency::tests::deleted(&key)));
        }
        let usage = walked(&fold(&events), 100);
        assert_eq!(usage.cold, held(3, 99 + 1003 + 1004));
    }

    #[test]
    fn the_object_of_an_output_that_was_given_up_counts_until_it_goes() {
        let mut events = five();
        events.push((7, begun(inputs(&[1, 2], 0, 20))));
        events.push((7, uploaded("k7")));
        events.push((7, compacted(Compaction::GivenUp)));
        let usage = walked(&fold(&events), 100);
        assert_eq!((usage.cold.objects, usage.unsized_objects), (5, 1));
        assert_eq!(usage.readable_bytes, 5 * 4096);
    }

    #[test]
    fn a_walk_in_steps_counts_what_one_at_once_does() {
        for start_at in [0, 25, 30] {
            let mut events = five();
            events.push((0, start(start_at)));
            let residency = fold(&events);
            for most in 1..=6 {
                assert_eq!(walked(&residency, most), walked(&residency, 100), "{most}");
            }
        }
    }

    #[test]
    fn a_start_that_moves_during_the_walk_counts_nothing_twice() {
        let mut events = five();
        let before = fold(&events);
        events.push((0, start(30)));
        let after = fold(&events);
        let mut usage = SegmentUsage::default();
        assert_eq!(usage.add_leaving(&before, 0, 0, 100), None);
        assert_eq!(usage.add_readable(&before, 0, 50, 2), Some(20));
        assert_eq!(usage.add_readable(&after, 20, 50, 100), None);
        assert_eq!(usage, walked(&before, 100));
        // The other way round: trimmed when it began, and not before.
        let mut late = SegmentUsage::default();
        assert_eq!(late.add_leaving(&after, 0, 0, 100), None);
        assert_eq!(late, SegmentUsage::default());
    }

    #[test]
    fn a_segment_that_takes_the_place_of_others_during_the_walk_counts_nothing_twice() {
        let before = fold(&five());
        let after = fold(&[
            (7, opened(0)),
            (7, sealed(20)),
            (3, opened(20)),
            (3, sealed(30)),
        ]);
        let mut usage = SegmentUsage::default();
        assert_eq!(usage.add_readable(&before, 0, 30, 1), Some(10));
        assert_eq!(usage.add_readable(&after, 10, 30, 100), None);
        let ends: Vec<u64> = usage.extents.iter().map(|it| it.end_sequence).collect();
        assert_eq!(ends, [10, 30]);
        // One that holds the start counts.
        let mut whole = SegmentUsage::default();
        assert_eq!(whole.add_readable(&after, 10, 30, 100), None);
        assert_eq!(whole.extents.len(), 2);
    }

    /// Whoever commits to the manifest waits for one step at most.
    #[test]
    fn a_step_looks_at_no_more_segments_than_it_may() {
        let mut residency = Residency::default();
        for id in 1..=100_000 {
            apply(
                &mut residency,
                &[(id, opened((id - 1) * 10)), (id, sealed(id * 10))],
            );
        }
        apply(&mut residency, &[(0, start(300_000))]);
        let (mut usage, mut steps, mut next) = (SegmentUsage::default(), 0, Some(0));
        while let Some(from) = next {
            next = usage.add_leaving(&residency, from, 300_000, 1024);
            steps += 1;
            assert!(usage.hot.objects <= steps * 1024);
        }
        assert_eq!((usage.hot.objects, steps), (30_000, 30));
        (steps, next) = (0, Some(300_000));
        while let Some(from) = next {
            next = usage.add_readable(&residency, from, u64::MAX, 1024);
            steps += 1;
            assert!(usage.extents.len() as u64 <= steps * 1024);
        }
        assert_eq!((usage.extents.len(), steps), (70_000, 69));
    }

    #[test]
    fn what_was_trimmed_lately_is_known_back_to_the_first_hole() {
        let mut events = five();
        events.push((0, start(25)));
        let walked_lately = |residency: &Residency, since, most| {
            let mut usage = SegmentUsage::default();
            usage.add_readable(residency, residency.start_sequence(), 50, 100);
            assert_eq!(usage.first_sequence, Some(20));
            let mut next = usage.first_sequence;
            while let Some(below) = next {
                next = usage.add_trimmed_lately(residency, below, since, most);
            }
            usage.trimmed_lately.len()
        };
        let residency = fold(&events);
        // Records of segments here are of the times 1 and 2.
        for most in [1, 2, 100] {
            assert_eq!(walked_lately(&residency, 2, most), 2);
            assert_eq!(walked_lately(&residency, 3, most), 0);
        }
        // The second was never sealed, as far as anybody knows.
        let is_of_second = |event: &(u64, ManifestEvent)| event.0 == 2;
        events.retain(|event| !is_of_second(event));
        assert_eq!(walked_lately(&fold(&events), 0, 100), 0);
    }

    #[test]
    fn an_object_of_unknown_size_counts_as_an_object_and_for_no_bytes() {
        let residency = fold(&[(1, opened(0)), (1, sealed(10)), (1, uploaded("k1"))]);
        let usage = walked(&residency, 100);
        assert_eq!(
            usage.cold,
            Held {
                objects: 1,
                bytes: 0
            }
        );
        assert_eq!(usage.unsized_objects, 1);
        assert_eq!(usage.compressed, Compressed::default());
        let key = usage.oldest_object.map(|object| object.key);
        assert_eq!(key.as_deref(), Some("k1"));
    }
}
