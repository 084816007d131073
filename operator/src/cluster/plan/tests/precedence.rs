//! Which machine goes first.

use super::config::{changed, roll_to};
use super::*;

fn kind_and_step(plan: &Plan) -> Option<(RolloutKind, RolloutStep)> {
    let rollout = plan.status.rollout.as_ref()?;
    Some((rollout.kind, rollout.step))
}

#[test]
fn a_version_goes_before_a_configuration_and_both_before_the_number_of_pods() {
    let mut all_at_once = changed();
    all_at_once.cluster.spec.version = "0.1.1".into();
    all_at_once.cluster.spec.replicas = 4;
    let version_first = plan(&all_at_once);
    assert_eq!(
        kind_and_step(&version_first),
        Some((RolloutKind::Version, RolloutStep::Planned))
    );
    let in_progress = (Gate::RolloutInProgress, WaitReason::RolloutInProgress, "");
    assert_eq!(waits(&version_first), [in_progress], "one line for both");

    let mut config_and_pods = changed();
    config_and_pods.cluster.spec.replicas = 4;
    let config_first = plan(&config_and_pods);
    assert_eq!(
        kind_and_step(&config_first),
        Some((RolloutKind::Config, RolloutStep::Validating))
    );
    assert!(waits(&config_first).contains(&in_progress));
    assert!(has(&config_first, "StatefulSet of 3"));
}

#[test]
fn a_configuration_that_was_told_is_taken_back_before_a_version_begins() {
    let mut observed = roll_to(changed(), RolloutStep::Canary);
    observed.cluster.spec.version = "0.1.1".into();
    let taking_back = plan(&observed);
    assert_eq!(
        kind_and_step(&taking_back),
        Some((RolloutKind::Config, RolloutStep::Reverting))
    );
    observed.cluster.status = Some(taking_back.status);
    let ended = plan(&observed);
    assert_eq!(kind_and_step(&ended), None);
    observed.cluster.status = Some(ended.status);
    assert_eq!(
        kind_and_step(&plan(&observed)),
        Some((RolloutKind::Version, RolloutStep::Planned))
    );
}
