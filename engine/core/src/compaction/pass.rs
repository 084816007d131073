//! One pass: merges one run of segments after the other until there is none, or until something else goes before.

use std::sync::Arc;
use std::time::Instant;

use super::requests::CompactionRun;
use super::{LastMerge, Runner};
use crate::admit::high_mark;
use crate::config::Config;
use crate::coordinator::memo::{FailureKind, pause_after};
use crate::coordinator::plan::Room;
use crate::coordinator::plan::compact::{
    Limits, Next, NodeFacts, hold, longest_run, next, room_bytes,
};
use crate::error::with_causes;
use crate::jobs::merge::{MergeJobError, Way, give_up, merge};
use crate::port::Port;
use crate::residency::Pieces;
use crate::store::merge::Replaced;

/// What a pass is for.
struct Pass {
    /// `None`: nobody asked for it.
    asked: Option<CompactionRun>,
}

/// One thing to do.
struct Step {
    stream: Arc<str>,
    next: Next,
}

impl Runner {
    pub(super) fn pass(&self) {
        let asked = self.state.lock().requests.front();
        if asked.is_some() {
            // Whoever asks wants it now.
            self.state.lock().failed.clear();
        }
        let is_asked = asked.is_some();
        let pass = Pass { asked };
        let why = loop {
            match self.step(&pass) {
                Ok(()) => {}
                Err(why) => break why,
            }
        };
        let mut state = self.state.lock();
        state.status.end = Some(why.clone());
        if is_asked {
            state.requests.end(why);
        }
    }

    /// An error: why no more is merged.
    fn step(&self, pass: &Pass) -> Result<(), String> {
        if self.is_stopping() {
            return Err("engine stops".to_owned());
        }
        if pass.asked.is_none() && self.state.lock().requests.front().is_some() {
            return Err("a pass that was asked for goes before".to_owned());
        }
        let config = self.store.config();
        let is_wanted = config.compaction.enabled || pass.asked.is_some();
        let facts = self.observe(&config);
        let held = hold(&facts).filter(|_| is_wanted);
        if let Some(held) = held {
            return Err(held.to_string());
        }
        let streams = self.pieces(pass)?;
        let now = self.store.environment().clock.monotonic();
        let room = room_bytes(facts.room).min(self.tier0_room());
        let limits = |stream: &Pieces| is_wanted.then(|| limits_of(&config, stream, room));
        match self.choose(&streams, now, &limits) {
            Some(step) => self.apply(&step, pass),
            None if is_wanted => Err(self
                .waiting(&streams, limits)
                .unwrap_or_else(|| nothing(&config, &streams, room))),
            None => Err("compaction.enabled is false".to_owned()),
        }
        .map(|()| self.coordinator.ring())
    }

    fn observe(&self, config: &Config) -> NodeFacts {
        let health = self.coordinator.health();
        let tier2 = self.claims.as_ref().map(|claims| claims.tier2());
        let rests = tier2.and_then(|tier2| tier2.rests_until());
        let problem = health.and_then(|health| {
            let reason = health.reason?;
            Some(health.message.unwrap_or_else(|| format!("{reason:?}")))
        });
        let disk = &self.store.environment().disk;
        let space = disk.space(&Port::directory(&self.store)).ok();
        NodeFacts {
            admission_closed: self.store.admission_closed(),
            tier2_problem: problem.or_else(|| rests.map(|_| "it rests".to_owned())),
            pending_uploads: match self.claims.is_some() {
                true => self.store.sealed_segments_pending().len(),
                false => 0,
            },
            upload_concurrency: config.tier2.upload_concurrency,
            room: space.map(|space| Room {
                free_bytes: space.available_bytes,
                total_bytes: space.total_bytes,
            }),
        }
    }

