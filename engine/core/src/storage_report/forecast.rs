//! What a rule of retention takes of a stream, now and later: the planner of the retention itself, asked with another clock. No I/O, no
//! clock.
//!
//! Counted is what is stored today. What is appended from now on makes a rule by size take more of that; where growth is measured, it is
//! added.

use super::growth::{DAY, Growth};
use crate::config::RetentionRule;
use crate::coordinator::plan::retain::{self, Limits};
use crate::store::usage::StreamUsage;

/// Of readable, sealed records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whole ones.
    pub segments: u64,
    /// Sequences.
    pub records: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// Of the objects of these segments.
    pub cold_bytes: u64,
}

impl Taken {
    fn add(&mut self, other: Taken) {
        self.segments += other.segments;
        self.records += other.records;
        self.bytes += other.bytes;
        self.cold_bytes += other.cold_bytes;
    }

    /// Both are of the beginning of the same stream.
    fn beyond(self, other: Taken) -> Taken {
        Taken {
            segments: self.segments.saturating_sub(other.segments),
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
            cold_bytes: self.cold_bytes.saturating_sub(other.cold_bytes),
        }
    }
}

/// Each counts from today on: what goes within 30 days includes what goes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    pub now: Taken,
    pub in_7_days: Taken,
    pub in_30_days: Taken,
}

impl Forecast {
    pub fn add(&mut self, other: Forecast) {
        self.now.add(other.now);
        self.in_7_days.add(other.in_7_days);
        self.in_30_days.add(other.in_30_days);
    }

    /// What this one takes and the other leaves, of the same stream.
    pub(super) fn beyond(self, other: Forecast) -> Forecast {
        Forecast {
            now: self.now.beyond(other.now),
            in_7_days: self.in_7_days.beyond(other.in_7_days),
            in_30_days: self.in_30_days.beyond(other.in_30_days),
        }
    }
}

/// The wall clock of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WallClock {
    pub unix_nanos: i64,
    /// Where it is not, nothing goes by age now. It is trusted again in a day, as it then stands.
    pub is_trusted: bool,
}

pub(super) fn forecast(
    stream: &StreamUsage,
    rule: &RetentionRule,
    clock: WallClock,
    growth: Option<Growth>,
) -> Forecast {
    if rule.keeps_all() || !stream.can_be_trimmed {
        return Forecast::default();
    }
    let limits = Limits::from(rule);
    let daily_bytes = growth.map_or(0, |growth| growth.bytes_per_day);
    let after = |days: u32| {
        let now = clock.unix_nanos.saturating_add(i64::from(days) * DAY);
        let now = (clock.is_trusted || days > 0).then_some(now);
        let grown = daily_bytes.saturating_mul(days.into());
        let unsealed = stream.open.bytes.saturating_add(grown);
        let extents = &stream.sealed.extents;
        taken(stream, retain::leaving(extents, unsealed, limits, now))
    };
    Forecast {
        now: after(0),
        in_7_days: after(7),
        in_30_days: after(30),
    }
}

fn taken(stream: &StreamUsage, segments: usize) -> Taken {
    let (extents, details) = (&stream.sealed.extents, &stream.sealed.details);
    let Some(last) = segments.checked_sub(1).and_then(|last| extents.get(last)) else {
        return Taken::default();
    };
    Taken {
        segments: segments as u64,
        records: last.end_sequence.saturating_sub(stream.start_sequence),
        bytes: extents[..segments].iter().map(|extent| extent.bytes).sum(),
        cold_bytes: details[..segments].iter().map(|it| it.cold_bytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::MIB;
    use crate::residency::SealedExtent;
    use crate::residency::usage::{SegmentDetail, SegmentUsage};

    /// A segment a day of ten records and a MiB, the last of now; the stream begins in the middle of the first.
    fn daily(count: u64) -> StreamUsage {
        let extents = (1..=count).map(|number| SealedExtent {
            end_sequence: number * 10,
            bytes: MIB,
            newest_unix_nanos: -((count - number) as i64) * DAY,
        });
        let details = (1..=count).map(|_| SegmentDetail {
            oldest_unix_nanos: 0,
            cold_bytes: 1000,
        });
        StreamUsage {
            start_sequence: 5,
            can_be_trimmed: true,
            sealed: SegmentUsage {
                extents: extents.collect(),
                details: details.collect(),
                ..SegmentUsage::default()
            },
            ..StreamUsage::default()
        }
    }

    fn rule(days: Option<u64>, max_bytes: Option<u64>) -> RetentionRule {
        RetentionRule {
            streams: "*".to_owned(),
            max_age: days.map(|days| Duration::from_secs(days * 86_400)),
            max_bytes,
        }
    }

    const NOW: WallClock = WallClock {
        unix_nanos: 1,
        is_trusted: true,
    };

    fn segments(forecast: Forecast) -> [u64; 3] {
        [forecast.now, forecast.in_7_days, forecast.in_30_days].map(|taken| taken.segments)
    }

    #[test]
    fn what_becomes_too_old_goes_within_the_days_that_it_needs_for_it() {
        let stream = daily(40);
        let forecast = |days| forecast(&stream, &rule(Some(days), None), NOW, None);
        assert_eq!(segments(forecast(35)), [5, 12, 35]);
        assert_eq!(segments(forecast(100)), [0, 0, 0]);
        assert_eq!(segments(forecast(5)), [35, 40, 40]);
        let taken = forecast(35).in_7_days;
        let expected = Taken {
            segments: 12,
            // Not the five that were trimmed before.
            records: 115,
            bytes: 12 * MIB,
            cold_bytes: 12_000,
        };
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_rule_by_size_goes_by_the_growth_that_was_measured_or_by_the_size_of_today() {
        let mut stream = daily(40);
        stream.open.bytes = 2 * MIB;
        let rule = rule(None, Some(40 * MIB));
        let forecast = |growth| forecast(&stream, &rule, NOW, growth);
        assert_eq!(segments(forecast(None)), [2, 2, 2]);
        let growth = Growth {
            bytes_per_day: MIB,
            ..Growth::default()
        };
        assert_eq!(segments(forecast(Some(growth))), [2, 9, 32]);
        let much = Growth {
            bytes_per_day: u64::MAX,
            ..Growth::default()
        };
        assert_eq!(segments(forecast(Some(much))), [2, 40, 40]);
    }

    #[test]
    fn without_a_trusted_clock_nothing_goes_by_age_now_and_what_the_clock_says_later() {
        let stream = daily(40);
        let clock = WallClock {
            is_trusted: false,
            ..NOW
        };
        let by_age = forecast(&stream, &rule(Some(35), None), clock, None);
        assert_eq!(segments(by_age), [0, 12, 35]);
        let by_size = forecast(&stream, &rule(None, Some(39 * MIB)), clock, None);
        assert_eq!(segments(by_size), [1, 1, 1]);
    }

    #[test]
    fn without_a_limit_or_records_nothing_goes() {
        let stream = daily(40);
        let foreign = StreamUsage {
            can_be_trimmed: false,
            ..daily(40)
        };
        let keeps = forecast(&foreign, &rule(Some(1), None), NOW, None);
        assert_eq!(keeps, Forecast::default(), "another volume's to keep");
        let keeps = forecast(&stream, &rule(None, None), NOW, None);
        assert_eq!(keeps, Forecast::default());
        let empty = StreamUsage::default();
        let forecast = forecast(&empty, &rule(Some(1), Some(1)), NOW, None);
        assert_eq!(forecast, Forecast::default());
    }
}
