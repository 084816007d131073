//! How the Tier 0 budget is divided among pods.

use std::collections::BTreeMap;

/// Bytes by pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares(BTreeMap<String, u64>);

impl Shares {
    /// The same part for each of `pods`, of the budget that it is told: a canary has its part of the new one.
    pub fn even(pods: &[String], budget_bytes: impl Fn(&str) -> u64) -> Self {
        let count = u64::try_from(pods.len()).unwrap_or(u64::MAX).max(1);
        Self(
            pods.iter()
                .map(|pod| (pod.clone(), budget_bytes(pod) / count))
                .collect(),
        )
    }

    /// A pod that has no share is told none.
    pub fn of(&self, pod: &str) -> u64 {
        self.0.get(pod).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(count: i32) -> Vec<String> {
        (0..count)
            .map(|ordinal| crate::names::pod("orders", ordinal))
            .collect()
    }

    #[test]
    fn shares_never_exceed_the_budget_and_a_canary_has_its_part_of_the_new_one() {
        let even = Shares::even(&pods(3), |_| 100);
        assert_eq!(["orders-0", "orders-2"].map(|pod| even.of(pod)), [33, 33]);
        assert_eq!(even.of("orders-3"), 0);
        let canary = Shares::even(&pods(3), |pod| if pod == "orders-2" { 300 } else { 90 });
        assert_eq!(
            ["orders-0", "orders-2"].map(|pod| canary.of(pod)),
            [30, 100]
        );
        assert_eq!(Shares::even(&[], |_| 100), Shares::default());
    }
}
