//! Where engines do not serve, and what goes back to what every pod ran.

use aof2_crds::cluster::OnFailure;

use crate::config_rollout::ConfigStep;

use super::*;

#[test]
fn engines_that_do_not_serve_do_not_wait_for_each_other() {
    let mut world = World::new(2, true);
    world.run_to(ConfigStep::Rolling);
    let mut memo = world.memo.clone().unwrap();
    memo.done = vec!["orders-0".into(), "orders-1".into()];
    let mut facts = world.facts();
    for pod in &mut facts.pods {
        pod.is_ready = false;
        let engine = pod.engine.as_mut().unwrap();
        (engine.is_ready, engine.restart_pending) = (false, true);
        engine.revision = NEW.into();
    }
    let result = step(Some(memo), &facts, world.now);
    assert_eq!(result.actions.len(), 1, "{:?}", result.waits);
}

fn down(world: &mut World) {
    for engine in &mut world.engines {
        (engine.answers, engine.starting) = (false, 100_000);
    }
}

fn up(world: &mut World, ordinal: usize) {
    let engine = &mut world.engines[ordinal];
    (engine.answers, engine.starting) = (true, 0);
}

#[test]
fn without_any_engine_that_serves_for_a_minute_a_fix_reaches_a_canary_and_then_everybody() {
    let mut world = World::new(3, false);
    down(&mut world);
    for _ in 0..MINUTE {
        world.reconcile();
        assert_eq!(world.told_new(), Vec::<usize>::new());
    }
    for _ in 0..5 {
        world.reconcile();
    }
    assert_eq!(world.told_new(), [2]);
    // It serves again: the others get it without a window, since nobody else serves.
    up(&mut world, 2);
    for _ in 0..8 {
        world.reconcile();
    }
    assert_eq!(world.told_new(), [0, 1, 2]);
    up(&mut world, 0);
    up(&mut world, 1);
    world.run(|_, _| ());
    assert_eq!(world.ends[0].0, "Completed");
    assert!(world.now < start() + SignedDuration::from_secs(180));
}

#[test]
fn a_single_engine_that_restarts_at_the_moment_of_the_change_is_asked_and_watched_all_the_same() {
    let mut world = World::new(1, false);
    world.errors = vec!["tier1.compression_level: 99 is not between 1 and 19".into()];
    (world.engines[0].answers, world.engines[0].starting) = (false, 8);
    for _ in 0..8 {
        world.reconcile();
    }
    up(&mut world, 0);
    world.run(|world, _| assert!(world.told_new().is_empty()));
    assert_eq!(world.rejected.len(), 1, "an engine was asked");

    let mut world = World::new(1, false);
    (world.engines[0].answers, world.engines[0].starting) = (false, 8);
    for _ in 0..8 {
        world.reconcile();
    }
    up(&mut world, 0);
    world.run_to(ConfigStep::Observing);
}

#[test]
fn going_back_to_what_every_pod_ran_needs_neither_pods_that_serve_nor_a_canary() {
    for needs_restart in [false, true] {
        for is_down in [&[][..], &[0], &[2], &[0, 1, 2]] {
            let mut world = World::new(3, needs_restart);
            world.is_return = true;
            for ordinal in is_down {
                // Its application is not ready; its engine answers.
                world.engines[*ordinal].unready = true;
            }
            for _ in 0..60 {
                world.reconcile();
                // The cure works.
                for engine in &mut world.engines {
                    let has_started = !needs_restart || engine.started_with == NEW;
                    if engine.file == NEW && has_started {
                        engine.unready = false;
                    }
                }
            }
            assert_eq!(
                world.ends.first().map(|end| end.0.as_str()),
                Some("Completed"),
                "{is_down:?}: {:?}",
                world.memo
            );
            assert_eq!(world.rejected, Vec::<String>::new());
        }
    }
}

#[test]
fn a_revision_that_no_pod_ran_is_never_rejected_however_long_it_waits() {
    for on_failure in [OnFailure::Revert, OnFailure::Pause] {
        let mut world = World::new(3, false);
        world.on_failure = on_failure;
        world.run_to(ConfigStep::Preflight);
        world.engines[0].starting = 100_000;
        for _ in 0..4000 {
            world.reconcile();
        }
        assert_eq!(world.memo.as_ref().unwrap().step, ConfigStep::Preflight);
        // A version may come in between.
        world.is_upgrading = true;
        world.reconcile();
        assert_eq!(world.memo, None);

        // The canary was told, and its file never reached it.
        let mut world = World::new(3, false);
        world.on_failure = on_failure;
        world.run_to(ConfigStep::Canary);
        let mut facts = world.facts();
        facts.pods[2].engine.as_mut().unwrap().revision = OLD.into();
        let later = world.now + SignedDuration::from_hours(2);
        let late = step(world.memo.clone(), &facts, later);
        assert_eq!(late.news.rejected, None);
        assert_eq!(late.memo.unwrap().step, ConfigStep::Reverting);
    }
}
