//! What leaves Tier 0 and Tier 1.

use super::*;

fn hot(segment_id: u64, used: u64) -> HotCopy {
    HotCopy {
        is_hydrated: false,
        stream: "a".into(),
        segment_id,
        bytes: 10,
        used,
        is_warm: true,
    }
}

fn open(stream: &str, bytes: u64) -> OpenBytes {
    OpenBytes {
        stream: stream.into(),
        bytes,
        ahead_bytes: 0,
        can_be_sealed: true,
    }
}

fn full(used_bytes: u64) -> Tiers {
    Tiers {
        tier0: Tier0 {
            usage: Tier0Usage {
                used_bytes,
                pinned_bytes: 0,
                quota_bytes: 100,
                ..Tier0Usage::default()
            },
            hot: vec![hot(1, 7), hot(2, 0), hot(3, 0), hot(4, 9)],
            open: vec![open("b", 5), open("c", 20)],
            room: None,
        },
        tier1: Tier1::default(),
    }
}

fn upkeep(plan: &Plan) -> (Vec<u64>, Vec<&str>) {
    let (mut evicted, mut sealed) = (Vec::new(), Vec::new());
    for task in &plan.start {
        match task {
            Task::Evict(copies) => evicted.extend(copies.iter().map(|((_, id), _)| *id)),
            Task::Seal(streams) => sealed.extend(streams.iter().map(|stream| &**stream)),
            Task::Move(..) | Task::CheckClaims | Task::Hydrate(..) => panic!("{plan:?}"),
        }
    }
    (evicted, sealed)
}

#[test]
fn what_was_read_longest_ago_leaves_a_full_tier_0_down_to_its_low_mark() {
    let now = Instant::now();
    let planned = |tiers: &Tiers| upkeep_owned(&plan_of(now, [], &memo(), limits(1), tiers));
    assert_eq!(planned(&full(90)), (vec![], vec![]), "at the high mark");
    assert_eq!(planned(&full(95)).0, [2, 3], "15 of 100 have to go");
    assert_eq!(planned(&full(101)).0, [2, 3, 1]);
    let mut read = full(101);
    read.tier0.usage.pinned_bytes = 10;
    assert_eq!(planned(&read).0, [2, 3], "ten go when their readers do");
    let mut refused = full(85);
    refused.tier0.usage.refused_bytes = 25;
    assert_eq!(planned(&refused).0, [2], "10 more than there is room for");
    refused.tier0.usage.refused_bytes = 101;
    assert_eq!(planned(&refused), (vec![], vec![]), "no budget takes it");
    let mut unlimited = full(95);
    unlimited.tier0.usage.quota_bytes = 0;
    assert_eq!(planned(&unlimited).0, [] as [u64; 0]);
}

fn upkeep_owned(plan: &Plan) -> (Vec<u64>, Vec<String>) {
    let (evicted, sealed) = upkeep(plan);
    (evicted, sealed.into_iter().map(str::to_owned).collect())
}

#[test]
fn the_largest_open_segments_are_sealed_where_nothing_else_fills_tier_0() {
    let now = Instant::now();
    let mut tiers = full(100);
    tiers.tier0.hot.truncate(1);
    let (evicted, sealed) = upkeep_owned(&plan_of(now, [], &memo(), limits(1), &tiers));
    assert_eq!((evicted, sealed), (vec![1], vec!["c".to_owned()]));
    // What waits for its upload leaves as it is.
    let pending = [segment("a", 9, true)];
    let mut busy = memo();
    busy.under_way.insert(("a".into(), 9), Step::Upload);
    let (_, sealed) = upkeep_owned(&plan_of(now, &pending, &busy, limits(1), &tiers));
    assert_eq!(sealed, [] as [String; 0]);
    for open in &mut tiers.tier0.open {
        open.can_be_sealed = false;
    }
    let (_, sealed) = upkeep_owned(&plan_of(now, [], &memo(), limits(1), &tiers));
    assert_eq!(sealed, [] as [String; 0]);
}

#[test]
fn one_eviction_runs_at_a_time_and_one_that_failed_rests() {
    let now = Instant::now();
    let mut memo = memo();
    memo.evict.is_under_way = true;
    let busy = plan_of(now, [], &memo, limits(1), &full(95));
    assert_eq!(upkeep(&busy).0, [] as [u64; 0]);
    memo.evict.is_under_way = false;
    let until = now + Duration::from_secs(5);
    memo.evict.rests_until = Some(until);
    let rests = plan_of(now, [], &memo, limits(1), &full(95));
    assert_eq!((upkeep(&rests).0, rests.next), (vec![], Some(until)));
    let again = plan_of(until, [], &memo, limits(1), &full(95));
    assert_eq!(upkeep(&again).0, [2, 3]);
}

#[test]
fn a_full_tier_1_gives_up_what_tier_2_has() {
    let warm = |segment_id, used| WarmCopy {
        stream: "a".into(),
        segment_id,
        bytes: 10,
        used,
        is_hot: false,
    };
    let mut tiers = Tiers {
        tier1: Tier1 {
            used_bytes: 95,
            max_bytes: 100,
            warm: vec![warm(1, 3), warm(2, 1), warm(3, 2)],
            ..Tier1::default()
        },
        ..Tiers::default()
    };
    let now = Instant::now();
    let planned = plan_of(now, [], &memo(), limits(1), &tiers);
    assert_eq!(upkeep(&planned).0, [2, 3]);
    tiers.tier1.max_bytes = 0;
    let unlimited = plan_of(now, [], &memo(), limits(1), &tiers);
    assert_eq!(unlimited.start, []);
}

