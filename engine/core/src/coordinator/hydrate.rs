//! The job that brings one copy back.

use std::sync::atomic::Ordering;

use aof2_format::BLOCK_BYTES;
use aof2_format::segment::SegmentSeal;

use super::demand::BehindAll;
use super::hydrations::{LocalTier, Outcome, Wish};
use super::memo::SegmentKey;
use super::plan::Copy;
use super::{Down, file_bytes};
use crate::error::with_causes;
use crate::jobs::compress;
use crate::jobs::hydrate::{self, AtOnce, HydrateError, Turns};
use crate::jobs::warm::WarmError;
use crate::objects::{ObjectError, Tier2Reason};
use crate::port::{FailureReason, HydrationSource, Port, RestoreError, SealedSegment, TierRecord};

impl Down {
    /// `victims` make room first; `None`: nothing that may go would.
    pub(super) fn hydrate(
        &self,
        port: &dyn Port,
        wish: &Wish,
        victims: Option<Vec<(SegmentKey, Copy)>>,
    ) {
        let outcome = match victims {
            None => Outcome::Again(format!(
                "no room for {} bytes: what is there waits for its upload, is read or is wanted too",
                wish.bytes
            )),
            Some(victims) => {
                self.evict_all(port, &victims);
                self.bring_back(port, wish)
            }
        };
        let (stream, segment_id) = &wish.key;
        let is_failure = !matches!(outcome, Outcome::Done { .. });
        match &outcome {
            Outcome::Done { bytes: 0 } => {}
            Outcome::Done { bytes } => {
                let segments = &self.counters.hydrated_segments;
                segments.fetch_add(1, Ordering::Relaxed);
                let total = &self.counters.hydrated_bytes;
                total.fetch_add(*bytes, Ordering::Relaxed);
                let tier = tier_number(wish.tier);
                let on_demand = wish.request.is_none();
                tracing::info!(%stream, segment_id, tier, bytes, on_demand, "segment hydrated");
            }
            // Tier 2 says so itself, and once.
            Outcome::Wait(message) => {
                tracing::debug!(%stream, segment_id, "segment waits to be hydrated: {message}");
            }
            Outcome::Again(message) | Outcome::Failed(message) => {
                tracing::warn!(%stream, segment_id, "segment not hydrated: {message}");
            }
        }
        if wish.request.is_none() {
            self.note_demand_ended(port, &wish.key, &outcome);
            self.measure(port);
            return;
        }
        if !is_failure {
            let now = port.environment().clock.monotonic();
            self.state.lock().returned.note_asked(&wish.key, now);
        }
        let is_again = self.state.lock().hydrations.ended(outcome);
        if is_again {
            self.rest(port, |memo| &mut memo.hydrate);
        } else if is_failure {
            let failed = &self.counters.failed_hydrations;
            failed.fetch_add(1, Ordering::Relaxed);
        }
        self.measure(port);
    }

    fn bring_back(&self, port: &dyn Port, wish: &Wish) -> Outcome {
        let (stream, segment_id) = &wish.key;
        let is_asked = wish.request.is_some();
        let found = match is_asked {
            true => wanted(port, &wish.key),
            // Readers of what it was merged into want that one.
            false => readable(port, &wish.key),
        };
        let Some(segment) = found else {
            return Outcome::Failed("the segment was trimmed".to_owned());
        };
        if is_there(&segment, wish.tier) {
            return Outcome::Done { bytes: 0 };
        }
        let source = match (wish.tier, segment.copies.warm) {
            (LocalTier::Tier0, Some(_)) => HydrationSource::Tier1,
            (LocalTier::Tier0, None) | (LocalTier::Tier1, _) => HydrationSource::Tier2,
        };
        // Once, however often it is tried.
        let is_recorded = match is_asked {
            true => wish.is_recorded,
            false => self.is_demand_recorded(&wish.key),
        };
        if !is_recorded {
            let begun = TierRecord::HydrationStarted { source };
            if let Err(error) = port.commit(stream, segment.segment_id, begun) {
                return Outcome::Again(with_causes(&error));
            }
            match is_asked {
                true => self.state.lock().hydrations.note_recorded(),
                false => self.note_demand_recorded(port, &wish.key),
            }
        }
        let at_once = AtOnce(self.claims.tier2());
        let behind_all = self.fetch.get().map(|fetch| BehindAll {
            down: self,
            port,
            fetch,
        });
        let turns: &dyn Turns = match &behind_all {
            Some(behind_all) if !is_asked => behind_all,
            Some(_) | None => &at_once,
        };
        let made = match wish.tier {
            LocalTier::Tier0 => self.to_hot(port, &segment, turns),
            LocalTier::Tier1 => self.to_warm(port, &segment, turns),
        };
        match made {
            Ok(bytes) => Outcome::Done { bytes },
            Err(error) => {
                let message = with_causes(&error);
                let verdict = verdict(&error);
                if let Verdict::Final(reason) = verdict {
                    let failed = TierRecord::HydrationFailed { reason };
                    if let Err(error) = port.commit(stream, segment.segment_id, failed) {
                        tracing::warn!(%stream, segment_id, "{}", with_causes(&error));
                    }
                }
                match verdict {
                    Verdict::Wait => Outcome::Wait(message),
                    Verdict::Again => Outcome::Again(message),
                    Verdict::Final(_) | Verdict::Gone => Outcome::Failed(message),
                }
            }
        }
    }

