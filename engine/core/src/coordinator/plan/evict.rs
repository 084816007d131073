//! What leaves Tier 0 and Tier 1: copies that were read longest ago, from the high mark of a budget on, down to its low mark, and where
//! their volume is nearly full. Only where Tier 2 has a verified copy, so that nothing depends on the one that goes.
//!
//! Tier 1 keeps what Tier 0 gives up. Beside a hot copy a warm one serves no read: such go first, and of these the ones whose hot copy
//! stays longest. One that went so is made again when its hot copy leaves, in the place of copies that were read before it; while
//! appends are refused it is not, and its blocks come from Tier 2. So each segment enters Tier 1 twice at most.
//!
//! Open segments cannot leave. Where they are what fills Tier 0, the largest are sealed, so that they can go down.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Copy, Plan, Task, Tier1, Tiers, Turn};
use crate::admit::{high_mark, low_mark};
use crate::coordinator::memo::SegmentKey;
use crate::port::{HotCopy, WarmCopy};

pub(super) fn plan(turn: &Turn<'_>, plan: &mut Plan) {
    let Tiers { tier0, tier1 } = turn.tiers;
    let lacking_warm = tier1.lacking_bytes(tier0);
    let over_budget = tier0.over_budget_bytes();
    let mut left = tier0.lacking_bytes();
    if tier1.is_beside_tier0 && over_budget == 0 {
        // It is the volume that is full, and what leaves Tier 1 leaves it too.
        let all_warm: u64 = tier1.warm.iter().map(|warm| warm.bytes).sum();
        left = left.saturating_sub(lacking_warm.min(all_warm));
    }
    let mut evicted = 0;
    let mut hot_victims = Vec::new();
    for hot in least_read(&tier0.hot, |hot| {
        (!hot.is_hydrated, hot.used, hot.segment_id)
    }) {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(hot.bytes);
        evicted += hot.bytes;
        hot_victims.push(hot);
    }
    let mut leaving = Leaving::new(tier1, &hot_victims);
    leaving.free(lacking_warm);
    let takes_more = tier1.has_budget()
        && tier1.volume_lacks_bytes(tier0) == 0
        // Whoever waits for room waits for no compression.
        && tier0.usage.refused_bytes == 0
        && tier0.usage.used_bytes <= tier0.usage.quota_bytes;
    let hot_victims: Vec<(SegmentKey, Copy)> = hot_victims
        .into_iter()
        .map(|hot| {
            let is_kept = takes_more && !hot.is_warm && leaving.make_room(hot);
            (key(&hot.stream, hot.segment_id), Copy::Hot { is_kept })
        })
        .collect();
    let mut victims = leaving.victims;
    victims.extend(hot_victims);
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

/// Of Tier 1, in the order in which copies leave it.
struct Leaving<'a> {
    waiting: std::vec::IntoIter<&'a WarmCopy>,
    victims: Vec<(SegmentKey, Copy)>,
    /// What Tier 1 holds behind all that, with what it is to take.
    used_bytes: u64,
    max_bytes: u64,
    going: BTreeSet<(&'a str, u64)>,
}

impl<'a> Leaving<'a> {
    /// `going` leave Tier 0 now: what Tier 1 has of them is what it is for.
    fn new(tier1: &'a Tier1, going: &[&'a HotCopy]) -> Self {
        let going: BTreeSet<(&str, u64)> = going
            .iter()
            .map(|hot| (&*hot.stream, hot.segment_id))
            .collect();
        let mut waiting: Vec<&WarmCopy> = tier1.warm.iter().collect();
        waiting.sort_by_key(|warm| match serves_nobody(warm, &going) {
            true => (false, u64::MAX - warm.used, u64::MAX - warm.segment_id),
            false => (true, warm.used, warm.segment_id),
        });
        Leaving {
            waiting: waiting.into_iter(),
            victims: Vec::new(),
            used_bytes: tier1.used_bytes,
            max_bytes: tier1.max_bytes,
            going,
        }
    }

    fn free(&mut self, bytes: u64) {
        let enough = self.used_bytes.saturating_sub(bytes);
        while self.used_bytes > enough {
            let Some(warm) = self.waiting.next() else {
                break;
            };
            self.evict(warm);
        }
    }

    /// For a copy of this one, at most as large as it: others go that are read less. False: there is none.
    fn make_room(&mut self, hot: &HotCopy) -> bool {
        if hot.bytes > low_mark(self.max_bytes) {
            return false;
        }
        while self.used_bytes + hot.bytes > high_mark(self.max_bytes) {
            let Some(warm) = self.waiting.as_slice().first().copied() else {
                return false;
            };
            let is_going = self.going.contains(&(&*warm.stream, warm.segment_id));
            if is_going || !warm.is_hot && warm.used > hot.used {
                return false;
            }
            self.waiting.next();
            self.evict(warm);
        }
        self.used_bytes += hot.bytes;
        true
    }

    fn evict(&mut self, warm: &WarmCopy) {
        self.used_bytes = self.used_bytes.saturating_sub(warm.bytes);
        let copy = Copy::Warm { bytes: warm.bytes };
        self.victims
            .push((key(&warm.stream, warm.segment_id), copy));
    }
}

/// Reads of it go to Tier 0, and will.
fn serves_nobody(warm: &WarmCopy, going: &BTreeSet<(&str, u64)>) -> bool {
    warm.is_hot && !going.contains(&(&*warm.stream, warm.segment_id))
}

pub(super) fn least_read<T, K: Ord>(copies: &[T], age: impl Fn(&T) -> K) -> Vec<&T> {
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
