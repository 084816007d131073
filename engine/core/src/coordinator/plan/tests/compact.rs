//! Which segments are merged, and how often a byte is rewritten by that.

use proptest::prelude::*;

use super::*;
use crate::config::{GIB, KIB, MIB};
use crate::residency::RecordTimes;

const TARGET: u64 = MIB;

fn limits() -> Limits {
    Limits {
        target_bytes: TARGET,
        min_inputs: 4,
        max_age: None,
        max_bytes: None,
        room_bytes: u64::MAX,
    }
}

/// Of so many bytes of batches each, ten records and a second each, with ids from 1 on.
fn stream(batches: &[u64]) -> Pieces {
    let pieces = (0..).zip(batches).map(|(index, batches)| Piece {
        segment_id: index + 1,
        epoch: 1,
        base_sequence: index * 10,
        end_sequence: index * 10 + 10,
        bytes: DATA_OFFSET + batches,
        times: RecordTimes {
            first_unix_nanos: index as i64 * 1_000_000_000,
            last_unix_nanos: (index as i64 + 1) * 1_000_000_000,
        },
        is_settled: true,
    });
    Pieces {
        stream: "a".into(),
        pieces: pieces.collect(),
        unfinished: None,
    }
}

fn merged_by(stream: &Pieces, limits: &Limits) -> Vec<u64> {
    match next(stream, Some(limits)) {
        Some(Next::Merge { segment_ids }) => segment_ids,
        Some(other) => panic!("{other:?}"),
        None => Vec::new(),
    }
}

fn merged(batches: &[u64]) -> Vec<u64> {
    merged_by(&stream(batches), &limits())
}

const NONE: [u64; 0] = [];

#[test]
fn so_many_small_neighbours_as_fit_are_merged() {
    let small = 10 * KIB;
    assert_eq!(merged(&[small; 3]), NONE);
    assert_eq!(merged(&[small; 4]), [1, 2, 3, 4]);
    assert_eq!(merged(&[small; 7]), [1, 2, 3, 4, 5, 6, 7]);
    // One that is full between them belongs to neither side.
    let full = TARGET - DATA_OFFSET;
    assert_eq!(merged(&[small, small, full, small, small]), NONE);
    assert_eq!(
        merged(&[small, small, full, small, small, small, small, full]),
        [4, 5, 6, 7]
    );
    // The output is at most as large as a segment.
    assert_eq!(merged(&[300 * KIB; 5]), NONE);
    assert_eq!(merged(&[250 * KIB; 9]), [1, 2, 3, 4]);
    let exactly = (TARGET - DATA_OFFSET) / 4;
    assert_eq!(merged(&[exactly; 4]), [1, 2, 3, 4]);
    assert_eq!(merged(&[exactly, exactly, exactly, exactly + 1]), NONE);
    let most = MAX_INPUTS as u64;
    assert_eq!(
        merged(&vec![1; MAX_INPUTS + 5]),
        (1..=most).collect::<Vec<_>>()
    );
}

#[test]
fn a_segment_is_rewritten_only_where_that_doubles_it_at_least() {
    // Four tiny ones behind a large one are merged without it, until they are as large as it is together.
    assert_eq!(merged(&[100, 10, 10, 10, 10]), [2, 3, 4, 5]);
    assert_eq!(merged(&[40, 10, 10, 10, 10]), [1, 2, 3, 4, 5]);
    assert_eq!(merged(&[41, 20, 10, 10]), NONE);
    assert_eq!(merged(&[40, 20, 10, 10]), [1, 2, 3, 4]);
    // Half of the output at most: so none above half of the target is ever an input.
    let half = TARGET / 2;
    assert_eq!(merged(&[half + 1, 100, 100, 100]), NONE);
}

#[test]
fn only_settled_neighbours_of_one_epoch_are_merged() {
    let sizes = [KIB; 8];
    let with = |change: &dyn Fn(&mut [Piece])| {
        let mut stream = stream(&sizes);
        change(&mut stream.pieces);
        merged_by(&stream, &limits())
    };
    assert_eq!(with(&|pieces| pieces[4].is_settled = false), [1, 2, 3, 4]);
    assert_eq!(
        with(&|pieces| pieces[2].is_settled = false),
        [4, 5, 6, 7, 8]
    );
    assert_eq!(with(&|pieces| pieces[3].is_settled = false), [5, 6, 7, 8]);
    let taken_over = |pieces: &mut [Piece]| pieces[4..].iter_mut().for_each(|it| it.epoch = 2);
    assert_eq!(with(&taken_over), [1, 2, 3, 4]);
    // A hole, as a damaged stream may have one.
    assert_eq!(with(&|pieces| pieces[3].end_sequence -= 1), [1, 2, 3, 4]);
    assert_eq!(with(&|pieces| pieces[2].end_sequence -= 1), [4, 5, 6, 7, 8]);
}

