//! Uploads up to their limit, and a single trial while Tier 2 does not answer.

use super::{Plan, Task, Turn};
use crate::coordinator::memo::Step;

pub(super) fn plan(turn: &Turn<'_>, plan: &mut Plan) {
    let slots = if turn.limits.tier2_answers {
        turn.limits.uploads.max(1)
    } else {
        1
    };
    let mut free = slots.saturating_sub(turn.count(Step::Upload));
    for (key, _) in turn.idle(|segment| segment.copies.warm.is_some()) {
        let rests = turn.limits.tier2_not_before.filter(|at| *at > turn.now);
        match turn.retry_at(&key).max(rests) {
            Some(at) => plan.note_next(at),
            None if free > 0 => {
                free -= 1;
                plan.start.push(Task::Move(key, Step::Upload));
            }
            None => {}
        }
    }
}
