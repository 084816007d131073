//! The table against examples, and against a model that remembers everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn known(first_sequence: u64, next: u64) -> Verdict {
    Verdict::Known {
        first_sequence: Some(first_sequence),
        next,
    }
}

/// In the stream, at sequences that are not told.
fn untold(next: u64) -> Verdict {
    Verdict::Known {
        first_sequence: None,
        next,
    }
}

#[test]
fn a_known_batch_is_answered_with_the_sequences_of_then() {
    let mut producers = Producers::default();
    assert_eq!(producers.judge(7, 0, 0, 2), Verdict::New);
    producers.note(7, 0, 2, 10);
    producers.note(9, 0, 1, 12);
    producers.note(7, 2, 3, 13);
    assert_eq!(producers.judge(7, 0, 0, 2), known(10, 5));
    assert_eq!(producers.judge(7, 0, 1, 1), known(11, 5));
    assert_eq!(producers.judge(7, 0, 3, 2), known(14, 5));
    assert_eq!(producers.judge(7, 0, 5, 1), Verdict::New);
}

#[test]
fn a_batch_over_several_runs_is_known_and_no_sequence_is_told_for_it() {
    let mut producers = Producers::default();
    producers.note(7, 0, 2, 10);
    producers.note(9, 0, 1, 12);
    producers.note(7, 2, 3, 13);
    assert_eq!(producers.judge(7, 0, 0, 5), untold(5));
    assert_eq!(producers.judge(7, 0, 1, 2), untold(5));
}

#[test]
fn a_gap_names_what_is_expected() {
    let mut producers = Producers::default();
    assert_eq!(producers.judge(7, 0, 1, 1), Verdict::Gap { next: 0 });
    producers.note(7, 0, 2, 0);
    assert_eq!(producers.judge(7, 0, 3, 1), Verdict::Gap { next: 2 });
    assert_eq!(
        producers.judge(7, 0, 1, 2),
        Verdict::Gap { next: 2 },
        "a batch that is half known is not taken apart"
    );
    assert_eq!(producers.judge(7, 0, u64::MAX, 2), Verdict::Gap { next: 2 });
}

#[test]
fn batches_older_than_the_runs_that_are_kept_are_still_known() {
    let mut producers = Producers::default();
    for batch in 0..MAX_RUNS as u64 + 5 {
        producers.note(7, batch, 1, batch * 2);
    }
    let next = MAX_RUNS as u64 + 5;
    assert_eq!(producers.judge(7, 0, 4, 1), untold(next));
    assert_eq!(producers.judge(7, 0, 5, 1), known(10, next));
}

#[test]
fn what_is_durable_of_a_producer_follows_the_watermark_and_is_never_guessed() {
    let mut producers = Producers::default();
    producers.note(7, 0, 4, 0);
    producers.note(8, 0, 1, 4);
    producers.note(7, 4, 4, 5);
    let told = [
        (0, None),
        (2, Some(1)),
        (5, Some(3)),
        (6, Some(4)),
        (9, Some(7)),
    ];
    for (durable, last) in told {
        assert_eq!(producers.durably(7, durable), Durably::Upto(last));
    }
    assert_eq!(producers.durably(1, 9), Durably::Upto(None));
    for batch in 1..MAX_RUNS as u64 + 5 {
        producers.note(8, batch, 1, 10 + batch * 2);
    }
    assert_eq!(producers.durably(8, 9), Durably::NotTold);
}

#[test]
fn one_more_producer_than_is_remembered_makes_none_new_that_is_not() {
    let mut producers = Producers::default();
    let all = 2 * GENERATION as u64 + 1;
    for producer in 0..all {
        assert_eq!(producers.judge(producer, 0, 0, 1), Verdict::New);
        producers.note(producer, 0, 1, producer);
    }
    let before = GENERATION as u64;
    let first_again = producers.judge(0, 0, 0, 1);
    assert_eq!(first_again, Verdict::Forgotten { before });
    assert_eq!(producers.judge(0, 0, 1, 1), Verdict::Forgotten { before });
    assert_eq!(producers.judge(all - 1, 0, 0, 1), known(all - 1, 1));
    let silent_for_less = producers.judge(before, 0, 0, 1);
    assert_eq!(silent_for_less, known(before, 1));
    assert_eq!(producers.judge(all, 0, 0, 1), Verdict::Forgotten { before });
    assert_eq!(
        producers.judge(all, all, 0, 1),
        Verdict::New,
        "it began behind everything that is forgotten"
    );
    assert_eq!(producers.judge(all, all, 1, 1), Verdict::Gap { next: 0 });
}

/// Everything that was ever sent: per producer, since when it is there and the sequence of each record.
#[derive(Default)]
struct Model {
    producers: BTreeMap<u64, (u64, Vec<u64>)>,
    next_sequence: u64,
    /// Order of the last records.
    last: Vec<u64>,
}

impl Model {
    fn note(&mut self, id: u64, count: u64) {
        let (_, sent) = self.producers.get_mut(&id).expect("it was begun");
        sent.extend(self.next_sequence..self.next_sequence + count);
        self.next_sequence += count;
        self.last.retain(|other| *other != id);
        self.last.push(id);
    }

