//! How a rollout begins, whom it takes first, and how it ends.

use aof2_crds::status::RolloutOutcome;

use super::super::build::{FactsExt, at, facts, memo, pod};
use super::super::world::revision;
use crate::machine::NextLook;
use crate::rollout::{Action, Facts, step};
use crate::rollout::{UpgradeKind, UpgradeStep};

use super::reconcile;

#[test]
fn nothing_runs_while_every_pod_is_as_wanted() {
    let mut facts = facts(3);
    facts.wanted = revision("0.1.0");
    facts.written = revision("0.1.0");
    let result = step(None, &facts, at(0));
    assert_eq!(result.next, NextLook::AT_POLL);
    assert_eq!(
        (result.memo, result.actions, result.waits),
        (None, vec![], vec![])
    );
}

#[test]
fn a_pod_that_is_missing_or_unready_begins_no_rollout() {
    let mut facts = facts(3);
    facts.wanted = revision("0.1.0");
    facts.written = revision("0.1.0");
    facts.pods[0].instance = None;
    facts.instance(1).ready = false;
    assert_eq!(step(None, &facts, at(0)).next, NextLook::AT_POLL);
}

#[test]
fn a_new_version_begins_a_rollout_and_acts_on_nothing_yet() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    let result = step(None, &facts, at(0));
    let memo = result.memo.unwrap();
    assert_eq!(
        (memo.kind, memo.from.as_str(), memo.to.as_str()),
        (UpgradeKind::Version, "0.1.0", "0.1.1")
    );
    assert_eq!(memo.step, UpgradeStep::Planned);
    assert_eq!(result.actions, vec![]);
}

#[test]
fn another_template_of_the_same_version_is_of_kind_template() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    facts.wanted = revision("0.1.0");
    facts.wanted.template = "other".into();
    let memo = step(None, &facts, at(0)).memo.unwrap();
    assert_eq!(
        (memo.kind, memo.from.as_str(), memo.to.as_str()),
        (UpgradeKind::Template, "t-0.1.0", "other")
    );
}

#[test]
fn the_template_is_written_only_after_the_preflight() {
    let mut facts = facts(3);
    facts.written = revision("0.1.0");
    let result = reconcile(memo(UpgradeStep::Preflight), &facts, at(0));
    assert_eq!(
        result.actions,
        vec![Action::WriteTemplate {
            revision: revision("0.1.1")
        }]
    );
    facts.instance(0).ready = false;
    let result = reconcile(memo(UpgradeStep::Preflight), &facts, at(0));
    assert_eq!(result.actions, vec![]);
}

#[test]
fn a_rollout_ends_in_the_history_when_every_pod_soaked() {
    let mut facts = facts(2);
    facts.pods = vec![pod(0, "0.1.1"), pod(1, "0.1.1")];
    let mut memo = memo(UpgradeStep::Planned);
    memo.pod = None;
    memo.done = vec!["uid-0".into(), "uid-1".into()];
    let result = reconcile(memo, &facts, at(200));
    assert_eq!(result.memo, None);
    let [entry] = result.finished.as_slice() else {
        panic!("{result:?}")
    };
    assert_eq!(entry.outcome, RolloutOutcome::Completed);
    assert_eq!(entry.message, "2 pods in 3m20s");
}

fn next_of(facts: &Facts) -> String {
    let mut memo = memo(UpgradeStep::Planned);
    memo.pod = None;
    reconcile(memo, facts, at(0))
        .memo
        .unwrap()
        .pod
        .unwrap()
        .name
}

#[test]
fn the_highest_ordinal_goes_first() {
    assert_eq!(next_of(&facts(3)), "orders-2");
}

#[test]
fn a_pod_that_does_not_serve_goes_before_a_higher_one_that_does() {
    let mut facts = facts(3);
    facts.instance(0).ready = false;
    assert_eq!(next_of(&facts), "orders-0");
}

#[test]
fn a_pod_that_came_on_the_new_revision_out_of_turn_is_the_current_one() {
    let mut facts = facts(3);
    facts.pods[1] = pod(1, "0.1.1");
    facts.instance(0).ready = false;
    assert_eq!(next_of(&facts), "orders-1");
    facts.pods[1].instance = None;
    assert_eq!(next_of(&facts), "orders-1");
}
