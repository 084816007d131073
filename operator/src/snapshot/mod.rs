//! An `Aof2Snapshot`: observe, plan, record, apply, record. The work is the engines', per stream; the deadline is ours.
//!
//! Nothing is remembered between two looks but status: an engine that is asked again for the same request answers what it has, so an
//! operator that is killed anywhere goes on. When a snapshot was read back last is remembered in memory alone; a new process reads all
//! of them back once.

mod apply;
mod facts;
mod observe;
pub mod run;
pub mod schedule;
mod step;
#[cfg(test)]
mod tests;

pub use facts::{ClusterFacts, Facts, IndexFacts, PodFacts, StreamFacts, Taken};
pub use step::{Action, Done, IndexFailure, Step, Target, conclude, step};
