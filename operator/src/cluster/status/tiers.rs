//! Use of the tiers' budgets, in steps of five with hysteresis: writers fill and free segments all the time, and status must stand still.

use aof2_admin_api::Dump;
use aof2_crds::{
    Aof2ClusterStatus, Quantity,
    status::{FullestNode, Tier0Status, Tier1Status},
};

use crate::cluster::{config::Revision, facts::Observed, plan::Shares};

const STEP: i64 = 5;
/// How far below its step a use has to fall before the step goes down.
const SLACK: i64 = 2;

/// `shares`: `None` = as they are.
pub fn tier0(
    observed: &Observed,
    revision: Option<&Revision>,
    shares: Option<&Shares>,
    before: &Aof2ClusterStatus,
) -> Option<Tier0Status> {
    let before = before.tier0.as_ref();
    // Shares that were told do not depend on whether the configuration can be read now.
    let Some(budget) = revision.map(Revision::cluster_max_bytes) else {
        return before.cloned();
    };
    let (shares, shares_moved_at) = match (shares, before) {
        (Some(shares), _) => shares.stored(),
        (None, Some(before)) => (before.shares.clone(), before.shares_moved_at.clone()),
        (None, None) => Default::default(),
    };
    let used = match all(observed) {
        Some(dumps) => {
            let used = dumps.iter().map(|(_, dump)| dump.tier0.total_bytes);
            let before = before.map(|before| before.used_percent);
            let used = used.fold(0, u64::saturating_add);
            Some((
                stepped(percent(used, budget), before),
                fullest(&dumps, before_fullest(observed)),
            ))
        }
        // A part of the pods says nothing about the whole.
        None => before.map(|before| (before.used_percent, before.fullest_node.clone())),
    };
    let (used_percent, fullest_node) = match (used, shares.is_empty()) {
        (Some(used), _) => used,
        (None, true) => return None,
        (None, false) => (0, None),
    };
    Some(Tier0Status {
        cluster_max_bytes: Quantity::from_bytes(budget),
        used_percent,
        fullest_node,
        shares,
        shares_moved_at,
    })
}

/// `None` without a budget.
pub fn tier1(observed: &Observed, before: Option<&Tier1Status>) -> Option<Tier1Status> {
    let Some(dumps) = all(observed) else {
        return before.cloned();
    };
    let sum = |of: &dyn Fn(&Dump) -> u64| {
        let all = dumps.iter().map(|(_, dump)| of(dump));
        all.fold(0, u64::saturating_add)
    };
    let is_limited = dumps.iter().all(|(_, dump)| dump.tier1.max_bytes > 0);
    is_limited.then(|| {
        let percent = percent(
            sum(&|dump| dump.tier1.total_bytes),
            sum(&|dump| dump.tier1.max_bytes),
        );
        Tier1Status {
            used_percent: stepped(percent, before.map(|before| before.used_percent)),
        }
    })
}

/// By pod, in their order; `None`: one does not answer.
fn all(observed: &Observed) -> Option<Vec<(&str, &Dump)>> {
    let answers = observed.pods.iter().map(|pod| {
        let answer = observed.answer(&pod.name)?;
        Some((pod.name.as_str(), &answer.dump))
    });
    let all: Option<Vec<_>> = answers.collect();
    all.filter(|all| !all.is_empty())
}

fn before_fullest(observed: &Observed) -> Option<&FullestNode> {
    let status = observed.cluster.status.as_ref()?;
    status.tier0.as_ref()?.fullest_node.as_ref()
}

/// Whoever was it stays it until another one is a step fuller.
fn fullest(dumps: &[(&str, &Dump)], before: Option<&FullestNode>) -> Option<FullestNode> {
    let steps = dumps.iter().map(|(pod, dump)| {
        let was = before.filter(|before| before.pod == *pod);
        let percent = percent(dump.tier0.total_bytes, dump.tier0.instance_quota_bytes);
        let step = stepped(percent, was.map(|was| was.used_percent));
        ((step, was.is_some()), *pod)
    });
    let ((used_percent, _), pod) = steps.reduce(|one, other| match other.0 > one.0 {
        true => other,
        false => one,
    })?;
    Some(FullestNode {
        pod: pod.to_owned(),
        used_percent,
    })
}

fn percent(used_bytes: u64, budget_bytes: u64) -> i64 {
    let percent = u128::from(used_bytes) * 100 / u128::from(budget_bytes.max(1));
    i64::try_from(percent).unwrap_or(100).min(100)
}

fn stepped(percent: i64, before: Option<i32>) -> i32 {
    let step = percent / STEP * STEP;
    let shown = match before.map(i64::from) {
        Some(before) if step < before && percent >= before - SLACK => before,
        _ => step,
    };
    i32::try_from(shown).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_moves_in_steps_of_five_and_does_not_flutter_at_an_edge() {
        assert_eq!(stepped(0, None), 0);
        assert_eq!(stepped(64, None), 60);
        assert_eq!(stepped(65, Some(60)), 65);
        assert_eq!(stepped(64, Some(65)), 65);
        assert_eq!(stepped(63, Some(65)), 65);
        assert_eq!(stepped(62, Some(65)), 60);
        assert_eq!(stepped(99, None), 95);
        assert_eq!(stepped(100, Some(95)), 100);
    }

    fn dump(used: u64) -> Dump {
        let mut dump = Dump::default();
        dump.tier0.total_bytes = used;
        dump.tier0.instance_quota_bytes = 100;
        dump
    }

    #[test]
    fn the_fullest_pod_is_named_and_two_that_are_alike_do_not_take_turns() {
        let (calm, full) = (dump(41), dump(88));
        let shown = |first: &Dump, second: &Dump, before: Option<&FullestNode>| {
            fullest(&[("orders-0", first), ("orders-1", second)], before).unwrap()
        };
        let first = shown(&calm, &full, None);
        assert_eq!((first.pod.as_str(), first.used_percent), ("orders-1", 85));
        // A step, and not a percent.
        assert_eq!(shown(&dump(89), &dump(84), Some(&first)), first);
        assert_eq!(shown(&dump(91), &dump(88), Some(&first)).pod, "orders-0");
        assert_eq!(fullest(&[], None), None);
    }
}