    /// Fails where the verdict is one that a correct store must not give.
    fn check(&self, id: u64, first: u64, count: u64, verdict: Verdict, generation: usize) {
        let (since, sent) = &self.producers[&id];
        let (next, end) = (sent.len() as u64, first + count);
        let context = format!("producer {id}, {first}..{end} of {next}: {verdict:?}");
        match verdict {
            Verdict::New => assert_eq!(first, next, "{context}"),
            Verdict::Gap { next: told } => {
                assert!(first != next && end > next && told == next, "{context}");
            }
            Verdict::Known {
                first_sequence,
                next: told,
            } => {
                assert!(end <= next && told == next, "{context}");
                let of_then = &sent[first as usize..end as usize];
                if let Some(told) = first_sequence {
                    let expected: Vec<u64> = (told..told + count).collect();
                    assert_eq!(of_then, expected, "{context}");
                }
            }
            Verdict::Forgotten { before } => {
                assert!(*since < before, "{context}");
                let is_recent = self.last.iter().rev().take(generation).any(|it| *it == id);
                assert!(!is_recent, "{context}: one of the last {generation}");
                assert!(sent.last().is_none_or(|last| *last < before), "{context}");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The next batch of a producer; of one that was never there if there are fewer.
    Send { producer: u8, count: u8 },
    /// Any batch of a producer, known or not.
    Ask { producer: u8, first: u8, count: u8 },
    /// Records without a producer.
    Other(u8),
    /// The segment ends and is sealed.
    Seal,
    /// What is sealed is folded, the rest is replayed.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..40u8, 1..4u8).prop_map(|(producer, count)| Step::Send { producer, count }),
        20 => (0..40u8, 0..12u8, 1..4u8).prop_map(|(producer, first, count)| Step::Ask { producer, first, count }),
        3 => (1..5u8).prop_map(Step::Other),
        2 => Just(Step::Seal),
        1 => Just(Step::Crash),
    ]
}

/// Far fewer producers than there are, so that forgetting is the rule.
const SMALL: usize = 6;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_taken_for_new_that_is_not_and_no_sequence_is_told_wrong(steps in prop::collection::vec(step(), 1..300)) {
        let mut model = Model::default();
        let mut producers = Producers::with_generations_of(SMALL);
        let mut sealed: Vec<Changes> = Vec::new();
        let mut replayed: Vec<(u64, u64, u64, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Send { producer, count } => {
                    let (id, count) = (u64::from(producer), u64::from(count));
                    let since = model.next_sequence;
                    let (since, sent) = model.producers.entry(id).or_insert((since, Vec::new()));
                    let (since, first) = (*since, sent.len() as u64);
                    let verdict = producers.judge(id, since, first, count);
                    model.check(id, first, count, verdict, SMALL);
                    match verdict {
                        Verdict::New => {
                            producers.note(id, first, count, model.next_sequence);
                            replayed.push((id, first, count, model.next_sequence));
                            model.note(id, count);
                            let again = producers.judge(id, since, first, count);
                            prop_assert!(matches!(again, Verdict::Known { first_sequence: Some(_), .. }), "{:?}", again);
                        }
                        Verdict::Forgotten { .. } => prop_assert!(since < model.next_sequence, "one that is new was refused"),
                        other => prop_assert!(false, "the next batch is {:?}", other),
                    }
                }
                Step::Ask { producer, first, count } => {
                    let (id, first, count) = (u64::from(producer), u64::from(first), u64::from(count));
                    let since = model.next_sequence;
                    let since = model.producers.entry(id).or_insert((since, Vec::new())).0;
                    let verdict = producers.judge(id, since, first, count);
                    model.check(id, first, count, verdict, SMALL);
                }
                Step::Other(count) => model.next_sequence += u64::from(count),
                Step::Seal => {
                    sealed.push(producers.take_changes());
                    replayed.clear();
                }
                Step::Crash => {
                    let mut fold = Fold::default();
                    for changes in &sealed {
                        fold.apply(changes.clone());
                    }
                    let mut again = fold.finish();
                    again.generation = SMALL;
                    for (id, first, count, sequence) in &replayed {
                        again.note(*id, *first, *count, *sequence);
                    }
                    prop_assert_eq!(again.forgotten_before, producers.forgotten_before);
                    prop_assert_eq!(again.recent_from, producers.recent_from);
                    for (id, (since, sent)) in &model.producers {
                        for first in 0..=sent.len() as u64 {
                            let (before, after) = (producers.judge(*id, *since, first, 1), again.judge(*id, *since, first, 1));
                            model.check(*id, first, 1, after, SMALL);
                            let is_less_exact = matches!((before, after), (Verdict::Known { .. }, Verdict::Known { first_sequence: None, .. }));
                            prop_assert!(before == after || is_less_exact, "{:?} before, {:?} after", before, after);
                        }
                    }
                    producers = again;
                }
            }
        }
    }
}
