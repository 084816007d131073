//! Where the bytes of this node are, how much they grow and what retention will take: sums over the folds of all streams, without a file or
//! an object being asked. Streams are looked at one after the other; what is kept of them is the sum, and the largest.

mod class;
mod forecast;
mod growth;
mod sum;

use std::sync::Arc;

use thiserror::Error;

use crate::config::RetentionRule;
use crate::coordinator::plan::retain;
use crate::pattern;
use crate::retention::shortened::{self, Shortened};
use crate::retention::{ClockLook, Retention};
use crate::store::Store;
use crate::store::usage::StreamUsage;

pub use crate::residency::{Compressed, DatedObject, Held};
pub use class::class_of;
pub use forecast::{Forecast, Taken};
pub use growth::Growth;
pub use sum::Usage;

use forecast::{WallClock, forecast};
use sum::Largest;

/// What somebody wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Streams whose names fit this pattern; all without it.
    pub streams: Option<String>,
    /// Streams that are described one by one, the largest; the others in one sum.
    pub most_streams: usize,
    /// Rules of retention that are not in force, to see what they would take.
    pub proposed: Option<Vec<RetentionRule>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageReport {
    /// By the wall clock of the node.
    pub at_unix_nanos: i64,
    /// Why nothing goes by age now.
    pub suspended: Option<String>,
    pub total: Usage,
    /// Largest first; with proposed rules those of which they take most within 30 days.
    pub largest: Vec<StreamShare>,
    /// All others.
    pub rest: Usage,
    /// In their order.
    pub rules: Vec<RuleShare>,
    pub proposed: Option<Vec<RuleShare>>,
    /// Streams that these keep for less than the rules in force; `None` without them.
    pub shortened: Option<Vec<ShortenedShare>>,
}

/// What a proposed rule takes beyond the rule in force. Each stream counts for the one pair of rules that it falls under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortenedShare {
    pub change: Shortened,
    /// Of the streams that were asked for.
    pub beyond: Forecast,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamShare {
    pub name: Arc<str>,
    /// First sequence that can be read.
    pub start_sequence: u64,
    pub usage: Usage,
}

/// What a rule of retention takes of the streams that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleShare {
    pub rule: RetentionRule,
    /// Streams of this node for which it counts, whatever was asked for.
    pub fitting_streams: u64,
    pub forecast: Forecast,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    #[error(
        "no stream of this node fits {pattern:?}; `aof2-admin streams` lists the streams of this node"
    )]
    NoStream { pattern: String },
    /// Nobody waits for it.
    #[error("the report was given up")]
    Abandoned,
}

/// May take seconds where there are very many segments, and a stream's lock for moments. `is_abandoned` is asked before each stream.
pub fn storage_report(
    store: &Store,
    retention: &Retention,
    question: &Question,
    is_abandoned: &dyn Fn() -> bool,
) -> Result<StorageReport, ReportError> {
    let ClockLook {
        wall_unix_nanos,
        suspended,
    } = retention.clock().look();
    let clock = WallClock {
        unix_nanos: wall_unix_nanos,
        is_trusted: suspended.is_none(),
    };
    let names = store.names_of_streams();
    let mut rules = Rules::new(&store.config().retention, &names);
    let proposed = question.proposed.as_ref();
    let mut proposed = proposed.map(|rules| Rules::new(rules, &names));
    let mut shortened = proposed
        .as_ref()
        .map(|proposed| shortened_by(&rules.rules, &proposed.rules));
    let mut largest = Largest::new(question.most_streams);
    let asked: Vec<&Arc<str>> = names
        .iter()
        .filter(|name| question.asks_for(name))
        .collect();
    if let (true, Some(pattern)) = (asked.is_empty(), &question.streams) {
        let pattern = pattern.clone();
        return Err(ReportError::NoStream { pattern });
    }
    for name in asked {
        if is_abandoned() {
            return Err(ReportError::Abandoned);
        }
        // Gone meanwhile: its first append failed.
        let Ok(stream) = store.usage(name, growth::window_begin(wall_unix_nanos)) else {
            continue;
        };
        let usage = of_stream(&stream, name, clock, &mut rules, proposed.as_mut());
        if let (Some(shortened), Some(proposed), Some(takes)) =
            (&mut shortened, &proposed, usage.proposed)
            && let Some(to) = proposed.rule_of(name)
        {
            let from = rules.rule_of(name);
            let is_its =
                |it: &&mut ShortenedShare| it.change.from.as_ref() == from && it.change.to == *to;
            if let Some(share) = shortened.iter_mut().find(is_its) {
                share.beyond.add(takes.beyond(usage.retention));
            }
        }
        largest.take(StreamShare {
            name: name.clone(),
            start_sequence: stream.start_sequence,
            usage,
        });
    }
    let (total, largest, rest) = largest.end();
    Ok(StorageReport {
        at_unix_nanos: wall_unix_nanos,
        suspended,
        total,
        largest,
        rest,
        rules: rules.shares,
        proposed: proposed.map(|rules| rules.shares),
        shortened,
    })
}

