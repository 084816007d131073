//! How much a stream grows, measured by the times of its records. No I/O, no clock.

use crate::residency::SealedExtent;
use crate::residency::usage::SegmentDetail;
use crate::store::usage::OpenUsage;

const SECOND: i64 = 1_000_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// What is measured, where the stream reaches back so far.
const WINDOW_NANOS: i64 = 7 * DAY;
/// Records that reach back less far say nothing about a day.
const LEAST_NANOS: i64 = 3600 * SECOND;

/// What is appended in a day, uncompressed. Records that retention took since are not missing: the window begins with the oldest that is left.
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

/// `None`: the records reach back too little, or into a future that `now` does not explain.
pub(super) fn measure(
    extents: &[SealedExtent],
    details: &[SegmentDetail],
    open: &OpenUsage,
    now_unix_nanos: i64,
) -> Option<Growth> {
    let from = now_unix_nanos.saturating_sub(WINDOW_NANOS);
    let oldest = oldest(details, open)?.max(from);
    let window = now_unix_nanos.checked_sub(oldest)?;
    if window < LEAST_NANOS {
        return None;
    }
    let sealed = extents.iter().zip(details);
    let sealed = sealed.map(|(extent, detail)| {
        let (first, last) = (detail.oldest_unix_nanos, extent.newest_unix_nanos);
        part(extent.bytes, first, last, from)
    });
    let times = open.times.iter();
    let unsealed = times.map(|times| {
        part(
            open.bytes,
            times.first_unix_nanos,
            times.last_unix_nanos,
            from,
        )
    });
    let bytes: u128 = sealed.chain(unsealed).map(u128::from).sum();
    let per_day = bytes * u128::from(DAY.unsigned_abs()) / u128::from(window.unsigned_abs());
    Some(Growth {
        bytes_per_day: u64::try_from(per_day).unwrap_or(u64::MAX),
        window_seconds: (window / SECOND).unsigned_abs(),
        streams: 1,
    })
}

/// When the oldest record that can be read was appended, or an older one of its segment.
pub(super) fn oldest(details: &[SegmentDetail], open: &OpenUsage) -> Option<i64> {
    let sealed = details.first().map(|detail| detail.oldest_unix_nanos);
    sealed.or(open.times.map(|times| times.first_unix_nanos))
}

/// Of the bytes of a segment, as if its records came evenly, those that came after `from`.
fn part(bytes: u64, first: i64, last: i64, from: i64) -> u64 {
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
    use crate::port::RecordTimes;

    const HOUR: i64 = 3600 * SECOND;
    const MIB: u64 = 1 << 20;

    /// Of so many bytes each, with records from and to these hours.
    fn segments(spans: &[(i64, i64)], bytes: u64) -> (Vec<SealedExtent>, Vec<SegmentDetail>) {
        let extents = spans.iter().map(|(_, last)| SealedExtent {
            end_sequence: 0,
            bytes,
            newest_unix_nanos: last * HOUR,
        });
        let details = spans.iter().map(|(first, _)| SegmentDetail {
            oldest_unix_nanos: first * HOUR,
            cold_bytes: 0,
        });
        (extents.collect(), details.collect())
    }

    fn open(bytes: u64, first: i64, last: i64) -> OpenUsage {
        OpenUsage {
            bytes,
            times: Some(RecordTimes {
                first_unix_nanos: first * HOUR,
                last_unix_nanos: last * HOUR,
            }),
            ..OpenUsage::default()
        }
    }

    fn per_day(spans: &[(i64, i64)], open: OpenUsage, now: i64) -> Option<(u64, u64)> {
        let (extents, details) = segments(spans, MIB);
        let growth = measure(&extents, &details, &open, now * HOUR)?;
        assert_eq!(growth.streams, 1);
        Some((growth.bytes_per_day, growth.window_seconds / 3600))
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
        let (extents, details) = segments(&[(5, 5)], MIB);
        let almost = 6 * HOUR - 1;
        assert_eq!(measure(&extents, &details, &none, almost), None);
        assert_eq!(per_day(&[(50, 60)], none, 10), None);
        assert_eq!(measure(&extents, &details, &none, i64::MIN), None);
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
