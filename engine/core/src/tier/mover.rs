//! Executes the plan: one coordinator thread looks at what is pending and starts a thread per step.
//!
//! Write order of a segment: warm file durable and verified -> `CompressionDone` -> object created and compared -> `UploadDone`.
//! Nothing is lost when the process ends between two of these: the manifest says how far a segment came, and every step may be
//! done again. Tier 0 bytes stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::io::ThreadHandle;
use crate::io::sync::{Condvar, Mutex, RwLock};
use aof2_format::names::file;

use super::compress::{CompressError, CompressOptions, compress, warm_path};
use super::planner::{Failed, FailureKind, Limits, Memo, SegmentKey, Step, pause_after, plan};
use super::upload::{UploadError, upload};
use super::warm::WarmFacts;
use crate::claims::StreamClaims;
use crate::error::ClaimError;
use crate::error::{ReadError, StoreError, with_causes};
use crate::io::{Disk, is_device_error};
use crate::objects::ObjectError;
use crate::port::Port;
use crate::port::{FailedStep, FailureReason, SealedSegment, TierRecord};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoverSettings {
    pub compression_level: i32,
    pub block_bytes: u64,
    pub upload_concurrency: usize,
    /// A claim seen longer ago than this is read again before an upload.
    pub claim_check: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoverStatus {
    pub pending_uploads: u64,
    /// Uncompressed.
    pub pending_upload_bytes: u64,
    pub compressed_segments: u64,
    pub uploaded_segments: u64,
    /// Compressed.
    pub uploaded_bytes: u64,
    /// Of the warm files on this node.
    pub tier1_bytes: u64,
    /// Steps that were begun again after they had failed.
    pub repeated_steps: u64,
    /// Of the segment that has failed most often in a row.
    pub failure: Option<String>,
}

pub struct Mover {
    moving: Arc<Moving>,
    coordinator: Mutex<Option<ThreadHandle>>,
}

struct Moving {
    port: Arc<dyn Port>,
    claims: Arc<StreamClaims>,
    settings: RwLock<MoverSettings>,
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
    compressed_segments: AtomicU64,
    uploaded_segments: AtomicU64,
    uploaded_bytes: AtomicU64,
    repeated_steps: AtomicU64,
    tier1_bytes: AtomicU64,
    step_hook: RwLock<Option<StepHook>>,
}

/// Called after every step, done or failed: must not block.
pub type StepHook = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    memo: Memo,
    /// Warm files that this process verified itself.
    verified: BTreeMap<SegmentKey, WarmFacts>,
    /// Something happened since the coordinator looked.
    is_stale: bool,
}

