//! One pass: one run of segments of each stream after the other, again and again until there is none, or until something else goes before.

use std::sync::Arc;

use super::requests::CompactionRun;
use super::{DISABLED, LastMerge, Runner};
use crate::admit::high_mark;
use crate::config::Config;
use crate::coordinator::memo::{FailureKind, pause_after};
use crate::coordinator::plan::Room;
use crate::coordinator::plan::compact::{
    Limits, Next, NodeFacts, hold, lacks_room, longest_run, next, room_bytes,
};
use crate::error::with_causes;
use crate::jobs::merge::{MergeJobError, Way, merge};
use crate::port::Port;
use crate::residency::Pieces;
use crate::store::merge::Replaced;

/// What a pass is for.
struct Pass {
    /// `None`: nobody asked for it.
    asked: Option<CompactionRun>,
}

/// What was found of streams of which nothing is merged now.
#[derive(Default)]
struct Left {
    /// A stream whose merge failed, and is retried later.
    waiting: Option<Arc<str>>,
    /// A stream whose segments would be merged if there were room, and how many bytes there are.
    short_of_room: Option<(Arc<str>, u64)>,
    /// Most small segments in a row, and of which stream.
    longest: Option<(usize, Arc<str>)>,
}

impl Runner {
    pub(super) fn pass(&self) {
        let asked = {
            let mut state = self.state.lock();
            let asked = state.requests.front();
            if asked.is_some() {
                // Whoever asks wants it now.
                state.failed.clear();
            }
            asked
        };
        let is_asked = asked.is_some();
        let why = self.merge_all(&Pass { asked });
        let mut state = self.state.lock();
        state.status.end = Some(why.clone());
        if is_asked {
            state.requests.end(why);
        }
    }

    /// Answers why no more is merged.
    fn merge_all(&self, pass: &Pass) -> String {
        loop {
            let mut left = Left::default();
            let mut is_done = true;
            let mut facts = self.observe();
            let streams = match self.streams(pass) {
                Ok(streams) => streams,
                Err(why) => return why,
            };
            for stream in streams {
                match self.one_of(&stream, pass, &facts, &mut left) {
                    Ok(true) => {
                        is_done = false;
                        facts = self.observe();
                    }
                    Ok(false) => {}
                    Err(why) => return why,
                }
            }
            if is_done {
                return match self.is_wanted(pass) {
                    true => self.nothing(&left),
                    false => DISABLED.to_owned(),
                };
            }
        }
    }

    fn is_wanted(&self, pass: &Pass) -> bool {
        pass.asked.is_some() || self.store.config().compaction.enabled
    }

    /// Those behind the one that was last come first.
    fn streams(&self, pass: &Pass) -> Result<Vec<Arc<str>>, String> {
        let asked = pass.asked.as_ref().and_then(|run| run.stream.clone());
        if let Some(stream) = asked {
            return match self.store.pieces(&stream) {
                Ok(Some(_)) => Ok(vec![stream]),
                Ok(None) => Err(format!(
                    "stream {stream} is damaged, or another volume owns it"
                )),
                Err(error) => Err(error.to_string()),
            };
        }
        let mut streams = match self.is_wanted(pass) {
            true => self.store.stream_list(),
            false => self.store.streams_with_unfinished_merges(),
        };
        let last = self.state.lock().last_stream.clone();
        let behind = streams.partition_point(|stream| Some(stream) <= last.as_ref());
        streams.rotate_left(behind);
        Ok(streams)
    }

    /// Whether there was something to do. An error: why the pass ends. `facts`: since something was done last.
    fn one_of(
        &self,
        stream: &Arc<str>,
        pass: &Pass,
        facts: &NodeFacts,
        left: &mut Left,
    ) -> Result<bool, String> {
        if self.is_stopping() {
            return Err("engine stops".to_owned());
        }
        if pass.asked.is_none() && self.state.lock().requests.front().is_some() {
            return Err("a pass that was asked for goes before".to_owned());
        }
        let is_wanted = self.is_wanted(pass);
        if let Some(held) = hold(facts).filter(|_| is_wanted) {
            return Err(held.to_string());
        }
        let Ok(Some(pieces)) = self.store.pieces(stream) else {
            return Ok(false);
        };
        let limits = is_wanted.then(|| self.limits(stream, facts.room));
        let Some(next) = next(&pieces, limits.as_ref()) else {
            if let Some(limits) = &limits {
                left.note(&pieces, limits);
            }
            return Ok(false);
        };
        if self.rests(stream) {
            left.waiting.get_or_insert(stream.clone());
            return Ok(false);
        }
        self.state.lock().last_stream = Some(stream.clone());
        let done = match next {
            Next::GiveUp { output_id } => self.give_up(stream, output_id, pass),
            Next::Merge { segment_ids } => self.merge(stream, &segment_ids, pass),
        };
        self.coordinator.ring();
        done.map(|()| true)
    }

