//! What to do next: pure over residency, what is under way, and the clock's value. One file per policy.
//!
//! Oldest segments of every stream first, since a stream counts as uploaded without a hole from its beginning; among streams the
//! one with the fewest segments waiting before this one.

mod claims;
pub(crate) mod compact;
mod compress;
pub(crate) mod delete;
pub(super) mod demand;
mod evict;
pub(super) mod hydrate;
pub(crate) mod orphans;
pub(crate) mod retain;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hydrations::Wish;
use super::memo::{Memo, SegmentKey, Step};
use crate::admit::{high_mark, low_mark};
use crate::config::GIB;
use crate::port::{HotCopy, OpenBytes, SealedSegment, Tier0Usage, WarmCopy};

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub uploads: usize,
    /// Tier 2's last answer was a success, or it was not asked yet.
    pub tier2_answers: bool,
    /// While the breaker rests.
    pub tier2_not_before: Option<Instant>,
    pub claim_check: Duration,
}

/// A job to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Move(SegmentKey, Step),
    CheckClaims,
    /// Drops copies, in this order.
    Evict(Vec<(SegmentKey, Copy)>),
    /// Seals what these streams hold, so that it can go down.
    Seal(Vec<Arc<str>>),
    /// Brings a copy back, once these have made room; `None`: nothing can.
    Hydrate(Wish, Option<Vec<(SegmentKey, Copy)>>),
}

/// A copy on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    Hot {
        /// Tier 1 gets a copy first.
        is_kept: bool,
    },
    Warm {
        bytes: u64,
    },
}

/// How full the tiers of this node are. Copies are listed where some have to go.
#[derive(Clone, Debug, Default)]
pub struct Tiers {
    pub tier0: Tier0,
    pub tier1: Tier1,
}

/// Of a volume, when it was last measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Room {
    /// What has to go from a volume that is nearly full.
    pub fn lacking_bytes(&self) -> u64 {
        let is_short = self.free_bytes < LOW_ROOM.of(self.total_bytes);
        let wanted = ENOUGH_ROOM.of(self.total_bytes);
        if is_short {
            wanted - self.free_bytes
        } else {
            0
        }
    }

    /// So much more on it, and nothing has to go.
    pub fn stays_roomy_with(&self, bytes: u64) -> bool {
        self.free_bytes.saturating_sub(bytes) >= ENOUGH_ROOM.of(self.total_bytes)
    }

    /// What may be written before something has to go.
    pub fn spare_bytes(&self) -> u64 {
        let kept = LOW_ROOM.of(self.total_bytes);
        self.free_bytes.saturating_sub(kept)
    }
}

/// Of a volume.
struct Share {
    percent: u64,
    most_bytes: u64,
}

impl Share {
    fn of(&self, total_bytes: u64) -> u64 {
        (total_bytes / 100 * self.percent).min(self.most_bytes)
    }
}

/// With less, copies leave the volume whatever their budgets are. Appends are refused later, at 1/32. A few of the largest segments that
/// are usual and their warm files have room in it.
const LOW_ROOM: Share = Share {
    percent: 10,
    most_bytes: 2 * GIB,
};
const ENOUGH_ROOM: Share = Share {
    percent: 15,
    most_bytes: 3 * GIB,
};

#[derive(Clone, Debug, Default)]
pub struct Tier0 {
    pub usage: Tier0Usage,
    pub hot: Vec<HotCopy>,
    pub open: Vec<OpenBytes>,
    /// `None`: not measured yet.
    pub room: Option<Room>,
}

#[derive(Clone, Debug, Default)]
pub struct Tier1 {
    pub used_bytes: u64,
    /// 0 = no limit.
    pub max_bytes: u64,
    pub warm: Vec<WarmCopy>,
    /// Of its own volume; `None`: it lies on that of Tier 0, or was not measured yet.
    pub room: Option<Room>,
    pub is_beside_tier0: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub start: Vec<Task>,
    /// When something that is not started now may be, unless something else happens before.
    pub next: Option<Instant>,
}

