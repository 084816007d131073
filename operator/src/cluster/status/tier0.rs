//! Use of the Tier 0 budget, in steps of five with hysteresis: writers fill and free segments all the time, and status must stand still.

use aof2_crds::{Quantity, status::Tier0Status};

use crate::cluster::{config::Revision, facts::Observed};

const STEP: i64 = 5;
/// How far below its step a use has to fall before the step goes down.
const SLACK: i64 = 2;

pub fn publish(
    observed: &Observed,
    revision: Option<&Revision>,
    before: Option<&Tier0Status>,
) -> Option<Tier0Status> {
    let budget = revision?.cluster_max_bytes();
    let answers: Vec<_> = observed
        .pods
        .iter()
        .filter_map(|pod| observed.answer(&pod.name))
        .collect();
    let cluster_max_bytes = Quantity::from_bytes(budget);
    if answers.len() != observed.pods.len() || answers.is_empty() {
        // A part of the pods says nothing about the whole.
        return before.map(|before| Tier0Status {
            cluster_max_bytes,
            used_percent: before.used_percent,
        });
    }
    let used: u64 = answers
        .iter()
        .map(|answer| answer.dump.tier0.total_bytes)
        .fold(0, u64::saturating_add);
    let percent = i64::try_from(u128::from(used) * 100 / u128::from(budget.max(1)))
        .unwrap_or(100)
        .min(100);
    Some(Tier0Status {
        cluster_max_bytes,
        used_percent: stepped(percent, before.map(|before| before.used_percent)),
    })
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
}
