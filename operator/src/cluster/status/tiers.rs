//! Use of the tiers' budgets in steps of five, and of the bucket in powers of two, both with hysteresis: writers fill and free segments all the
//! time, and status must stand still.

use std::collections::BTreeSet;

use aof2_admin_api::{Dump, report::Tier2Report};
use aof2_crds::{
    Aof2ClusterStatus, MAX_INTEGER, Quantity,
    status::{FullestNode, Tier0Status, Tier1Status, Tier2Status},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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
        // A part of the pods says nothing about the whole, but one of them may be fuller than any was.
        None => before.map(|before| {
            let shown = before.fullest_node.as_ref();
            (
                before.used_percent,
                fullest_of_part(&answering(observed), shown),
            )
        }),
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

/// What engines count in their manifests; nobody lists the bucket. `None` without a bucket, and where nothing was ever known of it.
pub fn tier2(observed: &Observed, before: Option<&Tier2Status>) -> Option<Tier2Status> {
    observed.cluster.spec.tier2.as_ref()?;
    let Some(Stored { objects, bytes }) = all(observed).and_then(|dumps| stored(&dumps)) else {
        // A part of the pods says nothing about the whole.
        let since = |before: &Tier2Status| Tier2Status {
            stale_since: before.stale_since.clone().or(Some(Time(observed.now))),
            ..before.clone()
        };
        return before.map(since);
    };
    let shown_objects = before.and_then(|before| u64::try_from(before.objects).ok());
    let shown_bytes = before.and_then(|before| Some(before.bytes.as_ref()?.bytes()));
    let bytes = bytes.map(|bytes| power_of_two(bytes, shown_bytes));
    Some(Tier2Status {
        bytes: bytes.map(Quantity::from_bytes),
        objects: i64::try_from(power_of_two(objects, shown_objects)).unwrap_or(MAX_INTEGER),
        stale_since: None,
    })
}

/// Of all pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    objects: u64,
    /// `None`: of some objects the size is not known.
    bytes: Option<u64>,
}

/// `None`: one does not say, or two name the same volume, whose streams would count twice. An engine leaves out what another volume owns,
/// and says nothing before the bucket has confirmed what is its own.
fn stored(dumps: &[(&str, &Dump)]) -> Option<Stored> {
    let mut volumes = BTreeSet::new();
    let mut sum = Stored {
        objects: 0,
        bytes: Some(0),
    };
    for (_, dump) in dumps {
        let Tier2Report {
            objects: Some(objects),
            object_bytes,
            objects_of_unknown_size,
            ..
        } = dump.tier2.as_ref()?
        else {
            return None;
        };
        if !volumes.insert(dump.volume_id.as_str()) {
            return None;
        }
        sum.objects = sum.objects.saturating_add(*objects);
        let bytes = object_bytes.filter(|_| *objects_of_unknown_size == 0);
        sum.bytes = sum
            .bytes
            .zip(bytes)
            .map(|(sum, bytes)| sum.saturating_add(bytes));
    }
    Some(sum)
}

/// Of every pod that there is to be, in their order; `None`: one does not answer, or is not there.
fn all(observed: &Observed) -> Option<Vec<(&str, &Dump)>> {
    let replicas = observed.stateful_set.as_ref()?.replicas;
    let is_there = |ordinal| observed.pod(ordinal).is_some();
    if !(0..replicas).all(is_there) {
        return None;
    }
    let all = answering(observed);
    (!all.is_empty() && all.len() == observed.pods.len()).then_some(all)
}

