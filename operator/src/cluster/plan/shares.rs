//! How the Tier 0 budget is divided among pods: what `arbiter` decides, in bytes, and as status keeps it.

use aof2_crds::{
    cluster::BudgetPolicy,
    status::{Tier0Share, Tier0Status},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    arbiter::{self, Claimant, Division, Need, Pressure, Rules, WHOLE, even},
    told::capacity_bytes,
    volume_sum,
};
use crate::{
    cluster::{config::Revision, facts::Observed},
    names,
};

/// By pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pods: Vec<(String, arbiter::Part)>,
    moved_at: Option<Time>,
}

impl Shares {
    /// Of the first `count` pods. While `is_frozen` they stay as they are.
    pub fn plan(observed: &Observed, in_force: &Revision, count: i32, is_frozen: bool) -> Self {
        let before = observed.cluster.status.iter();
        let before = before.filter_map(|status| status.tier0.as_ref()).next();
        let pods = names::pods(&observed.cluster.name_any(), count);
        let budget_bytes = in_force.cluster_max_bytes();
        let moved_at = before.and_then(|before| before.shares_moved_at.clone());
        let claimants: Vec<Claimant> = pods
            .iter()
            .map(|pod| claimant(observed, in_force, before, pod, pods.len(), is_frozen))
            .collect();
        let policy = observed.cluster.spec.tier0_budget.policy;
        let rules = Rules {
            budget_bytes,
            is_by_demand: policy == BudgetPolicy::Demand,
            is_frozen,
            now: observed.now,
            moved_at: moved_at.as_ref().map(|at| at.0),
        };
        let Division { parts, has_moved } = arbiter::divide(&claimants, rules);
        Self {
            pods: std::iter::zip(pods, parts).collect(),
            moved_at: match has_moved {
                true => Some(Time(observed.now)),
                false => moved_at,
            },
        }
    }

    #[cfg(test)]
    pub fn even(pods: &[String]) -> Self {
        let told = even(pods.len());
        let part = arbiter::Part {
            told,
            in_force: told,
        };
        Self {
            pods: pods.iter().map(|pod| (pod.clone(), part)).collect(),
            moved_at: None,
        }
    }

    /// The part of a pod of the budget that it is told: a canary has its part of the new one. A pod that has no part is told none.
    pub fn of(&self, pod: &str, budget_bytes: u64) -> u64 {
        let known = self.pods.iter().find(|(name, _)| name == pod);
        known.map_or(0, |(_, part)| {
            bytes_of(part.told, budget_bytes, self.pods.len())
        })
    }

    /// For status: empty where all parts are even and loaded.
    pub fn stored(&self) -> (Vec<Tier0Share>, Option<Time>) {
        let even = even(self.pods.len());
        let is_even = self.pods.iter().all(|(_, part)| part.told == even);
        let stored = |(pod, part): &(String, arbiter::Part)| Tier0Share {
            pod: pod.clone(),
            basis_points: basis_points(part.told),
            in_force_basis_points: (part.in_force > part.told).then(|| basis_points(part.in_force)),
        };
        let shares = match is_even {
            true => Vec::new(),
            false => self.pods.iter().map(stored).collect(),
        };
        (shares, self.moved_at.clone())
    }
}

fn basis_points(part: u32) -> i32 {
    i32::try_from(part).unwrap_or(i32::MAX)
}

/// Parts are rounded to the exact even one, so that a budget that divides evenly does.
fn bytes_of(part: u32, budget_bytes: u64, pods: usize) -> u64 {
    if part == even(pods) {
        return budget_bytes / u64::try_from(pods).unwrap_or(u64::MAX).max(1);
    }
    let bytes = u128::from(budget_bytes) * u128::from(part) / u128::from(WHOLE);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The smallest part that is at least so much.
fn part_of(bytes: u64, budget_bytes: u64, pods: usize) -> u32 {
    let even = even(pods);
    if bytes == bytes_of(even, budget_bytes, pods) {
        return even;
    }
    let part = (u128::from(bytes) * u128::from(WHOLE)).div_ceil(u128::from(budget_bytes.max(1)));
    u32::try_from(part).unwrap_or(WHOLE).min(WHOLE)
}

fn claimant(
    observed: &Observed,
    in_force: &Revision,
    before: Option<&Tier0Status>,
    pod: &str,
    pods: usize,
    is_frozen: bool,
) -> Claimant {
    let budget_bytes = in_force.cluster_max_bytes();
    let stored = before
        .iter()
        .flat_map(|before| &before.shares)
        .find(|share| share.pod == pod);
    let parts = |points: i32| u32::try_from(points).unwrap_or_default().min(WHOLE);
    let exists = observed.pods.iter().any(|known| known.name == pod);
    let dump = observed.answer(pod).map(|answer| &answer.dump);
    // Its part of another budget is not comparable.
    let dump = dump.filter(|dump| !is_frozen && dump.config.revision == in_force.hash);
    let reported = dump
        .map(|dump| dump.tier0.instance_quota_bytes)
        .map(|bytes| part_of(bytes, budget_bytes, pods));
    let told = match stored {
        Some(share) => Some(parts(share.basis_points)),
        // What it runs with counts as told, where that is less than an even part.
        None if exists => Some(reported.map_or(even(pods), |part| part.min(even(pods)))),
        None => None,
    };
    let known =
        stored.map(|share| parts(share.in_force_basis_points.unwrap_or(share.basis_points)));
    Claimant {
        exists,
        told,
        in_force: reported.or(known),
        most: {
            let bytes = volume_sum::room_for_segments(in_force, capacity_bytes(observed, pod));
            let part = u128::from(bytes) * u128::from(WHOLE) / u128::from(budget_bytes.max(1));
            u32::try_from(part).unwrap_or(WHOLE).min(WHOLE)
        },
        need: dump.and_then(|dump| {
            let tier0 = &dump.tier0;
            Some(Need {
                held_bytes: tier0.total_bytes.saturating_sub(tier0.evictable_bytes?),
                pressure: observed.rates.get(pod).and_then(|rates| {
                    let refused = rates.minute.get("Admission").copied();
                    let reads = rates.reads?;
                    Some(Pressure {
                        refused_appends: refused.unwrap_or_default(),
                        read_bytes: reads.bytes,
                        waited_bytes: reads.waited_bytes,
                    })
                }),
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_shares_are_exact_and_a_canary_has_its_part_of_the_new_budget() {
        let shares = Shares::even(&names::pods("orders", 3));
        assert_eq!(shares.of("orders-0", 100), 33);
        assert_eq!(shares.of("orders-2", 12 << 30), 4 << 30);
        assert_eq!(shares.of("orders-3", 100), 0);
        assert_eq!(shares.stored(), (Vec::new(), None));
    }

    #[test]
    fn a_part_that_is_told_is_the_one_that_is_reported() {
        for pods in [1, 2, 3, 7, 50] {
            for part in [1, 832, 3333, 9999, even(pods)] {
                for budget in [100, 12 << 30, u64::MAX] {
                    let bytes = bytes_of(part, budget, pods);
                    assert!(
                        part_of(bytes, budget, pods) <= part,
                        "{pods} {part} {budget}"
                    );
                }
            }
        }
    }
}
