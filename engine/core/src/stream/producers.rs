//! What a stream remembers of its idempotent producers.
//!
//! A producer numbers its records from 0 without gaps. A batch is new, wholly known (a duplicate: answered with the sequences
//! of then), or out of order (refused with the number that is expected). Known batches are kept as runs: consecutive producer
//! numbers at consecutive sequences are one run, so a stream with one producer needs one.

use std::collections::{HashMap, VecDeque};

/// Runs kept per producer; older batches are still known as duplicates, their sequences are not.
pub(crate) const RUNS_PER_PRODUCER: usize = 64;
/// Producers kept per stream; beyond, the one that was silent longest is forgotten.
pub(crate) const PRODUCERS_PER_STREAM: usize = 4096;

/// Answered for a duplicate whose sequences are forgotten.
pub const UNKNOWN_SEQUENCE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub first_producer_seq: u64,
    pub first_sequence: u64,
    pub count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Producer number that comes next.
    pub next: u64,
    pub runs: VecDeque<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate { first_sequence: u64 },
    Gap { next: u64 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    sent: HashMap<u64, Sent>,
}

impl Producers {
    pub fn judge(&self, producer_id: u64, first_producer_seq: u64, count: u64) -> Verdict {
        let Some(sent) = self.sent.get(&producer_id) else {
            return if first_producer_seq == 0 {
                Verdict::New
            } else {
                Verdict::Gap { next: 0 }
            };
        };
        if first_producer_seq == sent.next {
            return Verdict::New;
        }
        let end = first_producer_seq.saturating_add(count);
        if end > sent.next {
            return Verdict::Gap { next: sent.next };
        }
        let first_sequence = sent
            .runs
            .iter()
            .rev()
            .find(|run| {
                run.first_producer_seq <= first_producer_seq
                    && first_producer_seq < run.first_producer_seq + run.count
            })
            .map_or(UNKNOWN_SEQUENCE, |run| {
                run.first_sequence + (first_producer_seq - run.first_producer_seq)
            });
        Verdict::Duplicate { first_sequence }
    }

    /// Notes a batch that was staged or recovered. Batches come in the order of their sequences.
    pub fn note(
        &mut self,
        producer_id: u64,
        first_producer_seq: u64,
        count: u64,
        first_sequence: u64,
    ) {
        if !self.sent.contains_key(&producer_id) && self.sent.len() >= PRODUCERS_PER_STREAM {
            self.forget_the_most_silent();
        }
        let sent = self.sent.entry(producer_id).or_default();
        sent.next = first_producer_seq + count;
        match sent.runs.back_mut() {
            Some(run)
                if run.first_producer_seq + run.count == first_producer_seq
                    && run.first_sequence + run.count == first_sequence =>
            {
                run.count += count;
            }
            _ => {
                if sent.runs.len() == RUNS_PER_PRODUCER {
                    sent.runs.pop_front();
                }
                sent.runs.push_back(Run {
                    first_producer_seq,
                    first_sequence,
                    count,
                });
            }
        }
    }

    #[cfg(test)]
    pub fn last_seq(&self, producer_id: u64) -> Option<u64> {
        self.sent
            .get(&producer_id)
            .and_then(|sent| sent.next.checked_sub(1))
    }

    /// Last producer number that lies before `durable` (a count of records), where the runs still tell.
    pub fn last_seq_below(&self, producer_id: u64, durable: u64) -> Option<u64> {
        let sent = self.sent.get(&producer_id)?;
        for run in sent.runs.iter().rev() {
            if run.first_sequence < durable {
                let count = run.count.min(durable - run.first_sequence);
                return Some(run.first_producer_seq + count - 1);
            }
        }
        sent.runs
            .front()
            .and_then(|oldest| oldest.first_producer_seq.checked_sub(1))
    }

    fn forget_the_most_silent(&mut self) {
        let silent = self
            .sent
            .iter()
            .min_by_key(|(_, sent)| sent.runs.back().map(|run| run.first_sequence))
            .map(|(id, _)| *id);
        if let Some(id) = silent {
            self.sent.remove(&id);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Sent)> {
        self.sent.iter().map(|(id, sent)| (*id, sent))
    }

    pub fn restore(&mut self, producer_id: u64, sent: Sent) {
        self.sent.insert(producer_id, sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_batch_is_answered_with_the_sequences_of_then() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(7, 0, 2), Verdict::New);
        producers.note(7, 0, 2, 10);
        producers.note(9, 0, 1, 12);
        producers.note(7, 2, 3, 13);
        assert_eq!(
            producers.judge(7, 0, 2),
            Verdict::Duplicate { first_sequence: 10 }
        );
        assert_eq!(
            producers.judge(7, 1, 1),
            Verdict::Duplicate { first_sequence: 11 }
        );
        assert_eq!(
            producers.judge(7, 3, 2),
            Verdict::Duplicate { first_sequence: 14 }
        );
        assert_eq!(producers.judge(7, 5, 1), Verdict::New);
    }

    #[test]
    fn a_gap_names_what_is_expected() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(7, 1, 1), Verdict::Gap { next: 0 });
        producers.note(7, 0, 2, 0);
        assert_eq!(producers.judge(7, 3, 1), Verdict::Gap { next: 2 });
        assert_eq!(
            producers.judge(7, 1, 2),
            Verdict::Gap { next: 2 },
            "a batch that is half known is not taken apart"
        );
        assert_eq!(producers.judge(7, u64::MAX, 2), Verdict::Gap { next: 2 });
    }

    #[test]
    fn batches_beyond_the_window_are_still_duplicates() {
        let mut producers = Producers::default();
        for batch in 0..RUNS_PER_PRODUCER as u64 + 5 {
            producers.note(7, batch, 1, batch * 2);
        }
        assert_eq!(
            producers.judge(7, 0, 1),
            Verdict::Duplicate {
                first_sequence: UNKNOWN_SEQUENCE
            }
        );
        assert_eq!(
            producers.judge(7, 6, 1),
            Verdict::Duplicate { first_sequence: 12 }
        );
    }

    #[test]
    fn what_is_durable_of_a_producer_follows_the_watermark() {
        let mut producers = Producers::default();
        producers.note(7, 0, 4, 0);
        producers.note(8, 0, 1, 4);
        producers.note(7, 4, 4, 5);
        assert_eq!(producers.last_seq_below(7, 0), None);
        assert_eq!(producers.last_seq_below(7, 2), Some(1));
        assert_eq!(producers.last_seq_below(7, 5), Some(3));
        assert_eq!(producers.last_seq_below(7, 6), Some(4));
        assert_eq!(producers.last_seq_below(7, 9), Some(7));
        assert_eq!(producers.last_seq(8), Some(0));
        assert_eq!(producers.last_seq(1), None);
    }

    #[test]
    fn the_producer_that_was_silent_longest_is_forgotten_first() {
        let mut producers = Producers::default();
        for producer in 0..=PRODUCERS_PER_STREAM as u64 {
            producers.note(producer + 1, 0, 1, producer);
        }
        assert_eq!(producers.last_seq(1), None);
        assert_eq!(producers.last_seq(2), Some(0));
    }
}
