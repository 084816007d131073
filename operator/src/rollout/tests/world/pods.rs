//! A pod of that world and its engine, tick by tick.

use aof2_admin_api::{DrainPhase, DrainReason};
use jiff::{SignedDuration, Timestamp};

use super::*;

#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: String,
    pub(super) resource_version: u32,
    pub revision: Revision,
    pub terminating_ticks: Option<u32>,
    pub ready: bool,
    pub(super) created_at: Timestamp,
    pub(super) ready_since: Timestamp,
    pub(super) has_soaked: bool,
    pub(super) eviction_refused: Option<String>,
    pub(super) engine: Engine,
}

#[derive(Clone, Debug)]
pub(super) struct Engine {
    /// Until it runs, then until it is ready.
    pub(super) starting_ticks: u32,
    pub(super) replaying_ticks: u32,
    pub(super) process_start: Timestamp,
    pub(super) reachable: bool,
    pub(super) restarts: u32,
    pub(super) flush_failures: u64,
    pub(super) phase: DrainPhase,
    pub(super) reason: Option<DrainReason>,
    pub(super) phase_ticks: u32,
    pub(super) bounds_ticks: [u32; 2],
    pub(super) token: Option<(String, Timestamp)>,
    pub(super) acked: u64,
    pub(super) sealed_uploaded: u64,
}

pub(super) const REPLAY_TICKS: u32 = 3;

impl Pod {
    pub(super) fn new(uid: String, revision: Revision, now: Timestamp) -> Self {
        let engine = Engine {
            starting_ticks: 2,
            replaying_ticks: REPLAY_TICKS,
            process_start: now,
            reachable: true,
            restarts: 0,
            flush_failures: 0,
            phase: DrainPhase::Open,
            reason: None,
            phase_ticks: 0,
            bounds_ticks: [10, 5],
            token: None,
            acked: 0,
            sealed_uploaded: 0,
        };
        Self {
            uid,
            resource_version: 1,
            revision,
            terminating_ticks: None,
            ready: false,
            created_at: now,
            ready_since: now,
            has_soaked: false,
            eviction_refused: None,
            engine,
        }
    }

    pub(super) fn runs(&self, behaviour: Behaviour) -> bool {
        self.engine.starting_ticks == 0 && behaviour != Behaviour::ImagePull
    }

    pub(super) fn set_ready(&mut self, ready: bool, now: Timestamp) {
        if self.ready != ready {
            self.ready = ready;
            self.ready_since = now;
            self.resource_version += 1;
        }
    }

    pub(super) fn terminate(&mut self) {
        if self.terminating_ticks.is_none() {
            self.terminating_ticks = Some(2);
            self.resource_version += 1;
        }
    }
}

impl Engine {
    pub(super) fn is_ready(&self) -> bool {
        self.starting_ticks == 0 && self.replaying_ticks == 0
    }

    pub(super) fn holds_token(&self, now: Timestamp) -> bool {
        self.phase == DrainPhase::Drained
            && self
                .token
                .as_ref()
                .is_some_and(|(_, expires_at)| now < *expires_at)
    }

    pub(super) fn restart(&mut self, now: Timestamp) {
        self.restarts += 1;
        self.starting_ticks = 2;
        self.replaying_ticks = REPLAY_TICKS;
        self.process_start = now;
        self.flush_failures = 0;
        self.enter(DrainPhase::Open, None);
    }

    pub(super) fn enter(&mut self, phase: DrainPhase, reason: Option<DrainReason>) {
        self.phase = phase;
        self.reason = reason;
        self.phase_ticks = 0;
        self.token = None;
    }

    pub(super) fn tick_drain(
        &mut self,
        tier2_is_up: bool,
        now: Timestamp,
        token: u32,
        is_terminating: bool,
    ) {
        self.phase_ticks += 1;
        match self.phase {
            DrainPhase::Open | DrainPhase::Unknown => {}
            DrainPhase::Uploading if tier2_is_up && self.phase_ticks >= 2 => {
                // What came in after the seal stays behind.
                self.sealed_uploaded = self.acked - 1;
                self.enter(DrainPhase::Closing, None);
            }
            DrainPhase::Uploading if self.phase_ticks >= self.bounds_ticks[0] => {
                self.enter(DrainPhase::Open, Some(DrainReason::UploadTimeout));
            }
            DrainPhase::Uploading => {}
            DrainPhase::Closing if tier2_is_up && self.phase_ticks >= 2 => {
                self.sealed_uploaded = self.acked;
                self.enter(DrainPhase::Drained, None);
                self.token = Some((
                    format!("token-{token}"),
                    now + SignedDuration::from_secs(60),
                ));
            }
            DrainPhase::Closing if self.phase_ticks >= self.bounds_ticks[1] => {
                self.enter(DrainPhase::Open, Some(DrainReason::DrainTimeout));
            }
            DrainPhase::Closing => {}
            DrainPhase::Drained => {
                if !is_terminating
                    && self
                        .token
                        .as_ref()
                        .is_some_and(|(_, expires_at)| *expires_at <= now)
                {
                    self.enter(DrainPhase::Open, Some(DrainReason::TokenExpired));
                }
            }
        }
    }
}
