//! What came of a step: into the manifest, into what is remembered of failures, and into the counters.

use std::sync::atomic::Ordering;

use super::memo::{Failed, FailureKind, SegmentKey, pause_after};
use super::plan::Copy;
use super::{Counters, Down};
use crate::error::{ClaimError, ReadError, StoreError, with_causes};
use crate::io::is_device_error;
use crate::jobs::compress::CompressError;
use crate::jobs::upload::{UploadError, Uploaded, object_key};
use crate::jobs::warm::WarmFacts;
use crate::objects::ObjectError;
use crate::port::{FailedStep, FailureReason, Port, SealedSegment, TierRecord};

pub(super) fn commit(
    port: &dyn Port,
    segment: &SealedSegment,
    record: TierRecord,
) -> Result<(), MoveError> {
    port.commit(&segment.stream, segment.segment_id, record)
        .map_err(MoveError::Manifest)
}

pub(super) fn compressed(
    down: &Down,
    port: &dyn Port,
    key: &SegmentKey,
    segment: &SealedSegment,
    facts: WarmFacts,
    replaced_bytes: u64,
) -> Result<(), MoveError> {
    let tier1_bytes = &down.counters.tier1_bytes;
    tier1_bytes.fetch_add(facts.size_bytes, Ordering::Relaxed);
    tier1_bytes.fetch_sub(replaced_bytes, Ordering::Relaxed);
    let record = TierRecord::CompressionDone {
        compressed_bytes: facts.size_bytes,
        dictionary_id: 0,
    };
    commit(port, segment, record)?;
    down.state.lock().verified.insert(key.clone(), facts);
    let compressed = &down.counters.compressed_segments;
    compressed.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

pub(super) fn compression_failed(
    port: &dyn Port,
    segment: &SealedSegment,
    error: CompressError,
) -> MoveError {
    let reason = match &error {
        CompressError::Segment { .. } | CompressError::Verify(_) => FailureReason::Codec,
        CompressError::Disk { .. } | CompressError::NoRoom { .. } => FailureReason::Transient,
    };
    // Once, however often it is tried: a full disk does not fill the manifest.
    if !segment.moves.has_failed(FailedStep::Compression, reason)
        && let Err(error) = commit(port, segment, TierRecord::CompressionFailed { reason })
    {
        return error;
    }
    match error {
        CompressError::Segment { problem, .. } => {
            let (stream, id) = (&segment.stream, segment.segment_id);
            MoveError::Damaged {
                stream: stream.to_string(),
                known: port.note_damage(stream, id, &problem),
            }
        }
        CompressError::Disk { .. } | CompressError::NoRoom { .. } | CompressError::Verify(_) => {
            MoveError::Compress(error)
        }
    }
}

pub(super) fn uploaded(
    down: &Down,
    port: &dyn Port,
    segment: &SealedSegment,
    uploaded: Uploaded,
) -> Result<(), MoveError> {
    let Uploaded {
        key,
        etag,
        size_bytes,
    } = uploaded;
    tracing::info!(stream = %segment.stream, segment_id = segment.segment_id, key, bytes = size_bytes, "segment uploaded");
    // The others go on at once.
    down.state.lock().memo.forget(FailureKind::BucketFull);
    commit(port, segment, TierRecord::UploadDone { key, etag })?;
    let segments = &down.counters.uploaded_segments;
    segments.fetch_add(1, Ordering::Relaxed);
    let bytes = &down.counters.uploaded_bytes;
    bytes.fetch_add(size_bytes, Ordering::Relaxed);
    Ok(())
}

pub(super) fn upload_failed(
    down: &Down,
    port: &dyn Port,
    segment: &SealedSegment,
    error: UploadError,
) -> MoveError {
    // Once, however often it is tried: an outage of days does not fill the manifest.
    if let Some(reason) = error.reason_of_put()
        && let Some(key) = object_key(down.claims.tier2(), segment)
        && !segment.moves.has_failed(FailedStep::Upload, reason)
        && let Err(error) = commit(port, segment, TierRecord::UploadFailed { key, reason })
    {
        return error;
    }
    MoveError::Upload(error)
}

pub(super) fn evicted(down: &Down, stream: &str, segment_id: u64, copy: Copy, bytes: u64) {
    if bytes == 0 {
        return;
    }
    let Counters {
        evicted_segments,
        evicted_bytes,
        evicted_warm_segments,
        evicted_warm_bytes,
        ..
    } = &down.counters;
    let (segments, total, tier) = match copy {
        Copy::Hot { .. } => (evicted_segments, evicted_bytes, 0),
        Copy::Warm { .. } => (evicted_warm_segments, evicted_warm_bytes, 1),
    };
    segments.fetch_add(1, Ordering::Relaxed);
    total.fetch_add(bytes, Ordering::Relaxed);
    tracing::info!(stream, segment_id, tier, bytes, "segment evicted");
}

pub(super) fn note(
    down: &Down,
    port: &dyn Port,
    key: &SegmentKey,
    segment: &SealedSegment,
    outcome: Result<(), MoveError>,
) {
    let error = match outcome {
        Ok(()) => {
            let failed = &mut down.state.lock().memo.failed;
            failed.remove(key);
            if down.claims.tier2().health().reason.is_none() {
                failed.retain(|_, failed| failed.kind != FailureKind::Outage);
            }
            return;
        }
        Err(error) => error,
    };
    // Whatever it was: the segment is waited for no longer.
    if port.is_unneeded(&segment.stream, segment.segment_id) {
        let (stream, segment_id) = (&segment.stream, segment.segment_id);
        let message = with_causes(&error);
        tracing::debug!(%stream, segment_id, "a trimmed segment does not go down: {message}");
        down.state.lock().memo.failed.remove(key);
        return;
    }
    if let MoveError::Upload(UploadError::Superseded { to, .. }) = &error {
        port.supersede(&segment.stream, *to);
    }
    let kind = error.kind();
    let message = with_causes(&error);
    let is_stopping = matches!(
        &error,
        MoveError::Upload(UploadError::Store(ObjectError::Stopping { .. }))
    );
    // Damage was reported when it was found, and every try finds it again. An upload that a stop ends goes on with the next start.
    if kind != FailureKind::Damage && !is_stopping {
        tracing::warn!(stream = %segment.stream, segment_id = segment.segment_id, "{message}");
    }
    let now = port.environment().clock.monotonic();
    let failed = &mut down.state.lock().memo.failed;
    let times = failed.get(key).map_or(0, |failed| failed.times) + 1;
    failed.insert(
        key.clone(),
        Failed {
            times,
            retry_at: now + pause_after(times, kind),
            kind,
            message,
        },
    );
}

#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    #[error(transparent)]
    Segment(ReadError),
    #[error("stream {stream} is damaged: {known}")]
    Damaged { stream: String, known: String },
    #[error("cannot write to the manifest")]
    Manifest(#[source] StoreError),
    #[error("compression failed")]
    Compress(#[source] CompressError),
    #[error("upload failed")]
    Upload(#[from] UploadError),
}

impl MoveError {
    fn kind(&self) -> FailureKind {
        match self {
            MoveError::Segment(error) => match error {
                ReadError::Damaged { .. } => FailureKind::Damage,
                ReadError::Disk { source, .. } if is_device_error(source) => FailureKind::Damage,
                ReadError::Disk { .. }
                | ReadError::NotResident { .. }
                | ReadError::WouldBlock { .. }
                | ReadError::Unavailable { .. }
                | ReadError::Closed => FailureKind::Refused,
                ReadError::UnknownStream { .. }
                | ReadError::Trimmed { .. }
                | ReadError::Superseded { .. }
                | ReadError::VolumeRefused { .. } => FailureKind::Final,
            },
            MoveError::Damaged { .. } => FailureKind::Damage,
            MoveError::Manifest(error) => of_store(error),
            MoveError::Compress(error) if error.lacks_space() => FailureKind::DiskFull,
            MoveError::Compress(error) => match error {
                CompressError::Segment { .. } => FailureKind::Damage,
                CompressError::Verify(_) => FailureKind::Final,
                CompressError::Disk { .. } | CompressError::NoRoom { .. } => FailureKind::Refused,
            },
            MoveError::Upload(error) => match error {
                UploadError::Store(error) if error.is_bucket_full() => FailureKind::BucketFull,
                UploadError::Store(error)
                    if error.is_outage()
                        || error.concerns_every_request()
                        || matches!(error, ObjectError::Stopping { .. }) =>
                {
                    FailureKind::Outage
                }
                UploadError::Claim {
                    source: ClaimError::Pending { .. },
                    ..
                } => FailureKind::Outage,
                UploadError::Manifest { source, .. } => of_store(source),
                UploadError::Store(_) | UploadError::Claim { .. } | UploadError::Warm { .. } => {
                    FailureKind::Refused
                }
                UploadError::Superseded { .. }
                | UploadError::Trimmed { .. }
                | UploadError::KeyTaken { .. }
                | UploadError::NoKey { .. } => FailureKind::Final,
            },
        }
    }
}

fn of_store(error: &StoreError) -> FailureKind {
    match error {
        StoreError::DiskFull { .. } => FailureKind::DiskFull,
        StoreError::UnknownStream { .. }
        | StoreError::UnknownSegment { .. }
        | StoreError::Poisoned { .. }
        | StoreError::OutOf { .. }
        | StoreError::Damaged { .. }
        | StoreError::Closed => FailureKind::Refused,
    }
}
