//! The rollout of a configuration: a pure `step(memo, facts, now)`. No pod is replaced; a pod is told another revision by its file,
//! and its engine restarts alone where a key needs that.
//!
//! `Validating -> Preflight -> Canary -> Observing -> Rolling`, from each of these `-> Reverting`, or `-> Held` where a person wants to
//! decide. Invariants, checked on every step by `tests/world.rs`:
//! - One pod is told first, and no other before it was observed for the whole window.
//! - What is not known holds, and never passes.
//! - At most one engine that serves restarts at a time, and only after its pod was told in an earlier look.
//! - Going back asks nobody: it needs neither a healthy canary nor a drain.
//! - A revision that was refused or reverted is not tried again by itself.

mod beginning;
mod converge;
mod facts;
mod gates;
mod memo;
pub mod retention;
mod rolling;
mod step;
pub mod takes;
mod taking_back;
#[cfg(test)]
mod tests;
mod watching;

pub use facts::{
    EngineFacts, Facts, Figure, PodFacts, Policy, Rates, ReadRates, Tier0Raise, Verdict,
};
pub use memo::{Canary, ConfigStep, Memo};
pub use step::{Action, News, Step, step, told};
