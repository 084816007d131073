//! Gates with figures of the tiers.

use aof2_crds::{Gate, WaitReason};
use jiff::SignedDuration;

use super::super::facts::Tier0Raise;
use super::table::only_wait;
use super::*;
use crate::config_rollout::ConfigStep;

fn in_step(wanted: ConfigStep) -> World {
    let mut world = World::new(3, false);
    world.run_to(wanted);
    world
}

fn rates(facts: &mut Facts, pod: usize) -> &mut Rates {
    facts.pods[pod].rates.as_mut().expect("counted")
}

#[test]
fn slow_hydrations_hold_a_change_and_an_unreported_queue_too() {
    let world = in_step(ConfigStep::Preflight);
    for (waiting, p99, reason, text) in [
        (Some(0), 5_001.0, WaitReason::HydrationBacklog, "5001 ms"),
        (
            None,
            0.0,
            WaitReason::NotReported,
            "orders-1 does not report",
        ),
    ] {
        let mut facts = world.facts();
        let engine = facts.pods[1].engine.as_mut().expect("answers");
        engine.activation_queue_depth = waiting;
        engine.hydration_p99_ms = p99;
        let held = step(world.memo.clone(), &facts, world.now);
        let (found, message) = only_wait(&held);
        assert_eq!(found, reason);
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_canary_whose_tiers_do_worse_than_the_others_and_than_before_has_failed() {
    for (figure, value, gate) in [
        (Figure::ActivationQueueDepth, 40.0, Gate::HydrationBacklog),
        (Figure::HydrationP99Ms, 4_000.0, Gate::HydrationBacklog),
        (Figure::UploadRetries, 1.0, Gate::UploadRetries),
        (Figure::Tier0Use, 99.0, Gate::Tier0Use),
    ] {
        let world = in_step(ConfigStep::Observing);
        let judged = |canary: f64, others: f64, past: f64| {
            let mut facts = world.facts();
            let mut memo = world.memo.clone();
            let watched = memo.as_mut().and_then(|memo| memo.canary.as_mut());
            let figures = &mut watched.expect("a canary").baseline.figures;
            figures.insert(figure.as_str().to_owned(), format!("{past:.1}"));
            for pod in 0..3 {
                let value = if pod == 2 { canary } else { others };
                rates(&mut facts, pod).kept_up.insert(figure, value);
            }
            step(memo, &facts, world.now)
        };
        let failed = judged(value, 0.0, 0.0);
        let memo = failed.memo.expect("the rollout reverts");
        assert_eq!(memo.step, ConfigStep::Reverting, "{figure:?}");
        let failure = memo.failure.expect("why");
        assert_eq!(failure.gate, gate);
        assert!(failure.observed.contains(figure.as_str()), "{failure:?}");
        for passing in [
            judged(value, value, 0.0),
            judged(value, 0.0, value),
            judged(value / 10.0, 0.0, 0.0),
        ] {
            let memo = passing.memo.expect("still watched");
            assert_eq!(memo.step, ConfigStep::Observing, "{figure:?}");
        }
    }
}

#[test]
fn a_figure_that_the_canary_does_not_report_holds() {
    let world = in_step(ConfigStep::Observing);
    let mut facts = world.facts();
    let figure = Figure::ActivationQueueDepth;
    rates(&mut facts, 2).kept_up.remove(&figure);
    let held = step(world.memo.clone(), &facts, world.now);
    let (reason, message) = only_wait(&held);
    assert_eq!(reason, WaitReason::NotReported);
    assert!(message.contains("activation_queue_depth"), "{message}");
}

#[test]
fn tier_0_alone_is_not_raised_while_readers_wait_for_tier_2() {
    let world = in_step(ConfigStep::Preflight);
    let raising = |waited: f64| {
        let mut facts = world.facts();
        facts.tier0_raise = Some(Tier0Raise {
            from_bytes: 12 << 30,
            to_bytes: 16 << 30,
        });
        rates(&mut facts, 0).reads_before = Some(ReadRates {
            bytes: 1e6,
            waited_bytes: waited,
        });
        facts
    };
    let held = step(world.memo.clone(), &raising(210_000.0), world.now);
    let (reason, message) = only_wait(&held);
    assert_eq!(reason, WaitReason::RaiseTier1First);
    for part in [
        "from 12Gi to 16Gi",
        "21 %",
        "tier1.max_bytes",
        "RaiseTier1First=",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // Of few bytes, whatever their share is, and of a small share.
    for waited in [190_000.0, 60_000.0] {
        let passed = step(world.memo.clone(), &raising(waited), world.now);
        assert_eq!(passed.actions, [Action::KeepEvidence], "{waited}");
    }
    let mut unknown = raising(0.0);
    rates(&mut unknown, 1).reads_before = None;
    let (reason, _) = only_wait(&step(world.memo.clone(), &unknown, world.now));
    assert_eq!(reason, WaitReason::NotReported);
    let mut passed = raising(900_000.0);
    passed.overrides = vec![Override {
        gate: Gate::RaiseTier1First,
        until: world.now + SignedDuration::from_secs(60),
    }];
    let passed = step(world.memo.clone(), &passed, world.now);
    assert_eq!(passed.actions, [Action::KeepEvidence]);
    assert_eq!(passed.overridden, [Gate::RaiseTier1First]);
}

#[test]
fn a_raise_of_tier_0_is_read_from_the_changes() {
    let change = |key: &str, from: &str, to: &str| KeyChange {
        key: key.into(),
        from: from.into(),
        to: to.into(),
        reload: "Hot".into(),
    };
    let raise = change("tier0.cluster_max_bytes", "100", "200");
    let of =
        |others: &[KeyChange]| Tier0Raise::of(&[std::slice::from_ref(&raise), others].concat());
    assert!(of(&[]).is_some());
    assert!(of(&[change("tier1.max_bytes", "10", "5")]).is_some());
    for enough in ["20", "0"] {
        assert_eq!(of(&[change("tier1.max_bytes", "10", enough)]), None);
    }
    let lowered = change("tier0.cluster_max_bytes", "200", "100");
    assert_eq!(Tier0Raise::of(&[lowered]), None);
}
