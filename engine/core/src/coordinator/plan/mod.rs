//! What to do next: pure over residency, what is under way, and the clock's value. One file per policy.
//!
//! Oldest segments of every stream first, since a stream counts as uploaded without a hole from its beginning; among streams the
//! one with the fewest segments waiting before this one.

mod claims;
mod compress;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::memo::{Memo, SegmentKey, Step};
use crate::port::SealedSegment;

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
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub start: Vec<Task>,
    /// When something that is not started now may be, unless something else happens before.
    pub next: Option<Instant>,
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
}

pub fn plan<'a>(
    now: Instant,
    pending: impl IntoIterator<Item = &'a SealedSegment>,
    memo: &'a Memo,
    limits: Limits,
) -> Plan {
    let turn = Turn {
        now,
        pending: in_order(pending),
        memo,
        limits,
    };
    let mut plan = Plan::default();
    compress::plan(&turn, &mut plan);
    upload::plan(&turn, &mut plan);
    claims::plan(&turn, &mut plan);
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
            .filter(|(key, _)| !self.memo.under_way.contains_key(key))
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
