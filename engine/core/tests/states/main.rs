//! Crash states, enumerated: a store runs on a disk that records, every state that a power cut may leave is built from the
//! recording, opened, and held against what callers were told.
//!
//! `AOF2_STATES`: how many states, or `all`. `AOF2_STATES_SEED`: where they begin. A state that fails is written to a folder, and
//! `AOF2_STATES_REPLAY=<folder>` opens it again.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod baton;
mod content;
mod coordinated;
mod dice;
mod disk;
mod explore;
mod fates;
mod faults;
mod image;
mod kept;
mod model;
mod picks;
mod proof;
mod recording;
mod scheduled;
mod session;
mod timeline;
mod volume;
mod workloads;

use disk::Faults;
use explore::{Plan, explore};

const STATES: u64 = 20_000;
const SEED: u64 = 12;

#[test]
fn every_state_that_a_power_cut_may_leave_holds_what_was_promised() {
    let variable = |name: &str| std::env::var(name).ok();
    let states = match variable("AOF2_STATES").as_deref() {
        None => Some(STATES),
        Some("all") => None,
        Some(count) => Some(count.parse().expect("AOF2_STATES is a number or `all`")),
    };
    let seed = variable("AOF2_STATES_SEED").map_or(SEED, |seed| {
        seed.parse().expect("AOF2_STATES_SEED is a number")
    });
    let plan = Plan {
        seed,
        states,
        faults: Faults::NONE,
        workloads: workloads::ALL,
    };
    let summary = explore(&plan);
    let seconds = summary.elapsed.as_secs_f64();
    println!(
        "seed {seed}: {} states ({} of a second or third cut, {} drawn again) in {seconds:.1} s, {:.0} a second",
        summary.states,
        summary.second_cuts,
        summary.repeated,
        summary.states as f64 / seconds
    );
    if let Some(failure) = summary.failure {
        let folder = kept::keep(&failure);
        panic!(
            "seed {seed}, state {}: {}\nAOF2_STATES_REPLAY={} opens it again",
            summary.states,
            failure.what,
            folder.display()
        );
    }
}

/// Nothing unless a folder is named.
#[test]
fn a_state_that_was_kept_opens_again() {
    if let Ok(folder) = std::env::var("AOF2_STATES_REPLAY") {
        kept::open(std::path::Path::new(&folder)).expect("the state holds what was promised");
    }
}
