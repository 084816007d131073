//! Where a stream begins by its rule of retention: at a border of sealed segments, so that whole segments go.
//!
//! Age is that of the newest record of a segment, by the times that were stored with the records. One pass takes at most a tenth of a
//! stream, so that a wrong clock or a wrong rule does not empty it before somebody looks; one of less than a GiB is taken at once.

use std::time::Duration;

use crate::config::{GIB, RetentionRule};
use crate::residency::SealedExtent;

/// Below this a pass has no limit.
const SMALL_BYTES: u64 = GIB;
const PARTS_PER_PASS: u64 = 10;
/// Passes by size alone.
const SIZE_PASS: Duration = Duration::from_secs(60);
const MOST_FREQUENT_PASS: Duration = Duration::from_secs(1);
const RAREST_PASS: Duration = Duration::from_secs(600);
/// What goes by age between two passes is a twentieth of what is kept, where a stream grows evenly: a pass may take twice that.
const PASSES_PER_AGE: u32 = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub max_age: Option<Duration>,
    pub max_bytes: Option<u64>,
}

/// The beginning of a stream, as a look at it found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<'a> {
    /// Ascending, from the start of the stream on: not always all of it.
    pub sealed: &'a [SealedExtent],
    /// Of everything that can be read, unsealed bytes included.
    pub total_bytes: u64,
    /// What an earlier look of the same pass has left of the bytes that the pass may take; `None` = this is the first one.
    pub left_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The first that stays.
    pub sequence: u64,
    /// Everything that was looked at goes: there may be more, and this pass may still take so many bytes.
    pub left_bytes: Option<u64>,
}

impl From<&RetentionRule> for Limits {
    fn from(rule: &RetentionRule) -> Limits {
        Limits {
            max_age: rule.max_age,
            max_bytes: rule.max_bytes,
        }
    }
}

/// Which rule counts for a stream: the first that fits. `None`: it keeps everything.
pub(crate) fn rule_of(rules: &[RetentionRule], stream: &str) -> Option<usize> {
    rules.iter().position(|rule| rule.fits(stream))
}

/// How many of the oldest segments go in the end, over as many passes as that takes. `sealed` is ascending and begins with the stream.
/// Without a clock that can be trusted, `now_unix_nanos` is `None` and nothing goes by age.
pub(crate) fn leaving(
    sealed: &[SealedExtent],
    unsealed_bytes: u64,
    limits: Limits,
    now_unix_nanos: Option<i64>,
) -> usize {
    let sum: u64 = sealed.iter().map(|it| it.bytes).sum();
    let total_bytes = sum.saturating_add(unsealed_bytes);
    let mut taken = 0;
    let leaves = |segment: &&SealedExtent| {
        let goes = goes(
            segment,
            total_bytes.saturating_sub(taken),
            limits,
            now_unix_nanos,
        );
        taken += segment.bytes;
        goes
    };
    sealed.iter().take_while(leaves).count()
}

/// The oldest of `kept_bytes`.
fn goes(
    segment: &SealedExtent,
    kept_bytes: u64,
    limits: Limits,
    now_unix_nanos: Option<i64>,
) -> bool {
    is_older(segment, limits.max_age, now_unix_nanos)
        || limits.max_bytes.is_some_and(|max| kept_bytes > max)
}

/// Of one pass, which takes a part of what is [`leaving`]; `None` = nothing goes. Without a clock that can be trusted, `now_unix_nanos` is
/// `None` and nothing goes by age.
pub(crate) fn start(
    beginning: Beginning<'_>,
    limits: Limits,
    now_unix_nanos: Option<i64>,
) -> Option<Start> {
    let Beginning {
        sealed,
        total_bytes,
        left_bytes,
    } = beginning;
    let most = left_bytes.unwrap_or(match total_bytes < SMALL_BYTES {
        true => total_bytes,
        false => total_bytes / PARTS_PER_PASS,
    });
    let mut taken = 0;
    let mut start = None;
    let mut stays = false;
    for segment in sealed {
        let kept_bytes = total_bytes.saturating_sub(taken);
        // One at least: a segment may be larger than a tenth.
        let is_first = start.is_none() && left_bytes.is_none();
        let is_within = is_first || taken + segment.bytes <= most;
        stays = !goes(segment, kept_bytes, limits, now_unix_nanos) || !is_within;
        if stays {
            break;
        }
        taken += segment.bytes;
        start = Some(segment.end_sequence);
    }
    start.map(|sequence| Start {
        sequence,
        left_bytes: (!stays && taken < most).then(|| most - taken),
    })
}

