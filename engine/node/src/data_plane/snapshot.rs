//! Snapshots in the words of the admin API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aof2_admin_api::{
    SnapshotIndex, SnapshotIndexReport, SnapshotLevel, SnapshotPhase as ApiPhase,
    SnapshotReason as ApiReason, SnapshotReport, SnapshotVerdict, VerifyProgress, VerifyReason,
};
use aof2_core::objects::Tier2;
use aof2_core::snapshot::index::{IndexError, StoredIndex, put_index, read_index};
use aof2_core::snapshot::verify::{Fault, Level, Unwatched, Verdict, VerifyError, verify};
use aof2_core::snapshot::{
    LookupError, Reading, SnapshotCounts, SnapshotPhase, SnapshotReason, SnapshotRequest,
    SnapshotStatus,
};
use aof2_core::{StoreError, objects};
use aof2_format::StreamName;
use aof2_format::names::IndexName;
use aof2_format::snapshot::SnapshotId;
use bytes::Bytes;

pub use super::reading::Asked;
use super::reading::{self, Answer, Readings};
use super::{DataPlane, tier2_reason};

/// Verifications since the process started, by what they came to.
#[derive(Debug, Default)]
pub struct Verifications {
    verified: AtomicU64,
    not_verified: AtomicU64,
    /// Tier 2 did not answer: no verdict.
    errors: AtomicU64,
}

