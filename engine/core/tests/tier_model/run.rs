//! One sequence: from a fresh store to one that is at rest behind a restart.

use std::sync::Arc;

use crate::baton::Baton;
use crate::dice::Dice;
use crate::ops::{self, Op, Theme};
use crate::world::World;

/// Of one sequence, at most.
const MOST_OPERATIONS: u64 = 17;
/// Turns of threads: more than any sequence takes that comes to rest.
const MOST_STEPS: u64 = 200_000;
/// Every so many sequences has two streams.
const TWO_STREAMS: u64 = 4;
/// The same for those that end with another start.
const LOOKS_FOR_LEAKS: u64 = 3;

fn operations(seed: u64) -> Vec<Op> {
    let mut dice = Dice::new(seed ^ 0x6f70_7300);
    let count = 3 + dice.below(MOST_OPERATIONS - 2);
    let streams = streams(seed) as u64;
    let first = (0..streams as usize).map(|stream| Op::Append {
        stream,
        sizes: vec![100, 5_000],
        is_durable: true,
    });
    let mut first: Vec<Op> = first.collect();
    // So that there is something to merge.
    if dice.one_in(3) {
        let (stream, count) = (0, 3 + dice.below(3));
        first.push(Op::Pieces { stream, count });
    }
    let theme = Theme::draw(&mut dice);
    let drawn = (0..count).map(|_| ops::draw(&mut dice, streams, theme));
    first.into_iter().chain(drawn).collect()
}

fn streams(seed: u64) -> usize {
    if seed.is_multiple_of(TWO_STREAMS) {
        2
    } else {
        1
    }
}

/// How many operations it had and how many merges were done in it, or what did not hold.
pub fn sequence(seed: u64) -> Result<(u64, u64), String> {
    let operations = operations(seed);
    let merges = perform(seed, &operations, false)?;
    Ok((operations.len() as u64, merges))
}

fn perform(seed: u64, operations: &[Op], tells: bool) -> Result<u64, String> {
    Baton::conduct_untraced(seed, MOST_STEPS, |baton| {
        within(baton, seed, operations, tells)
    })
}

fn within(baton: &Arc<Baton>, seed: u64, operations: &[Op], tells: bool) -> Result<u64, String> {
    let mut world = World::new(seed, baton, streams(seed), tells)?;
    let mut outcome = Ok(());
    // What is left over shows behind a start; it is as long as all the rest.
    let looks_for_leaks = seed.is_multiple_of(LOOKS_FOR_LEAKS);
    let end = match looks_for_leaks {
        true => &[Op::Settle, Op::Restart, Op::Settle][..],
        false => &[Op::Settle],
    };
    for (number, op) in operations.iter().chain(end).enumerate() {
        outcome = world
            .apply(op)
            .map_err(|error| format!("operation {number}, {op:?}: {error}"));
        if outcome.is_err() {
            break;
        }
    }
    if looks_for_leaks {
        outcome = outcome.and_then(|()| world.check_leaks());
    }
    let outcome = outcome.and_then(|()| world.merges());
    if outcome.is_err() && tells {
        world.tell_all();
    }
    // Also behind a failure: its threads would stay for ever.
    let _ = world.node.stop();
    outcome
}

pub fn replay(seed: u64) {
    let mut operations = operations(seed);
    if let Ok(steps) = std::env::var("AOF2_TIERS_STEPS") {
        let steps: Vec<usize> = steps.split(',').flat_map(str::parse).collect();
        operations = steps.iter().map(|step| operations[*step].clone()).collect();
    }
    let merges = perform(seed, &operations, true);
    let merges = merges.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    eprintln!("{merges} merges");
}

/// Leaves out what the failure does without, and says how to see it again.
pub fn explain(seed: u64, error: &str) -> ! {
    let operations = operations(seed);
    let mut kept: Vec<usize> = (0..operations.len()).collect();
    let of = |kept: &[usize]| {
        kept.iter()
            .map(|step| operations[*step].clone())
            .collect::<Vec<_>>()
    };
    let mut last = error.to_owned();
    let mut at = kept.len();
    while at > 0 {
        at -= 1;
        let mut fewer = kept.clone();
        fewer.remove(at);
        if let Err(error) = perform(seed, &of(&fewer), false) {
            (kept, last) = (fewer, error);
        }
    }
    let steps: Vec<String> = kept.iter().map(usize::to_string).collect();
    panic!(
        "seed {seed}: {last}\n{:#?}\nAOF2_TIERS_SEED={seed} AOF2_TIERS_STEPS={} cargo test -p aof2-core --test tier_model",
        of(&kept),
        steps.join(",")
    );
}