impl Tier0 {
    /// What has to go for the budget, and is not going: down to the low mark from the high one on, and what an append was refused for below
    /// it. One that no budget of this size takes frees nothing.
    fn over_budget_bytes(&self) -> u64 {
        let Tier0Usage {
            used_bytes,
            pinned_bytes,
            quota_bytes,
            refused_bytes,
            ..
        } = self.usage;
        let refused = match quota_bytes > 0 && refused_bytes <= quota_bytes {
            true => (used_bytes + refused_bytes).saturating_sub(quota_bytes),
            false => 0,
        };
        let lacking = over_low_mark(used_bytes, quota_bytes).max(refused);
        lacking.saturating_sub(pinned_bytes)
    }

    /// The same, or what the volume lacks.
    pub fn lacking_bytes(&self) -> u64 {
        let room = self.room.map_or(0, |room| room.lacking_bytes());
        let room = room.saturating_sub(self.usage.pinned_bytes);
        self.over_budget_bytes().max(room)
    }
}

impl Tier1 {
    pub fn lacking_bytes(&self, tier0: &Tier0) -> u64 {
        let room = self.volume_lacks_bytes(tier0);
        over_low_mark(self.used_bytes, self.max_bytes).max(room)
    }

    fn volume_lacks_bytes(&self, tier0: &Tier0) -> u64 {
        let volume = if self.is_beside_tier0 {
            tier0.room
        } else {
            self.room
        };
        volume.map_or(0, |room| room.lacking_bytes())
    }

    /// Without one nothing leaves it but for a full volume.
    pub fn has_budget(&self) -> bool {
        self.max_bytes > 0
    }
}

/// What has to go of a budget that is over its high mark.
fn over_low_mark(used_bytes: u64, budget_bytes: u64) -> u64 {
    let is_over = budget_bytes > 0 && used_bytes > high_mark(budget_bytes);
    if is_over {
        used_bytes - low_mark(budget_bytes)
    } else {
        0
    }
}

impl Plan {
    fn note_next(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |other| other.min(at)));
    }
}

/// What the policies look at.
struct Turn<'a> {
    now: Instant,
    /// In the order in which they go down.
    pending: Vec<&'a SealedSegment>,
    memo: &'a Memo,
    limits: Limits,
    tiers: &'a Tiers,
}

pub fn plan<'a>(
    now: Instant,
    pending: impl IntoIterator<Item = &'a SealedSegment>,
    memo: &'a Memo,
    limits: Limits,
    tiers: &'a Tiers,
) -> Plan {
    let turn = Turn {
        now,
        pending: in_order(pending),
        memo,
        limits,
        tiers,
    };
    let mut plan = Plan::default();
    compress::plan(&turn, &mut plan);
    upload::plan(&turn, &mut plan);
    claims::plan(&turn, &mut plan);
    evict::plan(&turn, &mut plan);
    plan
}

impl Turn<'_> {
    fn count(&self, wanted: Step) -> usize {
        let steps = self.memo.under_way.values();
        steps.filter(|step| **step == wanted).count()
    }

    /// Segments with nothing under way.
    fn idle(
        &self,
        wanted: impl Fn(&SealedSegment) -> bool,
    ) -> impl Iterator<Item = (SegmentKey, &SealedSegment)> {
        self.pending
            .iter()
            .filter(move |segment| wanted(segment))
            .map(|segment| ((segment.stream.clone(), segment.segment_id), *segment))
            .filter(|(key, _)| !self.memo.is_busy(key))
    }

    /// `None`: it may be tried now.
    fn retry_at(&self, key: &SegmentKey) -> Option<Instant> {
        let failed = self.memo.failed.get(key)?;
        (failed.retry_at > self.now).then_some(failed.retry_at)
    }
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
