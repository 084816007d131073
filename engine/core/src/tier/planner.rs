//! What to move next: pure over residency, what is under way, and the clock's value.
//!
//! Oldest segments of every stream first, since a stream counts as uploaded without a hole from its beginning; among streams the
//! one with the fewest segments waiting before this one. One compression at a time (it takes a whole core), uploads up to the
//! limit, and a single trial while Tier 2 does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::port::SealedSegment;

pub type SegmentKey = (Arc<str>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Compress,
    Upload,
}

/// What is remembered about pending segments, by key.
#[derive(Clone, Debug, Default)]
pub struct Memo {
    pub under_way: BTreeMap<SegmentKey, Step>,
    pub failed: BTreeMap<SegmentKey, Failed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In a row.
    pub times: u32,
    pub retry_at: Instant,
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Tier 2 did not answer: over with the first success of anybody.
    Outage,
    /// Somebody has to act, or the local disk did not do it.
    Refused,
    /// No retry mends it, and the segment is whole.
    Final,
    /// The segment's bytes are not those that were sealed.
    Damage,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub uploads: usize,
    /// Tier 2's last answer was a success, or it was not asked yet.
    pub tier2_answers: bool,
    /// While the breaker rests.
    pub tier2_not_before: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub start: Vec<(SegmentKey, Step)>,
    /// When something that is not started now may be, unless something else happens before.
    pub look_again: Option<Instant>,
}

pub fn plan<'a>(
    now: Instant,
    pending: impl IntoIterator<Item = &'a SealedSegment>,
    memo: &Memo,
    limits: Limits,
) -> Plan {
    let count = |wanted: Step| {
        memo.under_way
            .values()
            .filter(|step| **step == wanted)
            .count()
    };
    let (mut compressions, mut uploads) = (count(Step::Compress), count(Step::Upload));
    let upload_slots = if limits.tier2_answers {
        limits.uploads.max(1)
    } else {
        1
    };

    let mut plan = Plan::default();
    let mut later =
        |at: Instant| plan.look_again = Some(plan.look_again.map_or(at, |other| other.min(at)));
    for segment in in_order(pending) {
        let key = (segment.stream.clone(), segment.segment_id);
        if memo.under_way.contains_key(&key) {
            continue;
        }
        let retry_at = memo.failed.get(&key).map(|failed| failed.retry_at);
        let step = if segment.copies.warm.is_some() {
            Step::Upload
        } else {
            Step::Compress
        };
        let not_before = match step {
            Step::Compress => retry_at,
            Step::Upload => retry_at.max(limits.tier2_not_before),
        };
        if let Some(at) = not_before.filter(|at| *at > now) {
            later(at);
            continue;
        }
        let (used, slots) = match step {
            Step::Compress => (&mut compressions, 1),
            Step::Upload => (&mut uploads, upload_slots),
        };
        // A slot that becomes free makes the planner look again by itself.
        if *used < slots {
            *used += 1;
            plan.start.push((key, step));
        }
    }
    plan
}

fn in_order<'a>(pending: impl IntoIterator<Item = &'a SealedSegment>) -> Vec<&'a SealedSegment> {
    let mut waiting: BTreeMap<&str, Vec<&SealedSegment>> = BTreeMap::new();
    for segment in pending {
        waiting.entry(&segment.stream).or_default().push(segment);
    }
    let mut ordered: Vec<(usize, &SealedSegment)> = Vec::new();
    for segments in waiting.values_mut() {
        segments.sort_by_key(|segment| segment.base_sequence);
        ordered.extend(
            segments
                .iter()
                .enumerate()
                .map(|(before, segment)| (before, *segment)),
        );
    }
    ordered.sort_by_key(|(before, _)| *before);
    ordered.into_iter().map(|(_, segment)| segment).collect()
}