#[test]
fn what_a_rule_of_retention_takes_as_a_whole_stays_small_beside_what_it_keeps() {
    let by_age = |seconds| Limits {
        max_age: Some(Duration::from_secs(seconds)),
        ..limits()
    };
    let stream = stream(&[KIB; 20]);
    assert_eq!(merged_by(&stream, &by_age(800)).len(), 20);
    assert_eq!(merged_by(&stream, &by_age(48)), [1, 2, 3, 4, 5, 6]);
    assert_eq!(merged_by(&stream, &by_age(31)), NONE);
    let by_size = |max_bytes| Limits {
        max_bytes: Some(max_bytes),
        ..limits()
    };
    assert_eq!(merged_by(&stream, &by_size(GIB)).len(), 20);
    assert_eq!(
        merged_by(&stream, &by_size(8 * (DATA_OFFSET + 5 * KIB))).len(),
        5
    );
    let room = Limits {
        room_bytes: DATA_OFFSET + 4 * KIB,
        ..limits()
    };
    assert_eq!(merged_by(&stream, &room), [1, 2, 3, 4]);
}

#[test]
fn what_was_begun_goes_on_while_it_holds_and_is_given_up_else() {
    let mut begun = stream(&[KIB; 6]);
    begun.unfinished = Some((9, vec![2, 3, 4]));
    let goes_on = Some(Next::Merge {
        segment_ids: vec![2, 3, 4],
    });
    let given_up = Some(Next::GiveUp { output_id: 9 });
    assert_eq!(next(&begun, Some(&limits())), goes_on);
    assert_eq!(next(&begun, None), given_up);
    let after = |change: &dyn Fn(&mut Pieces)| {
        let mut changed = begun.clone();
        change(&mut changed);
        next(&changed, Some(&limits()))
    };
    assert_eq!(after(&|it| it.pieces[2].is_settled = false), given_up);
    assert_eq!(after(&|it| _ = it.pieces.remove(0)), goes_on);
    assert_eq!(after(&|it| _ = it.pieces.remove(1)), given_up);
    assert_eq!(after(&|it| it.pieces[3].bytes = TARGET), given_up);
    assert_eq!(after(&|it| it.pieces.truncate(3)), given_up);
    assert_eq!(next(&stream(&[KIB; 6]), None), None);
}

#[test]
fn the_longest_run_says_what_is_missing() {
    let full = TARGET - DATA_OFFSET;
    let run = |sizes: &[u64]| longest_run(&stream(sizes), &limits());
    assert_eq!(run(&[]), 0);
    assert_eq!(run(&[full, full]), 0);
    assert_eq!(run(&[KIB, full, KIB, KIB, full, KIB]), 2);
}

#[test]
fn everything_else_goes_before_a_merge() {
    let mut facts = NodeFacts {
        upload_concurrency: 2,
        pending_uploads: 2,
        ..NodeFacts::default()
    };
    let told = |facts: &NodeFacts| hold(facts).map(|hold| hold.to_string());
    assert_eq!(told(&facts), None);
    facts.room = Some(Room {
        free_bytes: 9,
        total_bytes: 100,
    });
    let nearly_full = "volume is nearly full (9 of 100 bytes free)";
    assert_eq!(told(&facts).as_deref(), Some(nearly_full));
    assert_eq!(room_bytes(facts.room), 0);
    facts.room = Some(Room {
        free_bytes: 30,
        total_bytes: 100,
    });
    assert_eq!((told(&facts), room_bytes(facts.room)), (None, 20));
    facts.waiting_hydrations = 1;
    let hydrations = "1 segments come back to a local tier";
    assert_eq!(told(&facts).as_deref(), Some(hydrations));
    facts.pending_uploads = 3;
    let uploads = "3 segments wait for their upload";
    assert_eq!(told(&facts).as_deref(), Some(uploads));
    facts.tier2_problem = Some("no answer".to_owned());
    let tier2 = "Tier 2 does not take the output (no answer)";
    assert_eq!(told(&facts).as_deref(), Some(tier2));
    facts.admission_closed = Some("drain".to_owned());
    assert_eq!(told(&facts).as_deref(), Some("appends are refused (drain)"));
}

