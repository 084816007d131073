//! How many appends each engine refused and how its tiers did, sampled at every look: rates, which no single report tells.
//!
//! An observation like every other, and lost with the process: what was not counted for a minute is not known, and holds.

use std::collections::{BTreeMap, HashMap, VecDeque};

use aof2_admin_api::{Dump, report::ReadsReport};
use jiff::{SignedDuration, Timestamp};

use crate::config_rollout::{Figure, Rates, ReadRates};

/// The window of a rate.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// The window of a pod's own past.
const PAST: SignedDuration = SignedDuration::from_mins(5);
/// What samples are kept for.
const KEPT: SignedDuration = SignedDuration::from_mins(10);
/// Looks come every two seconds during a rollout; a rate over a minute needs fewer samples.
const SPACING: SignedDuration = SignedDuration::from_secs(4);

struct Sample {
    at: Timestamp,
    process_start: String,
    would_block: BTreeMap<String, u64>,
    reads: Option<ReadsReport>,
    upload_retries: u64,
    /// Those that are no counters.
    figures: BTreeMap<Figure, f64>,
}

impl Sample {
    fn of(dump: &Dump, now: Timestamp) -> Self {
        let refused = dump.would_block.iter();
        let tier2 = dump.tier2.as_ref();
        // Nothing waits for a tier that is not there.
        let waiting = match tier2 {
            Some(_) => dump.tier0.activation_queue_depth,
            None => Some(0),
        };
        let tier0 = &dump.tier0;
        let used = (tier0.instance_quota_bytes > 0)
            .then(|| tier0.total_bytes as f64 * 100.0 / tier0.instance_quota_bytes as f64);
        let p99 = dump.tier1.hydration_latency_p99_ms.unwrap_or_default();
        let figures = [
            waiting.map(|waiting| (Figure::ActivationQueueDepth, waiting as f64)),
            Some((Figure::HydrationP99Ms, p99)),
            used.map(|used| (Figure::Tier0Use, used)),
        ];
        Self {
            at: now,
            process_start: dump.process_start.clone(),
            would_block: refused
                .map(|(kind, count)| (kind.to_string(), *count))
                .collect(),
            reads: dump.reads,
            upload_retries: tier2.map_or(0, |tier2| tier2.upload_retry_attempts),
            figures: figures.into_iter().flatten().collect(),
        }
    }
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
                samples.push_back(Sample::of(dump, now));
            }
            // One beyond the window stays, or the window would never be full.
            while samples
                .get(1)
                .is_some_and(|second| now.duration_since(second.at) > KEPT)
            {
                samples.pop_front();
            }
        }
        pods.retain(|_, samples| {
            samples
                .back()
                .is_some_and(|last| now.duration_since(last.at) <= KEPT)
        });
    }

    /// `None`: not counted for a minute, or not lately.
    pub fn rates(&self, key: &str, pod: &str, now: Timestamp) -> Option<Rates> {
        let samples = self.clusters.get(key)?.get(pod)?;
        let last = samples.back()?;
        if now.duration_since(last.at) > MINUTE + MINUTE {
            return None;
        }
        let newest_before = |age: SignedDuration| {
            let mut samples = samples.iter().rev();
            samples.find(|sample| last.at.duration_since(sample.at) >= age)
        };
        let minute = newest_before(MINUTE)?;
        let past = newest_before(PAST).or(samples.front())?;
        let within = |from: &Sample| {
            let from = from.at;
            samples.iter().filter(move |sample| sample.at >= from)
        };
        Some(Rates {
            minute: rate(minute, last),
            past: rate(past, last),
            kept_up: figures(minute, last, within(minute), |values| {
                values.iter().copied().reduce(f64::min)
            }),
            mean: figures(past, last, within(past), |values| {
                Some(values.iter().sum::<f64>() / values.len() as f64)
            }),
            reads: reads(minute, last),
            // While an engine recovers it reports none.
            reads_before: samples
                .iter()
                .find(|sample| sample.reads.is_some())
                .filter(|first| last.at.duration_since(first.at) >= MINUTE)
                .and_then(|first| reads(first, last)),
        })
    }

    pub fn forget(&mut self, key: &str) {
        self.clusters.remove(key);
    }
}

