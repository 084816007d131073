//! One job: a reading of the clock, turns of the rules' pass, and copies of segments that nobody may read any more.

use std::sync::Arc;

use aof2_format::start_sequence::StartReason;

use super::budget::Budget;
use super::clock::Trusted;
use super::drops::Left;
use super::passes::Turn;
use super::{Runner, reading};
use crate::coordinator::plan::retain::{self, Beginning};
use crate::dropped::Dropped;
use crate::error::{StoreError, with_causes};
use crate::store::trim::TrimError;

/// What a job has to do.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub keeps_reading: bool,
    /// The rules have a pass; with the clock, `None` while it is not trusted.
    pub pass: Option<Option<Trusted>>,
    /// Streams with copies to drop.
    pub drops: Vec<Arc<str>>,
}

#[derive(Default)]
struct Gone {
    segments: u64,
    tier0_bytes: u64,
    tier1_bytes: u64,
    /// Of the first file that stays.
    left: Option<String>,
}

impl Runner {
    pub(super) fn run(&self, job: Job) {
        let Job {
            keeps_reading,
            pass,
            drops,
        } = job;
        if keeps_reading {
            self.store_reading_if_due();
        }
        if let Some(clock) = pass {
            self.pass(clock);
        }
        self.drop_trimmed(&drops);
    }

    fn now(&self) -> std::time::Instant {
        self.store.environment().clock.monotonic()
    }

    /// Goes on with a pass, or begins one.
    fn pass(&self, clock: Option<Trusted>) {
        self.state.lock().passes.begin(|| self.store.names());
        let mut budget = Budget::of_job(self.now());
        while !self.is_stopping() && budget.take(self.now()) {
            let turn = self.state.lock().passes.turn();
            let Some(turn) = turn else { break };
            let outcome = self.retain(&turn, clock);
            let Turn { stream, .. } = turn;
            let mut state = self.state.lock();
            match outcome {
                Ok(left_bytes) => {
                    state.passes.failures.clear(&stream);
                    if let Some(left_bytes) = left_bytes {
                        state.passes.again(stream, left_bytes);
                    }
                }
                Err(error) => {
                    let message = with_causes(&error);
                    let now = self.now();
                    if state.passes.failures.note(&stream, message.clone(), now) {
                        tracing::warn!(%stream, "retention did not move the start: {message}");
                    }
                }
            }
        }
        let unused = self.state.lock().passes.end(self.now());
        for streams in unused {
            tracing::warn!(
                streams,
                "no stream of this node fits this rule of retention, or each fits an earlier one"
            );
        }
    }

    /// Answers the bytes that this pass may still take of the stream, where it has to be looked at again.
    fn retain(&self, turn: &Turn, clock: Option<Trusted>) -> Result<Option<u64>, TrimError> {
        let Turn {
            stream,
            limits,
            left_bytes,
        } = turn;
        let most = self.segments_of_turn;
        let (sealed, total_bytes) = self.store.sealed_from_start(stream, most)?;
        let beginning = Beginning {
            sealed: &sealed,
            total_bytes,
            left_bytes: *left_bytes,
        };
        let now_unix_nanos = clock.map(Trusted::wall_unix_nanos);
        let Some(start) = retain::start(beginning, *limits, now_unix_nanos) else {
            return Ok(None);
        };
        let reason = StartReason::Retention;
        match self.store.trim(stream, start.sequence, reason) {
            Ok(_) => Ok(start.left_bytes),
            // It is another volume's to keep.
            Err(TrimError::NotServed(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Only one that is trusted.
    pub(super) fn store_reading_if_due(&self) {
        let now = reading::now(&self.store);
        let trusted = {
            let mut state = self.state.lock();
            if !state.owes_reading(now.monotonic) {
                return;
            }
            let Ok(trusted) = state.guard.look(now) else {
                return;
            };
            state.stored_at = Some(now.monotonic);
            trusted
        };
        reading::store(&self.store, trusted);
    }

    fn drop_trimmed(&self, streams: &[Arc<str>]) {
        let mut budget = Budget::of_job(self.now());
        for stream in streams {
            if self.is_stopping() || !budget.take(self.now()) {
                return;
            }
            self.state.lock().drops.note_turn(stream);
            let mut gone = Gone::default();
            let outcome = self.drop_of_stream(stream, &mut budget, &mut gone);
            let Gone {
                segments,
                tier0_bytes,
                tier1_bytes,
                left,
            } = gone;
            if segments > 0 {
                tracing::info!(%stream, segments, tier0_bytes, tier1_bytes, "trimmed segments dropped");
            }
            let error = outcome.err().map(|error| with_causes(&error));
            let mut state = self.state.lock();
            match error.or(left) {
                None => state.drops.failures.clear(stream),
                Some(message) => {
                    if state
                        .drops
                        .failures
                        .note(stream, message.clone(), self.now())
                    {
                        tracing::warn!(%stream, "trimmed segments not dropped: {message}");
                    }
                }
            }
        }
    }

    /// Errors are those of the stream's manifest.
    fn drop_of_stream(
        &self,
        stream: &Arc<str>,
        budget: &mut Budget,
        gone: &mut Gone,
    ) -> Result<(), StoreError> {
        self.remove_left(stream, gone);
        let segments = self.store.trimmed_on_node(stream, self.segments_of_turn)?;
        let dropped = segments.iter().try_for_each(|segment| {
            if self.is_stopping() || !budget.take(self.now()) {
                return Ok(());
            }
            let id = segment.segment_id;
            let mut is_gone = true;
            if segment.copies.hot {
                let dropped = self.store.drop_trimmed(stream, id)?;
                gone.tier0_bytes += dropped.bytes();
                is_gone &= self.is_removed(stream, id, 0, dropped, gone);
            }
            if let Some(bytes) = segment.copies.warm {
                let dropped = self.coordinator.drop_warm(stream, id, bytes)?;
                gone.tier1_bytes += dropped.bytes();
                is_gone &= self.is_removed(stream, id, 1, dropped, gone);
            }
            gone.segments += u64::from(is_gone);
            Ok(())
        });
        self.store.forget_trimmed(stream)?;
        dropped
    }

    /// A file that stays is tried again with the next turn of its stream.
    fn is_removed(
        &self,
        stream: &Arc<str>,
        segment_id: u64,
        tier: u8,
        dropped: Dropped,
        gone: &mut Gone,
    ) -> bool {
        let Dropped::Left { file, cause } = dropped else {
            return true;
        };
        let why = || format!("cannot remove {}: {cause}", file.path.display());
        gone.left.get_or_insert_with(why);
        let left = Left {
            segment_id,
            tier,
            file,
        };
        self.state.lock().drops.leave(stream, left);
        false
    }

    fn remove_left(&self, stream: &Arc<str>, gone: &mut Gone) {
        let left = self.state.lock().drops.take_left(stream);
        for Left {
            segment_id,
            tier,
            file,
        } in left
        {
            let (dropped, bytes) = match tier {
                0 => (self.store.remove_left_hot(file), &mut gone.tier0_bytes),
                _ => (
                    self.coordinator.remove_left_warm(&file),
                    &mut gone.tier1_bytes,
                ),
            };
            *bytes += dropped.bytes();
            let is_removed = self.is_removed(stream, segment_id, tier, dropped, gone);
            gone.segments += u64::from(is_removed);
        }
    }
}