fn is_older(
    segment: &SealedExtent,
    max_age: Option<Duration>,
    now_unix_nanos: Option<i64>,
) -> bool {
    let (Some(max_age), Some(now)) = (max_age, now_unix_nanos) else {
        return false;
    };
    let age = i128::from(now) - i128::from(segment.newest_unix_nanos);
    age > i128::try_from(max_age.as_nanos()).unwrap_or(i128::MAX)
}

/// How long after a pass the next one is due.
pub(crate) fn pause(limits: Limits) -> Duration {
    let by_age = limits.max_age.map(|age| age / PASSES_PER_AGE);
    let by_age = by_age.map(|it| it.clamp(MOST_FREQUENT_PASS, RAREST_PASS));
    let by_size = limits.max_bytes.map(|_| SIZE_PASS);
    let pauses = by_age.into_iter().chain(by_size);
    pauses.min().unwrap_or(RAREST_PASS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MIB;

    /// Of a stream that is looked at as a whole.
    fn start(
        sealed: &[SealedExtent],
        unsealed_bytes: u64,
        limits: Limits,
        now_unix_nanos: Option<i64>,
    ) -> Option<u64> {
        let sealed_bytes: u64 = sealed.iter().map(|it| it.bytes).sum();
        let beginning = Beginning {
            sealed,
            total_bytes: sealed_bytes + unsealed_bytes,
            left_bytes: None,
        };
        super::start(beginning, limits, now_unix_nanos).map(|start| start.sequence)
    }

    const HOUR: i64 = 3600 * 1_000_000_000;

    /// Ten records each; the first is as many hours old as there are, the last one hour.
    fn hourly(count: u64, bytes: u64) -> Vec<SealedExtent> {
        (1..=count)
            .map(|number| SealedExtent {
                end_sequence: number * 10,
                bytes,
                newest_unix_nanos: -((count - number + 1) as i64) * HOUR,
            })
            .collect()
    }

    fn by_age(hours: u64) -> Limits {
        Limits {
            max_age: Some(Duration::from_secs(3600 * hours)),
            max_bytes: None,
        }
    }

    fn by_size(max_bytes: u64) -> Limits {
        Limits {
            max_age: None,
            max_bytes: Some(max_bytes),
        }
    }

    #[test]
    fn whole_segments_go_whose_newest_record_is_too_old() {
        let sealed = hourly(5, MIB);
        for (hours, first) in [
            (10, None),
            (5, None),
            (4, Some(10)),
            (2, Some(30)),
            (0, Some(50)),
        ] {
            assert_eq!(
                start(&sealed, 0, by_age(hours), Some(0)),
                first,
                "{hours} h"
            );
        }
        // A nanosecond decides.
        assert_eq!(start(&sealed, 0, by_age(5), Some(1)), Some(10));
        // Behind one that is young nothing goes, however old it says that it is.
        let mut odd = sealed.clone();
        odd[0].newest_unix_nanos = 0;
        assert_eq!(start(&odd, 0, by_age(2), Some(0)), None);
        assert_eq!(start(&[], MIB, by_age(1), Some(0)), None);
        assert_eq!(start(&sealed, 0, Limits::default(), Some(0)), None);
        // Times that nobody can have.
        odd[0].newest_unix_nanos = i64::MIN;
        assert_eq!(start(&odd, 0, by_age(10), Some(i64::MAX)), Some(50));
    }

    #[test]
    fn without_a_clock_nothing_goes_by_age_and_all_the_same_by_size() {
        let sealed = hourly(5, MIB);
        assert_eq!(start(&sealed, 0, by_age(1), None), None);
        assert_eq!(start(&sealed, 0, by_size(3 * MIB), None), Some(20));
    }

    #[test]
    fn the_oldest_go_until_the_stream_has_no_more_than_it_may() {
        let sealed = hourly(5, MIB);
        for (max, first) in [
            (5 * MIB, None),
            (5 * MIB - 1, Some(10)),
            (2 * MIB, Some(30)),
            (0, Some(50)),
        ] {
            assert_eq!(start(&sealed, 0, by_size(max), Some(0)), first, "{max}");
        }
        // What is not sealed counts, and stays.
        assert_eq!(start(&sealed, 4 * MIB, by_size(5 * MIB), Some(0)), Some(40));
        assert_eq!(start(&sealed, 9 * MIB, by_size(5 * MIB), Some(0)), Some(50));
        // The stricter of two limits.
        let both = Limits {
            max_bytes: Some(MIB),
            ..by_age(4)
        };
        assert_eq!(start(&sealed, 0, both, Some(0)), Some(40));
    }

    #[test]
    fn a_pass_takes_a_tenth_of_a_stream_that_is_not_small() {
        let sealed = hourly(100, 20 * MIB);
        for limits in [by_age(0), by_size(0)] {
            assert_eq!(start(&sealed, 0, limits, Some(i64::MAX)), Some(100));
        }
        // Just below a GiB all of it.
        let small = hourly(51, 20 * MIB);
        assert_eq!(start(&small, 0, by_age(0), Some(i64::MAX)), Some(510));
        let large = hourly(52, 20 * MIB);
        assert_eq!(start(&large, 0, by_age(0), Some(i64::MAX)), Some(50));
        // One that is more than a tenth goes alone.
        let few = hourly(4, GIB);
        assert_eq!(start(&few, 0, by_age(0), Some(i64::MAX)), Some(10));
    }

    /// What a report counts ahead is what the passes take.
    #[test]
    fn passes_end_where_what_is_leaving_ends() {
        let mut large = hourly(400, 20 * MIB);
        // Of all sizes, and out of the order of time here and there.
        for (at, segment) in large.iter_mut().enumerate() {
            segment.bytes += (at as u64 * 7919) % (9 * MIB);
            if at % 97 == 96 {
                segment.newest_unix_nanos += 50 * HOUR;
            }
        }
        let small = hourly(9, MIB);
        let both = Limits {
            max_bytes: Some(3 * GIB),
            ..by_age(200)
        };
        let now = |hours: i64| Some(hours * HOUR);
        for (sealed, unsealed_bytes, limits, now) in [
            (&large, 0, by_age(300), now(0)),
            (&large, 0, by_age(300), now(7 * 24)),
            (&large, 0, by_age(1), None),
            (&large, 0, by_size(5 * GIB), now(0)),
            (&large, 6 * GIB, by_size(5 * GIB), now(0)),
            (&large, MIB, both, now(0)),
            (&small, MIB, by_size(4 * MIB), now(0)),
            (&small, 0, Limits::default(), now(9999)),
        ] {
            let goes = leaving(sealed, unsealed_bytes, limits, now);
            let mut kept = &sealed[..];
            let mut passes = 0;
            while let Some(start) = start(kept, unsealed_bytes, limits, now) {
                let stays = kept.partition_point(|segment| segment.end_sequence <= start);
                kept = &kept[stays..];
                passes += 1;
            }
            assert_eq!(sealed.len() - kept.len(), goes, "{limits:?} at {now:?}");
            assert!(passes > 1 || goes < 20, "{goes} segments in one pass");
        }
    }

    #[test]
    fn the_first_rule_that_fits_a_stream_counts_for_it() {
        let rule = |streams: &str| RetentionRule {
            streams: streams.to_owned(),
            max_age: None,
            max_bytes: Some(MIB),
        };
        let rules = [rule("orders-eu-*"), rule("orders-*"), rule("orders-eu-1")];
        for (stream, index) in [
            ("orders-eu-1", Some(0)),
            ("orders-us", Some(1)),
            ("orders", None),
        ] {
            assert_eq!(rule_of(&rules, stream), index, "{stream}");
        }
        assert_eq!(Limits::from(&rules[0]), by_size(MIB));
    }

    #[test]
    fn a_pass_that_looks_piece_by_piece_takes_what_it_takes_at_once() {
        for (count, piece, limits) in [
            (100, 1, by_age(0)),
            (100, 3, by_age(0)),
            (100, 100, by_age(0)),
            (40, 7, by_age(0)),
            (100, 3, by_size(1900 * MIB)),
            (100, 3, by_age(95)),
        ] {
            let whole = hourly(count, 20 * MIB);
            let (mut sealed, mut left_bytes, mut first) = (&whole[..], None, None);
            let mut looks = 0;
            loop {
                looks += 1;
                let beginning = Beginning {
                    sealed: &sealed[..sealed.len().min(piece)],
                    total_bytes: sealed.iter().map(|it| it.bytes).sum(),
                    left_bytes,
                };
                let Some(start) = super::start(beginning, limits, Some(0)) else {
                    break;
                };
                first = Some(start.sequence);
                left_bytes = start.left_bytes;
                sealed = &whole[start.sequence as usize / 10..];
                if left_bytes.is_none() {
                    break;
                }
            }
            assert!(looks <= count / piece as u64 + 2, "{looks}");
            assert_eq!(
                first,
                start(&whole, 0, limits, Some(0)),
                "{count} by {piece}"
            );
        }
    }

    #[test]
    fn passes_keep_up_with_what_grows_evenly() {
        let seconds = |limits| pause(limits).as_secs();
        assert_eq!(seconds(by_age(1)), 180);
        assert_eq!(seconds(by_age(24 * 365)), 600);
        assert_eq!(seconds(by_size(MIB)), 60);
        let short = Limits {
            max_age: Some(Duration::from_secs(2)),
            max_bytes: Some(MIB),
        };
        assert_eq!(seconds(short), 1);
    }
}