/// A figure that one of the samples does not have is not known.
fn figures<'a>(
    from: &Sample,
    to: &Sample,
    samples: impl Iterator<Item = &'a Sample> + Clone,
    of: impl Fn(&[f64]) -> Option<f64>,
) -> BTreeMap<Figure, f64> {
    let known = Figure::ALL.into_iter().filter_map(|figure| {
        if figure == Figure::UploadRetries {
            let seconds = to.at.duration_since(from.at).as_secs_f64();
            let retries = to.upload_retries.saturating_sub(from.upload_retries);
            return Some((figure, retries as f64 / seconds));
        }
        let values = samples
            .clone()
            .map(|sample| sample.figures.get(&figure).copied());
        let values: Vec<f64> = values.collect::<Option<_>>()?;
        Some((figure, of(&values)?))
    });
    known.collect()
}

fn reads(from: &Sample, to: &Sample) -> Option<ReadRates> {
    let (before, now) = (from.reads?, to.reads?);
    let seconds = to.at.duration_since(from.at).as_secs_f64();
    let rate = |of: fn(&ReadsReport) -> u64| of(&now).saturating_sub(of(&before)) as f64 / seconds;
    Some(ReadRates {
        bytes: rate(|reads| {
            let local = reads.tier0_bytes.saturating_add(reads.lower_bytes);
            local.saturating_add(reads.waited_bytes)
        }),
        waited_bytes: rate(|reads| reads.waited_bytes),
    })
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
    use aof2_admin_api::{WouldBlockKind, report::Tier2Report};

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
    fn figures_of_the_tiers_count_as_far_as_they_are_kept_up_and_reported() {
        let tiers = |waiting: Option<u64>, retries: u64, used: u64| {
            let mut dump = dump("p", 0);
            dump.tier0.activation_queue_depth = waiting;
            dump.tier0.total_bytes = used;
            dump.tier0.instance_quota_bytes = 200;
            dump.tier2 = Some(Tier2Report {
                upload_retry_attempts: retries,
                ..Tier2Report::default()
            });
            dump.reads = Some(ReadsReport {
                tier0_bytes: used * 10,
                lower_bytes: 0,
                waited_bytes: used * 30,
            });
            dump
        };
        let mut samples = Samples::default();
        for (second, waiting, retries, used) in
            [(0, 40, 0, 100), (30, 20, 3, 160), (60, 90, 6, 160)]
        {
            let dump = tiers(Some(waiting), retries, used);
            samples.take("c", [("orders-0", &dump)].into_iter(), at(second));
        }
        let rates = samples.rates("c", "orders-0", at(60)).unwrap();
        let kept_up = Figure::ALL.map(|figure| rates.kept_up[&figure]);
        assert_eq!(kept_up, [20.0, 0.0, 0.1, 50.0]);
        assert_eq!(rates.mean[&Figure::ActivationQueueDepth], 50.0);
        let reads = rates.reads.unwrap();
        assert_eq!((reads.bytes, reads.waited_bytes), (40.0, 30.0));
        assert_eq!(rates.reads_before, rates.reads);
        // What was not reported at the start of the process is passed over, until a minute is counted.
        let mut samples_of_start = Samples::default();
        for (second, used) in [(0, None), (10, Some(100)), (70, Some(160))] {
            let mut dump = tiers(Some(0), 0, used.unwrap_or(100));
            dump.reads = dump.reads.filter(|_| used.is_some());
            samples_of_start.take("c", [("orders-0", &dump)].into_iter(), at(second));
        }
        let rates = samples_of_start.rates("c", "orders-0", at(70)).unwrap();
        assert_eq!(rates.reads_before.unwrap().bytes, 40.0);
        let blind = tiers(None, 6, 160);
        samples.take("c", [("orders-0", &blind)].into_iter(), at(70));
        let rates = samples.rates("c", "orders-0", at(70)).unwrap();
        assert!(!rates.kept_up.contains_key(&Figure::ActivationQueueDepth));
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
