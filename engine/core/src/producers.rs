//! What a stream remembers of its idempotent producers.
//!
//! A producer numbers its records from 0 without gaps. A batch is new, known (a duplicate: answered with the sequences of then, where
//! they are remembered and consecutive), or out of order (refused with the number that is expected). Known batches are kept as runs:
//! consecutive producer numbers at consecutive sequences are one run, so a stream with one producer needs one.
//!
//! Producers are forgotten in generations, those that were silent longest first: a stream remembers at least the [`GENERATION`] that
//! sent last, and at most twice as many. It knows a sequence that every record of a forgotten producer lies below. A producer that
//! is not remembered is new only if it says that it began at or above that sequence; otherwise it may be a forgotten one, and is
//! refused. So nothing that was forgotten is ever taken for new. See ADR 6.
//!
//! What changed since the last segment is noted aside, so that a seal writes that alone and takes it without a look at the rest.
//! Every step is a look-up or two, whatever the number of producers.

use std::collections::{HashMap, VecDeque};

use aof2_format::producer_changes::{MAX_RUNS, ProducerRun};

/// Producers of a generation.
pub(crate) const GENERATION: usize = 65_536;
/// Runs kept per stream, more or less: shared out among its producers, at least one each and at most [`MAX_RUNS`].
const RUNS_PER_STREAM: usize = 262_144;

/// What a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    /// Every record of it is in the stream.
    Known {
        /// `None`: they are not consecutive, or it is not remembered any more.
        first_sequence: Option<u64>,
        /// Producer number that comes next.
        next: u64,
    },
    Gap {
        next: u64,
    },
    /// It may be in the stream or not: the producer is not remembered, and does not say that it began at `before` or later.
    Forgotten {
        before: u64,
    },
}

/// What is durable of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durably {
    Upto(Option<u64>),
    /// The runs reach back to records that are not durable yet, and no further.
    NotTold,
}

/// The newest runs of a producer, ascending; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    older: VecDeque<ProducerRun>,
    newest: ProducerRun,
}

impl Runs {
    fn new(run: ProducerRun) -> Runs {
        Runs {
            older: VecDeque::new(),
            newest: run,
        }
    }

    pub fn from_ascending(runs: Vec<ProducerRun>) -> Option<Runs> {
        let mut older = VecDeque::from(runs);
        older.pop_back().map(|newest| Runs { older, newest })
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &ProducerRun> {
        self.older.iter().chain(std::iter::once(&self.newest))
    }

    /// Adds one that is behind the others; the oldest go where there are more than `limit`.
    fn push(&mut self, run: ProducerRun, limit: usize) {
        let newest = &mut self.newest;
        if newest.end_producer_seq() == run.first_producer_seq
            && newest.end_sequence() == run.first_sequence
        {
            newest.count += run.count;
            return;
        }
        self.older.push_back(std::mem::replace(newest, run));
        while self.older.len() >= limit {
            self.older.pop_front();
        }
    }

    fn next(&self) -> u64 {
        self.newest.end_producer_seq()
    }

    /// Where consecutive records lie consecutively.
    fn find(&self, first: u64, end: u64) -> Option<u64> {
        let holds =
            |run: &ProducerRun| run.first_producer_seq <= first && end <= run.end_producer_seq();
        let run = if holds(&self.newest) {
            self.newest
        } else {
            let behind = self
                .older
                .partition_point(|run| run.first_producer_seq <= first);
            *self.older.get(behind.checked_sub(1)?)?
        };
        holds(&run).then(|| run.first_sequence + (first - run.first_producer_seq))
    }

    fn durably(&self, durable: u64) -> Durably {
        for run in self.iter().rev() {
            if run.first_sequence < durable {
                let count = run.count.min(durable - run.first_sequence);
                return Durably::Upto(Some(run.first_producer_seq + count - 1));
            }
        }
        let oldest = self.older.front().unwrap_or(&self.newest);
        match oldest.first_producer_seq {
            0 => Durably::Upto(None),
            _ => Durably::NotTold,
        }
    }
}

#[derive(Clone, Debug)]
struct Sent {
    runs: Runs,
    /// Where it stands in `changed`, if `stamp` is the table's.
    slot: usize,
    stamp: u64,
}

/// What a producer costs, with the slack of a hash table (ADR 6).
const _: () = assert!(size_of::<(u64, Sent)>() <= 80);

/// Producers that sent since the one before them was closed.
#[derive(Clone, Debug, Default)]
struct Generation {
    sent: HashMap<u64, Sent>,
    /// Runs since the last segment, by producer.
    changed: Vec<(u64, Runs)>,
}

/// What one segment changed, and where the generations begin at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub forgotten_before: u64,
    pub recent_from: u64,
    /// A producer that is in both comes first in the older one.
    pub older: Vec<(u64, Runs)>,
    pub recent: Vec<(u64, Runs)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Producers {
    recent: Generation,
    older: Generation,
    /// Every record of a forgotten producer has a lower sequence.
    forgotten_before: u64,
    /// Sequence with which `recent` began: the last records of `older`'s producers lie below it.
    recent_from: u64,
    /// Counts what makes every slot in `changed` invalid.
    stamp: u64,
    /// [`GENERATION`], but in tests.
    generation: usize,
}

impl Default for Producers {
    fn default() -> Producers {
        Producers::with_generations_of(GENERATION)
    }
}

impl Producers {
    fn with_generations_of(generation: usize) -> Producers {
        Producers {
            recent: Generation::default(),
            older: Generation::default(),
            forgotten_before: 0,
            recent_from: 0,
            stamp: 1,
            generation,
        }
    }

