//! One pass over the streams of this node, and the copies of segments that nobody may read any more.

use std::sync::Arc;
use std::time::Duration;

use aof2_format::start_sequence::StartReason;

use super::clock::Trust;
use super::{Runner, reading};
use crate::config::RetentionRule;
use crate::coordinator::plan::retain::{self, Limits};
use crate::error::{StoreError, with_causes};
use crate::store::trim::TrimError;

/// How often a reading of the clock is stored.
const STORE_EVERY: Duration = Duration::from_secs(600);

pub(super) struct Pass {
    pub rules: Vec<RetentionRule>,
    /// `None` while the clock is not trusted.
    pub now_unix_nanos: Option<i64>,
}

#[derive(Default)]
struct Dropped {
    segments: u64,
    tier0_bytes: u64,
    tier1_bytes: u64,
}

impl Runner {
    pub(super) fn run(&self, pass: Option<Pass>) {
        if let Some(pass) = pass {
            self.pass(&pass);
        }
        self.drop_trimmed(&self.store.streams_with_trimmed_copies());
    }

    fn pass(&self, pass: &Pass) {
        let mut fitting = vec![0; pass.rules.len()];
        for info in self.store.streams() {
            let Some(index) = retain::rule_of(&pass.rules, &info.name) else {
                continue;
            };
            fitting[index] += 1;
            let limits = Limits::from(&pass.rules[index]);
            if self.is_stopping() {
                return;
            }
            if let Err(error) = self.retain(&info.name, limits, pass.now_unix_nanos) {
                let message = with_causes(&error);
                tracing::warn!(stream = %info.name, "retention did not move the start: {message}");
            }
        }
        self.note_pass(pass, fitting);
    }

    fn retain(
        &self,
        stream: &str,
        limits: Limits,
        now_unix_nanos: Option<i64>,
    ) -> Result<(), TrimError> {
        let (sealed, unsealed_bytes) = self.store.sealed_from_start(stream)?;
        let start = retain::start(&sealed, unsealed_bytes, limits, now_unix_nanos);
        let Some(start) = start else { return Ok(()) };
        match self.store.trim(stream, start, StartReason::Retention) {
            // It is another volume's to keep.
            Err(TrimError::NotServed(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    fn note_pass(&self, pass: &Pass, fitting: Vec<u64>) {
        let now = reading::now(&self.store).monotonic;
        let mut state = self.state.lock();
        // Other rules have come meanwhile: their pass is due now.
        if state.rules != pass.rules {
            return;
        }
        if state.fitting.is_none() {
            let unused = pass.rules.iter().zip(&fitting);
            for (rule, _) in unused.filter(|(_, streams)| **streams == 0) {
                let streams = &rule.streams;
                tracing::warn!(
                    streams,
                    "no stream of this node fits this rule of retention, or each fits an earlier one"
                );
            }
        }
        state.fitting = Some(fitting);
        let limited = pass.rules.iter().filter(|rule| !rule.keeps_all());
        let pause = limited.map(|rule| retain::pause(rule.into())).min();
        state.next_pass = pause.map(|pause| now + pause);
        drop(state);
        self.store_reading_if_due();
    }

    /// Only one that is trusted, and where something goes by it.
    pub(super) fn store_reading_if_due(&self) {
        let now = reading::now(&self.store);
        let mut state = self.state.lock();
        let is_due = state
            .stored_at
            .is_none_or(|at| now.monotonic >= at + STORE_EVERY);
        if is_due && state.needs_clock() && state.guard.look(now) == Trust::Trusted {
            state.stored_at = Some(now.monotonic);
            drop(state);
            reading::store(&self.store);
        }
    }

    fn drop_trimmed(&self, streams: &[Arc<str>]) {
        for stream in streams {
            let mut dropped = Dropped::default();
            let outcome = self.drop_of_stream(stream, &mut dropped);
            let Dropped {
                segments,
                tier0_bytes,
                tier1_bytes,
            } = dropped;
            if segments > 0 {
                tracing::info!(%stream, segments, tier0_bytes, tier1_bytes, "trimmed segments dropped");
            }
            if let Err(error) = outcome {
                let message = with_causes(&error);
                tracing::warn!(%stream, "trimmed segments not dropped: {message}");
                self.rest();
                return;
            }
            if self.is_stopping() {
                return;
            }
        }
    }

    fn drop_of_stream(&self, stream: &str, dropped: &mut Dropped) -> Result<(), StoreError> {
        for segment in self.store.trimmed_on_node(stream)? {
            if self.is_stopping() {
                return Ok(());
            }
            let id = segment.segment_id;
            if segment.copies.hot {
                dropped.tier0_bytes += self.store.drop_trimmed(stream, id)?;
            }
            if let Some(bytes) = segment.copies.warm {
                dropped.tier1_bytes += self.coordinator.drop_warm(stream, id, bytes)?;
            }
            dropped.segments += 1;
        }
        self.store.forget_trimmed(stream)
    }
}
