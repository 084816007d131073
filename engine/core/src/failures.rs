//! What fails of which stream, how often in a row, and when it is tried again. A failure of one stream says nothing of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::coordinator::memo::{FailureKind, pause_after};

/// So many are named in a report; the others are counted.
pub const MAX_NAMED: usize = 16;

/// For reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedStreams {
    pub streams: u64,
    /// The first ones by name, each with its reason.
    pub named: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Failures {
    by_stream: BTreeMap<Arc<str>, Failure>,
}

#[derive(Debug)]
struct Failure {
    /// In a row.
    times: u32,
    retry_at: Instant,
    why: String,
}

impl Failures {
    /// Answers whether it is news: each reason is worth one line of a log, however often it is met.
    pub fn note(&mut self, stream: &Arc<str>, why: String, now: Instant) -> bool {
        let before = self.by_stream.get(stream);
        let is_new = before.is_none_or(|before| before.why != why);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let retry_at = now + pause_after(times, FailureKind::Refused);
        let failure = Failure {
            times,
            retry_at,
            why,
        };
        self.by_stream.insert(stream.clone(), failure);
        is_new
    }

    pub fn clear(&mut self, stream: &str) {
        self.by_stream.remove(stream);
    }

    pub fn keep(&mut self, is_kept: impl Fn(&Arc<str>) -> bool) {
        self.by_stream.retain(|stream, _| is_kept(stream));
    }

    /// `None`: nothing fails of it.
    pub fn retry_at(&self, stream: &str) -> Option<Instant> {
        Some(self.by_stream.get(stream)?.retry_at)
    }

    /// With its name, of the first stream.
    pub fn first(&self) -> Option<(&Arc<str>, &str)> {
        let (stream, failure) = self.by_stream.first_key_value()?;
        Some((stream, &failure.why))
    }

    pub fn report(&self) -> FailedStreams {
        FailedStreams::of(&[self])
    }
}

impl FailedStreams {
    /// Of several things that fail, each with its own streams.
    pub(crate) fn of(all: &[&Failures]) -> FailedStreams {
        let mut whys: BTreeMap<&Arc<str>, Vec<&str>> = BTreeMap::new();
        for (stream, failure) in all.iter().flat_map(|it| &it.by_stream) {
            whys.entry(stream).or_default().push(&failure.why);
        }
        let streams = whys.len() as u64;
        let named = whys.into_iter().take(MAX_NAMED);
        FailedStreams {
            streams,
            named: named
                .map(|(stream, whys)| (stream.to_string(), whys.join("; ")))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_stream_fails_for_itself_and_rests_longer_the_more_often_it_does() {
        let now = Instant::now();
        let mut failures = Failures::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let rests = |failures: &Failures, stream: &str| {
            let at = failures.retry_at(stream);
            at.map(|at| at - now)
        };
        assert!(failures.note(&a, "full".to_owned(), now));
        assert!(!failures.note(&a, "full".to_owned(), now));
        assert!(failures.note(&a, "denied".to_owned(), now));
        assert!(failures.note(&b, "denied".to_owned(), now));
        assert_eq!(rests(&failures, "a"), Some(Duration::from_secs(4)));
        assert_eq!(rests(&failures, "b"), Some(Duration::from_secs(1)));
        failures.clear("a");
        assert_eq!(rests(&failures, "a"), None);
        assert_eq!(failures.first(), Some((&b, "denied")));
        failures.keep(|_| false);
        assert_eq!(failures.report(), FailedStreams::default());
    }

    #[test]
    fn a_report_counts_all_and_names_as_many_as_it_holds() {
        let now = Instant::now();
        let of = |numbers: std::ops::Range<usize>, why: &str| {
            let mut failures = Failures::default();
            for number in numbers {
                let stream = format!("s{number:02}").into();
                failures.note(&stream, why.to_owned(), now);
            }
            failures
        };
        let report = of(0..30, "full").report();
        assert_eq!((report.streams, report.named.len()), (30, MAX_NAMED));
        let both = FailedStreams::of(&[&of(0..3, "full"), &of(2..5, "denied")]);
        assert_eq!(both.streams, 5);
        assert_eq!(both.named["s02"], "full; denied");
        assert_eq!(both.named["s04"], "denied");
    }
}
