//! What a run has done so far, and its periodic line.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// Latencies kept for one line; further ones replace older ones.
const MAX_SAMPLES: usize = 100_000;

/// Counters of all streams of a process.
#[derive(Default)]
pub struct Stats {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    acknowledged: u64,
    confirmed: u64,
    confirmed_at_last_line: u64,
    refused: BTreeMap<String, u64>,
    reconnects: u64,
    setbacks: u64,
    waiting: BTreeMap<String, String>,
    latencies_us: Vec<u32>,
    next_sample: usize,
}

/// One periodic line.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line {
    pub seconds: u64,
    pub streams: usize,
    /// Acknowledged by the engine.
    pub acknowledged: u64,
    /// Confirmed by the collector too: what counts.
    pub confirmed: u64,
    /// Confirmed records a second since the last line.
    pub per_second: f64,
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    pub reconnects: u64,
    /// Streams that came back with less than they had acknowledged. Anything but 0 is data loss.
    pub setbacks: u64,
    pub refused: BTreeMap<String, u64>,
    /// Streams that do not get on now, and why.
    pub waiting: BTreeMap<String, String>,
}

impl Stats {
    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn acknowledged(&self, stream: &str, latency: Duration) {
        let mut inner = self.locked();
        inner.acknowledged += 1;
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        if inner.latencies_us.len() < MAX_SAMPLES {
            inner.latencies_us.push(sample);
        } else {
            let at = inner.next_sample % MAX_SAMPLES;
            inner.latencies_us[at] = sample;
            inner.next_sample += 1;
        }
        inner.waiting.remove(stream);
    }

    pub fn confirmed(&self, count: u64) {
        self.locked().confirmed += count;
    }

    pub fn refused(&self, reason: String) {
        *self.locked().refused.entry(reason).or_default() += 1;
    }

    pub fn reconnected(&self) {
        self.locked().reconnects += 1;
    }

    pub fn set_back(&self) {
        self.locked().setbacks += 1;
    }

    /// A stream that waits until its next acknowledgement.
    pub fn waits(&self, stream: &str, reason: String) {
        self.locked().waiting.insert(stream.to_owned(), reason);
    }

    /// Ends a period of `since_last` and tells of it.
    pub fn line(&self, streams: usize, since_start: Duration, since_last: Duration) -> Line {
        let mut inner = self.locked();
        let mut latencies = std::mem::take(&mut inner.latencies_us);
        inner.next_sample = 0;
        latencies.sort_unstable();
        let quantile = |share: f64| {
            let at = (latencies.len() as f64 * share) as usize;
            latencies
                .get(at.min(latencies.len().saturating_sub(1)))
                .map_or(0.0, |sample| f64::from(*sample) / 1000.0)
        };
        let fresh = inner.confirmed - inner.confirmed_at_last_line;
        inner.confirmed_at_last_line = inner.confirmed;
        let per_second = fresh as f64 / since_last.as_secs_f64().max(0.001);
        Line {
            seconds: since_start.as_secs(),
            streams,
            acknowledged: inner.acknowledged,
            confirmed: inner.confirmed,
            per_second: (per_second * 10.0).round() / 10.0,
            ack_p50_ms: quantile(0.5),
            ack_p99_ms: quantile(0.99),
            reconnects: inner.reconnects,
            setbacks: inner.setbacks,
            refused: inner.refused.clone(),
            waiting: inner.waiting.clone(),
        }
    }
}

/// Of the streams that wait, in a line of text.
const WAITING_SHOWN: usize = 4;

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line {
            seconds,
            streams,
            acknowledged,
            confirmed,
            per_second,
            ack_p50_ms,
            ack_p99_ms,
            reconnects,
            setbacks,
            refused,
            waiting,
        } = self;
        write!(
            f,
            "{seconds} s: {confirmed} records counted in {streams} streams ({} wait for the collector), {per_second:.1}/s, \
             ack p50 {ack_p50_ms:.2} ms p99 {ack_p99_ms:.2} ms, {reconnects} reconnects",
            acknowledged.saturating_sub(*confirmed)
        )?;
        if *setbacks > 0 {
            write!(f, ", {setbacks} SETBACKS (ACKNOWLEDGED RECORDS LOST)")?;
        }
        for (reason, count) in refused {
            write!(f, ", {reason} {count}")?;
        }
        for (stream, reason) in waiting.iter().take(WAITING_SHOWN) {
            write!(f, "; {stream} waits: {reason}")?;
        }
        if let more @ 1.. = waiting.len().saturating_sub(WAITING_SHOWN) {
            write!(f, "; {more} more streams wait")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_of_its_own_period() {
        let stats = Stats::default();
        stats.confirmed(100);
        let second = Duration::from_secs(1);
        assert_eq!(stats.line(1, second, second).per_second, 100.0);
        stats.confirmed(50);
        let line = stats.line(1, 3 * second, 2 * second);
        assert_eq!((line.confirmed, line.per_second), (150, 25.0));
    }

    #[test]
    fn a_stream_waits_until_its_next_acknowledgement() {
        let stats = Stats::default();
        stats.waits("a", "Draining".into());
        stats.waits("b", "Draining".into());
        stats.acknowledged("a", Duration::from_micros(1500));
        let line = stats.line(2, Duration::from_secs(10), Duration::from_secs(10));
        assert_eq!(line.waiting.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!((line.ack_p50_ms, line.ack_p99_ms), (1.5, 1.5));
        let text = line.to_string();
        assert!(text.ends_with("; b waits: Draining"), "{text}");
        assert!(text.contains("(1 wait for the collector)"), "{text}");
    }

    #[test]
    fn a_setback_cannot_be_overlooked() {
        let stats = Stats::default();
        stats.set_back();
        let text = stats
            .line(1, Duration::from_secs(1), Duration::from_secs(1))
            .to_string();
        assert!(text.contains("ACKNOWLEDGED RECORDS LOST"), "{text}");
    }
}