    fn pieces(&self, pass: &Pass) -> Result<Vec<Pieces>, String> {
        let stream = pass.asked.as_ref().and_then(|run| run.stream.as_ref());
        let Some(stream) = stream else {
            return Ok(self.store.pieces());
        };
        match self.store.pieces_of_stream(stream) {
            Ok(Some(pieces)) => Ok(vec![pieces]),
            Ok(None) => Err(format!(
                "stream {stream} is damaged, or another volume owns it"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Below the high mark of Tier 0.
    fn tier0_room(&self) -> u64 {
        let (used_bytes, quota_bytes) = self.store.tier0_budget();
        match quota_bytes {
            0 => u64::MAX,
            _ => high_mark(quota_bytes).saturating_sub(used_bytes),
        }
    }

    /// The streams behind the one that was last come first.
    fn choose(
        &self,
        streams: &[Pieces],
        now: Instant,
        limits: impl Fn(&Pieces) -> Option<Limits>,
    ) -> Option<Step> {
        let state = self.state.lock();
        let last = state.last_stream.clone();
        let behind = streams
            .iter()
            .position(|it| Some(&it.stream) > last.as_ref());
        let (first, second) = streams.split_at(behind.unwrap_or(0));
        let may_be_tried = |stream: &&Pieces| {
            let failed = state.failed.get(&stream.stream);
            failed.is_none_or(|(_, retry_at)| *retry_at <= now)
        };
        let mut candidates = second.iter().chain(first).filter(may_be_tried);
        candidates.find_map(|stream| {
            Some(Step {
                stream: stream.stream.clone(),
                next: next(stream, limits(stream).as_ref())?,
            })
        })
    }

    /// A stream whose merge failed, and is tried again later.
    fn waiting(
        &self,
        streams: &[Pieces],
        limits: impl Fn(&Pieces) -> Option<Limits>,
    ) -> Option<String> {
        let state = self.state.lock();
        let mut failed = streams
            .iter()
            .filter(|it| state.failed.contains_key(&it.stream));
        let waiting = failed.find(|it| next(it, limits(it).as_ref()).is_some())?;
        let stream = &waiting.stream;
        Some(format!("a merge of stream {stream} is tried again later"))
    }

    fn apply(&self, step: &Step, pass: &Pass) -> Result<(), String> {
        let Step { stream, next } = step;
        self.state.lock().last_stream = Some(stream.clone());
        match next {
            Next::GiveUp { output_id } => {
                match give_up(&self.store, self.claims.as_deref(), stream, *output_id) {
                    Ok(true) => {
                        tracing::info!(%stream, segment_id = output_id, "merge given up");
                        Ok(())
                    }
                    Ok(false) => {
                        self.rest(stream);
                        Ok(())
                    }
                    Err(error) => self.failed(stream, 0, &error, pass),
                }
            }
            Next::Merge { segment_ids } => {
                let done = self.merge(stream, segment_ids);
                match done {
                    Ok(replaced) => {
                        self.merged(stream, &replaced, pass);
                        Ok(())
                    }
                    Err(error) => self.failed(stream, segment_ids.len(), &error, pass),
                }
            }
        }
    }

    fn merge(&self, stream: &Arc<str>, segment_ids: &[u64]) -> Result<Replaced, MergeJobError> {
        let claim_age = self.store.config().tier2.claim_check;
        let way = self
            .claims
            .as_deref()
            .zip(self.coordinator.compress_options());
        let way = way.map(|(claims, compress)| Way {
            claims,
            compress,
            claim_age,
        });
        // An append that is refused now waits for what a merge would write.
        let may_go_on = || !self.is_stopping() && self.store.admission_closed().is_none();
        merge(&self.store, way.as_ref(), stream, segment_ids, &may_go_on)
    }

    fn merged(&self, stream: &Arc<str>, replaced: &Replaced, pass: &Pass) {
        for input in &replaced.inputs {
            if input.copies.warm.is_some() {
                self.coordinator.remove_warm_file(input);
            }
        }
        let inputs = replaced.inputs.len() as u64;
        let read_bytes: u64 = replaced.inputs.iter().map(|input| input.bytes).sum();
        let written_bytes = replaced.bytes;
        tracing::info!(%stream, inputs, read_bytes, written_bytes, "segments merged");
        let mut state = self.state.lock();
        state.failed.remove(stream);
        let status = &mut state.status;
        status.merges += 1;
        status.inputs += inputs;
        status.read_bytes += read_bytes;
        status.written_bytes += written_bytes;
        status.last = Some(self.last(stream, inputs, None));
        if pass.asked.is_some() {
            state.requests.note(|run| {
                run.inputs += inputs;
                run.outputs += 1;
                run.read_bytes += read_bytes;
                run.written_bytes += written_bytes;
            });
        }
    }

    fn last(&self, stream: &Arc<str>, inputs: u64, failure: Option<String>) -> LastMerge {
        LastMerge {
            stream: stream.clone(),
            at_unix_nanos: self.store.unix_nanos(),
            inputs,
            failure,
        }
    }

    /// Others go on, unless they wait for the same.
    fn failed(
        &self,
        stream: &Arc<str>,
        inputs: usize,
        error: &MergeJobError,
        pass: &Pass,
    ) -> Result<(), String> {
        let message = with_causes(error);
        if self.is_stopping() {
            return Err("engine stops".to_owned());
        }
        if error.is_no_failure() {
            tracing::debug!(%stream, "segments not merged: {message}");
            self.rest(stream);
            return Ok(());
        }
        tracing::warn!(%stream, "segments not merged: {message}");
        // One that is known to be damaged is none of the next inputs.
        let is_left_out = error
            .damaged_input()
            .is_some_and(|id| self.store.is_damaged(stream, id));
        if !is_left_out {
            self.rest(stream);
        }
        let mut state = self.state.lock();
        state.status.failures += 1;
        state.status.last = Some(self.last(stream, inputs as u64, Some(message.clone())));
        if pass.asked.is_some() {
            state.requests.note(|run| {
                run.failures += 1;
                run.failure = Some(message.clone());
            });
        }
        match error.is_outage() || self.store.poisoned().is_some() {
            true => Err(message),
            false => Ok(()),
        }
    }

    /// Longer each time.
    fn rest(&self, stream: &Arc<str>) {
        let now = self.store.environment().clock.monotonic();
        let mut state = self.state.lock();
        let (times, retry_at) = state.failed.entry(stream.clone()).or_insert((0, now));
        *times += 1;
        *retry_at = now + pause_after(*times, FailureKind::Refused);
    }
}

fn limits_of(config: &Config, stream: &Pieces, room_bytes: u64) -> Limits {
    let mut rules = config.retention.iter();
    let rule = rules.find(|rule| rule.fits(&stream.stream));
    Limits {
        target_bytes: config.segment_target_bytes(),
        min_inputs: config.compaction.min_inputs.max(2),
        max_age: rule.and_then(|rule| rule.max_age),
        max_bytes: rule.and_then(|rule| rule.max_bytes),
        room_bytes,
    }
}

/// Why there is nothing to merge.
fn nothing(config: &Config, streams: &[Pieces], room_bytes: u64) -> String {
    let runs = streams.iter().map(|stream| {
        let limits = limits_of(config, stream, room_bytes);
        (longest_run(stream, &limits), &stream.stream)
    });
    let most = runs.max_by_key(|(length, _)| *length);
    let target_bytes = config.segment_target_bytes();
    let min_inputs = config.compaction.min_inputs;
    let wanted = format!("{min_inputs} adjacent segments below half of {target_bytes} bytes");
    match most.filter(|(length, _)| *length > 0) {
        Some((length, stream)) if length >= min_inputs => format!(
            "no stream has {wanted} that make one at least twice as large as the largest of them within the room and the retention there is; stream {stream} has {length} in a row"
        ),
        Some((length, stream)) => format!(
            "no stream has {wanted} that are in Tier 0 and wait for nothing; stream {stream} has {length} in a row"
        ),
        None => format!("no stream has {wanted} that are in Tier 0 and wait for nothing"),
    }
}
