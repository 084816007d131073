//! Starts a thread per job. One that panics is over, too.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::memo::{FailureKind, Memo, SegmentKey, Step, Upkeep};
use super::observe::{Rooms, Tier2Facts};
use super::plan::{Copy, Task};
use super::record::{self, MoveError};
use super::{Down, Node, State, file_bytes};
use crate::dropped::Dropped;
use crate::error::{StoreError, with_causes};
use crate::jobs::check_claims::check_claims;
use crate::jobs::compress::{self, CompressOptions};
use crate::jobs::drop_warm::{drop_warm, remove};
use crate::jobs::streamed::Streamed;
use crate::jobs::upload::{self, UploadError, Warm};
use crate::port::{Port, SealedSegment, TierRecord};

/// Before an eviction that failed is tried again.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&Down, &dyn Port) + Send>;

impl Node {
    pub(super) fn start(self: &Arc<Self>, task: Task, facts: &Tier2Facts, state: &mut State) {
        let (name, job): (_, Job) = match &task {
            Task::CheckClaims => {
                state.memo.claims.is_under_way = true;
                ("claims", Box::new(|down, port| down.check_claims(port)))
            }
            Task::Evict(copies) => {
                state.memo.evict.is_under_way = true;
                let copies = copies.clone();
                (
                    "evict",
                    Box::new(move |down, port| down.evict(port, &copies)),
                )
            }
            Task::Seal(streams) => {
                state.memo.seal.is_under_way = true;
                let streams = streams.clone();
                (
                    "seal-full",
                    Box::new(move |down, port| down.seal(port, &streams)),
                )
            }
            Task::Hydrate(wish, victims) => {
                state.memo.hydrate.is_under_way = true;
                let (wish, victims) = (wish.clone(), victims.clone());
                let job = move |down: &Down, port: &dyn Port| down.hydrate(port, &wish, victims);
                ("hydrate", Box::new(job))
            }
            Task::Move(key, step) => {
                let Some(segment) = facts.pending.get(key).cloned() else {
                    return;
                };
                // Taken since the plan was made.
                if state.memo.is_busy(key) {
                    return;
                }
                if state.memo.failed.contains_key(key)
                    && let Some(down) = &self.down
                {
                    let repeated = &down.counters.repeated_steps;
                    repeated.fetch_add(1, Ordering::Relaxed);
                }
                state.memo.under_way.insert(key.clone(), *step);
                let name = match step {
                    Step::Compress => "compress",
                    Step::Upload => "upload",
                };
                let (key, step) = (key.clone(), *step);
                let job =
                    move |down: &Down, port: &dyn Port| down.do_move(port, &key, step, &segment);
                (name, Box::new(job))
            }
        };
        let (node, worked) = (self.clone(), task.clone());
        let body = move || {
            let finish = FinishOnDrop { node, task: worked };
            if let Some(down) = &finish.node.down {
                job(down, &*finish.node.port);
            }
        };
        let environment = self.port.environment();
        let started = match task {
            // Of these, appends wait for room alone: then they leave the processors.
            Task::Move(..) | Task::Hydrate(..) => environment.spawn_in_background(name, body),
            Task::CheckClaims | Task::Evict(_) | Task::Seal(_) => environment.spawn(name, body),
        };
        if let Err(error) = started {
            tracing::warn!("cannot start a thread for job {name}: {error}");
            self.over(&task, state);
        }
    }

    fn over(&self, task: &Task, state: &mut State) {
        match task {
            Task::Move(key, _) => {
                state.memo.under_way.remove(key);
            }
            Task::CheckClaims => {
                state.memo.claims.is_under_way = false;
                state.memo.claims.ended_at = Some(self.port.environment().clock.monotonic());
            }
            Task::Evict(_) => state.memo.evict.is_under_way = false,
            Task::Seal(_) => state.memo.seal.is_under_way = false,
            Task::Hydrate(..) => state.memo.hydrate.is_under_way = false,
        }
    }
}

/// One thread's job.
struct FinishOnDrop {
    node: Arc<Node>,
    task: Task,
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        let FinishOnDrop { node, task } = self;
        if let Some(down) = &node.down {
            node.over(task, &mut down.state.lock());
        }
        node.bell.ring();
    }
}

impl Down {
    /// The requests of a check are the first to notice that an outage is over, or that credentials were renewed: what waits for that
    /// goes on at once.
    fn check_claims(&self, port: &dyn Port) {
        self.measure(port);
        let tier2 = self.claims.tier2();
        let had_failed = tier2.health().reason.is_some();
        check_claims(port, &self.claims);
        if had_failed && tier2.health().reason.is_none() {
            self.state.lock().memo.forget(FailureKind::Outage);
        }
    }

