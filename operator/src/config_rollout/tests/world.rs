//! Every small world, walked to its end.

use super::*;
use crate::config_rollout::ConfigStep;

/// Pods, whether engines have to restart, whether the canary refuses appends.
fn worlds() -> impl Iterator<Item = (usize, bool, bool)> {
    (1..=3).flat_map(|pods| {
        [false, true]
            .into_iter()
            .flat_map(move |restart| [false, true].map(|harmful| (pods, restart, harmful)))
    })
}

fn ensure_invariants(world: &World, result: &Step, last: usize) {
    assert!(world.down() <= 1, "two engines are down");
    let told: Vec<usize> = world.told_new();
    if let Some(first) = told.first()
        && told.len() == 1
    {
        assert_eq!(*first, last, "the canary is the last pod");
    }
    let step = result.memo.as_ref().map(|memo| memo.step);
    if matches!(step, Some(ConfigStep::Canary | ConfigStep::Observing)) {
        assert!(told.len() <= 1, "{step:?} told {told:?}");
    }
}

#[test]
fn every_world_ends_with_everybody_on_one_revision() {
    for (pods, restart, harmful) in worlds() {
        let mut world = World::new(pods, restart);
        world.engines[pods - 1].refuses = if harmful { 9.0 } else { 0.0 };
        world.run(|world, result| ensure_invariants(world, result, pods - 1));
        ensure_end(&world, pods, restart, harmful, 1);
    }
}

#[test]
fn an_operator_that_is_killed_anywhere_goes_on_to_the_same_end() {
    for (pods, restart, harmful) in worlds() {
        for killed_at in 0..140 {
            let mut world = World::new(pods, restart);
            world.engines[pods - 1].refuses = if harmful { 9.0 } else { 0.0 };
            let mut looks = 0;
            loop {
                let result = world.reconcile();
                ensure_invariants(&world, &result, pods - 1);
                looks += 1;
                if looks == killed_at {
                    // The memo is in status; what was counted is lost.
                    world.counted_for = 0;
                }
                if world.memo.is_none() && !result.next.is_at_once() && world.down() == 0 {
                    break;
                }
                assert!(looks < 3600, "no end: {:?}", world.memo);
            }
            ensure_end(&world, pods, restart, harmful, 1);
        }
    }
}

#[test]
fn a_change_of_mind_anywhere_ends_where_the_mind_is() {
    for (pods, restart, _) in worlds() {
        for changed_at in 1..120 {
            let mut world = World::new(pods, restart);
            for _ in 0..changed_at {
                let result = world.reconcile();
                ensure_invariants(&world, &result, pods - 1);
            }
            let was_done = world.in_force == NEW;
            world.candidate = Some(world.in_force.clone());
            world.run(|world, _| assert!(world.down() <= 1));
            let expected = if was_done { NEW } else { OLD };
            for engine in &world.engines {
                assert_eq!(engine.file, expected, "changed at {changed_at}");
                assert!(!restart || engine.started_with == expected);
            }
        }
    }
}

fn ensure_end(world: &World, pods: usize, restart: bool, harmful: bool, tries: usize) {
    let told = if harmful { OLD } else { NEW };
    for engine in &world.engines {
        assert_eq!(engine.file, told);
        assert!(!restart || engine.started_with == told, "{engine:?}");
    }
    assert_eq!(world.in_force, told);
    assert_eq!(world.rejected.len(), usize::from(harmful) * tries);
    let expected = match (restart, harmful) {
        (false, _) => 0,
        (true, false) => pods,
        // There, and back.
        (true, true) => 2,
    };
    assert_eq!(world.restarts.len(), expected, "{:?}", world.restarts);
    let outcome = if harmful { "Reverted" } else { "Completed" };
    assert_eq!(world.ends.len(), tries);
    assert_eq!(world.ends[0].0, outcome);
}
