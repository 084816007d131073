//! Each step and each gate by its words.

use aof2_crds::cluster::OnFailure;
use aof2_crds::{Gate, WaitReason};

use crate::config_rollout::ConfigStep;
use crate::machine::NextLook;

use super::*;

pub(super) fn only_wait(result: &Step) -> (WaitReason, String) {
    assert_eq!(result.waits.len(), 1, "{result:?}");
    (result.waits[0].reason, result.waits[0].message.clone())
}

#[test]
fn a_value_that_an_engine_refuses_reaches_nobody_and_is_remembered_in_its_words() {
    let mut world = World::new(3, false);
    world.errors = vec!["tier1.compression_level: 99 is not between 1 and 19".into()];
    world.run(|world, _| assert!(world.told_new().is_empty()));
    assert_eq!(
        world.rejected,
        ["Config tier1.compression_level: 99 is not between 1 and 19"]
    );
    assert_eq!(world.ends, []);
}

#[test]
fn what_was_rejected_is_not_tried_again_by_itself() {
    let mut world = World::new(3, false);
    world.is_barred = true;
    let result = world.reconcile();
    assert_eq!((result.memo, result.next), (None, NextLook::AT_POLL));
}

#[test]
fn a_change_waits_for_a_version_that_is_under_way() {
    let mut world = World::new(3, false);
    world.is_upgrading = true;
    let (reason, message) = only_wait(&world.reconcile());
    assert_eq!(reason, WaitReason::RolloutInProgress);
    assert!(
        message.contains("The engines keep config aaaaaaaa"),
        "{message}"
    );
    assert_eq!(world.memo, None);
}

#[test]
fn a_change_begins_only_while_everybody_serves_and_few_hydrations_wait() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Preflight);
    world.engines[0].starting = 5;
    let (reason, message) = only_wait(&world.reconcile());
    assert_eq!(reason, WaitReason::PodNotReady);
    assert!(message.contains("waits for orders-0 to serve"), "{message}");

    let world = {
        let mut world = World::new(3, false);
        world.run_to(ConfigStep::Preflight);
        world
    };
    let mut facts = world.facts();
    facts.pods[1]
        .engine
        .as_mut()
        .unwrap()
        .activation_queue_depth = Some(17);
    let (reason, message) = only_wait(&step(world.memo.clone(), &facts, world.now));
    assert_eq!(reason, WaitReason::HydrationBacklog);
    assert!(message.contains("17 hydrations"), "{message}");
    facts.pods[1]
        .engine
        .as_mut()
        .unwrap()
        .activation_queue_depth = Some(16);
    let passed = step(world.memo.clone(), &facts, world.now);
    assert_eq!(passed.actions, [Action::KeepEvidence]);
}

#[test]
fn a_person_may_let_a_change_begin_while_a_pod_is_down_and_that_is_reported() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Preflight);
    world.engines[0].starting = 5;
    world.overrides = vec![Override {
        gate: Gate::OnePodDown,
        until: world.now + SignedDuration::from_secs(60),
    }];
    let passed = world.reconcile();
    assert_eq!(passed.actions, [Action::KeepEvidence]);
    assert_eq!(passed.overridden, [Gate::OnePodDown]);
}

#[test]
fn an_engine_that_does_not_answer_holds_the_observation_and_never_passes_it() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Observing);
    world.engines[2].answers = false;
    for _ in 0..200 {
        let (reason, message) = only_wait(&world.reconcile());
        assert_eq!(reason, WaitReason::EngineUnreachable);
        assert!(message.contains("the canary cannot be judged"), "{message}");
    }
    assert_eq!(world.told_new(), [2]);
    // A pod that it is compared with holds it too.
    world.engines[2].answers = true;
    world.engines[0].answers = false;
    let (reason, message) = only_wait(&world.reconcile());
    assert_eq!(reason, WaitReason::NotReported);
    assert!(message.contains("orders-0"), "{message}");
    // The deadline counts all the while.
    world.run(|_, _| ());
    assert_eq!(world.ends[0].0, "Reverted", "orders-0 was told nothing");
}

#[test]
fn a_rollout_that_takes_too_long_has_failed() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Observing);
    world.engines[2].answers = false;
    for _ in 0..1800 {
        world.reconcile();
    }
    assert_eq!(world.memo.as_ref().unwrap().step, ConfigStep::Reverting);
    world.engines[2].answers = true;
    world.run(|_, _| ());
    assert_eq!(world.ends[0].0, "Reverted");
    assert!(
        world.rejected[0].starts_with("Progress"),
        "{:?}",
        world.rejected
    );
}

