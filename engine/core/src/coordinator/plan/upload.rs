//! Uploads up to their limit, and a single trial while Tier 2 does not answer or the bucket is full.
//!
//! A bucket that is full refuses everybody: the breaker's rest counts for all segments together. They take turns with the trial, so that
//! one which is too large for what is left does not stand for the others.

use super::{Plan, Task, Turn};
use crate::coordinator::memo::{FailureKind, SegmentKey, Step};

pub(super) fn plan(turn: &Turn<'_>, plan: &mut Plan) {
    let is_trial = !turn.limits.tier2_answers || turn.memo.found_bucket_full();
    let slots = if is_trial {
        1
    } else {
        turn.limits.uploads.max(1)
    };
    let mut free = slots.saturating_sub(turn.count(Step::Upload));
    let waiting = turn.idle(|segment| segment.copies.warm.is_some());
    let mut waiting: Vec<SegmentKey> = waiting.map(|(key, _)| key).collect();
    if is_trial {
        waiting.sort_by_key(|key| turn.memo.failed.get(key).map_or(0, |failed| failed.times));
    }
    let rests = turn.limits.tier2_not_before.filter(|at| *at > turn.now);
    for key in waiting {
        match own_pause(turn, &key).max(rests) {
            Some(at) => plan.note_next(at),
            None if free > 0 => {
                free -= 1;
                plan.start.push(Task::Move(key, Step::Upload));
            }
            None => {}
        }
    }
}

/// `None`: nothing of this segment alone keeps it from being tried now.
fn own_pause(turn: &Turn<'_>, key: &SegmentKey) -> Option<std::time::Instant> {
    let failed = turn.memo.failed.get(key)?;
    match failed.kind {
        FailureKind::BucketFull => None,
        FailureKind::Outage
        | FailureKind::DiskFull
        | FailureKind::Refused
        | FailureKind::Final
        | FailureKind::Damage => turn.retry_at(key),
    }
}