    /// Before and after what changes it. The loop does not wait for a disk.
    pub(super) fn measure(&self, port: &dyn Port) {
        let disk = &port.environment().disk;
        let has_own = port.has_tier1_volume();
        let rooms = Rooms {
            tier0: disk.space(&port.directory()).ok(),
            tier1: has_own
                .then(|| disk.space(&port.tier1_directory()).ok())
                .flatten(),
        };
        self.state.lock().rooms = rooms;
    }

    /// What fails is left where it is, and looked at again after a pause.
    fn evict(&self, port: &dyn Port, copies: &[(SegmentKey, Copy)]) {
        self.evict_all(port, copies);
        self.measure(port);
    }

    pub(super) fn evict_all(&self, port: &dyn Port, copies: &[(SegmentKey, Copy)]) {
        let is_stopped = || self.claims.tier2().is_stopping();
        for ((stream, segment_id), copy) in copies {
            if is_stopped() {
                return;
            }
            let evicted = match copy {
                Copy::Hot { is_kept } => {
                    if *is_kept {
                        self.keep_warm(port, stream, *segment_id);
                    }
                    port.evict_hot(stream, *segment_id)
                }
                Copy::Warm { bytes } => self.evict_warm(port, stream, *segment_id, *bytes),
            };
            match evicted {
                Ok(bytes) => record::evicted(self, stream, *segment_id, *copy, bytes),
                Err(error) => {
                    let message = with_causes(&error);
                    tracing::warn!(%stream, segment_id, "segment not evicted: {message}");
                    self.rest(port, |memo| &mut memo.evict);
                    return;
                }
            }
        }
    }

    /// Makes the copy in Tier 1 again, unless appends wait for the room. Where that fails its blocks come from Tier 2.
    fn keep_warm(&self, port: &dyn Port, stream: &Arc<str>, segment_id: u64) {
        if is_nearly_full(port) {
            return;
        }
        let Some(segment) = port.sealed_segment(stream, segment_id) else {
            return;
        };
        if segment.copies.warm.is_some() || !segment.copies.hot {
            return;
        }
        let key = (stream.clone(), segment_id);
        if let Err(error) = self.compress(port, &key, &segment) {
            let message = with_causes(&error);
            tracing::debug!(%stream, segment_id, "segment leaves Tier 0 without a copy in Tier 1: {message}");
        }
    }

    pub(super) fn evict_warm(
        &self,
        port: &dyn Port,
        stream: &str,
        segment_id: u64,
        bytes: u64,
    ) -> Result<u64, StoreError> {
        match self.drop_warm(port, stream, segment_id, bytes)? {
            Dropped::Removed { file_bytes: _ } => Ok(bytes),
            Dropped::Nothing | Dropped::Left { .. } => Ok(0),
        }
    }

    pub(super) fn drop_warm(
        &self,
        port: &dyn Port,
        stream: &str,
        segment_id: u64,
        bytes: u64,
    ) -> Result<Dropped, StoreError> {
        let _one_at_a_time = self.dropping(port);
        let segment = port.sealed_segment(stream, segment_id);
        let path = segment.and_then(|it| compress::warm_path(&port.tier1_directory(), &it));
        let _closed = path.as_ref().and_then(|path| self.closed(path));
        let dropped = drop_warm(port, stream, segment_id, bytes)?;
        self.count_removed(&dropped);
        Ok(dropped)
    }

    /// Of a copy that was dropped before and that nobody makes again.
    pub(super) fn remove_left(&self, port: &dyn Port, path: &Path) -> Dropped {
        let _one_at_a_time = self.dropping(port);
        let _closed = self.closed(path);
        let dropped = remove(port, path);
        self.count_removed(&dropped);
        dropped
    }

    fn count_removed(&self, dropped: &Dropped) {
        if let Dropped::Removed { file_bytes } = dropped {
            let counted = &self.counters.tier1_bytes;
            counted.fetch_sub(*file_bytes, Ordering::Relaxed);
        }
    }

    fn seal(&self, port: &dyn Port, streams: &[Arc<str>]) {
        for stream in streams {
            if self.claims.tier2().is_stopping() {
                return;
            }
            if let Err(error) = port.seal(Some(stream)) {
                let message = with_causes(&error);
                tracing::warn!(%stream, "cannot seal what fills Tier 0: {message}");
                self.rest(port, |memo| &mut memo.seal);
                return;
            }
        }
    }

    pub(super) fn rest(&self, port: &dyn Port, of: impl Fn(&mut Memo) -> &mut Upkeep) {
        let now = port.environment().clock.monotonic();
        of(&mut self.state.lock().memo).rests_until = Some(now + REST_AFTER_FAILURE);
    }