    fn observe(&self) -> NodeFacts {
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
            tier2_problem: problem
                .or_else(|| rests.map(|_| "the engine backs off from it".to_owned())),
            pending_uploads: match self.claims.is_some() {
                true => self.store.sealed_segments_pending().len(),
                false => 0,
            },
            upload_concurrency: self.store.config().tier2.upload_concurrency,
            waiting_hydrations: self.coordinator.waiting_hydrations(),
            room: space.map(|space| Room {
                free_bytes: space.available_bytes,
                total_bytes: space.total_bytes,
            }),
        }
    }

    fn limits(&self, stream: &str, room: Option<Room>) -> Limits {
        let config = self.store.config();
        let rule = config.retention.iter().find(|rule| rule.fits(stream));
        Limits {
            target_bytes: config.segment_target_bytes(),
            min_inputs: config.compaction.min_inputs.max(2),
            max_age: rule.and_then(|rule| rule.max_age),
            max_bytes: rule.and_then(|rule| rule.max_bytes),
            room_bytes: room_bytes(room).min(self.tier0_room()),
        }
    }

    /// Below the high mark of Tier 0. One that moves down by itself is always near it: a merge gives back more than it takes.
    fn tier0_room(&self) -> u64 {
        let (used_bytes, quota_bytes) = self.store.tier0_budget();
        match quota_bytes {
            0 => u64::MAX,
            _ => high_mark(quota_bytes).saturating_sub(used_bytes),
        }
    }

    fn rests(&self, stream: &str) -> bool {
        let now = self.store.environment().clock.monotonic();
        let state = self.state.lock();
        let failed = state.failed.get(stream);
        failed.is_some_and(|(_, retry_at)| *retry_at > now)
    }

    /// What an upload of it may have left goes by its key, as that of a trimmed segment does.
    fn give_up(&self, stream: &Arc<str>, output_id: u64, pass: &Pass) -> Result<(), String> {
        match self.store.give_up_merge(stream, output_id) {
            Ok(()) => {
                tracing::info!(%stream, segment_id = output_id, "merge given up");
                Ok(())
            }
            Err(error) => self.failed(stream, 0, &MergeJobError::Manifest(error), pass),
        }
    }

    fn merge(&self, stream: &Arc<str>, segment_ids: &[u64], pass: &Pass) -> Result<(), String> {
        let claim_age = self.store.config().tier2.claim_check;
        let options = self.coordinator.compress_options();
        let way = self.claims.as_deref().zip(options);
        let way = way.map(|(claims, compress)| Way {
            claims,
            compress,
            claim_age,
        });
        // A drain, or the end of the process, waits for no file.
        let may_go_on = || !self.is_stopping() && self.store.admission_closed().is_none();
        match merge(&self.store, way.as_ref(), stream, segment_ids, &may_go_on) {
            Ok(replaced) => {
                self.merged(stream, &replaced, pass);
                Ok(())
            }
            Err(error) => {
                let is_final = error.needs_another_output();
                self.failed(stream, segment_ids.len(), &error, pass)?;
                let pieces = self.store.pieces(stream).ok().flatten();
                let unfinished = pieces.and_then(|pieces| pieces.unfinished);
                match unfinished.filter(|_| is_final) {
                    Some((output_id, _)) => self.give_up(stream, output_id, pass),
                    None => Ok(()),
                }
            }
        }
    }

    fn merged(&self, stream: &Arc<str>, replaced: &Replaced, pass: &Pass) {
        for input in &replaced.inputs {
            self.coordinator.remove_warm_file(input);
        }
        let inputs = replaced.inputs.len() as u64;
        let read_bytes: u64 = replaced.inputs.iter().map(|input| input.bytes).sum();
        let written_bytes = replaced.bytes;
        tracing::info!(%stream, inputs, read_bytes, written_bytes, "segments merged");
        let last = self.last(stream, inputs, None);
        let mut state = self.state.lock();
        state.failed.remove(stream);
        let status = &mut state.status;
        status.merges += 1;
        status.inputs += inputs;
        status.read_bytes += read_bytes;
        status.written_bytes += written_bytes;
        status.last = Some(last);
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
        // One that is known to be damaged is none of the next inputs.
        let is_left_out = error
            .damaged_input()
            .is_some_and(|id| self.store.is_damaged(stream, id));
        if !is_left_out {
            self.rest(stream);
        }
        if error.is_no_failure() {
            tracing::debug!(%stream, "segments not merged: {message}");
            return Ok(());
        }
        tracing::warn!(%stream, "segments not merged: {message}");
        let last = self.last(stream, inputs as u64, Some(message.clone()));
        let mut state = self.state.lock();
        state.status.failures += 1;
        state.status.last = Some(last);
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

    /// Why there is nothing to merge.
    fn nothing(&self, left: &Left) -> String {
        if let Some(stream) = &left.waiting {
            return format!("a merge of stream {stream} failed and is retried later");
        }
        if let Some((stream, room_bytes)) = &left.short_of_room {
            return format!(
                "stream {stream} has segments to merge and no room for what they become: {room_bytes} bytes are free for it, on the volume and below 90 % of the Tier 0 quota. Raise tier0.cluster_max_bytes, or enlarge the volume"
            );
        }
        let config: Arc<Config> = self.store.config();
        let min_inputs = config.compaction.min_inputs;
        let wanted = format!(
            "{min_inputs} adjacent segments below half of {} bytes",
            config.segment_target_bytes()
        );
        match &left.longest {
            Some((length, stream)) if *length >= min_inputs => format!(
                "no stream has {wanted} that make one at least twice as large as the largest of them and hold at most an eighth of what retention keeps; stream {stream} has {length} in a row"
            ),
            Some((length, stream)) => format!(
                "no stream has {wanted} that are in Tier 0 and wait for nothing; stream {stream} has {length} in a row"
            ),
            None => {
                format!("no stream has {wanted} that are in Tier 0 and wait for nothing")
            }
        }
    }
}

impl Left {
    fn note(&mut self, pieces: &Pieces, limits: &Limits) {
        if self.short_of_room.is_none() && lacks_room(pieces, limits) {
            self.short_of_room = Some((pieces.stream.clone(), limits.room_bytes));
        }
        let length = longest_run(pieces, limits);
        let most = self.longest.as_ref().map_or(0, |(most, _)| *most);
        if length > most {
            self.longest = Some((length, pieces.stream.clone()));
        }
    }
}
