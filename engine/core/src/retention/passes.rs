//! The passes of the rules over the streams of this node: who has a turn next. Pure over names and time.
//!
//! A pass is done in pieces. Each stream has its turn before one has a second, and a pass that was given up, for other rules or a stop,
//! lets the next one begin behind the stream that had the last turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::config::RetentionRule;
use crate::coordinator::plan::retain::{self, Limits};
use crate::failures::Failures;

#[derive(Debug, Default)]
pub(super) struct Passes {
    /// In force.
    rules: Vec<RetentionRule>,
    /// Streams of each, by the last pass with these rules.
    fitting: Option<Vec<u64>>,
    /// `None`: now.
    next: Option<Instant>,
    running: Option<Running>,
    /// Had the last turn.
    last: Option<Arc<str>>,
    pub failures: Failures,
}

#[derive(Debug)]
struct Running {
    waiting: VecDeque<Waiting>,
    fitting: Vec<u64>,
}

#[derive(Debug)]
struct Waiting {
    stream: Arc<str>,
    /// `None`: it had no turn yet.
    left_bytes: Option<u64>,
}

/// What a stream is looked at for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub stream: Arc<str>,
    pub limits: Limits,
    pub left_bytes: Option<u64>,
}

impl Passes {
    /// Other rules have their pass at once.
    pub fn set_rules(&mut self, rules: &[RetentionRule]) {
        if *self.rules != *rules {
            self.rules = rules.to_vec();
            self.fitting = None;
            self.next = None;
            self.running = None;
            self.failures.keep(|_| false);
        }
    }

    pub fn rules(&self) -> impl Iterator<Item = (&RetentionRule, Option<u64>)> {
        let fitting = |index: usize| self.fitting.as_ref().map(|counts| counts[index]);
        let rules = self.rules.iter().enumerate();
        rules.map(move |(index, rule)| (rule, fitting(index)))
    }

    pub fn has_limits(&self) -> bool {
        self.rules.iter().any(|rule| !rule.keeps_all())
    }

    pub fn goes_by_age(&self) -> bool {
        self.rules.iter().any(|rule| rule.max_age.is_some())
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.has_limits() && (self.running.is_some() || self.next.is_none_or(|at| at <= now))
    }

    /// `None`: no rule takes anything.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let at = self.next.filter(|_| self.running.is_none());
        self.has_limits().then(|| at.unwrap_or(now))
    }

    /// Begins a pass over these streams, which are in the order of their names, unless one is under way.
    pub fn begin(&mut self, streams: impl FnOnce() -> Vec<Arc<str>>) {
        if self.running.is_some() {
            return;
        }
        let mut streams = streams();
        if let Some(last) = &self.last {
            let behind = streams.partition_point(|stream| stream <= last);
            streams.rotate_left(behind);
        }
        self.failures.keep(|stream| streams.contains(stream));
        let waiting = streams.into_iter().map(|stream| Waiting {
            stream,
            left_bytes: None,
        });
        self.running = Some(Running {
            waiting: waiting.collect(),
            fitting: vec![0; self.rules.len()],
        });
    }

    /// The next stream that a rule fits; `None`: the pass is over, or there is none.
    pub fn turn(&mut self) -> Option<Turn> {
        let running = self.running.as_mut()?;
        while let Some(Waiting { stream, left_bytes }) = running.waiting.pop_front() {
            let rule = retain::rule_of(&self.rules, &stream);
            self.last = Some(stream.clone());
            let Some(index) = rule else { continue };
            running.fitting[index] += u64::from(left_bytes.is_none());
            let rule = &self.rules[index];
            if rule.keeps_all() {
                continue;
            }
            return Some(Turn {
                stream,
                limits: rule.into(),
                left_bytes,
            });
        }
        None
    }

    /// It has more to look at: behind the others.
    pub fn again(&mut self, stream: Arc<str>, left_bytes: u64) {
        if let Some(running) = &mut self.running {
            let left_bytes = Some(left_bytes);
            running.waiting.push_back(Waiting { stream, left_bytes });
        }
    }

    /// Ends a pass in which nobody waits any more. Answers patterns of rules that fit no stream, once for each set of rules.
    pub fn end(&mut self, now: Instant) -> Vec<String> {
        let is_over = |running: &mut Running| running.waiting.is_empty();
        let Some(Running { fitting, .. }) = self.running.take_if(is_over) else {
            return Vec::new();
        };
        let is_first = self.fitting.is_none();
        let unused = self.rules.iter().zip(&fitting);
        let unused = unused.filter(|(_, streams)| is_first && **streams == 0);
        let unused = unused.map(|(rule, _)| rule.streams.clone()).collect();
        self.fitting = Some(fitting);
        let limited = self.rules.iter().filter(|rule| !rule.keeps_all());
        let pause = limited.map(|rule| retain::pause(rule.into())).min();
        self.next = pause.map(|pause| now + pause);
        unused
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rule(streams: &str, max_bytes: Option<u64>) -> RetentionRule {
        RetentionRule {
            streams: streams.to_owned(),
            max_age: None,
            max_bytes,
        }
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    fn turns(passes: &mut Passes, most: usize) -> Vec<String> {
        let turns = std::iter::from_fn(|| passes.turn());
        turns
            .take(most)
            .map(|turn| turn.stream.to_string())
            .collect()
    }

    #[test]
    fn every_stream_has_a_turn_before_one_has_a_second() {
        let now = Instant::now();
        let mut passes = Passes::default();
        assert!(!passes.is_due(now));
        passes.set_rules(&[rule("audit-*", None), rule("*", Some(1)), rule("z", None)]);
        assert!(passes.is_due(now));
        passes.begin(|| names(&["a", "audit-a", "b", "c"]));
        let first = passes.turn().expect("a turn");
        assert_eq!((&*first.stream, first.left_bytes), ("a", None));
        passes.again(first.stream, 7);
        // A pass that is under way goes on, in the next job, too.
        passes.begin(|| names(&["other"]));
        assert!(passes.end(now).is_empty() && passes.is_due(now));
        assert_eq!(turns(&mut passes, 2), ["b", "c"]);
        let again = passes.turn().expect("its second");
        assert_eq!((&*again.stream, again.left_bytes), ("a", Some(7)));
        assert_eq!(passes.turn(), None);
        assert_eq!(passes.end(now), ["z"]);
        let counts: Vec<_> = passes.rules().map(|(_, streams)| streams).collect();
        assert_eq!(counts, [Some(1), Some(3), Some(0)]);
        assert!(!passes.is_due(now));
        let next = passes.next(now).expect("a rule takes something");
        assert_eq!(next, now + Duration::from_secs(60));
        // Told once.
        passes.begin(|| names(&["a"]));
        assert_eq!(turns(&mut passes, 9), ["a"]);
        assert!(passes.end(now).is_empty());
    }

    #[test]
    fn a_pass_that_was_given_up_starves_nobody() {
        let mut passes = Passes::default();
        let mut seen = Vec::new();
        for limit in 1..=4 {
            passes.set_rules(&[rule("*", Some(limit))]);
            passes.begin(|| names(&["a", "b", "c", "d"]));
            seen.extend(turns(&mut passes, 1));
        }
        assert_eq!(seen, ["a", "b", "c", "d"]);
    }
}