fn answering(observed: &Observed) -> Vec<(&str, &Dump)> {
    let answers = observed.pods.iter().filter_map(|pod| {
        let answer = observed.answer(&pod.name)?;
        Some((pod.name.as_str(), &answer.dump))
    });
    answers.collect()
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

/// Of some of the pods: what was shown stays until one of them is fuller.
fn fullest_of_part(dumps: &[(&str, &Dump)], shown: Option<&FullestNode>) -> Option<FullestNode> {
    let most = shown.map_or(-1, |shown| shown.used_percent);
    let fuller = fullest(dumps, shown).filter(|found| found.used_percent > most);
    fuller.or_else(|| shown.cloned())
}

/// The largest that is not above `value`; a larger one that was shown stays until a quarter of it is gone, so that passes of retention and
/// merges do not move it back and forth.
fn power_of_two(value: u64, before: Option<u64>) -> u64 {
    let value = value.min(MAX_INTEGER.unsigned_abs());
    let step = value.checked_ilog2().map_or(0, |log| 1 << log);
    match before {
        Some(before) if step < before && value >= before - before / 4 => before,
        Some(_) | None => step,
    }
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
    use crate::cluster::testing::{answer, at_rest};

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

    #[test]
    fn a_pod_that_is_away_hides_no_other_that_fills() {
        let shown = FullestNode {
            pod: "orders-1".to_owned(),
            used_percent: 60,
        };
        let part = |used| fullest_of_part(&[("orders-0", &dump(used))], Some(&shown)).unwrap();
        assert_eq!(part(41), shown);
        assert_eq!(part(64), shown);
        let found = part(97);
        assert_eq!((found.pod.as_str(), found.used_percent), ("orders-0", 95));
        assert_eq!(fullest_of_part(&[], Some(&shown)), Some(shown));
        assert_eq!(fullest_of_part(&[], None), None);
    }

    /// Objects and bytes in Tier 2 of each pod.
    fn with_objects(stored: &[(u64, u64)]) -> Observed {
        let mut observed = at_rest();
        for (pod, (objects, bytes)) in observed.pods.clone().iter().zip(stored) {
            answer(&mut observed, &pod.name).dump.tier2 = Some(Tier2Report {
                objects: Some(*objects),
                object_bytes: Some(*bytes),
                ..Tier2Report::default()
            });
        }
        observed
    }

    fn shown(status: &Tier2Status) -> (i64, &str) {
        (status.objects, status.bytes.as_ref().unwrap().as_str())
    }

    #[test]
    fn the_bucket_is_shown_in_powers_of_two_that_stay_until_a_quarter_is_gone() {
        for (value, before, step) in [
            (0, None, 0),
            (1, None, 1),
            (3, None, 2),
            (1023, None, 512),
            (1024, Some(512), 1024),
            (1023, Some(1024), 1024),
            (768, Some(1024), 1024),
            (767, Some(1024), 512),
            (2047, Some(1024), 1024),
            (0, Some(1), 0),
            (u64::MAX, None, 1 << 52),
            (5, Some(u64::MAX), 4),
        ] {
            assert_eq!(power_of_two(value, before), step, "{value} {before:?}");
        }
        // Whatever moves by less than a quarter writes nothing.
        let mut before = tier2(&with_objects(&[(1100, 70 << 30); 3]), None);
        assert_eq!(shown(before.as_ref().unwrap()), (2048, "128Gi"));
        for (objects, bytes) in [(683, 43), (1300, 80), (520, 33), (1365, 85)] {
            let observed = with_objects(&[(objects, bytes << 30); 3]);
            let now = tier2(&observed, before.as_ref());
            assert_eq!(now, before, "{objects}");
            before = now;
        }
        let fewer = tier2(&with_objects(&[(400, 10 << 30); 3]), before.as_ref());
        assert_eq!(shown(&fewer.unwrap()), (1024, "16Gi"));
    }

    #[test]
    fn a_part_of_the_pods_is_never_shown_as_the_whole() {
        let whole = with_objects(&[(10, 10), (20, 20), (70, 70)]);
        let known = tier2(&whole, None).unwrap();
        assert_eq!(shown(&known), (64, "64"));
        let mut spoilt: Vec<Observed> = (0..6).map(|_| whole.clone()).collect();
        spoilt[0].reports.remove("orders-1");
        spoilt[1].pods.remove(1);
        // Of an older version; while it recovers.
        answer(&mut spoilt[2], "orders-1").dump.tier2 = Some(Tier2Report::default());
        answer(&mut spoilt[3], "orders-1").dump.tier2 = None;
        // Two that hold the same streams.
        let twice = answer(&mut spoilt[4], "orders-0").dump.volume_id.clone();
        answer(&mut spoilt[4], "orders-1").dump.volume_id = twice;
        spoilt[5].stateful_set = None;
        for (number, observed) in spoilt.iter_mut().enumerate() {
            assert_eq!(tier2(observed, None), None, "{number}");
            let stale = tier2(observed, Some(&known)).unwrap();
            assert_eq!(shown(&stale), shown(&known), "{number}");
            let since = Some(Time(observed.now));
            assert_eq!(stale.stale_since, since, "{number}");
            // Its time stays, so that a cluster at rest gets no write.
            observed.now += jiff::SignedDuration::from_mins(5);
            assert_eq!(tier2(observed, Some(&stale)), Some(stale.clone()));
            assert_eq!(tier2(&whole, Some(&stale)), Some(known.clone()));
        }
        let mut unsized_object = whole.clone();
        let report = &mut answer(&mut unsized_object, "orders-2").dump.tier2;
        report.as_mut().unwrap().objects_of_unknown_size = 1;
        let told = tier2(&unsized_object, Some(&known)).unwrap();
        assert_eq!((told.objects, told.bytes), (64, None));
        let mut without_bucket = whole;
        without_bucket.cluster.spec.tier2 = None;
        assert_eq!(tier2(&without_bucket, Some(&known)), None);
    }

    #[test]
    fn a_pod_that_is_missing_leaves_the_other_tiers_as_they_were_shown_too() {
        let mut observed = at_rest();
        for pod in ["orders-0", "orders-1", "orders-2"] {
            let dump = &mut answer(&mut observed, pod).dump;
            dump.tier1.max_bytes = 100;
            dump.tier1.total_bytes = 50;
        }
        let known = tier1(&observed, None).unwrap();
        assert_eq!(known.used_percent, 50);
        answer(&mut observed, "orders-0").dump.tier1.total_bytes = 100;
        observed.pods.remove(1);
        assert_eq!(tier1(&observed, Some(&known)), Some(known));
    }
}
