//! The claims of this node's streams are read again every `tier2.claim_check`, counted from the end of the check before.

use super::{Plan, Task, Turn};
use crate::coordinator::memo::ClaimCheck;

pub(super) fn plan(turn: &Turn<'_>, plan: &mut Plan) {
    let ClaimCheck {
        is_under_way,
        ended_at,
    } = turn.memo.claims;
    if is_under_way {
        return;
    }
    match ended_at.map(|at| at + turn.limits.claim_check) {
        Some(due) if due > turn.now => plan.note_next(due),
        Some(_) | None => plan.start.push(Task::CheckClaims),
    }
}