/// Doubles from a second to a minute; damage is looked at again more rarely.
pub fn pause_after(times: u32, kind: FailureKind) -> Duration {
    match kind {
        FailureKind::Outage | FailureKind::Refused => Duration::from_secs(1)
            .saturating_mul(1 << times.saturating_sub(1).min(10))
            .min(Duration::from_secs(60)),
        FailureKind::Final | FailureKind::Damage => Duration::from_secs(600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Copies, Moves, RecordTimes};

    fn segment(stream: &str, segment_id: u64, compressed: bool) -> SealedSegment {
        SealedSegment {
            stream: stream.into(),
            segment_id,
            epoch: 1,
            base_sequence: segment_id * 10,
            records: 10,
            bytes: 5000,
            crc64: 0,
            times: RecordTimes::default(),
            sealed_unix_nanos: 0,
            copies: Copies {
                hot: true,
                warm: compressed.then_some(100),
                cold: None,
            },
            moves: Moves::default(),
        }
    }

    fn limits(uploads: usize) -> Limits {
        Limits {
            uploads,
            tier2_answers: true,
            tier2_not_before: None,
        }
    }

    fn started(plan: &Plan) -> Vec<(&str, u64, Step)> {
        plan.start
            .iter()
            .map(|((stream, id), step)| (&**stream, *id, *step))
            .collect()
    }

    #[test]
    fn a_sealed_segment_is_compressed_and_a_compressed_one_uploaded() {
        let pending = [segment("a", 1, true), segment("a", 2, false)];
        let plan = plan(Instant::now(), &pending, &Memo::default(), limits(2));
        assert_eq!(
            started(&plan),
            [("a", 1, Step::Upload), ("a", 2, Step::Compress)]
        );
    }

    #[test]
    fn every_streams_oldest_segment_comes_before_anybodys_second() {
        let pending = [
            segment("a", 2, true),
            segment("a", 1, true),
            segment("a", 3, true),
            segment("b", 7, true),
        ];
        let plan = plan(Instant::now(), &pending, &Memo::default(), limits(3));
        assert_eq!(
            started(&plan),
            [
                ("a", 1, Step::Upload),
                ("b", 7, Step::Upload),
                ("a", 2, Step::Upload)
            ]
        );
    }

    #[test]
    fn one_segment_is_compressed_at_a_time_and_uploads_keep_to_their_limit() {
        let pending: Vec<_> = (1..=3)
            .map(|id| segment("a", id, false))
            .chain((4..=9).map(|id| segment("b", id, true)))
            .collect();
        let mut memo = Memo::default();
        memo.under_way.insert(("b".into(), 4), Step::Upload);
        let first = plan(Instant::now(), &pending, &memo, limits(2));
        assert_eq!(
            started(&first),
            [("a", 1, Step::Compress), ("b", 5, Step::Upload)]
        );
        memo.under_way.extend(first.start);
        let second = plan(Instant::now(), &pending, &memo, limits(2));
        assert_eq!(started(&second), []);
        assert_eq!(second.look_again, None);
    }

    #[test]
    fn a_failed_segment_waits_for_its_time_and_does_not_hold_up_others() {
        let now = Instant::now();
        let retry_at = now + Duration::from_secs(5);
        let pending = [segment("a", 1, true), segment("a", 2, true)];
        let mut memo = Memo::default();
        let failed = Failed {
            times: 1,
            retry_at,
            kind: FailureKind::Outage,
            message: String::new(),
        };
        memo.failed.insert(("a".into(), 1), failed);
        let waits = plan(now, &pending, &memo, limits(2));
        assert_eq!(started(&waits), [("a", 2, Step::Upload)]);
        assert_eq!(waits.look_again, Some(retry_at));
        assert_eq!(
            started(&plan(retry_at, &pending, &memo, limits(1))),
            [("a", 1, Step::Upload)]
        );
    }

    #[test]
    fn while_the_breaker_rests_nothing_is_uploaded_but_compression_goes_on() {
        let now = Instant::now();
        let rests_until = now + Duration::from_secs(3);
        let pending = [segment("a", 1, true), segment("a", 2, false)];
        let limits = Limits {
            uploads: 4,
            tier2_answers: false,
            tier2_not_before: Some(rests_until),
        };
        let plan = plan(now, &pending, &Memo::default(), limits);
        assert_eq!(started(&plan), [("a", 2, Step::Compress)]);
        assert_eq!(plan.look_again, Some(rests_until));
    }

    #[test]
    fn a_tier_2_that_does_not_answer_is_tried_with_one_upload() {
        let pending = [segment("a", 1, true), segment("b", 2, true)];
        let limits = Limits {
            uploads: 4,
            tier2_answers: false,
            tier2_not_before: None,
        };
        assert_eq!(
            started(&plan(Instant::now(), &pending, &Memo::default(), limits)),
            [("a", 1, Step::Upload)]
        );
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_damage_waits_longer() {
        let seconds: Vec<u64> = (1..=8)
            .map(|times| pause_after(times, FailureKind::Outage).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause_after(1, FailureKind::Damage).as_secs(), 600);
    }
}
