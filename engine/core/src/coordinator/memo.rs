//! What the loop remembers between two turns. The manifest knows everything that has to survive the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub type SegmentKey = (Arc<str>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Compress,
    Upload,
}

#[derive(Clone, Debug, Default)]
pub struct Memo {
    pub under_way: BTreeMap<SegmentKey, Step>,
    /// Segments that nothing is begun with: their file in Tier 1 is being replaced.
    pub taken: BTreeSet<SegmentKey>,
    pub failed: BTreeMap<SegmentKey, Failed>,
    pub claims: ClaimCheck,
    pub evict: Upkeep,
    pub seal: Upkeep,
    pub hydrate: Upkeep,
}

/// A job about many segments, one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    pub is_under_way: bool,
    /// After one that failed, or did nothing.
    pub rests_until: Option<Instant>,
}

impl Upkeep {
    /// When one may begin; `None`: when the one that is under way has ended.
    pub fn may_begin(&self, now: Instant) -> Option<Instant> {
        (!self.is_under_way).then(|| self.rests_until.filter(|at| *at > now).unwrap_or(now))
    }
}

/// The check of this node's claims: one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimCheck {
    pub is_under_way: bool,
    pub ended_at: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In a row.
    pub times: u32,
    pub retry_at: Instant,
    pub kind: FailureKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Tier 2 did not answer: over with the first success of anybody.
    Outage,
    /// The bucket is full: over with the first upload that it takes, of whichever segment.
    BucketFull,
    /// The volume has no room for what a step writes.
    DiskFull,
    /// Somebody has to act, or the local disk did not do it.
    Refused,
    /// No retry mends it, and the segment is whole.
    Final,
    /// The segment's bytes are not those that were sealed.
    Damage,
}

/// By stream: of its first segment that is damaged, else of the first one that fails.
pub type Failures = BTreeMap<Arc<str>, (FailureKind, String)>;

impl Memo {
    pub fn failures(&self) -> Failures {
        let mut failures = Failures::new();
        for ((stream, _), failed) in &self.failed {
            let told = failures.get(stream).map(|(kind, _)| *kind);
            let is_worse = failed.kind == FailureKind::Damage && told != Some(FailureKind::Damage);
            if told.is_none() || is_worse {
                failures.insert(stream.clone(), (failed.kind, failed.message.clone()));
            }
        }
        failures
    }

    pub fn forget(&mut self, kind: FailureKind) {
        self.failed.retain(|_, failed| failed.kind != kind);
    }

    /// The bucket was full when it was last tried.
    pub fn found_bucket_full(&self) -> bool {
        let mut failed = self.failed.values();
        failed.any(|failed| failed.kind == FailureKind::BucketFull)
    }

    /// Of the segment that has failed most often in a row.
    pub fn worst(&self) -> Option<&Failed> {
        self.failed.values().max_by_key(|failed| failed.times)
    }

    /// Something is done with it now.
    pub fn is_busy(&self, key: &SegmentKey) -> bool {
        self.under_way.contains_key(key) || self.taken.contains(key)
    }

    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
            && self.taken.is_empty()
            && !self.claims.is_under_way
            && !self.evict.is_under_way
            && !self.seal.is_under_way
            && !self.hydrate.is_under_way
    }
}

/// Doubles from a second to a minute; damage is looked at again more rarely.
pub fn pause_after(times: u32, kind: FailureKind) -> Duration {
    match kind {
        FailureKind::Outage
        | FailureKind::BucketFull
        | FailureKind::DiskFull
        | FailureKind::Refused => Duration::from_secs(1)
            .saturating_mul(1 << times.saturating_sub(1).min(10))
            .min(Duration::from_secs(60)),
        FailureKind::Final | FailureKind::Damage => Duration::from_secs(600),
    }
}