fn shortened_by(in_force: &[RetentionRule], proposed: &[RetentionRule]) -> Vec<ShortenedShare> {
    let changes = shortened::shortened(in_force, proposed).into_iter();
    let shares = changes.map(|change| ShortenedShare {
        change,
        beyond: Forecast::default(),
    });
    shares.collect()
}

impl Question {
    fn asks_for(&self, stream: &str) -> bool {
        let pattern = self.streams.as_deref();
        pattern.is_none_or(|pattern| pattern::fits(pattern, stream))
    }
}

/// Rules, with what they were found to take so far.
struct Rules {
    rules: Vec<RetentionRule>,
    shares: Vec<RuleShare>,
}

impl Rules {
    fn new(rules: &[RetentionRule], streams: &[Arc<str>]) -> Rules {
        let mut fitting = vec![0; rules.len()];
        for index in streams.iter().filter_map(|it| retain::rule_of(rules, it)) {
            fitting[index] += 1;
        }
        let shares = rules.iter().zip(fitting).map(|(rule, streams)| RuleShare {
            rule: rule.clone(),
            fitting_streams: streams,
            forecast: Forecast::default(),
        });
        Rules {
            rules: rules.to_vec(),
            shares: shares.collect(),
        }
    }

    /// The rule that counts for this stream.
    fn rule_of(&self, name: &str) -> Option<&RetentionRule> {
        retain::rule_of(&self.rules, name).map(|index| &self.rules[index])
    }

    /// Of the rule that counts for this stream.
    fn forecast(
        &mut self,
        name: &str,
        stream: &StreamUsage,
        clock: WallClock,
        growth: Option<Growth>,
    ) -> Forecast {
        let Some(index) = retain::rule_of(&self.rules, name) else {
            return Forecast::default();
        };
        let share = &mut self.shares[index];
        let taken = forecast(stream, &share.rule, clock, growth);
        share.forecast.add(taken);
        taken
    }
}

fn of_stream(
    stream: &StreamUsage,
    name: &str,
    clock: WallClock,
    rules: &mut Rules,
    proposed: Option<&mut Rules>,
) -> Usage {
    let sealed = &stream.sealed;
    let growth = growth::measure(stream, clock.unix_nanos);
    // A wrong clock measures a wrong time.
    let growth = growth.filter(|_| clock.is_trusted);
    let mut hot = sealed.hot;
    hot.add(stream.open.files);
    Usage {
        streams: 1,
        records: stream.next_sequence.saturating_sub(stream.start_sequence),
        readable_bytes: sealed.readable_bytes + stream.open.bytes,
        hot,
        warm: sealed.warm,
        cold: sealed.cold,
        unsized_objects: sealed.unsized_objects,
        compressed: sealed.compressed,
        growth,
        oldest_unix_nanos: growth::oldest_readable(stream),
        oldest_object: sealed.oldest_object.clone(),
        newest_object: sealed.newest_object.clone(),
        retention: rules.forecast(name, stream, clock, growth),
        proposed: proposed.map(|rules| rules.forecast(name, stream, clock, growth)),
    }
}