/// Merges until nothing is to be done. Answers how many segments are left, and how often the byte was rewritten that was most often.
fn settle(sizes: &[u64], limits: &Limits) -> (Vec<u64>, u32) {
    let mut stream = stream(sizes);
    let mut rewritten: std::collections::BTreeMap<u64, Vec<u32>> = stream
        .pieces
        .iter()
        .map(|it| (it.segment_id, vec![0]))
        .collect();
    let mut next_id = 1_000_000;
    loop {
        let inputs = merged_by(&stream, limits);
        let Some(first) = inputs.first() else { break };
        let at = stream.pieces.iter().position(|it| it.segment_id == *first);
        let at = at.expect("one of them");
        let run: Vec<Piece> = stream.pieces[at..at + inputs.len()].to_vec();
        let ids: Vec<u64> = run.iter().map(|it| it.segment_id).collect();
        assert_eq!(ids, inputs, "they follow each other");
        let output = Piece {
            segment_id: next_id,
            bytes: DATA_OFFSET + run.iter().map(batches_of).sum::<u64>(),
            end_sequence: run[run.len() - 1].end_sequence,
            ..run[0].clone()
        };
        assert!(output.bytes <= limits.target_bytes);
        assert!(
            run.iter()
                .all(|it| 2 * batches_of(it) <= batches_of(&output))
        );
        let counts = ids
            .iter()
            .flat_map(|id| rewritten.remove(id).expect("known"));
        let counts = counts.map(|count| count + 1).collect();
        rewritten.insert(next_id, counts);
        stream.pieces.splice(at..at + inputs.len(), [output]);
        next_id += 1;
    }
    let most = rewritten.values().flatten().max().copied().unwrap_or(0);
    (stream.pieces.iter().map(batches_of).collect(), most)
}

/// Segments that come one by one, each merged at once where that is possible: as a snapshot each hour makes them.
fn one_by_one(sizes: &[u64], limits: &Limits) -> (usize, u32) {
    let mut left: Vec<(u64, u32)> = Vec::new();
    for size in sizes {
        left.push((*size, 0));
        loop {
            let bytes: Vec<u64> = left.iter().map(|(bytes, _)| *bytes).collect();
            let inputs = merged_by(&stream(&bytes), limits);
            let Some(first) = inputs.first() else { break };
            let range = *first as usize - 1..*first as usize - 1 + inputs.len();
            let bytes = left[range.clone()].iter().map(|(bytes, _)| bytes).sum();
            let most = left[range.clone()].iter().map(|(_, count)| count).max();
            let count = most.expect("not empty") + 1;
            left.splice(range, [(bytes, count)]);
        }
    }
    let most = left.iter().map(|(_, count)| *count).max();
    (left.len(), most.unwrap_or(0))
}

fn log2_of_target_by(smallest: u64) -> u32 {
    (TARGET / smallest.max(1)).ilog2()
}

#[test]
fn hourly_segments_become_few_and_each_byte_is_rewritten_a_few_times() {
    let smallest = 2 * KIB;
    let (left, most) = one_by_one(&[smallest; 5_000], &limits());
    println!(
        "5,000 segments of 2 KiB, one by one: {left} are left, a byte was rewritten {most} times at most"
    );
    assert!(most <= log2_of_target_by(smallest), "{most}");
    // 5,000 of 2 KiB are ten targets.
    assert!(
        left <= 10 + 4 * log2_of_target_by(smallest) as usize,
        "{left}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_byte_is_rewritten_more_often_than_the_target_is_a_double_of_the_smallest(
        sizes in prop::collection::vec(prop_oneof![1..64u64, 64..10_000u64, 10_000..MIB], 1..300),
        min_inputs in 2..9usize,
    ) {
        let limits = Limits { min_inputs, ..limits() };
        let smallest = sizes.iter().min().copied().unwrap_or(1);
        let (left, most) = settle(&sizes, &limits);
        prop_assert!(most <= log2_of_target_by(smallest), "{most} of {smallest}");
        prop_assert_eq!(left.iter().sum::<u64>(), sizes.iter().sum::<u64>());
        let (_, most) = one_by_one(&sizes, &limits);
        prop_assert!(most <= log2_of_target_by(smallest), "{most} of {smallest}");
    }
}
