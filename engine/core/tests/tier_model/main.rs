//! A reference model of a log, against a real store with all its parts over three tiers: random operations from a seed, crashes at any
//! step, and what must hold behind each of them.
//!
//! `AOF2_TIERS`: how many sequences. `AOF2_TIERS_SEED`: one alone, told step by step; `AOF2_TIERS_STEPS`: of these steps only.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

#[path = "../states/baton.rs"]
#[allow(dead_code)] // what other test programs use
mod baton;
mod bucket;
mod check;
#[path = "../states/content.rs"]
#[allow(dead_code)] // what other test programs use
mod content;
mod contents;
#[path = "../states/dice.rs"]
mod dice;
mod disk;
#[path = "../states/fates.rs"]
#[allow(dead_code)] // what other test programs use
mod fates;
#[path = "../states/image.rs"]
#[allow(dead_code)] // what other test programs use
mod image;
mod lacks;
mod leaving;
mod ledger;
mod model;
mod node;
mod ops;
mod power;
mod process;
mod records;
mod rest;
mod run;
#[path = "../states/volume.rs"]
#[allow(dead_code)] // what other test programs use
mod volume;
mod world;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of a run that nobody asked for more: about 10 s of two cores.
const SEQUENCES: u64 = 4_000;
/// After which no other one is begun, where no number was asked for: a busy machine runs fewer.
const LIMIT: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// The threads of a sequence run one at a time: on one core, the next one need not be woken on another.
fn stay_on_one_core(worker: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect();
    let mut one = CpuSet::new();
    one.set(cores[worker % cores.len()]);
    // Only time is lost where it fails.
    let _ = sched_setaffinity(None, &one);
}

#[test]
fn a_log_over_three_tiers_is_what_the_model_says_whatever_happens() {
    if let Some(seed) = number("AOF2_TIERS_SEED") {
        run::replay(seed);
        return;
    }
    let asked = number("AOF2_TIERS");
    let sequences = asked.unwrap_or(SEQUENCES);
    let first = number("AOF2_TIERS_FROM").unwrap_or(0);
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let operations = AtomicU64::new(0);
    let merges = AtomicU64::new(0);
    let failed = parking_lot::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..threads {
            let (next, operations, merges, failed) = (&next, &operations, &merges, &failed);
            scope.spawn(move || {
                stay_on_one_core(worker);
                let is_over = || asked.is_none() && begun.elapsed() > LIMIT;
                while failed.lock().is_empty() && !is_over() {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + sequences {
                        return;
                    }
                    match run::sequence(seed) {
                        Ok((done, merged)) => {
                            operations.fetch_add(done, Ordering::SeqCst);
                            merges.fetch_add(merged, Ordering::SeqCst);
                        }
                        Err(error) => failed.lock().push((seed, error)),
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let done = next.load(Ordering::SeqCst).min(first + sequences) - first;
    println!(
        "{done} sequences of {} operations with {} merges in {seconds:.1} s, {:.0} a second",
        operations.load(Ordering::SeqCst),
        merges.load(Ordering::SeqCst),
        done as f64 / seconds
    );
    let failed = failed.into_inner();
    for (seed, error) in &failed {
        eprintln!("seed {seed}: {error}");
    }
    if let Some((seed, error)) = failed.first() {
        run::explain(*seed, error);
    }
}