    fn runs_of(&self, producer_id: u64) -> Option<&Runs> {
        let sent = self.recent.sent.get(&producer_id);
        let sent = sent.or_else(|| self.older.sent.get(&producer_id));
        sent.map(|sent| &sent.runs)
    }

    /// `since`: the producer says that it sent nothing to this stream while it had fewer records.
    pub fn judge(&self, producer_id: u64, since: u64, first: u64, count: u64) -> Verdict {
        let Some(runs) = self.runs_of(producer_id) else {
            return match first {
                _ if since < self.forgotten_before => Verdict::Forgotten {
                    before: self.forgotten_before,
                },
                0 => Verdict::New,
                _ => Verdict::Gap { next: 0 },
            };
        };
        let next = runs.next();
        match first.checked_add(count) {
            Some(_) if first == next => Verdict::New,
            Some(end) if end <= next => Verdict::Known {
                first_sequence: runs.find(first, end),
                next,
            },
            Some(_) | None => Verdict::Gap { next },
        }
    }

    /// Notes a batch that was staged or recovered. Batches come in the order of their sequences.
    pub fn note(&mut self, producer_id: u64, first: u64, count: u64, first_sequence: u64) {
        let run = ProducerRun {
            first_producer_seq: first,
            first_sequence,
            count,
        };
        let limit = runs_limit(self.recent.sent.len() + self.older.sent.len());
        let stamp = self.stamp;
        let Generation { sent, changed } = &mut self.recent;
        if let Some(sent) = sent.get_mut(&producer_id) {
            sent.runs.push(run, limit);
            if sent.stamp == stamp {
                changed[sent.slot].1.push(run, limit);
            } else {
                (sent.slot, sent.stamp) = (changed.len(), stamp);
                changed.push((producer_id, Runs::new(run)));
            }
            return;
        }
        let runs = match self.older.sent.remove(&producer_id) {
            Some(mut sent) => {
                sent.runs.push(run, limit);
                sent.runs
            }
            None => Runs::new(run),
        };
        if self.recent.sent.len() >= self.generation {
            self.begin_generation(first_sequence);
        }
        let Generation { sent, changed } = &mut self.recent;
        let known = Sent {
            runs,
            slot: changed.len(),
            stamp: self.stamp,
        };
        changed.push((producer_id, Runs::new(run)));
        sent.insert(producer_id, known);
    }

    fn begin_generation(&mut self, at: u64) {
        self.stamp += 1;
        self.forgotten_before = std::mem::replace(&mut self.recent_from, at);
        self.older = std::mem::take(&mut self.recent);
    }

    /// What changed since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        self.stamp += 1;
        Changes {
            forgotten_before: self.forgotten_before,
            recent_from: self.recent_from,
            older: std::mem::take(&mut self.older.changed),
            recent: std::mem::take(&mut self.recent.changed),
        }
    }

    /// Every record of a producer that is not remembered any more has a lower sequence.
    pub fn forgotten_before(&self) -> u64 {
        self.forgotten_before
    }

    /// `durable` is a count of records.
    pub fn durably(&self, producer_id: u64, durable: u64) -> Durably {
        self.runs_of(producer_id)
            .map_or(Durably::Upto(None), |runs| runs.durably(durable))
    }
}

fn runs_limit(producers: usize) -> usize {
    (RUNS_PER_STREAM / producers.max(1)).clamp(1, MAX_RUNS)
}

/// The changes of a stream's segments, put together again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    sent: HashMap<u64, Runs>,
    forgotten_before: u64,
    recent_from: u64,
}

impl Fold {
    /// What [`Fold::table`] gave.
    pub fn of_table(
        rows: impl Iterator<Item = (u64, Runs)>,
        forgotten_before: u64,
        recent_from: u64,
    ) -> Fold {
        Fold {
            sent: rows.collect(),
            forgotten_before,
            recent_from,
        }
    }

    /// All of it, by id.
    pub fn table(&self) -> Changes {
        let mut recent: Vec<(u64, Runs)> = self
            .sent
            .iter()
            .map(|(producer_id, runs)| (*producer_id, runs.clone()))
            .collect();
        recent.sort_unstable_by_key(|(producer_id, _)| *producer_id);
        Changes {
            forgotten_before: self.forgotten_before,
            recent_from: self.recent_from,
            older: Vec::new(),
            recent,
        }
    }

    /// Those of a segment, in the order of the segments.
    pub fn apply(&mut self, changes: Changes) {
        let Changes {
            forgotten_before,
            recent_from,
            older,
            recent,
        } = changes;
        for (producer_id, runs) in older.into_iter().chain(recent) {
            let limit = runs_limit(self.sent.len());
            match self.sent.entry(producer_id) {
                std::collections::hash_map::Entry::Occupied(mut known) => {
                    for run in runs.iter() {
                        known.get_mut().push(*run, limit);
                    }
                }
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(runs);
                }
            }
        }
        if forgotten_before > self.forgotten_before {
            self.sent
                .retain(|_, runs| runs.newest.end_sequence() > forgotten_before);
        }
        self.forgotten_before = forgotten_before;
        self.recent_from = recent_from;
    }

    pub fn finish(self) -> Producers {
        let Fold {
            sent,
            forgotten_before,
            recent_from,
        } = self;
        let mut producers = Producers {
            forgotten_before,
            recent_from,
            ..Producers::default()
        };
        for (producer_id, runs) in sent {
            let is_recent = runs.newest.end_sequence() > recent_from;
            let generation = match is_recent {
                true => &mut producers.recent,
                false => &mut producers.older,
            };
            let known = Sent {
                runs,
                slot: 0,
                stamp: 0,
            };
            generation.sent.insert(producer_id, known);
        }
        producers
    }
}

#[cfg(test)]
mod tests;
