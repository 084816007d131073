//! What goes down, and in which order.

mod evict;

use std::sync::Arc;

use super::plan as plan_of;
use super::*;
use crate::coordinator::memo::{ClaimCheck, Failed, FailureKind, pause_after};
use crate::port::{Copies, Moves, RecordTimes};

fn segment(stream: &str, segment_id: u64, compressed: bool) -> SealedSegment {
    SealedSegment {
        stream: stream.into(),
        segment_id,
        epoch: 1,
        base_sequence: segment_id * 10,
        records: 10,
        bytes: 5000,
        crc64: 0,
        times: RecordTimes::default(),
        sealed_unix_nanos: 0,
        copies: Copies {
            hot: true,
            warm: compressed.then_some(100),
            cold: None,
        },
        moves: Moves::default(),
        compressed_bytes: None,
    }
}

fn limits(uploads: usize) -> Limits {
    Limits {
        uploads,
        tier2_answers: true,
        tier2_not_before: None,
        claim_check: Duration::from_secs(3600),
    }
}

/// Of a node whose budgets are not used up.
fn plan<'p>(
    now: Instant,
    pending: impl IntoIterator<Item = &'p SealedSegment>,
    memo: &Memo,
    limits: Limits,
) -> Plan {
    let pending: Vec<SealedSegment> = pending.into_iter().cloned().collect();
    plan_of(now, &pending, memo, limits, &Tiers::default())
}

/// Its claims were checked just now.
fn memo() -> Memo {
    Memo {
        claims: ClaimCheck {
            is_under_way: true,
            ended_at: None,
        },
        ..Memo::default()
    }
}

fn started(plan: &Plan) -> Vec<(&str, u64, Step)> {
    let moves = plan.start.iter().map(|task| match task {
        Task::Move((stream, id), step) => (&**stream, *id, *step),
        Task::CheckClaims | Task::Evict(_) | Task::Seal(_) | Task::Hydrate(..) => {
            panic!("{plan:?}")
        }
    });
    moves.collect()
}

#[test]
fn a_sealed_segment_is_compressed_and_a_compressed_one_uploaded() {
    let pending = [segment("a", 1, true), segment("a", 2, false)];
    let plan = plan(Instant::now(), &pending, &memo(), limits(2));
    assert_eq!(
        started(&plan),
        [("a", 2, Step::Compress), ("a", 1, Step::Upload)]
    );
}

#[test]
fn every_streams_oldest_segment_comes_before_anybodys_second() {
    let pending = [
        segment("a", 2, true),
        segment("a", 1, true),
        segment("a", 3, true),
        segment("b", 7, true),
    ];
    let plan = plan(Instant::now(), &pending, &memo(), limits(3));
    assert_eq!(
        started(&plan),
        [
            ("a", 1, Step::Upload),
            ("b", 7, Step::Upload),
            ("a", 2, Step::Upload)
        ]
    );
}

#[test]
fn one_segment_is_compressed_at_a_time_and_uploads_keep_to_their_limit() {
    let pending: Vec<_> = (1..=3)
        .map(|id| segment("a", id, false))
        .chain((4..=9).map(|id| segment("b", id, true)))
        .collect();
    let mut memo = memo();
    memo.under_way.insert(("b".into(), 4), Step::Upload);
    let first = plan(Instant::now(), &pending, &memo, limits(2));
    assert_eq!(
        started(&first),
        [("a", 1, Step::Compress), ("b", 5, Step::Upload)]
    );
    let moves = started(&first);
    let moves = moves
        .into_iter()
        .map(|(stream, id, step)| ((Arc::from(stream), id), step));
    memo.under_way.extend(moves.collect::<Vec<_>>());
    let second = plan(Instant::now(), &pending, &memo, limits(2));
    assert_eq!(started(&second), []);
    assert_eq!(second.next, None);
}

#[test]
fn a_failed_segment_waits_for_its_time_and_does_not_hold_up_others() {
    let now = Instant::now();
    let retry_at = now + Duration::from_secs(5);
    let pending = [segment("a", 1, true), segment("a", 2, true)];
    let mut memo = memo();
    let failed = Failed {
        times: 1,
        retry_at,
        kind: FailureKind::Outage,
        message: String::new(),
    };
    memo.failed.insert(("a".into(), 1), failed);
    let waits = plan(now, &pending, &memo, limits(2));
    assert_eq!(started(&waits), [("a", 2, Step::Upload)]);
    assert_eq!(waits.next, Some(retry_at));
    assert_eq!(
        started(&plan(retry_at, &pending, &memo, limits(1))),
        [("a", 1, Step::Upload)]
    );
}

