//! The steps of a snapshot: begin each stream, wait for all, write the index, read everything back. Pure.

mod begin;
mod conclude;
mod streams;
mod take;
mod verify;

use std::collections::BTreeMap;

use aof2_admin_api::{SnapshotIndex, SnapshotVerdict};
use aof2_crds::snapshot::{
    Aof2SnapshotStatus, Level, SnapshotCondition as Kind, SnapshotReason as Reason,
};
use jiff::Timestamp;

use super::conditions::{condition, say};
use super::facts::Facts;
use crate::machine::NextLook;

pub use conclude::conclude;

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub status: Aof2SnapshotStatus,
    pub actions: Vec<Action>,
    pub next: NextLook,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Begin { pod: String, stream: String },
    PutIndex(SnapshotIndex),
    Verify(Level, Vec<Target>),
}

/// A stream's snapshot to be read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub stream: String,
    pub snapshot_id: String,
    /// What its catalogue has to be.
    pub digest: String,
    /// The pod that took it; empty where that is not known.
    pub owner: String,
}

/// What the actions brought.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Key of the index, or why it was not written.
    pub index: Option<Result<String, IndexFailure>>,
    /// By stream; an error: nobody could say.
    pub verdicts: Option<BTreeMap<String, Result<SnapshotVerdict, String>>>,
}

impl Done {
    /// Every stream was judged, well or not.
    pub fn is_verdict(&self) -> bool {
        self.verdicts
            .as_ref()
            .is_some_and(|verdicts| verdicts.values().all(Result::is_ok))
    }

    /// Every stream was read back and is what it was.
    pub fn is_as_it_was(&self) -> bool {
        self.verdicts.as_ref().is_some_and(|verdicts| {
            verdicts
                .values()
                .all(|verdict| verdict.as_ref().is_ok_and(|verdict| verdict.verified))
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFailure {
    pub message: String,
    /// Trying again changes nothing.
    pub is_final: bool,
}

pub fn step(before: &Aof2SnapshotStatus, facts: &Facts, now: Timestamp) -> Step {
    let mut status = before.clone();
    status.observed_generation = facts.generation;
    match condition(before, Kind::Succeeded).map(|condition| condition.status.as_str()) {
        Some("False") => ended(status),
        Some("True") => verify::verified(status, facts, now),
        Some(_) | None => take::running(status, facts, now),
    }
}

fn ended(status: Aof2SnapshotStatus) -> Step {
    Step {
        status,
        actions: Vec::new(),
        next: NextLook::AT_CHANGE,
    }
}

fn failed(mut status: Aof2SnapshotStatus, reason: Reason, message: String, now: Timestamp) -> Step {
    say(&mut status, Kind::Succeeded, "False", reason, message, now);
    ended(status)
}

fn under_way(
    mut status: Aof2SnapshotStatus,
    reason: Reason,
    message: String,
    actions: Vec<Action>,
    now: Timestamp,
) -> Step {
    let kind = Kind::Succeeded;
    say(&mut status, kind, "Unknown", reason, message, now);
    soon(status, actions)
}

fn soon(status: Aof2SnapshotStatus, actions: Vec<Action>) -> Step {
    Step {
        status,
        actions,
        next: NextLook::SOON,
    }
}
