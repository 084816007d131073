//! Actions that failed, each with a pause of its own: it doubles with every failure in a row, and another wish is tried at once.
//!
//! A pause of the whole look would keep everything else of the cluster waiting. Kept in this process alone: losing it costs a call each.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::error::ActionError;
use crate::{
    kube::Remedy,
    machine::{Pause, is_logged},
};

const PAUSE: Pause = Pause::new(SignedDuration::from_secs(1), SignedDuration::from_mins(1));

/// An action that does not work, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Otherwise it may work at the next try.
    pub needs_person: bool,
    /// What a person does then.
    pub fix: &'static str,
    pub message: String,
    pub retry_at: Timestamp,
    /// In a row, this one included.
    pub count: u32,
    /// Worth a line of the log: it says something else than before, or lasts.
    pub is_news: bool,
}

/// By namespace and name of the cluster, then by what was to be done.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<(String, String), BTreeMap<String, Failure>>>);

impl Failures {
    /// It failed a moment ago and is not to be tried yet.
    pub fn pending(
        &self,
        cluster: &(String, String),
        action: &str,
        now: Timestamp,
    ) -> Option<Failure> {
        let all = self.0.lock();
        let failure = all.get(cluster)?.get(action)?;
        (now < failure.retry_at).then(|| failure.clone())
    }

    pub fn failed(
        &self,
        cluster: &(String, String),
        action: &str,
        error: &ActionError,
        now: Timestamp,
        jitter: f64,
    ) -> Failure {
        let mut all = self.0.lock();
        let of_cluster = all.entry(cluster.clone()).or_default();
        let before = of_cluster.get(action);
        let count = before.map_or(0, |before| before.count);
        let message = error.describe();
        let is_other = before.is_none_or(|before| before.message != message);
        let pause = PAUSE.after(count).mul_f64(0.75 + 0.5 * jitter);
        let failure = Failure {
            needs_person: error.remedy() == Remedy::Fix,
            fix: error.fix(),
            message,
            retry_at: now.checked_add(pause).unwrap_or(Timestamp::MAX),
            count: count.saturating_add(1),
            is_news: is_other || is_logged(count.saturating_add(1)),
        };
        of_cluster.insert(action.to_owned(), failure.clone());
        failure
    }

    pub fn succeeded(&self, cluster: &(String, String), action: &str) {
        let mut all = self.0.lock();
        if let Some(of_cluster) = all.get_mut(cluster) {
            of_cluster.remove(action);
            if of_cluster.is_empty() {
                all.remove(cluster);
            }
        }
    }

    /// What is not asked for any more is forgotten.
    pub fn keep_only(&self, cluster: &(String, String), actions: &[String]) {
        let mut all = self.0.lock();
        if let Some(of_cluster) = all.get_mut(cluster) {
            of_cluster.retain(|action, _| actions.contains(action));
            if of_cluster.is_empty() {
                all.remove(cluster);
            }
        }
    }

    pub fn forget(&self, cluster: &(String, String)) {
        self.0.lock().remove(cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_for_each_action_and_another_wish_is_tried_at_once() {
        let failures = Failures::default();
        let cluster = ("shop".to_owned(), "orders".to_owned());
        let error = ActionError::Engine {
            verb: "drain",
            pod: "orders-1".into(),
            message: "busy".into(),
        };
        let mut now = Timestamp::UNIX_EPOCH;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(failures.pending(&cluster, "drain", now), None);
            let failure = failures.failed(&cluster, "drain", &error, now, 0.5);
            pauses.push(failure.retry_at.duration_since(now).as_secs());
            assert!(failures.pending(&cluster, "drain", now).is_some());
            assert_eq!(failures.pending(&cluster, "drain another", now), None);
            now = failure.retry_at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let failed = |now| failures.failed(&cluster, "drain", &error, now, 0.5).is_news;
        let lines = (9..=1449).filter(|_| failed(now)).count();
        assert!(lines < 36, "{lines} lines in a day");
        let other = ActionError::Engine {
            verb: "drain",
            pod: "orders-1".into(),
            message: "refused".into(),
        };
        assert!(failures.failed(&cluster, "drain", &other, now, 0.5).is_news);
        failures.succeeded(&cluster, "drain");
        let failure = failures.failed(&cluster, "drain", &error, now, 0.5);
        assert_eq!(failure.count, 1);
        failures.keep_only(&cluster, &[]);
        assert_eq!(failures.pending(&cluster, "drain", now), None);
    }
}
