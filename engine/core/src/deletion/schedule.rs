//! When the objects of which stream are looked at next. Pure over names and time.
//!
//! Each stream has a time of its own: one that fails, or has more to delete than one turn of it does, keeps no other waiting. Those that
//! have waited longest come first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failures::Failures;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeMap<Arc<str>, Instant>,
    pub failures: Failures,
    /// By which the times were chosen.
    grace: Option<Duration>,
}

impl Schedule {
    /// These have something to delete now, and no others.
    pub fn see(&mut self, streams: &[Arc<str>], now: Instant) {
        self.due.retain(|stream, _| streams.contains(stream));
        self.failures.keep(|stream| streams.contains(stream));
        for stream in streams {
            self.due.entry(stream.clone()).or_insert(now);
        }
    }

    /// A grace that is another one than before may be over. Streams that fail rest all the same.
    pub fn set_grace(&mut self, grace: Duration, now: Instant) {
        let before = self.grace.replace(grace);
        if before.is_none_or(|before| before == grace) {
            return;
        }
        self.look_again(now);
    }

    /// What was decided may be another thing now, but for streams that fail.
    pub fn look_again(&mut self, at: Instant) {
        for (stream, due) in &mut self.due {
            if self.failures.retry_at(stream).is_none() {
                *due = at;
            }
        }
    }

    /// Something changed: it is looked at at once.
    pub fn hurry(&mut self, stream: &Arc<str>, now: Instant) {
        self.due.insert(stream.clone(), now);
    }

    pub fn due(&self, now: Instant) -> Vec<Arc<str>> {
        let due = self.due.iter().filter(|(_, at)| **at <= now);
        let mut due: Vec<_> = due.map(|(stream, at)| (*at, stream)).collect();
        due.sort();
        due.into_iter().map(|(_, stream)| stream.clone()).collect()
    }

    pub fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    pub fn done(&mut self, stream: &Arc<str>, next: Instant) {
        self.failures.clear(stream);
        self.due.insert(stream.clone(), next);
    }

    /// As `failed`, looked at again at `next`.
    pub fn put_off(&mut self, stream: &Arc<str>, why: String, now: Instant, next: Instant) -> bool {
        let is_new = self.failures.note(stream, why, now);
        self.due.insert(stream.clone(), next);
        is_new
    }

    /// Answers whether it is news.
    pub fn failed(&mut self, stream: &Arc<str>, why: String, now: Instant) -> bool {
        let is_new = self.failures.note(stream, why, now);
        if let Some(at) = self.failures.retry_at(stream) {
            self.due.insert(stream.clone(), at);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn streams_that_wait_longest_come_first_and_one_that_fails_rests_alone() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.see(&names(&["b", "c"]), now);
        schedule.see(&names(&["a", "b", "c"]), now + HOUR);
        let at = now + HOUR;
        assert_eq!(schedule.due(at), names(&["b", "c", "a"]));
        // It has more to do, and is behind the others all the same.
        schedule.done(&"b".into(), at);
        assert_eq!(schedule.due(at), names(&["c", "a", "b"]));
        assert!(schedule.failed(&"c".into(), "denied".to_owned(), at));
        assert_eq!(schedule.due(at), names(&["a", "b"]));
        assert_eq!(schedule.next(), Some(at));
        schedule.done(&"a".into(), at + HOUR);
        schedule.done(&"b".into(), at + HOUR);
        assert_eq!(schedule.next(), Some(at + Duration::from_secs(1)));
        assert!(!schedule.failed(&"c".into(), "denied".to_owned(), at));
        assert_eq!(schedule.failures.report().streams, 1);
        schedule.see(&names(&["a"]), at);
        assert_eq!(schedule.failures.report().streams, 0);
        assert_eq!(schedule.next(), Some(at + HOUR));
    }

    #[test]
    fn another_grace_is_looked_at_at_once_but_for_what_fails() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.see(&names(&["a", "b"]), now);
        schedule.set_grace(24 * HOUR, now);
        schedule.done(&"a".into(), now + 6 * HOUR);
        schedule.failed(&"b".into(), "denied".to_owned(), now);
        let at = now + Duration::from_millis(1);
        schedule.set_grace(24 * HOUR, at);
        assert_eq!(schedule.due(at), names(&[]));
        schedule.set_grace(HOUR, at);
        assert_eq!(schedule.due(at), names(&["a"]));
    }
}