/// Without news the coordinator looks again after this, against a forgotten wake-up.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Mover {
    pub fn start(
        port: Arc<dyn Port>,
        claims: Arc<StreamClaims>,
        settings: MoverSettings,
    ) -> std::io::Result<Mover> {
        let moving = Arc::new(Moving {
            port: port.clone(),
            claims,
            settings: RwLock::new(settings),
            state: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            compressed_segments: AtomicU64::new(0),
            uploaded_segments: AtomicU64::new(0),
            uploaded_bytes: AtomicU64::new(0),
            repeated_steps: AtomicU64::new(0),
            tier1_bytes: AtomicU64::new(0),
            step_hook: RwLock::default(),
        });
        let hooked = Arc::downgrade(&moving);
        port.on_sealed(Arc::new(move |_| {
            if let Some(moving) = hooked.upgrade() {
                moving.wake();
            }
        }));
        let coordinated = moving.clone();
        let coordinator = port
            .threads()
            .start("mover", move || coordinated.coordinate())?;
        Ok(Mover {
            moving,
            coordinator: Mutex::new(Some(coordinator)),
        })
    }

    pub fn reconfigure(&self, settings: MoverSettings) {
        *self.moving.settings.write() = settings;
        self.moving.wake();
    }

    /// Forgets how long failed steps were to wait: a drain wants them now.
    pub fn retry_now(&self) {
        self.moving.state.lock().memo.failed.clear();
        self.moving.wake();
    }

    pub fn status(&self) -> MoverStatus {
        let pending = self.moving.port.pending();
        let state = self.moving.state.lock();
        let failed = state.memo.failed.values().max_by_key(|failed| failed.times);
        MoverStatus {
            pending_uploads: pending.len() as u64,
            pending_upload_bytes: pending.iter().map(|segment| segment.bytes).sum(),
            compressed_segments: self.moving.compressed_segments.load(Ordering::Relaxed),
            uploaded_segments: self.moving.uploaded_segments.load(Ordering::Relaxed),
            uploaded_bytes: self.moving.uploaded_bytes.load(Ordering::Relaxed),
            tier1_bytes: self.moving.tier1_bytes.load(Ordering::Relaxed),
            repeated_steps: self.moving.repeated_steps.load(Ordering::Relaxed),
            failure: failed.map(|failed| failed.message.clone()),
        }
    }

    /// Replaces the hook.
    pub fn on_step(&self, hook: StepHook) {
        *self.moving.step_hook.write() = Some(hook);
    }

    /// By stream: of its first segment that is damaged, else of the first one that fails.
    pub fn failures(&self) -> BTreeMap<Arc<str>, (FailureKind, String)> {
        let state = self.moving.state.lock();
        let mut failures: BTreeMap<Arc<str>, (FailureKind, String)> = BTreeMap::new();
        for ((stream, _), failed) in &state.memo.failed {
            let told = failures.get(stream).map(|(kind, _)| *kind);
            let is_worse = failed.kind == FailureKind::Damage && told != Some(FailureKind::Damage);
            if told.is_none() || is_worse {
                failures.insert(stream.clone(), (failed.kind, failed.message.clone()));
            }
        }
        failures
    }

    /// What keeps a stream from being uploaded until somebody repairs it.
    pub fn damage(&self) -> Option<String> {
        let failures = self.failures().into_values();
        let mut damaged = failures.filter(|(kind, _)| *kind == FailureKind::Damage);
        damaged.next().map(|(_, message)| message)
    }

    /// Starts nothing more and waits for what runs. Stop Tier 2 first, so that no retry is waited for.
    pub fn stop(&self) {
        self.moving.stopping.store(true, Ordering::Release);
        self.moving.wake();
        if let Some(coordinator) = self.coordinator.lock().take() {
            // A panic was reported by the thread itself.
            let _ = coordinator.join();
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Moving {
    fn wake(&self) {
        self.state.lock().is_stale = true;
        self.changed.notify_all();
    }

    fn coordinate(self: Arc<Self>) {
        // Before the first step, so that none is counted twice.
        let found = warm_bytes(self.port.disk().as_ref(), &self.port.tier1_directory());
        self.tier1_bytes.fetch_add(found, Ordering::Relaxed);
        while !self.stopping.load(Ordering::Acquire) {
            // Asked first: a step that ends while `pending` is read is planned again only from a newer reading.
            let under_way = self.state.lock().memo.under_way.clone();
            let pending: BTreeMap<SegmentKey, SealedSegment> = self
                .port
                .pending()
                .into_iter()
                .map(|segment| (key_of(&segment), segment))
                .collect();
            let now = self.port.clock().monotonic();
            let look_again = {
                let mut state = self.state.lock();
                state.memo.failed.retain(|key, _| pending.contains_key(key));
                state.verified.retain(|key, _| pending.contains_key(key));
                let memo = Memo {
                    under_way,
                    failed: state.memo.failed.clone(),
                };
                let plan = plan(now, pending.values(), &memo, self.limits());
                for (key, step) in plan.start {
                    if let Some(segment) = pending.get(&key) {
                        state.memo.under_way.insert(key.clone(), step);
                        self.start(key, step, segment.clone(), &mut state);
                    }
                }
                plan.look_again
            };
            let wait = look_again.map_or(LONGEST_WAIT, |at| {
                at.saturating_duration_since(now).min(LONGEST_WAIT)
            });
            let mut state = self.state.lock();
            if !state.is_stale {
                self.changed
                    .wait_for(&mut state, wait.max(Duration::from_millis(1)));
            }
            state.is_stale = false;
        }
        let mut state = self.state.lock();
        while !state.memo.under_way.is_empty() {
            self.changed.wait(&mut state);
        }
    }

    fn limits(&self) -> Limits {
        let tier2 = self.claims.tier2();
        let health = tier2.health();
        Limits {
            uploads: self.settings.read().upload_concurrency,
            tier2_answers: health.reason.is_none(),
            tier2_not_before: tier2.rests_until(),
        }
    }

    fn start(
        self: &Arc<Self>,
        key: SegmentKey,
        step: Step,
        segment: SealedSegment,
        state: &mut State,
    ) {
        if state.memo.failed.contains_key(&key) {
            self.repeated_steps.fetch_add(1, Ordering::Relaxed);
        }
        let worker = self.clone();
        let name = match step {
            Step::Compress => "compress",
            Step::Upload => "upload",
        };
        let worked = key.clone();
        let started = self.port.threads().start(name, move || {
            let finished = FinishOnDrop {
                moving: worker,
                key: worked,
            };
            let outcome = finished.moving.run(step, &segment);
            finished.moving.note(&segment, outcome);
        });
        if let Err(error) = started {
            tracing::warn!(stream = %key.0, "no thread for a {name}: {error}");
            state.memo.under_way.remove(&key);
        }
    }

    fn run(&self, step: Step, segment: &SealedSegment) -> Result<(), MoveError> {
        match step {
            Step::Compress => self.compress(segment),
            Step::Upload => match self.upload(segment) {
                Err(MoveError::Upload(UploadError::Warm { source, .. })) => {
                    tracing::warn!(stream = %segment.stream, segment_id = segment.segment_id, "the warm file is made again: {source}");
                    self.compress(segment)?;
                    self.upload(segment)
                }
                other => other,
            },
        }
    }

    fn compress(&self, segment: &SealedSegment) -> Result<(), MoveError> {
        let commit = |record| {
            self.port
                .commit(&segment.stream, segment.segment_id, record)
                .map_err(MoveError::Manifest)
        };
        let path = self.warm_path(segment)?;
        let settings = *self.settings.read();
        let options = CompressOptions {
            level: settings.compression_level,
            block_bytes: settings.block_bytes,
        };
        let bytes = self
            .port
            .segment_bytes(&segment.stream, segment.segment_id)
            .map_err(MoveError::Segment)?;
        // Once, however often it is tried.
        if !segment.moves.compression_started {
            commit(TierRecord::CompressionStarted)?;
        }
        let disk = self.port.disk();
        let replaced_bytes = file_bytes(disk.as_ref(), &path);
        match compress(disk.as_ref(), &path, segment, &bytes, options) {
            Ok(facts) => {
                self.tier1_bytes
                    .fetch_add(facts.size_bytes, Ordering::Relaxed);
                self.tier1_bytes
                    .fetch_sub(replaced_bytes, Ordering::Relaxed);
                commit(TierRecord::CompressionDone {
                    compressed_bytes: facts.size_bytes,
                    dictionary_id: 0,
                })?;
                self.state.lock().verified.insert(key_of(segment), facts);
                self.compressed_segments.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let reason = match &error {
                    CompressError::Segment { .. } | CompressError::Verify(_) => {
                        FailureReason::Codec
                    }
                    CompressError::Disk { .. } | CompressError::NoRoom { .. } => {
                        FailureReason::Transient
                    }
                };
                if !segment.moves.has_failed(FailedStep::Compression, reason) {
                    commit(TierRecord::CompressionFailed { reason })?;
                }
                Err(match error {
                    CompressError::Segment { problem, .. } => {
                        let (stream, id) = (&segment.stream, segment.segment_id);
                        MoveError::Damaged {
                            stream: stream.to_string(),
                            known: self.port.note_damage(stream, id, &problem),
                        }
                    }
                    CompressError::Disk { .. }
                    | CompressError::NoRoom { .. }
                    | CompressError::Verify(_) => MoveError::Compress(error),
                })
            }
        }
    }

    fn upload(&self, segment: &SealedSegment) -> Result<(), MoveError> {
        let path = self.warm_path(segment)?;
        let key = key_of(segment);
        // Taken out: a second upload of the same file verifies it again.
        let known = self.state.lock().verified.remove(&key);
        let claim_age = self.settings.read().claim_check;
        let uploaded = upload(
            self.port.as_ref(),
            &self.claims,
            segment,
            &path,
            known,
            claim_age,
        )?;
        tracing::debug!(stream = %segment.stream, key = uploaded.key, bytes = uploaded.size_bytes, "uploaded");
        self.uploaded_segments.fetch_add(1, Ordering::Relaxed);
        self.uploaded_bytes
            .fetch_add(uploaded.size_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn warm_path(&self, segment: &SealedSegment) -> Result<PathBuf, MoveError> {
        let path = warm_path(&self.port.tier1_directory(), segment);
        path.ok_or_else(|| {
            MoveError::Upload(UploadError::NoKey {
                stream: segment.stream.to_string(),
                segment_id: segment.segment_id,
                epoch: segment.epoch,
            })
        })
    }

    fn note(&self, segment: &SealedSegment, outcome: Result<(), MoveError>) {
        let key = key_of(segment);
        let error = match outcome {
            Ok(()) => {
                let mut state = self.state.lock();
                state.memo.failed.remove(&key);
                if self.claims.tier2().health().reason.is_none() {
                    state
                        .memo
                        .failed
                        .retain(|_, failed| failed.kind != FailureKind::Outage);
                }
                return;
            }
            Err(error) => error,
        };
        if let MoveError::Upload(UploadError::Superseded { to, .. }) = &error {
            self.port.supersede(&segment.stream, *to);
        }
        let kind = error.kind();
        let message = with_causes(&error);
        // Damage was told when it was found, and every try finds it again.
        if kind != FailureKind::Damage {
            tracing::warn!(stream = %segment.stream, segment_id = segment.segment_id, "{message}");
        }
        let now = self.port.clock().monotonic();
        let mut state = self.state.lock();
        let times = state.memo.failed.get(&key).map_or(0, |failed| failed.times) + 1;
        let retry_at = now + pause_after(times, kind);
        state.memo.failed.insert(
            key,
            Failed {
                times,
                retry_at,
                kind,
                message,
            },
        );
    }
}

/// What lies in Tier 1. Only reported, so that what cannot be read counts as nothing.
fn warm_bytes(disk: &dyn Disk, tier1_directory: &Path) -> u64 {
    let root = tier1_directory.join(file::WARM_DIR);
    let mut total = 0;
    for stream in disk.list(&root).unwrap_or_default() {
        let directory = root.join(&stream.name);
        for entry in disk.list(&directory).unwrap_or_default() {
            if file::parse_warm(&entry.name).is_some() {
                total += file_bytes(disk, &directory.join(&entry.name));
            }
        }
    }
    total
}

fn file_bytes(disk: &dyn Disk, path: &Path) -> u64 {
    disk.open_read(path)
        .and_then(|file| file.len())
        .unwrap_or(0)
}

/// A step that panics is over, too.
struct FinishOnDrop {
    moving: Arc<Moving>,
    key: SegmentKey,
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.moving.state.lock().memo.under_way.remove(&self.key);
        self.moving.wake();
        let hook = self.moving.step_hook.read().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error(transparent)]
    Segment(ReadError),
    #[error("stream {stream} is damaged: {known}")]
    Damaged { stream: String, known: String },
    #[error("the manifest takes no record")]
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
                ReadError::Disk { .. } | ReadError::NotResident { .. } | ReadError::Closed => {
                    FailureKind::Refused
                }
                ReadError::UnknownStream { .. }
                | ReadError::Trimmed { .. }
                | ReadError::Superseded { .. }
                | ReadError::VolumeRefused { .. } => FailureKind::Final,
            },
            MoveError::Damaged { .. } => FailureKind::Damage,
            MoveError::Manifest(_) => FailureKind::Refused,
            MoveError::Compress(error) => match error {
                CompressError::Segment { .. } => FailureKind::Damage,
                CompressError::Verify(_) => FailureKind::Final,
                CompressError::Disk { .. } | CompressError::NoRoom { .. } => FailureKind::Refused,
            },
            MoveError::Upload(error) => match error {
                UploadError::Store(error)
                    if error.is_outage() || matches!(error, ObjectError::Stopping { .. }) =>
                {
                    FailureKind::Outage
                }
                UploadError::Claim {
                    source: ClaimError::Pending { .. },
                    ..
                } => FailureKind::Outage,
                UploadError::Store(_)
                | UploadError::Claim { .. }
                | UploadError::Manifest { .. }
                | UploadError::Warm { .. } => FailureKind::Refused,
                UploadError::Superseded { .. }
                | UploadError::KeyTaken { .. }
                | UploadError::NoKey { .. } => FailureKind::Final,
            },
        }
    }
}

fn key_of(segment: &SealedSegment) -> SegmentKey {
    (segment.stream.clone(), segment.segment_id)
}
