//! How much a stream grows, measured by the times of its records. No I/O, no clock.

use crate::port::RecordTimes;
use crate::store::usage::StreamUsage;

const SECOND: i64 = 1_000_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// What is measured, where the stream reaches back so far.
const WINDOW_NANOS: i64 = 7 * DAY;
/// Records that reach back less far say nothing about a day.
const LEAST_NANOS: i64 = 3600 * SECOND;

/// What is appended in a day, uncompressed. Records that were trimmed since count, as far back as the manifest knows them without a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    pub bytes_per_day: u64,
    /// The time that was measured; of several streams the longest.
    pub window_seconds: u64,
    /// Streams that this adds up.
    pub streams: u64,
}

impl Growth {
    pub fn add(&mut self, other: Growth) {
        self.bytes_per_day = self.bytes_per_day.saturating_add(other.bytes_per_day);
        self.window_seconds = self.window_seconds.max(other.window_seconds);
        self.streams += other.streams;
    }
}

/// From when on records count.
pub(super) fn window_begin(now_unix_nanos: i64) -> i64 {
    now_unix_nanos.saturating_sub(WINDOW_NANOS)
}

/// `None`: the records reach back too little, or into a future that `now` does not explain.
pub(super) fn measure(stream: &StreamUsage, now_unix_nanos: i64) -> Option<Growth> {
    let StreamUsage { sealed, open, .. } = stream;
    let from = window_begin(now_unix_nanos);
    let trimmed = sealed.trimmed_lately.last();
    let oldest = trimmed.map(|span| span.times.first_unix_nanos);
    let oldest = oldest.or(oldest_readable(stream))?.max(from);
    let window = now_unix_nanos.checked_sub(oldest)?;
    if window < LEAST_NANOS {
        return None;
    }
    let of = |bytes, times: RecordTimes| u128::from(part(bytes, times, from));
    let trimmed = sealed.trimmed_lately.iter();
    let trimmed = trimmed.map(|span| of(span.bytes, span.times));
    let readable = sealed.extents.iter().zip(&sealed.details);
    let readable = readable.map(|(extent, detail)| {
        let times = RecordTimes {
            first_unix_nanos: detail.oldest_unix_nanos,
            last_unix_nanos: extent.newest_unix_nanos,
        };
        of(extent.bytes, times)
    });
    let unsealed = open.times.iter().map(|times| of(open.bytes, *times));
    let bytes: u128 = trimmed.chain(readable).chain(unsealed).sum();
    let per_day = bytes * u128::from(DAY.unsigned_abs()) / u128::from(window.unsigned_abs());
    Some(Growth {
        bytes_per_day: u64::try_from(per_day).unwrap_or(u64::MAX),
        window_seconds: (window / SECOND).unsigned_abs(),
        streams: 1,
    })
}

/// When the oldest record that can be read was appended, or an older one of its segment.
pub(super) fn oldest_readable(stream: &StreamUsage) -> Option<i64> {
    let sealed = stream.sealed.details.first();
    let sealed = sealed.map(|detail| detail.oldest_unix_nanos);
    sealed.or(stream.open.times.map(|times| times.first_unix_nanos))
}