#[test]
fn while_the_breaker_rests_nothing_is_uploaded_but_compression_goes_on() {
    let now = Instant::now();
    let rests_until = now + Duration::from_secs(3);
    let pending = [segment("a", 1, true), segment("a", 2, false)];
    let limits = Limits {
        tier2_answers: false,
        tier2_not_before: Some(rests_until),
        ..limits(4)
    };
    let plan = plan(now, &pending, &memo(), limits);
    assert_eq!(started(&plan), [("a", 2, Step::Compress)]);
    assert_eq!(plan.next, Some(rests_until));
}

#[test]
fn a_tier_2_that_does_not_answer_is_tried_with_one_upload() {
    let pending = [segment("a", 1, true), segment("b", 2, true)];
    let limits = Limits {
        tier2_answers: false,
        ..limits(4)
    };
    assert_eq!(
        started(&plan(Instant::now(), &pending, &memo(), limits)),
        [("a", 1, Step::Upload)]
    );
}

#[test]
fn segments_take_turns_with_the_one_trial_of_a_full_bucket_and_its_rest_is_all_that_they_wait_for()
{
    let now = Instant::now();
    let pending = [
        segment("a", 1, true),
        segment("a", 2, true),
        segment("b", 7, true),
        segment("c", 9, true),
    ];
    let mut memo = memo();
    let fail = |memo: &mut Memo, key: (&str, u64), kind| {
        let failed = memo.failed.entry((key.0.into(), key.1));
        let failed = failed.or_insert(Failed {
            times: 0,
            retry_at: now + Duration::from_secs(3600),
            kind,
            message: String::new(),
        });
        failed.times += 1;
    };
    // It waits for somebody to repair it.
    fail(&mut memo, ("c", 9), FailureKind::Damage);
    let mut tried = Vec::new();
    for trial in 0..6 {
        let limits = Limits {
            // What was refused keeps the others to one, whatever Tier 2 said to other requests since.
            tier2_answers: trial % 2 == 1,
            ..limits(4)
        };
        let plan = plan(now, &pending, &memo, limits);
        let started: Vec<_> = started(&plan)
            .into_iter()
            .map(|(s, id, _)| (s.to_owned(), id))
            .collect();
        let [(stream, id)] = &started[..] else {
            panic!("{started:?}")
        };
        fail(&mut memo, (stream, *id), FailureKind::BucketFull);
        tried.push((stream.clone(), *id));
    }
    let once = [("a", 1), ("b", 7), ("a", 2)].map(|(stream, id)| (stream.to_owned(), id));
    assert_eq!(tried, [once.clone(), once].concat());
    let under_way = ((Arc::from("b"), 7), Step::Upload);
    memo.under_way.extend([under_way]);
    assert_eq!(
        started(&plan(now, &pending, &memo, limits(4))),
        [],
        "one alone"
    );
    memo.under_way.clear();
    let until = now + Duration::from_secs(30);
    let resting = Limits {
        tier2_not_before: Some(until),
        ..limits(4)
    };
    let rests = plan(now, &pending, &memo, resting);
    assert_eq!((started(&rests), rests.next), (vec![], Some(until)));
    memo.forget(FailureKind::BucketFull);
    let released = plan(now, &pending, &memo, limits(4));
    assert_eq!(started(&released).len(), 3, "all but the damaged one");
}

#[test]
fn pauses_double_up_to_a_minute_and_damage_waits_longer() {
    let seconds: Vec<u64> = (1..=8)
        .map(|times| pause_after(times, FailureKind::Outage).as_secs())
        .collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(pause_after(1, FailureKind::Damage).as_secs(), 600);
}

#[test]
fn claims_are_checked_one_check_after_the_other_at_their_interval() {
    let now = Instant::now();
    let limits = limits(1);
    let checked = |claims| {
        let memo = Memo {
            claims,
            ..Memo::default()
        };
        plan(now, [], &memo, limits)
    };
    let due = Plan {
        start: vec![Task::CheckClaims],
        next: None,
    };
    let ended = |ended_at| ClaimCheck {
        is_under_way: false,
        ended_at,
    };
    assert_eq!(checked(ended(None)), due);
    assert_eq!(checked(ended(now.checked_sub(limits.claim_check))), due);
    let early = checked(ended(Some(now)));
    assert_eq!(
        (early.start, early.next),
        (vec![], Some(now + limits.claim_check))
    );
    assert_eq!(
        checked(ClaimCheck {
            is_under_way: true,
            ended_at: Some(now),
        }),
        Plan::default()
    );
}
