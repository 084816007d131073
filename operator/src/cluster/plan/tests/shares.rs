//! Shares of the Tier 0 budget, from reports to files and status.

use std::collections::BTreeMap;

use aof2_crds::cluster::BudgetPolicy;

use super::*;

const GIB: u64 = 1 << 30;
/// Of the budget of 12 GiB, in three even parts.
const EVEN: u64 = 4 * GIB;

/// Reports as of engines that loaded what they were told: the first refuses appends, the others hold little.
fn hot_pod() -> Observed {
    let mut observed = at_rest();
    for (pod, held, refused) in [
        ("orders-0", 4 * GIB, 9.0),
        ("orders-1", 0, 0.0),
        ("orders-2", 0, 0.0),
    ] {
        let tier0 = &mut answer(&mut observed, pod).dump.tier0;
        tier0.total_bytes = held;
        tier0.evictable_bytes = Some(0);
        let rates = Rates {
            minute: BTreeMap::from([("Admission".to_owned(), refused)]),
            reads: Some(Default::default()),
            ..Rates::default()
        };
        observed.rates.insert(pod.to_owned(), rates);
    }
    observed
}

fn told(plan: &Plan) -> [u64; 3] {
    ["orders-0", "orders-1", "orders-2"].map(|pod| {
        let text = file(plan, pod).expect("a file");
        let (_, quota) = text.split_once("instance_quota_bytes = ").expect("a quota");
        quota
            .lines()
            .next()
            .and_then(|line| line.parse().ok())
            .expect("a number")
    })
}

/// Engines that load their files.
fn loaded(mut observed: Observed, plan: Plan, pods: &[&str]) -> Observed {
    for (pod, quota) in ["orders-0", "orders-1", "orders-2"].iter().zip(told(&plan)) {
        if pods.contains(pod) {
            answer(&mut observed, pod).dump.tier0.instance_quota_bytes = quota;
        }
    }
    observed.now += SignedDuration::from_secs(10);
    carried_over(observed, plan)
}

#[test]
fn a_pod_that_refuses_appends_gets_what_the_others_gave_and_never_before() {
    let first = plan(&hot_pod());
    let [hot, cold, other] = told(&first);
    assert_eq!(hot, EVEN, "nobody gets before somebody gave");
    assert!(cold < EVEN / 2 && cold == other, "{cold} {other}");
    let tier0 = first.status.tier0.as_ref().expect("shown");
    assert_eq!(tier0.shares.len(), 3);
    assert_eq!(tier0.shares[1].in_force_basis_points, Some(3333));
    // One of the two has not loaded it yet.
    let half = loaded(hot_pod(), first, &["orders-1"]);
    let second = plan(&half);
    assert!(told(&second)[0] + told(&second)[1] + EVEN <= 3 * EVEN);
    assert!(told(&second)[0] > EVEN);
    let both = loaded(half, second, &["orders-0", "orders-1", "orders-2"]);
    let third = plan(&both);
    assert!(told(&third)[0] > 2 * EVEN, "{:?}", told(&third));
    assert!(told(&third).iter().sum::<u64>() <= 3 * EVEN);
    // And there it stays: a cluster whose demand lasts is at rest.
    let last = loaded(both, third, &["orders-0", "orders-1", "orders-2"]);
    let fourth = plan(&last);
    let rested = loaded(last, fourth, &["orders-0"]);
    assert_eq!(rested.cluster.status, Some(plan(&rested).status));
}

#[test]
fn equal_shares_stay_equal_and_a_cluster_without_demand_says_nothing_of_them() {
    let mut equal = hot_pod();
    equal.cluster.spec.tier0_budget.policy = BudgetPolicy::Equal;
    assert_eq!(told(&plan(&equal)), [EVEN; 3]);
    let calm = plan(&at_rest());
    assert_eq!(told(&calm), [EVEN; 3]);
    let tier0 = calm.status.tier0.expect("shown");
    assert!(tier0.shares.is_empty() && tier0.shares_moved_at.is_none());
}

#[test]
fn a_pod_that_does_not_answer_keeps_its_share_and_what_it_may_still_use_is_nobodys() {
    let first = plan(&hot_pod());
    let mut away = loaded(hot_pod(), first, &["orders-2"]);
    let gone = Report::Failed(Failure {
        may_be_certificate: false,
        message: "no answer".into(),
    });
    away.reports.insert("orders-1".into(), gone);
    let [hot, cold, other] = told(&plan(&away));
    assert!(cold < EVEN, "it is told less, and may run with more");
    assert!(hot + EVEN + other <= 3 * EVEN, "{hot} {other}");
    assert!(hot > EVEN);
}

#[test]
fn shares_survive_a_pause_and_a_missing_config() {
    let first = plan(&hot_pod());
    let shares = first.status.tier0.as_ref().expect("shown").shares.clone();
    let mut paused = loaded(hot_pod(), first, &[]);
    paused.cluster.spec.operation.mode = OperationMode::Paused;
    let still = plan(&paused).status.tier0.expect("shown");
    assert_eq!(still.shares, shares);
}
