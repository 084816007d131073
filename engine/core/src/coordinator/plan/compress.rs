//! One compression at a time: it takes a whole core.

use super::{Plan, Task, Turn};
use crate::coordinator::memo::Step;

pub(super) fn plan(turn: &Turn<'_>, plan: &mut Plan) {
    let mut free = usize::from(turn.count(Step::Compress) == 0);
    for (key, _) in turn.idle(|segment| segment.copies.warm.is_none()) {
        match turn.retry_at(&key) {
            Some(at) => plan.note_next(at),
            None if free > 0 => {
                free -= 1;
                plan.start.push(Task::Move(key, Step::Compress));
            }
            // A slot that becomes free makes the planner look again by itself.
            None => {}
        }
    }
}
