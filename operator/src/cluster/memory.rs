//! What looks at clusters remember in this process alone: losing it costs a question, a pause or a minute of counting.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    answered::Answered, backoff::Backoff, failures::Failures, rest::Rests, samples::Samples,
    touches::Touches,
};
use crate::{
    config_rollout::{Rates, takes::Counts},
    engines::Report,
    snapshot::known::Known,
};

#[derive(Default)]
pub struct Memory {
    pub failures: Failures,
    /// Templates that the API server did not check, by the cluster's uid.
    pub checks: Failures,
    pub backoff: Mutex<Backoff>,
    /// What the API server said of a template; `None`: it takes it.
    pub dry_runs: Answered<Option<String>>,
    /// What engines said of rules of retention.
    pub counts: Answered<Counts>,
    pub samples: Mutex<Samples>,
    /// Of all clusters, as the watch saw them last.
    pub snapshots: Arc<Known>,
    /// Clusters at rest, as they were read last.
    pub rests: Rests,
    pub touches: Touches,
}

impl Memory {
    /// Counts what the engines refused, and says how fast.
    pub fn count(
        &self,
        key: &str,
        reports: &BTreeMap<String, Report>,
        now: Timestamp,
    ) -> BTreeMap<String, Rates> {
        let mut samples = self.samples.lock();
        let dumps = reports.iter().filter_map(|(pod, report)| match report {
            Report::Answered(answer) => Some((pod.as_str(), &answer.dump)),
            Report::Failed(_) => None,
        });
        samples.take(key, dumps, now);
        reports
            .keys()
            .filter_map(|pod| Some((pod.clone(), samples.rates(key, pod, now)?)))
            .collect()
    }
}