#[test]
fn each_of_fifty_pods_that_restart_has_the_whole_deadline() {
    let mut world = World::new(50, true);
    // 110 s each: 92 minutes after the canary, where the deadline is an hour.
    world.restart_looks = 55;
    world.run_for(10_000, |_, _| ());
    assert_eq!(world.ends[0].0, "Completed", "{:?}", world.rejected);
    assert!(world.now > start() + SignedDuration::from_mins(90));

    // One that does not come back is named.
    let mut world = World::new(50, true);
    world.run_to(ConfigStep::Rolling);
    world.run_until(|world| world.told_new().len() == 20);
    world.engines[30].answers = false;
    world.run_until(|world| !world.rejected.is_empty());
    assert!(
        world.rejected[0].contains("at orders-30 after"),
        "{:?}",
        world.rejected
    );
}

#[test]
fn a_window_that_does_not_fit_into_the_deadline_of_an_older_cluster_is_watched_to_its_end() {
    let mut world = World::new(3, false);
    world.deadline = Duration::from_secs(60);
    world.run(|_, _| ());
    assert_eq!(world.ends[0].0, "Completed", "{:?}", world.rejected);
}

#[test]
fn a_canary_that_refuses_appends_is_taken_back_at_once() {
    let mut world = World::new(3, false);
    world.engines[2].refuses = 41.0;
    world.run(|world, _| assert!(world.told_new().iter().all(|pod| *pod == 2)));
    assert_eq!(
        world.rejected,
        ["WouldBlock canary refused 41.0 appends/s, Admission"]
    );
    assert_eq!(world.ends[0].0, "Reverted");
    assert!(world.ends[0].1.contains("limit 0.5/s"), "{:?}", world.ends);
    assert!(world.now < start() + SignedDuration::from_secs(60));
    assert_eq!(world.told_new(), Vec::<usize>::new());
}

#[test]
fn a_canary_that_begins_to_refuse_late_in_the_window_gets_a_full_minute() {
    for (becomes, outcome) in [(0.4, "Completed"), (0.6, "Reverted")] {
        let mut world = World::new(3, false);
        world.run_to(ConfigStep::Observing);
        let until = world.memo.as_ref().unwrap().until.clone().unwrap().0;
        world.engines[2].refuses = 0.4;
        while world.now < until {
            world.reconcile();
        }
        let (reason, message) = only_wait(&world.reconcile());
        assert_eq!(reason, WaitReason::Observing);
        assert!(message.contains("orders-2 refuses appends"), "{message}");
        world.engines[2].refuses = becomes;
        world.run(|world, _| {
            assert!(
                world.told_new().len() <= 1 || world.now >= until + SignedDuration::from_mins(1)
            );
        });
        assert_eq!(world.ends[0].0, outcome);
    }
}

#[test]
fn a_canary_is_judged_against_the_others_and_its_own_past() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Observing);
    let judged_by = |own: f64, others: [f64; 2], past: &str| {
        let mut facts = world.facts();
        let mut memo = world.memo.clone();
        let set = |pod: &mut PodFacts, rate: f64| {
            if let Some(rates) = &mut pod.rates {
                rates.minute.insert("Admission".into(), rate);
            }
        };
        set(&mut facts.pods[2], own);
        set(&mut facts.pods[0], others[0]);
        set(&mut facts.pods[1], others[1]);
        let canary = memo.as_mut().unwrap().canary.as_mut().unwrap();
        canary
            .baseline
            .would_block
            .insert("Admission".into(), past.into());
        step(memo, &facts, world.now)
            .news
            .rejected
            .map(|rejected| rejected.limit)
    };
    let judged = |own: f64, other: f64, past: &str| judged_by(own, [other; 2], past);
    assert_eq!(judged(0.4, 0.0, "0.0/s"), None, "below the floor");
    assert_eq!(judged(0.6, 0.0, "0.0/s"), Some("0.5/s".into()));
    assert_eq!(judged(3.0, 2.0, "0.0/s"), None, "the others refuse too");
    assert_eq!(judged(5.0, 2.0, "0.0/s"), Some("4.0/s".into()));
    assert_eq!(judged(3.0, 0.0, "2.0/s"), None, "it always did");
    assert_eq!(judged(4.5, 0.0, "2.0/s"), Some("4.0/s".into()));
    for liar in [[1e12, 0.0], [0.0, 1e12]] {
        let said = judged_by(5.0, liar, "0.0/s");
        assert_eq!(said, Some("0.5/s".into()), "one pod hides no canary");
    }
}

#[test]
fn a_canary_is_taken_back_for_failed_flushes_crashes_and_a_minute_unready() {
    let mut world = World::new(2, false);
    world.run_to(ConfigStep::Observing);
    let mut facts = world.facts();
    facts.pods[1].engine.as_mut().unwrap().flush_failures = 1;
    let failed = step(world.memo.clone(), &facts, world.now)
        .news
        .rejected
        .unwrap();
    assert_eq!(
        failed.observed,
        "1 flush of the canary failed since the change"
    );

    let mut facts = world.facts();
    facts.pods[1].crashes = Some("aof2-engine of orders-2 crashes with exit code 2".into());
    let failed = step(world.memo.clone(), &facts, world.now)
        .news
        .rejected
        .unwrap();
    assert!(failed.observed.contains("code 2"), "{failed:?}");

    world.engines[1].starting = 1000;
    let begun = world.now;
    while world.rejected.is_empty() {
        world.reconcile();
    }
    assert!(world.now.duration_since(begun) >= SignedDuration::from_secs(60));
    assert!(
        world.rejected[0].contains("not ready for 60 s"),
        "{:?}",
        world.rejected
    );
}

