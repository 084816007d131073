//! What leaves Tier 0 and Tier 1: copies that were read longest ago, from the high mark of a budget on, down to its low mark, and where
//! their volume is nearly full. Only where Tier 2 has a verified copy, so that nothing depends on the one that goes.
//!
//! Open segments cannot leave. Where they are what fills Tier 0, the largest are sealed, so that they can go down.

use std::sync::Arc;

use super::{Copy, Plan, Task, Turn};
use crate::coordinator::memo::SegmentKey;

pub(super) fn plan(turn: &Turn<'_>, plan: &mut Plan) {
    let mut victims = Vec::new();
    let (tier0, tier1) = (&turn.tiers.tier0, &turn.tiers.tier1);
    let lacking_warm = tier1.lacking_bytes(tier0);
    let mut left_warm = lacking_warm;
    for warm in least_read(&tier1.warm, |warm| (warm.used, warm.segment_id)) {
        if left_warm == 0 {
            break;
        }
        left_warm = left_warm.saturating_sub(warm.bytes);
        let copy = Copy::Warm { bytes: warm.bytes };
        victims.push((key(&warm.stream, warm.segment_id), copy));
    }
    let over_budget = tier0.over_budget_bytes();
    let mut left = tier0.lacking_bytes();
    if tier1.is_beside_tier0 && over_budget == 0 {
        // It is the volume that is full, and what leaves Tier 1 leaves it too.
        left = left.saturating_sub(lacking_warm - left_warm);
    }
    let mut evicted = 0;
    for hot in least_read(&tier0.hot, |hot| (hot.used, hot.segment_id)) {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(hot.bytes);
        evicted += hot.bytes;
        victims.push((key(&hot.stream, hot.segment_id), Copy::Hot));
    }
    // What is on its way down leaves without being sealed first. A volume that others fill is no reason to make small segments.
    let on_the_way: u64 = turn.pending.iter().map(|segment| segment.bytes).sum();
    let streams = to_seal(turn, over_budget.saturating_sub(evicted + on_the_way));
    begin(
        turn,
        plan,
        turn.memo.evict.may_begin(turn.now),
        victims,
        Task::Evict,
    );
    begin(
        turn,
        plan,
        turn.memo.seal.may_begin(turn.now),
        streams,
        Task::Seal,
    );
}

fn least_read<T, K: Ord>(copies: &[T], age: impl Fn(&T) -> K) -> Vec<&T> {
    let mut copies: Vec<&T> = copies.iter().collect();
    copies.sort_by_key(|copy| age(copy));
    copies
}

fn key(stream: &Arc<str>, segment_id: u64) -> SegmentKey {
    (stream.clone(), segment_id)
}

/// Streams with the largest open segments, for so many bytes.
fn to_seal(turn: &Turn<'_>, bytes: u64) -> Vec<Arc<str>> {
    let mut open: Vec<_> = turn.tiers.tier0.open.iter().collect();
    open.retain(|open| open.can_be_sealed);
    open.sort_by_key(|open| std::cmp::Reverse(open.bytes));
    let mut left = bytes;
    let mut streams = Vec::new();
    for open in open {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(open.bytes);
        streams.push(open.stream.clone());
    }
    streams
}

fn begin<T>(
    turn: &Turn<'_>,
    plan: &mut Plan,
    may_begin: Option<std::time::Instant>,
    what: Vec<T>,
    task: impl Fn(Vec<T>) -> Task,
) {
    match may_begin {
        Some(at) if at > turn.now && !what.is_empty() => plan.note_next(at),
        Some(_) if !what.is_empty() => plan.start.push(task(what)),
        Some(_) | None => {}
    }
}
