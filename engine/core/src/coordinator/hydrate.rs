//! The job that brings one copy back.

use std::sync::atomic::Ordering;

use super::hydrations::{LocalTier, Outcome, Wish};
use super::memo::SegmentKey;
use super::plan::Copy;
use super::{Down, file_bytes};
use crate::error::with_causes;
use crate::jobs::compress::{self, CompressError};
use crate::jobs::hydrate::{self, HydrateError};
use crate::jobs::warm::WarmError;
use crate::objects::Tier2Reason;
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
                "no room for {} bytes: what is there waits for its upload or came back itself",
                wish.bytes
            )),
            Some(victims) => {
                self.evict_all(port, &victims);
                self.bring_back(port, wish)
            }
        };
        let (stream, segment_id) = &wish.key;
        match &outcome {
            Outcome::Done { bytes: 0 } => {}
            Outcome::Done { bytes } => {
                let segments = &self.counters.hydrated_segments;
                segments.fetch_add(1, Ordering::Relaxed);
                let total = &self.counters.hydrated_bytes;
                total.fetch_add(*bytes, Ordering::Relaxed);
                let tier = tier_number(wish.tier);
                tracing::info!(%stream, segment_id, tier, bytes, "segment hydrated");
            }
            Outcome::Again(message) | Outcome::Failed(message) => {
                tracing::warn!(%stream, segment_id, "segment not hydrated: {message}");
            }
        }
        let is_failure = !matches!(outcome, Outcome::Done { .. });
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
        let Some(segment) = port.sealed_segment(stream, *segment_id) else {
            return Outcome::Failed("the segment does not exist any longer".to_owned());
        };
        let is_there = match wish.tier {
            LocalTier::Tier0 => segment.copies.hot,
            LocalTier::Tier1 => segment.copies.warm.is_some(),
        };
        if is_there {
            return Outcome::Done { bytes: 0 };
        }
        let source = match (wish.tier, segment.copies.warm) {
            (LocalTier::Tier0, Some(_)) => HydrationSource::Tier1,
            (LocalTier::Tier0, None) | (LocalTier::Tier1, _) => HydrationSource::Tier2,
        };
        // Once, however often it is tried.
        if wish.tries == 0
            && let Err(error) =
                port.commit(stream, *segment_id, TierRecord::HydrationStarted { source })
        {
            return Outcome::Again(with_causes(&error));
        }
        let made = match wish.tier {
            LocalTier::Tier0 => self.to_hot(port, &segment),
            LocalTier::Tier1 => self.to_warm(port, &segment),
        };
        match made {
            Ok(bytes) => Outcome::Done { bytes },
            Err(error) => {
                let message = with_causes(&error);
                match reason(&error) {
                    None => Outcome::Again(message),
                    Some(reason) => {
                        let failed = TierRecord::HydrationFailed { reason };
                        if let Err(error) = port.commit(stream, *segment_id, failed) {
                            tracing::warn!(%stream, segment_id, "{}", with_causes(&error));
                        }
                        Outcome::Failed(message)
                    }
                }
            }
        }
    }

    fn to_hot(&self, port: &dyn Port, segment: &SealedSegment) -> Result<u64, HydrateError> {
        let warm = compress::warm_path(&port.tier1_directory(), segment);
        hydrate::to_hot(port, self.claims.tier2(), warm.as_ref(), segment)
    }

    fn to_warm(&self, port: &dyn Port, segment: &SealedSegment) -> Result<u64, HydrateError> {
        let no_copy = || HydrateError::NoCopy {
            stream: segment.stream.to_string(),
            segment_id: segment.segment_id,
        };
        let path = compress::warm_path(&port.tier1_directory(), segment).ok_or_else(no_copy)?;
        let disk = &*port.environment().disk;
        compress::look_for_room(disk, &path, segment)
            .map_err(|error: CompressError| HydrateError::NoRoom(error.to_string()))?;
        let replaced_bytes = file_bytes(disk, &path);
        let bytes = hydrate::to_warm(disk, self.claims.tier2(), &path, segment)?;
        let counted = &self.counters.tier1_bytes;
        counted.fetch_add(bytes, Ordering::Relaxed);
        counted.fetch_sub(replaced_bytes, Ordering::Relaxed);
        let there = TierRecord::WarmHydrated { bytes };
        if let Err(error) = port.commit(&segment.stream, segment.segment_id, there) {
            // No record names it.
            if disk.unlink(&path).is_ok() {
                counted.fetch_sub(bytes, Ordering::Relaxed);
            }
            return Err(HydrateError::Manifest(error));
        }
        Ok(bytes)
    }
}

fn tier_number(tier: LocalTier) -> u8 {
    match tier {
        LocalTier::Tier0 => 0,
        LocalTier::Tier1 => 1,
    }
}

/// `None`: it may go better later.
fn reason(error: &HydrateError) -> Option<FailureReason> {
    match error {
        HydrateError::NoCopy { .. } | HydrateError::Missing { .. } => {
            Some(FailureReason::ObjectMissing)
        }
        HydrateError::Object(error) => match error.reason() {
            Tier2Reason::Corrupt => Some(FailureReason::Codec),
            _ if error.is_outage() => None,
            _ => Some(FailureReason::BucketOrNetwork),
        },
        HydrateError::Copy(WarmError::Read { .. }) => None,
        HydrateError::Copy(_) => Some(FailureReason::Codec),
        HydrateError::Restore(RestoreError::Differs { .. }) => Some(FailureReason::Codec),
        HydrateError::Disk { .. }
        | HydrateError::NoRoom(_)
        | HydrateError::Stopping
        | HydrateError::Restore(_)
        | HydrateError::Manifest(_) => None,
    }
}