impl Verifications {
    fn count(&self, verdict: &Result<Verdict, VerifyError>) {
        let counted = match verdict {
            Ok(verdict) if verdict.fault.is_none() => &self.verified,
            Ok(_) => &self.not_verified,
            Err(_) => &self.errors,
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }

    pub fn by_result(&self) -> [(&'static str, u64); 3] {
        let Self {
            verified,
            not_verified,
            errors,
        } = self;
        [
            ("verified", verified),
            ("not_verified", not_verified),
            ("error", errors),
        ]
        .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }
}

/// Why there is no verdict.
pub enum AskError {
    Lookup(LookupError),
    Verify(VerifyError),
}

impl From<LookupError> for AskError {
    fn from(error: LookupError) -> AskError {
        AskError::Lookup(error)
    }
}

impl From<VerifyError> for AskError {
    fn from(error: VerifyError) -> AskError {
        AskError::Verify(error)
    }
}

/// Of the thread that reads.
struct EndOfReading {
    readings: Arc<Readings>,
    outcome: reading::Outcome,
}

impl Drop for EndOfReading {
    fn drop(&mut self) {
        self.readings.ended(self.outcome.clone(), Instant::now());
    }
}

impl DataPlane {
    pub fn begin_snapshot(&self, request: SnapshotRequest) -> Result<SnapshotReport, StoreError> {
        self.snapshots.begin(request).map(to_api)
    }

    /// Of this stream, by this request, where they are named.
    pub fn snapshots(
        &self,
        stream: Option<&str>,
        request: Option<&str>,
    ) -> Result<Vec<SnapshotReport>, StoreError> {
        let listed = self.snapshots.list(stream)?.into_iter();
        Ok(listed
            .filter(|status| request.is_none_or(|request| status.request == request))
            .map(to_api)
            .collect())
    }

    /// May ask the bucket. Blocking.
    pub fn snapshot_status(
        &self,
        stream: &str,
        id: SnapshotId,
    ) -> Result<SnapshotReport, LookupError> {
        self.snapshots.status(stream, id).map(to_api)
    }

    pub fn snapshot_counts(&self) -> SnapshotCounts {
        self.snapshots.counts()
    }

    /// Reads the bucket. Blocking, for as long as some requests take: L2 is for `read_snapshot`.
    pub fn verify_snapshot(
        &self,
        tier2: &Tier2,
        (stream, id): (&StreamName, SnapshotId),
        level: SnapshotLevel,
        digest: Option<&str>,
    ) -> Result<SnapshotVerdict, AskError> {
        let _reading = self.snapshots.reading(stream.as_str(), id)?;
        let (asked, level) = match level {
            SnapshotLevel::L0 | SnapshotLevel::Unknown => (Level::L0, SnapshotLevel::L0),
            SnapshotLevel::L1 | SnapshotLevel::L2 => (Level::L1, SnapshotLevel::L1),
        };
        let verdict = verify(tier2, stream, id, asked, digest, &Unwatched);
        self.verifications.count(&verdict);
        Ok(verdict_of((stream, id), level, verdict?))
    }

    /// Verifies at L2, or says how far that is. Waits for nothing.
    pub fn read_snapshot(
        &self,
        tier2: &Arc<Tier2>,
        asked: Asked,
        digest: Option<String>,
    ) -> Result<SnapshotVerdict, AskError> {
        let level = SnapshotLevel::L2;
        let snapshot = (&asked.stream, asked.id);
        let mut verdict = SnapshotVerdict {
            stream: asked.stream.to_string(),
            snapshot_id: asked.id.to_string(),
            level,
            running: Some(VerifyProgress {
                request: asked.request.clone(),
                ..VerifyProgress::default()
            }),
            ..SnapshotVerdict::default()
        };
        let mut waits_for = None;
        let progress = match self.readings.ask(&asked, Instant::now()) {
            Answer::Ended(outcome) => return Ok(verdict_of(snapshot, level, outcome?)),
            Answer::Running(progress) => Some(progress),
            Answer::Waits(Asked { stream, id, .. }) => {
                waits_for = Some(format!("snapshot {id} of stream {stream}"));
                None
            }
            Answer::Begin(progress) => {
                match self.snapshots.reading(asked.stream.as_str(), asked.id) {
                    Ok(reading) => {
                        let held = (reading, progress.clone());
                        self.begin_reading(tier2.clone(), asked, digest, held);
                    }
                    Err(deleted) => {
                        self.readings.not_begun();
                        return Err(deleted.into());
                    }
                }
                Some(progress)
            }
        };
        if let Some(running) = &mut verdict.running {
            let (read_bytes, total_bytes) = progress.map_or((0, 0), |it| it.bytes());
            verdict.bytes_read = read_bytes;
            running.total_bytes = total_bytes;
            running.waits_for = waits_for;
        }
        Ok(verdict)
    }

    fn begin_reading(
        &self,
        tier2: Arc<Tier2>,
        asked: Asked,
        digest: Option<String>,
        (held, progress): (Reading, Arc<reading::Progress>),
    ) {
        let ended = |why: String| VerifyError::Ended {
            stream: asked.stream.clone(),
            id: asked.id,
            why,
        };
        // Whatever becomes of the thread, the next one begins.
        let end = EndOfReading {
            readings: self.readings.clone(),
            outcome: Err(ended("the thread is lost; read the log".to_owned())),
        };
        let refused = ended("no thread to read with; retry later".to_owned());
        let (verifications, readings) = (self.verifications.clone(), self.readings.clone());
        let thread = std::thread::Builder::new().name("aof2-verify".to_string());
        let started = thread.spawn(move || {
            let mut end = end;
            // Nobody deletes it meanwhile.
            let _held = held;
            let (stream, id) = (&asked.stream, asked.id);
            let digest = digest.as_deref();
            end.outcome = verify(&tier2, stream, id, Level::L2, digest, &*progress);
            verifications.count(&end.outcome);
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread to verify a snapshot: {error}");
            readings.ended(Err(refused), Instant::now());
        }
    }

    /// Blocking. A list that names the same catalogues is the same list: engines that restarted since tell other times.
    pub fn put_snapshot_index(
        tier2: &Arc<objects::Tier2>,
        name: &IndexName,
        index: &SnapshotIndex,
        bytes: Bytes,
    ) -> Result<SnapshotIndexReport, IndexError> {
        let stored = match put_index(tier2, name, bytes) {
            Err(IndexError::Taken { key }) => {
                let there = read_index(tier2, name)?;
                let is_same = serde_json::from_slice::<SnapshotIndex>(&there)
                    .is_ok_and(|there| there.names_the_same(index));
                if !is_same {
                    return Err(IndexError::Taken { key });
                }
                StoredIndex::of(key, &there)
            }
            stored => stored?,
        };
        let StoredIndex { key, digest, bytes } = stored;
        Ok(SnapshotIndexReport { key, digest, bytes })
    }
}

fn to_api(status: SnapshotStatus) -> SnapshotReport {
    let SnapshotStatus {
        stream,
        snapshot_id,
        request,
        phase,
        started_unix_nanos,
        heartbeat_unix_nanos,
        completed_unix_nanos,
        chunk_index,
        chunk_offset,
        durable_sequence,
        uploaded_sequence,
        key,
        digest,
        bytes,
        why,
    } = status;
    let (reason, message) = why
        .map(|why| (snapshot_reason(why.reason), why.message))
        .unzip();
    SnapshotReport {
        stream: stream.to_string(),
        snapshot_id: snapshot_id.to_string(),
        request,
        phase: match phase {
            SnapshotPhase::Pending => ApiPhase::Pending,
            SnapshotPhase::Uploading => ApiPhase::Uploading,
            SnapshotPhase::Publishing => ApiPhase::Publishing,
            SnapshotPhase::Done => ApiPhase::Done,
            SnapshotPhase::Failed => ApiPhase::Failed,
        },
        started_at: time(started_unix_nanos),
        heartbeat: time(heartbeat_unix_nanos),
        completed_at: completed_unix_nanos.map(time),
        chunk_index,
        chunk_offset,
        durable_sequence,
        uploaded_sequence,
        key,
        digest,
        bytes,
        reason,
        message,
    }
}

fn snapshot_reason(reason: SnapshotReason) -> ApiReason {
    match reason {
        SnapshotReason::NoTier2 => ApiReason::NoTier2,
        SnapshotReason::Tier2(reason) => tier2_reason(reason).into(),
        SnapshotReason::ClaimPending => ApiReason::ClaimPending,
        SnapshotReason::PrefixInUse => ApiReason::PrefixInUse,
        SnapshotReason::Superseded => ApiReason::Superseded,
        SnapshotReason::Damaged => ApiReason::Damaged,
        SnapshotReason::Poisoned => ApiReason::Poisoned,
        SnapshotReason::DiskFull => ApiReason::DiskFull,
        SnapshotReason::ObjectMissing => ApiReason::ObjectMissing,
        SnapshotReason::KeyTaken => ApiReason::KeyTaken,
        SnapshotReason::TooLarge => ApiReason::TooLarge,
        SnapshotReason::UploadRefused => ApiReason::UploadRefused,
        SnapshotReason::Displaced => ApiReason::Displaced,
    }
}

fn verdict_of(
    (stream, id): (&StreamName, SnapshotId),
    level: SnapshotLevel,
    verdict: Verdict,
) -> SnapshotVerdict {
    let Verdict {
        fault,
        digest,
        missing,
        objects_checked,
        records_replayed,
        bytes_read,
    } = verdict;
    let (reason, message) = fault.unzip();
    SnapshotVerdict {
        stream: stream.to_string(),
        snapshot_id: id.to_string(),
        level,
        verified: reason.is_none(),
        digest,
        reason: reason.map(verify_reason),
        message,
        missing,
        objects_checked,
        records_replayed,
        bytes_read,
        running: None,
    }
}

fn verify_reason(fault: Fault) -> VerifyReason {
    match fault {
        Fault::ObjectMissing => VerifyReason::ObjectMissing,
        Fault::DigestMismatch => VerifyReason::DigestMismatch,
        Fault::SizeMismatch => VerifyReason::SizeMismatch,
        Fault::Undecodable => VerifyReason::Undecodable,
        Fault::ObjectArchived => VerifyReason::ObjectArchived,
        Fault::ReplayDiffers => VerifyReason::ReplayDiffers,
    }
}

/// RFC 3339; empty for a time that no calendar holds.
fn time(unix_nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nanos))
        .map(|time| time.to_string())
        .unwrap_or_default()
}
