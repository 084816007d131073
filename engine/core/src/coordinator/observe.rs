//! One reading of everything that a turn decides by. Nothing here waits for a disk or a network.

use std::collections::BTreeMap;
use std::time::Instant;

use super::memo::{Failures, Memo, SegmentKey};
use super::plan::{Room, Tier0, Tier1, Tiers};
use crate::claims::StreamClaims;
use crate::io::VolumeSpace;
use crate::objects::Tier2Health;
use crate::port::{Port, SealedSegment, Tier0Usage};

pub(crate) struct Facts {
    pub now: Instant,
    /// `None` without Tier 2.
    pub tier2: Option<Tier2Facts>,
}

pub(crate) struct Tier2Facts {
    /// Sealed and never uploaded.
    pub pending: BTreeMap<SegmentKey, SealedSegment>,
    pub health: Tier2Health,
    /// While the breaker rests.
    pub rests_until: Option<Instant>,
    /// Of the segments that do not get on.
    pub failures: Failures,
    pub tiers: Tiers,
}

/// What the loop knows of Tier 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tier1Known {
    pub used_bytes: u64,
    /// 0 = no limit.
    pub max_bytes: u64,
    pub rooms: Rooms,
    /// A copy waits to come back.
    pub is_hydrating: bool,
}

/// Of the volumes, as a job last measured them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rooms {
    pub tier0: Option<VolumeSpace>,
    /// `None` also where it is the same volume.
    pub tier1: Option<VolumeSpace>,
}

impl Rooms {
    /// Copies have to leave one of them.
    pub fn are_short(&self) -> bool {
        let mut spaces = [self.tier0, self.tier1].into_iter().flatten();
        spaces.any(|space| measured_room(space).lacking_bytes() > 0)
    }
}

pub(super) fn tier2(
    port: &dyn Port,
    claims: &StreamClaims,
    memo: &Memo,
    tier1: Tier1Known,
) -> Tier2Facts {
    let pending = port.pending().into_iter();
    let tier2 = claims.tier2();
    Tier2Facts {
        pending: pending.map(|segment| (key_of(&segment), segment)).collect(),
        health: tier2.health(),
        rests_until: tier2.rests_until(),
        failures: memo.failures(),
        tiers: tiers(port, tier1),
    }
}

fn tiers(port: &dyn Port, known: Tier1Known) -> Tiers {
    let Tier1Known {
        used_bytes,
        max_bytes,
        rooms,
        is_hydrating,
    } = known;
    let usage = port.tier0_usage();
    let is_beside_tier0 = !port.has_tier1_volume();
    let warm_beside = if is_beside_tier0 { used_bytes } else { 0 };
    let mut tier0 = Tier0 {
        usage,
        room: rooms.tier0.map(|space| room_of(space, &usage, warm_beside)),
        ..Tier0::default()
    };
    let mut tier1 = Tier1 {
        used_bytes,
        max_bytes,
        warm: Vec::new(),
        room: rooms.tier1.map(measured_room),
        is_beside_tier0,
    };
    // Every segment is looked at: only where something has to go.
    if tier0.lacking_bytes() > 0 || is_hydrating {
        tier0.hot = port.hot_copies();
        tier0.open = port.open_bytes();
    }
    let is_leaving = tier1.has_budget() && !tier0.hot.is_empty();
    if tier1.lacking_bytes(&tier0) > 0 || is_hydrating || is_leaving {
        tier1.warm = port.warm_copies();
    }
    Tiers { tier0, tier1 }
}

fn measured_room(space: VolumeSpace) -> Room {
    Room {
        free_bytes: space.available_bytes,
        total_bytes: space.total_bytes,
    }
}

/// Others may share the volume, and it may be larger than what is ours.
fn room_of(space: VolumeSpace, usage: &Tier0Usage, warm_bytes: u64) -> Room {
    let found = measured_room(space);
    if usage.capacity_bytes == 0 {
        return found;
    }
    let used_bytes = usage.used_bytes + usage.other_bytes + warm_bytes;
    let ours = Room {
        free_bytes: usage.capacity_bytes.saturating_sub(used_bytes),
        total_bytes: usage.capacity_bytes,
    };
    match ours.lacking_bytes() >= found.lacking_bytes() {
        true => ours,
        false => found,
    }
}

/// What holds the bytes of Tier 0, in words, for those whom it refuses.
pub(super) fn held(facts: &Tier2Facts) -> String {
    let Tier0 {
        usage, hot, open, ..
    } = &facts.tiers.tier0;
    let pending = facts.pending.values();
    let pending_bytes: u64 = pending.map(|segment| segment.bytes).sum();
    // They are looked at for a hydration, too.
    let is_evicting = facts.tiers.tier0.lacking_bytes() > 0;
    let leaving = hot.iter().filter(|_| is_evicting);
    let hot_bytes: u64 = leaving.map(|hot| hot.bytes).sum();
    let open_bytes: u64 = open.iter().map(|open| open.bytes).sum();
    let parts = [
        (pending_bytes, "wait for their upload"),
        (hot_bytes, "are being evicted"),
        (open_bytes, "are in open segments"),
        (usage.pinned_bytes, "are evicted and still read"),
    ];
    let told = parts.iter().filter(|(bytes, _)| *bytes > 0);
    let mut told: Vec<String> = told
        .map(|(bytes, what)| format!("{bytes} {what}"))
        .collect();
    let trouble = facts.health.message.as_ref();
    told.extend(trouble.map(|why| format!("Tier 2 does not take them ({why})")));
    match told.is_empty() {
        true => "uploaded segments are evicted to make room".to_owned(),
        false => format!("of these {}", told.join(", ")),
    }
}

pub(super) fn key_of(segment: &SealedSegment) -> SegmentKey {
    (segment.stream.clone(), segment.segment_id)
}
