//! The verb: which segments of a range come back, and whether they have room.

use std::collections::BTreeSet;

use thiserror::Error;

use super::Tiers;
use crate::coordinator::hydrate::{is_there, missing_bytes};
use crate::coordinator::hydrations::MAX_QUEUE;
pub use crate::coordinator::hydrations::{Hydration, LocalTier};
use crate::coordinator::memo::SegmentKey;
use crate::port::SealedSegment;

/// Why nothing is brought back.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HydrateRefusal {
    #[error("stream {stream} does not exist on this node")]
    UnknownStream { stream: String },
    #[error("engine has no Tier 2: everything is in Tier 0 already")]
    NoTier2,
    #[error(
        "no sealed record of stream {stream} lies in {from}..{to}; sealed and readable are {first}..{end}"
    )]
    NothingThere {
        stream: String,
        from: u64,
        to: u64,
        first: u64,
        end: u64,
    },
    #[error(
        "{wanted_bytes} bytes of stream {stream} do not fit into {tier}; {fit_bytes} would. Ask for a smaller range, or raise {key}"
    )]
    TooLarge {
        stream: String,
        tier: &'static str,
        key: &'static str,
        wanted_bytes: u64,
        fit_bytes: u64,
    },
    #[error(
        "too many segments wait to be hydrated already; the limit is {MAX_QUEUE}. Try again when they are done"
    )]
    Busy,
}

impl Tiers {
    /// Begins to bring back what a range of sequences needs. `to` is exclusive; without one up to the last sealed record.
    pub fn hydrate(
        &self,
        stream: &str,
        from: u64,
        to: Option<u64>,
        tier: LocalTier,
    ) -> Result<Hydration, HydrateRefusal> {
        if !self.coordinator.has_tier2() {
            return Err(HydrateRefusal::NoTier2);
        }
        let segments = self.port.readable_segments(stream);
        let segments = segments.ok_or_else(|| HydrateRefusal::UnknownStream {
            stream: stream.to_owned(),
        })?;
        let first = segments.first().map_or(0, |segment| segment.base_sequence);
        let end = segments.last().map_or(0, SealedSegment::end_sequence);
        let to = to.unwrap_or(end);
        let within: Vec<&SealedSegment> = segments
            .iter()
            .filter(|segment| segment.end_sequence() > from && segment.base_sequence < to)
            .collect();
        if within.is_empty() {
            return Err(HydrateRefusal::NothingThere {
                stream: stream.to_owned(),
                from,
                to,
                first,
                end,
            });
        }
        let mut there = BTreeSet::new();
        let mut missing = Vec::new();
        for segment in within {
            let key: SegmentKey = (segment.stream.clone(), segment.segment_id);
            if is_there(segment, tier) {
                there.insert(key);
            } else if let Some(bytes) = missing_bytes(segment, tier) {
                missing.push((key, bytes));
            }
        }
        let wanted_bytes = missing.iter().map(|(_, bytes)| bytes).sum();
        if let Some(fit_bytes) = self.coordinator.room_to_hydrate(tier, &there)
            && fit_bytes < wanted_bytes
        {
            let (tier, key) = match tier {
                LocalTier::Tier0 => ("Tier 0", "tier0.cluster_max_bytes"),
                LocalTier::Tier1 => ("Tier 1", "tier1.max_bytes"),
            };
            return Err(HydrateRefusal::TooLarge {
                stream: stream.to_owned(),
                tier,
                key,
                wanted_bytes,
                fit_bytes,
            });
        }
        let there = there.into_iter().collect();
        let asked = self.coordinator.hydrate(tier, missing, there);
        asked.ok_or(HydrateRefusal::Busy)
    }

    /// `None`: not known, or forgotten since.
    pub fn hydration(&self, id: u64) -> Option<Hydration> {
        self.coordinator.hydration(id)
    }
}