#[test]
fn a_canary_that_is_unready_when_its_window_ends_is_no_reason_to_tell_the_others() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Observing);
    let until = world.memo.as_ref().unwrap().until.clone().unwrap().0;
    while world.now + SignedDuration::from_secs(20) < until {
        world.reconcile();
    }
    // Its engine answers, and the application beside it is not ready.
    let look = |memo: Memo, is_ready: bool, now: Timestamp| {
        let mut facts = world.facts();
        facts.pods[2].is_ready = is_ready;
        step(Some(memo), &facts, now)
    };
    let memo = look(world.memo.clone().unwrap(), false, world.now)
        .memo
        .unwrap();
    let late = until + SignedDuration::from_secs(1);
    let held = look(memo.clone(), false, late);
    assert_eq!(only_wait(&held).0, WaitReason::Observing);
    assert!(only_wait(&held).1.contains("is not ready"), "{held:?}");
    let memo = held.memo.unwrap();
    assert_eq!((memo.step, memo.done.len()), (ConfigStep::Observing, 0));
    let ready = look(memo.clone(), true, late);
    assert_eq!(ready.memo.unwrap().step, ConfigStep::Rolling);
    let failed = look(memo, false, world.now + SignedDuration::from_secs(60));
    let rejected = failed.news.rejected.unwrap();
    assert!(rejected.observed.contains("not ready for 60 s"));
}

#[test]
fn with_pause_a_failed_canary_stays_until_a_person_changes_something() {
    let mut world = World::new(3, false);
    world.on_failure = OnFailure::Pause;
    world.engines[2].refuses = 41.0;
    world.run_to(ConfigStep::Held);
    for _ in 0..100 {
        let (reason, message) = only_wait(&world.reconcile());
        assert_eq!(reason, WaitReason::ConfigHeld);
        assert!(message.contains("onFailure is Pause"), "{message}");
    }
    assert_eq!(world.told_new(), [2]);
    world.candidate = Some(OLD.into());
    world.run(|_, _| ());
    assert_eq!(world.told_new(), Vec::<usize>::new());
    assert_eq!(world.ends[0].0, "Superseded");
}

#[test]
fn a_source_that_goes_away_holds_what_is_there() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Observing);
    world.candidate = None;
    for _ in 0..300 {
        assert!(world.reconcile().waits.is_empty(), "the plan says why");
    }
    assert_eq!(world.told_new(), [2]);
    world.candidate = Some(NEW.into());
    world.run(|_, _| ());
    assert_eq!(world.ends[0].0, "Completed");
}

#[test]
fn a_canary_is_watched_while_its_source_is_away() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Observing);
    world.candidate = None;
    world.reconcile();
    world.engines[2].refuses = 9.0;
    world.run(|_, _| ());
    assert_eq!(world.ends[0].0, "Reverted");
    assert_eq!(
        world.rejected,
        ["WouldBlock canary refused 9.0 appends/s, Admission"]
    );
    assert!(world.told_new().is_empty());
}

#[test]
fn engines_that_serve_and_do_not_answer_are_not_told_unasked() {
    let mut world = World::new(2, false);
    for engine in &mut world.engines {
        engine.answers = false;
    }
    world.reconcile();
    for _ in 0..20 {
        let (reason, _) = only_wait(&world.reconcile());
        assert_eq!(reason, WaitReason::NotReported);
        assert!(world.told_new().is_empty());
    }
}

#[test]
fn a_canary_that_crashes_before_it_was_observed_is_taken_back() {
    let mut world = World::new(3, true);
    world.run_to(ConfigStep::Canary);
    world.engines[2].crashes = true;
    world.reconcile();
    assert_eq!(world.memo.as_ref().unwrap().step, ConfigStep::Reverting);
    assert_eq!(
        world.rejected,
        ["Ready aof2-engine of orders-2 crashes with exit code 2"]
    );
}

#[test]
fn what_an_engine_said_of_an_earlier_file_rejects_no_later_one() {
    let mut world = World::new(3, false);
    world.run_to(ConfigStep::Canary);
    let failed = |refused: Option<&str>| {
        let mut facts = world.facts();
        let engine = facts.pods[2].engine.as_mut().unwrap();
        engine.revision = OLD.into();
        engine.error = Some("no such key".into());
        engine.error_revision = refused.map(Into::into);
        step(world.memo.clone(), &facts, world.now).news.rejected
    };
    assert_eq!(failed(Some("cccccccc")), None);
    // Nor does what it said of a file that somebody else wrote, or of one that it could not read.
    assert_eq!(failed(Some(aof2_admin_api::revision::ALTERED)), None);
    assert_eq!(failed(None), None);
    assert!(failed(Some(NEW)).is_some());
}