    fn do_move(&self, port: &dyn Port, key: &SegmentKey, step: Step, segment: &SealedSegment) {
        let outcome = match step {
            Step::Compress => match self.compress(port, key, segment) {
                // The way down must not need what only the way down gives back.
                Err(MoveError::Compress(error))
                    if error.lacks_space() && !self.rests(port.environment().clock.monotonic()) =>
                {
                    tracing::debug!(stream = %segment.stream, segment_id = segment.segment_id, "uploading without a Tier 1 file: {error}");
                    self.upload_streamed(port, segment)
                }
                other => other,
            },
            Step::Upload => match self.upload(port, key, segment) {
                Err(MoveError::Upload(UploadError::Warm { source, .. }))
                    if !port.is_unneeded(&segment.stream, segment.segment_id) =>
                {
                    tracing::warn!(stream = %segment.stream, segment_id = segment.segment_id, "rebuilding a damaged Tier 1 file: {source}");
                    self.compress(port, key, segment)
                        .and_then(|()| self.upload(port, key, segment))
                }
                other => other,
            },
        };
        record::note(self, port, key, segment, outcome);
        self.measure(port);
    }

    /// What is sent now is not tried: compressing it is a waste.
    fn rests(&self, now: Instant) -> bool {
        let rests_until = self.claims.tier2().rests_until();
        rests_until.is_some_and(|until| until > now)
    }

    fn compress(
        &self,
        port: &dyn Port,
        key: &SegmentKey,
        segment: &SealedSegment,
    ) -> Result<(), MoveError> {
        let Some(path) = compress::warm_path(&port.tier1_directory(), segment) else {
            return Err(no_key(segment));
        };
        let disk = &port.environment().disk;
        compress::look_for_room(&**disk, &path, segment).map_err(MoveError::Compress)?;
        let options = self.compress_options();
        let bytes = port
            .segment_bytes(&segment.stream, segment.segment_id)
            .map_err(MoveError::Segment)?;
        // Once, however often it is tried, and again where another file is to take the place of one.
        let is_replaced = segment.copies.warm.is_some() && !segment.moves.is_compressing_again;
        if !segment.moves.compression_started || is_replaced {
            record::commit(port, segment, TierRecord::CompressionStarted)?;
        }
        let replaced_bytes = file_bytes(&**disk, &path);
        let _closed = self.closed(&path);
        match compress::compress(&**disk, &path, segment, &bytes, options) {
            Ok(facts) => record::compressed(self, port, key, segment, facts, replaced_bytes),
            Err(error) => Err(record::compression_failed(port, segment, error)),
        }
    }

    fn upload(
        &self,
        port: &dyn Port,
        key: &SegmentKey,
        segment: &SealedSegment,
    ) -> Result<(), MoveError> {
        let Some(path) = compress::warm_path(&port.tier1_directory(), segment) else {
            return Err(no_key(segment));
        };
        // Taken out: a second upload of the same file verifies it again, unless it was only Tier 2 that did not take it.
        let mut known = self.state.lock().verified.remove(key);
        let claim_age = self.settings.read().claim_check;
        let warm = Warm::File(&path, &mut known);
        match upload::upload(port, &self.claims, segment, warm, claim_age) {
            Ok(uploaded) => record::uploaded(self, port, segment, uploaded),
            Err(error) => {
                if let (Some(facts), true) = (known, error.says_nothing_about_the_file()) {
                    self.state.lock().verified.insert(key.clone(), facts);
                }
                Err(record::upload_failed(self, port, segment, error))
            }
        }
    }

    fn upload_streamed(&self, port: &dyn Port, segment: &SealedSegment) -> Result<(), MoveError> {
        // A file that an earlier process wrote and did not record: no record will name it, and it takes room of the others.
        let path = compress::warm_path(&port.tier1_directory(), segment);
        if let Some(path) = path.filter(|_| segment.copies.warm.is_none()) {
            let removed = self.remove_left(port, &path);
            removed.warn(&segment.stream, segment.segment_id);
        }
        let bytes = port
            .segment_bytes(&segment.stream, segment.segment_id)
            .map_err(MoveError::Segment)?;
        let (streamed, facts) = Streamed::new(segment, bytes, self.compress_options())
            .map_err(|error| record::compression_failed(port, segment, error))?;
        let claim_age = self.settings.read().claim_check;
        let warm = Warm::Streamed(streamed, facts);
        match upload::upload(port, &self.claims, segment, warm, claim_age) {
            Ok(uploaded) => record::uploaded(self, port, segment, uploaded),
            Err(error) => Err(record::upload_failed(self, port, segment, error)),
        }
    }

    pub(super) fn compress_options(&self) -> CompressOptions {
        let settings = *self.settings.read();
        CompressOptions {
            level: settings.compression_level,
            block_bytes: settings.block_bytes,
        }
    }
}

/// Above the middle between the high mark and the quota of Tier 0: compressing a copy takes longer than unlinking it.
pub(super) fn is_nearly_full(port: &dyn Port) -> bool {
    let (used_bytes, quota_bytes) = port.tier0_budget();
    quota_bytes > 0 && used_bytes > quota_bytes / 20 * 19
}

fn no_key(segment: &SealedSegment) -> MoveError {
    MoveError::Upload(UploadError::NoKey {
        stream: segment.stream.to_string(),
        segment_id: segment.segment_id,
        epoch: segment.epoch,
    })
}