#[test]
fn a_volume_that_is_nearly_full_gives_up_tier_1_first_whatever_the_budgets_are() {
    let warm = |segment_id| WarmCopy {
        stream: "a".into(),
        segment_id,
        bytes: 40,
        used: 0,
        is_hot: false,
    };
    let mut tiers = full(10);
    tiers.tier0.usage.quota_bytes = 0;
    tiers.tier0.room = Some(Room {
        free_bytes: 90,
        total_bytes: 1000,
    });
    tiers.tier1 = Tier1 {
        used_bytes: 80,
        warm: vec![warm(8), warm(9)],
        is_beside_tier0: true,
        ..Tier1::default()
    };
    let now = Instant::now();
    let evicted = |tiers: &Tiers| {
        let plan = plan_of(now, [], &memo(), limits(1), tiers);
        upkeep_owned(&plan).0
    };
    assert_eq!(evicted(&tiers), [8, 9], "60 of 1000 have to go");
    tiers.tier1.warm.truncate(1);
    assert_eq!(evicted(&tiers), [8, 2, 3]);
    tiers.tier1.is_beside_tier0 = false;
    assert_eq!(evicted(&tiers), [2, 3, 1, 4], "Tier 1 has room of its own");
    let plan = plan_of(now, [], &memo(), limits(1), &tiers);
    assert_eq!(upkeep(&plan).1, [""; 0], "others fill the volume");
    tiers.tier0.room = Some(Room {
        free_bytes: 100,
        total_bytes: 1000,
    });
    assert_eq!(evicted(&tiers), [] as [u64; 0]);
}

/// Copies that leave, as (id, tier, kept).
fn leaving(tiers: &Tiers) -> Vec<(u64, u8, bool)> {
    let plan = plan_of(Instant::now(), [], &memo(), limits(1), tiers);
    let copies = plan.start.into_iter().flat_map(|task| match task {
        Task::Evict(copies) => copies,
        other => panic!("{other:?}"),
    });
    let told = copies.map(|((_, id), copy)| match copy {
        Copy::Hot { is_kept } => (id, 0, is_kept),
        Copy::Warm { bytes: _ } => (id, 1, false),
    });
    told.collect()
}

fn warm(segment_id: u64, used: u64, is_hot: bool) -> WarmCopy {
    WarmCopy {
        stream: "a".into(),
        segment_id,
        bytes: 10,
        used,
        is_hot,
    }
}

#[test]
fn warm_copies_that_no_read_comes_to_leave_first_and_of_these_what_stays_hot_longest() {
    let tiers = |used_bytes| Tiers {
        tier1: Tier1 {
            used_bytes,
            max_bytes: 100,
            warm: vec![
                warm(1, 0, false),
                warm(2, 5, false),
                warm(3, 0, true),
                warm(4, 9, true),
                warm(5, 0, true),
            ],
            ..Tier1::default()
        },
        ..Tiers::default()
    };
    let ids = |used| -> Vec<u64> { leaving(&tiers(used)).iter().map(|it| it.0).collect() };
    assert_eq!(ids(91), [4, 5]);
    assert_eq!(ids(110), [4, 5, 3]);
    assert_eq!(ids(125), [4, 5, 3, 1, 2]);
}

#[test]
fn tier_1_takes_what_tier_0_gives_up_in_the_place_of_what_was_read_before_it() {
    let mut tiers = full(95);
    tiers.tier0.open.clear();
    // 2 and 3 leave, and have no copy in Tier 1 any more.
    for hot in &mut tiers.tier0.hot {
        hot.is_warm = false;
    }
    tiers.tier1 = Tier1 {
        used_bytes: 85,
        max_bytes: 100,
        warm: vec![warm(8, 0, false), warm(9, 3, false)],
        ..Tier1::default()
    };
    // The first takes the place of 8. For the second one would have to go that was read later.
    assert_eq!(
        leaving(&tiers),
        [(8, 1, false), (2, 0, true), (3, 0, false)]
    );
    tiers.tier1.used_bytes = 60;
    assert_eq!(
        leaving(&tiers),
        [(2, 0, true), (3, 0, true)],
        "there is room"
    );
    // Those of segments that stay hot go before.
    tiers.tier1.used_bytes = 85;
    tiers.tier1.warm = vec![warm(8, 0, false), warm(4, 9, true), warm(1, 7, true)];
    let expected = [(4, 1, false), (1, 1, false), (2, 0, true), (3, 0, true)];
    assert_eq!(leaving(&tiers), expected);
    // What Tier 1 has of a segment that leaves Tier 0 now stays.
    tiers.tier0.hot[1].is_warm = true;
    tiers.tier1.warm = vec![warm(2, 0, true)];
    assert_eq!(leaving(&tiers)[0], (2, 0, false));
    // Whoever is refused does not wait for a compression.
    tiers.tier0.hot[1].is_warm = false;
    tiers.tier1.used_bytes = 60;
    tiers.tier0.usage.refused_bytes = 1;
    assert_eq!(leaving(&tiers), [(2, 0, false), (3, 0, false)]);
    tiers.tier0.usage.refused_bytes = 0;
    tiers.tier1.max_bytes = 0;
    assert_eq!(leaving(&tiers), [(2, 0, false), (3, 0, false)], "no budget");
}
