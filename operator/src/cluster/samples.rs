//! How many appends each engine refused, sampled at every look: rates, which no single report tells.
//!
//! An observation like every other, and lost with the process: what was not counted for a minute is not known, and holds.

use std::collections::{BTreeMap, HashMap, VecDeque};

use aof2_admin_api::Dump;
use jiff::{SignedDuration, Timestamp};

use crate::config_rollout::Rates;

/// The window of a rate.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// The window of a pod's own past.
const PAST: SignedDuration = SignedDuration::from_mins(5);
/// Looks come every two seconds during a rollout; a rate over a minute needs fewer samples.
const SPACING: SignedDuration = SignedDuration::from_secs(4);

struct Sample {
    at: Timestamp,
    process_start: String,
    would_block: BTreeMap<String, u64>,
}

#[derive(Default)]
pub struct Samples {
    /// By cluster, then pod.
    clusters: HashMap<String, HashMap<String, VecDeque<Sample>>>,
}

/// What a cluster's samples are kept under.
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Samples {
    /// Pods that are not among `dumps` are kept: an engine that does not answer now may later.
    pub fn take<'a>(
        &mut self,
        key: &str,
        dumps: impl Iterator<Item = (&'a str, &'a Dump)>,
        now: Timestamp,
    ) {
        let pods = self.clusters.entry(key.to_owned()).or_default();
        for (pod, dump) in dumps {
            let samples = pods.entry(pod.to_owned()).or_default();
            // Another process counts from zero, and a clock that was set back says nothing of what passed.
            if samples
                .back()
                .is_some_and(|last| last.process_start != dump.process_start || last.at > now)
            {
                samples.clear();
            }
            if samples
                .back()
                .is_none_or(|last| now.duration_since(last.at) >= SPACING)
            {
                samples.push_back(Sample {
                    at: now,
                    process_start: dump.process_start.clone(),
                    would_block: dump
                        .would_block
                        .iter()
                        .map(|(kind, count)| (kind.to_string(), *count))
                        .collect(),
                });
            }
            // One beyond the window stays, or the window would never be full.
            while samples
                .get(1)
                .is_some_and(|second| now.duration_since(second.at) > PAST)
            {
                samples.pop_front();
            }
        }
        pods.retain(|_, samples| {
            samples
                .back()
                .is_some_and(|last| now.duration_since(last.at) <= PAST)
        });
    }

    /// `None`: not counted for a minute, or not lately.
    pub fn rates(&self, key: &str, pod: &str, now: Timestamp) -> Option<Rates> {
        let samples = self.clusters.get(key)?.get(pod)?;
        let last = samples.back()?;
        if now.duration_since(last.at) > MINUTE + MINUTE {
            return None;
        }
        let minute = samples
            .iter()
            .rev()
            .find(|sample| last.at.duration_since(sample.at) >= MINUTE)?;
        let past = samples.front()?;
        Some(Rates {
            minute: rate(minute, last),
            past: rate(past, last),
        })
    }

    pub fn forget(&mut self, key: &str) {
        self.clusters.remove(key);
    }
}

fn rate(from: &Sample, to: &Sample) -> BTreeMap<String, f64> {
    let seconds = to.at.duration_since(from.at).as_secs_f64();
    to.would_block
        .iter()
        .map(|(kind, count)| {
            let before = from.would_block.get(kind).copied().unwrap_or_default();
            (kind.clone(), count.saturating_sub(before) as f64 / seconds)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::WouldBlockKind;

    use super::*;

    fn dump(process: &str, refused: u64) -> Dump {
        Dump {
            process_start: process.to_owned(),
            would_block: BTreeMap::from([(WouldBlockKind::Admission, refused)]),
            ..Dump::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    #[test]
    fn a_rate_is_known_after_a_minute_of_one_process() {
        let mut samples = Samples::default();
        for second in (0..60).step_by(10) {
            samples.take(
                "c",
                [("orders-0", &dump("p1", second as u64))].into_iter(),
                at(second),
            );
            assert_eq!(samples.rates("c", "orders-0", at(second)), None, "{second}");
        }
        samples.take("c", [("orders-0", &dump("p1", 120))].into_iter(), at(60));
        let rates = samples.rates("c", "orders-0", at(60)).unwrap();
        assert!((rates.minute["Admission"] - 2.0).abs() < 0.01, "{rates:?}");
        // Another process counts from zero, and is not known yet.
        samples.take("c", [("orders-0", &dump("p2", 0))].into_iter(), at(70));
        assert_eq!(samples.rates("c", "orders-0", at(70)), None);
    }

    #[test]
    fn what_was_not_reported_lately_is_not_known() {
        let mut samples = Samples::default();
        for second in [0, 60] {
            samples.take("c", [("orders-0", &dump("p", 0))].into_iter(), at(second));
        }
        assert!(samples.rates("c", "orders-0", at(100)).is_some());
        assert_eq!(samples.rates("c", "orders-0", at(200)), None);
    }

    #[test]
    fn the_past_reaches_back_five_minutes_and_no_further() {
        let mut samples = Samples::default();
        for second in (0..=600).step_by(20) {
            let refused = if second < 300 {
                0
            } else {
                (second - 300) as u64
            };
            samples.take(
                "c",
                [("orders-0", &dump("p", refused))].into_iter(),
                at(second),
            );
        }
        let rates = samples.rates("c", "orders-0", at(600)).unwrap();
        assert!((rates.past["Admission"] - 1.0).abs() < 0.1, "{rates:?}");
    }
}
