//! How pods are replaced, one at a time, without losing what was acknowledged.
//!
//! [`step()`] is a pure function: from what it remembers (the memo, in status) and what the cluster reports (the facts) it makes the
//! next memo, the actions of this look and the waits to show. It has no clock, no client and no state of its own, so a restarted
//! operator goes on where the facts say.
//!
//! Invariants, checked on every action by `tests/world.rs` and by an observer in the end-to-end tests:
//! - A serving pod is removed only with an unexpired drain token, unless a person overrode [`aof2_crds::Gate::EngineReachable`].
//! - A serving pod is removed only while every other pod serves.
//! - An action belongs to a step that was recorded in an earlier look: intent is written before the act.
//! - The next pod goes only after the current one has soaked; the first failure stops there.
//! - Going back needs nobody's help: what does not serve is replaced without a drain, and first.

mod drain;
mod facts;
mod gates;
mod memo;
mod order;
mod preflight;
mod removal;
mod retarget;
mod returning;
mod step;
#[cfg(test)]
mod tests;
mod version;

pub use facts::{
    EngineFacts, Facts, PodFacts, PodInstance, Policy, Recovery, Revision, Tier2Trouble, Trouble,
};
pub use gates::{CREATED_WITHIN, not_created};
pub use memo::{DrainMemo, Memo, MovingPod, UpgradeKind, UpgradeStep};
pub use removal::eviction_refused;
pub use step::{Action, RemoveBy, Step, step};
pub use version::EngineVersion;