    fn to_hot(
        &self,
        port: &dyn Port,
        segment: &SealedSegment,
        turns: &dyn Turns,
    ) -> Result<u64, HydrateError> {
        let warm = compress::warm_path(&port.tier1_directory(), segment);
        hydrate::to_hot(port, self.claims.tier2(), warm.as_ref(), segment, turns)
    }

    fn to_warm(
        &self,
        port: &dyn Port,
        segment: &SealedSegment,
        turns: &dyn Turns,
    ) -> Result<u64, HydrateError> {
        let no_copy = || HydrateError::NoCopy {
            stream: segment.stream.to_string(),
            segment_id: segment.segment_id,
        };
        let path = compress::warm_path(&port.tier1_directory(), segment).ok_or_else(no_copy)?;
        let disk = &*port.environment().disk;
        compress::look_for_room(disk, &path, segment)?;
        let replaced_bytes = file_bytes(disk, &path);
        let _closed = self.closed(&path);
        let bytes = hydrate::to_warm(disk, self.claims.tier2(), &path, segment, turns)?;
        let counted = &self.counters.tier1_bytes;
        counted.fetch_add(bytes, Ordering::Relaxed);
        counted.fetch_sub(replaced_bytes, Ordering::Relaxed);
        let recorded = self.record_warm(port, segment, bytes);
        // No record names it.
        if recorded.is_err() && disk.unlink(&path).is_ok() {
            counted.fetch_sub(bytes, Ordering::Relaxed);
        }
        recorded.map(|()| bytes)
    }

    fn record_warm(
        &self,
        port: &dyn Port,
        segment: &SealedSegment,
        bytes: u64,
    ) -> Result<(), HydrateError> {
        let key = (segment.stream.clone(), segment.segment_id);
        // A trim after this look finds the record, and drops the copy.
        if readable(port, &key).is_none() {
            return Err(HydrateError::Restore(RestoreError::Trimmed {
                stream: segment.stream.to_string(),
                segment_id: segment.segment_id,
            }));
        }
        let there = TierRecord::WarmHydrated { bytes };
        let committed = port.commit(&segment.stream, segment.segment_id, there);
        committed.map_err(HydrateError::Manifest)
    }
}

/// What holds the first record of this segment now: it may have been merged into another one since it was asked for.
fn wanted(port: &dyn Port, (stream, segment_id): &SegmentKey) -> Option<SealedSegment> {
    let first = port.sealed_segment(stream, *segment_id)?.base_sequence;
    let segments = port.readable_segments(stream)?;
    segments
        .into_iter()
        .find(|it| it.base_sequence <= first && first < it.end_sequence())
}

/// `None`: it was trimmed, or others hold its records.
pub(super) fn readable(
    port: &dyn Port,
    (stream, segment_id): &SegmentKey,
) -> Option<SealedSegment> {
    match port.is_unneeded(stream, *segment_id) {
        true => None,
        false => port.sealed_segment(stream, *segment_id),
    }
}

fn tier_number(tier: LocalTier) -> u8 {
    match tier {
        LocalTier::Tier0 => 0,
        LocalTier::Tier1 => 1,
    }
}

/// Tier 1 is for what Tier 0 does not have: a copy of a hot segment would serve no read.
pub(crate) fn is_there(segment: &SealedSegment, tier: LocalTier) -> bool {
    match tier {
        LocalTier::Tier0 => segment.copies.hot,
        LocalTier::Tier1 => segment.copies.hot || segment.copies.warm.is_some(),
    }
}

/// That a copy takes at most; `None`: there is nothing to make it from.
pub(crate) fn missing_bytes(segment: &SealedSegment, tier: LocalTier) -> Option<u64> {
    let copies = &segment.copies;
    match tier {
        LocalTier::Tier0 => (copies.warm.is_some() || copies.cold.is_some())
            .then(|| SegmentSeal::offset(segment.bytes) + BLOCK_BYTES as u64),
        // Without a warm file of this node's own its compressed size is known once it is there.
        LocalTier::Tier1 => {
            let bytes = segment.compressed_bytes.unwrap_or(segment.bytes);
            copies.cold.is_some().then_some(bytes)
        }
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Wait,
    Again,
    /// There is nothing more to bring back.
    Gone,
    Final(FailureReason),
}

fn verdict(error: &HydrateError) -> Verdict {
    match error {
        HydrateError::NoCopy { .. } | HydrateError::Missing { .. } => {
            Verdict::Final(FailureReason::ObjectMissing)
        }
        HydrateError::Object(error) => of_object(error),
        HydrateError::Copy(WarmError::Read { source, .. }) => {
            let object = source.get_ref().and_then(|it| it.downcast_ref());
            object.map_or(Verdict::Again, of_object)
        }
        HydrateError::Copy(_) => Verdict::Final(FailureReason::Codec),
        HydrateError::Restore(RestoreError::Differs { .. }) => Verdict::Final(FailureReason::Codec),
        HydrateError::Restore(RestoreError::Trimmed { .. }) => Verdict::Gone,
        HydrateError::Stopping | HydrateError::GivesWay => Verdict::Wait,
        HydrateError::Tier1(_) | HydrateError::Restore(_) | HydrateError::Manifest(_) => {
            Verdict::Again
        }
    }
}

fn of_object(error: &ObjectError) -> Verdict {
    let serves_nobody = error.is_outage()
        || error.concerns_every_request()
        || matches!(error, ObjectError::Stopping { .. });
    match error.reason() {
        _ if serves_nobody => Verdict::Wait,
        Tier2Reason::Corrupt => Verdict::Final(FailureReason::Codec),
        _ => Verdict::Final(FailureReason::BucketOrNetwork),
    }
}
