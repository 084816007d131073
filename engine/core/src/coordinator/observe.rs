//! One reading of everything that a turn decides by. Nothing here waits for a disk or a network.

use std::collections::BTreeMap;
use std::time::Instant;

use super::memo::{Failures, Memo, SegmentKey};
use crate::claims::StreamClaims;
use crate::objects::Tier2Health;
use crate::port::{Port, SealedSegment};

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
}

pub(super) fn tier2(port: &dyn Port, claims: &StreamClaims, memo: &Memo) -> Tier2Facts {
    let pending = port.pending().into_iter();
    let tier2 = claims.tier2();
    Tier2Facts {
        pending: pending.map(|segment| (key_of(&segment), segment)).collect(),
        health: tier2.health(),
        rests_until: tier2.rests_until(),
        failures: memo.failures(),
    }
}

pub(super) fn key_of(segment: &SealedSegment) -> SegmentKey {
    (segment.stream.clone(), segment.segment_id)
}
