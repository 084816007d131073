//! A change that keeps records for less waits for its notice, whatever way it would take.

use aof2_crds::{Gate, WaitReason};

use super::*;
use crate::config_rollout::ConfigStep;

fn kept(streams: &str, from: &str, to: &str) -> Shortened {
    Shortened {
        streams: streams.into(),
        from: from.into(),
        to: to.into(),
    }
}

fn shortening() -> World {
    let mut world = World::new(3, false);
    world.shortened = vec![kept("orders-*", "720h", "168h")];
    world.changes_retention = true;
    world
}

fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

/// When the first pod was told.
fn told_at(world: &mut World) -> Timestamp {
    world.run_until(|world| !world.told_new().is_empty());
    world.now
}

#[test]
fn nobody_is_told_before_the_notice_is_over_and_status_says_what_goes_when() {
    for is_return in [false, true] {
        let mut world = shortening();
        world.is_return = is_return;
        world.run_to(ConfigStep::Preflight);
        let step = world.reconcile();
        let [wait] = &step.waits[..] else {
            panic!("{:?}", step.waits);
        };
        assert_eq!(wait.reason, WaitReason::RetentionNotice);
        for part in ["2026-09-21T10:1", "orders-*", "168h instead of 720h"] {
            assert!(wait.message.contains(part), "{}", wait.message);
        }
        let announced = world.announcements.clone();
        assert_eq!(announced.len(), 1);
        assert!(told_at(&mut world) >= start() + minutes(10), "{is_return}");
        world.run(|_, _| {});
        assert_eq!(world.in_force, NEW);
        assert_eq!(world.announcements, [], "it is in force");
    }
}

#[test]
fn a_change_withdrawn_in_time_is_not_announced_any_more_and_begins_anew_later() {
    let mut world = shortening();
    world.run_to(ConfigStep::Preflight);
    world.now += minutes(9);
    world.candidate = Some(OLD.into());
    world.run(|_, _| {});
    assert_eq!(world.announcements, []);
    world.candidate = Some(NEW.into());
    let again = world.now;
    assert!(told_at(&mut world) >= again + minutes(10));
}

#[test]
fn another_key_keeps_the_time_and_another_limit_does_not() {
    for (then, waits) in [("168h", 1), ("24h", 10)] {
        let mut world = shortening();
        world.run_to(ConfigStep::Preflight);
        world.now += minutes(9);
        world.candidate = Some("cccccccc".into());
        world.shortened = vec![kept("orders-*", "720h", then)];
        let changed = world.now;
        world.run_until(|world| world.engines.iter().any(|engine| engine.file == "cccccccc"));
        let waited = world.now.duration_since(changed);
        assert!(
            waited >= minutes(waits) - minutes(1) && waited < minutes(waits + 1),
            "{waited}"
        );
    }
}

#[test]
fn of_many_patterns_the_newest_is_held_for() {
    let mut world = shortening();
    let pattern = |number: usize| kept(&format!("s{number}-*"), "720h", "168h");
    world.shortened = (0..8).map(pattern).collect();
    world.run_to(ConfigStep::Preflight);
    world.now += minutes(9);
    world.candidate = Some("cccccccc".into());
    world.shortened = (0..9).map(pattern).collect();
    let changed = world.now;
    world.run_until(|world| world.engines.iter().any(|engine| engine.file == "cccccccc"));
    assert!(world.now.duration_since(changed) >= minutes(10));
}

#[test]
fn a_notice_that_is_shortened_meanwhile_or_let_pass_by_a_person_counts_at_once() {
    let mut world = shortening();
    world.run_to(ConfigStep::Preflight);
    world.notice = Duration::from_secs(0);
    assert!(told_at(&mut world) < start() + minutes(5));
    let mut world = shortening();
    world.run_to(ConfigStep::Preflight);
    world.overrides = vec![Override {
        gate: Gate::RetentionNotice,
        until: world.now + minutes(60),
    }];
    assert!(told_at(&mut world) < start() + minutes(5));
}

#[test]
fn an_upgrade_in_between_does_not_begin_the_notice_anew() {
    let mut world = shortening();
    world.run_to(ConfigStep::Preflight);
    world.is_upgrading = true;
    world.run_until(|world| world.memo.is_none());
    world.now += minutes(12);
    world.is_upgrading = false;
    assert!(told_at(&mut world) < start() + minutes(15));
}

/// Where nobody serves a change is told unjudged: not one that deletes.
#[test]
fn where_no_engine_can_be_asked_rules_of_retention_do_not_change() {
    let mut world = shortening();
    for engine in &mut world.engines {
        engine.answers = false;
        engine.unready = true;
    }
    for _ in 0..200 {
        let step = world.reconcile();
        assert_eq!(world.told_new(), [0_usize; 0]);
        if world.now > start() + minutes(2) {
            assert_eq!(step.waits[0].gate, Gate::RetentionNotice);
        }
    }
    world.changes_retention = false;
    world.run_until(|world| !world.told_new().is_empty());
}