/// Of the bytes of a segment, as if its records came evenly, those that came after `from`.
fn part(bytes: u64, times: RecordTimes, from: i64) -> u64 {
    let RecordTimes {
        first_unix_nanos: first,
        last_unix_nanos: last,
    } = times;
    if first >= from {
        return bytes;
    }
    if last <= from {
        return 0;
    }
    let (whole, inside) = (last.abs_diff(first), last.abs_diff(from));
    let part = u128::from(bytes) * u128::from(inside) / u128::from(whole.max(1));
    u64::try_from(part).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::residency::SealedExtent;
    use crate::residency::usage::{AppendedSpan, SegmentDetail, SegmentUsage};
    use crate::store::usage::OpenUsage;

    const HOUR: i64 = 3600 * SECOND;
    const MIB: u64 = 1 << 20;

    fn times(first: i64, last: i64) -> RecordTimes {
        RecordTimes {
            first_unix_nanos: first * HOUR,
            last_unix_nanos: last * HOUR,
        }
    }

    /// Sealed segments of a MiB with records from and to these hours, of which so many are trimmed.
    fn stream(spans: &[(i64, i64)], trimmed: usize, open: OpenUsage) -> StreamUsage {
        let (trimmed, readable) = spans.split_at(trimmed);
        let extents = readable.iter().map(|(_, last)| SealedExtent {
            end_sequence: 0,
            bytes: MIB,
            newest_unix_nanos: last * HOUR,
        });
        let details = readable.iter().map(|(first, _)| SegmentDetail {
            oldest_unix_nanos: first * HOUR,
            cold_bytes: 0,
        });
        let trimmed = trimmed.iter().rev().map(|(first, last)| AppendedSpan {
            bytes: MIB,
            times: times(*first, *last),
        });
        StreamUsage {
            sealed: SegmentUsage {
                extents: extents.collect(),
                details: details.collect(),
                trimmed_lately: trimmed.collect(),
                ..SegmentUsage::default()
            },
            open,
            ..StreamUsage::default()
        }
    }

    fn open(bytes: u64, first: i64, last: i64) -> OpenUsage {
        OpenUsage {
            bytes,
            times: Some(times(first, last)),
            ..OpenUsage::default()
        }
    }

    /// The same whatever of it is trimmed.
    fn per_day(spans: &[(i64, i64)], open: OpenUsage, now: i64) -> Option<(u64, u64)> {
        let told = (0..=spans.len()).map(|trimmed| {
            let growth = measure(&stream(spans, trimmed, open), now * HOUR)?;
            assert_eq!(growth.streams, 1);
            Some((growth.bytes_per_day, growth.window_seconds / 3600))
        });
        let told: Vec<_> = told.collect();
        assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
        told[0]
    }

    #[test]
    fn what_came_in_the_window_counts_by_the_time_that_the_records_cover() {
        let none = OpenUsage::default();
        // Two days, 4 MiB in all.
        let spans = [(0, 12), (12, 24), (24, 36), (36, 48)];
        assert_eq!(per_day(&spans, none, 48), Some((2 * MIB, 48)));
        // Nothing came since.
        assert_eq!(per_day(&spans, none, 96), Some((MIB, 96)));
        // What is not sealed counts.
        assert_eq!(
            per_day(&spans, open(4 * MIB, 48, 96), 96),
            Some((2 * MIB, 96))
        );
        assert_eq!(
            per_day(&[], open(24 * MIB, 0, 48), 48),
            Some((12 * MIB, 48))
        );
    }

    #[test]
    fn what_is_older_than_a_week_does_not_count() {
        let none = OpenUsage::default();
        let week = 7 * 24;
        // One long ago, one half inside, one inside.
        let spans = [(0, 10), (90, 110), (200, 210)];
        let day = |bytes: u64| Some((bytes / 7, 168));
        assert_eq!(per_day(&spans, none, 100 + week), day(MIB + MIB / 2));
        assert_eq!(per_day(&spans, none, 110 + week), day(MIB));
        assert_eq!(per_day(&spans, none, 500 + week), Some((0, 168)));
    }

    #[test]
    fn an_hour_is_too_little_to_measure_and_a_clock_that_was_set_back_measures_nothing() {
        let none = OpenUsage::default();
        assert_eq!(per_day(&[], none, 10), None);
        assert_eq!(per_day(&[(5, 6)], none, 5), None);
        assert_eq!(per_day(&[(5, 5)], none, 6), Some((24 * MIB, 1)));
        let stream = stream(&[(5, 5)], 0, none);
        let almost = 6 * HOUR - 1;
        assert_eq!(measure(&stream, almost), None);
        assert_eq!(per_day(&[(50, 60)], none, 10), None);
        assert_eq!(measure(&stream, i64::MIN), None);
    }

    #[test]
    fn sums_have_the_longest_window() {
        let mut sum = Growth::default();
        for (bytes_per_day, window_seconds) in [(5, 10), (7, 3)] {
            sum.add(Growth {
                bytes_per_day,
                window_seconds,
                streams: 1,
            });
        }
        let expected = Growth {
            bytes_per_day: 12,
            window_seconds: 10,
            streams: 2,
        };
        assert_eq!(sum, expected);
    }
}
