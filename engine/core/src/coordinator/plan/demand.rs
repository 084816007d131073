//! Which segment comes back because readers have it from a lower tier again and again.
//!
//! - It comes when what they read a second time is as much as all of it: then bringing it back costs no more than they have paid already.
//! - Tier 1 takes what Tier 2 alone has, below its high mark. For it goes what readers had half as often, byte for byte, or less; never what
//!   came back itself a short time ago, or was asked for.
//! - Tier 0 takes it only below its low mark, and nothing goes for it: what is above that is for appends.
//! - One that came back and left again rests, twice as long each time: what has no lasting room is not fetched in a loop.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::evict::least_read;
use super::{Copy, Room, Tiers};
use crate::admit::{high_mark, low_mark};
use crate::coordinator::hydrations::{LocalTier, Wish};
use crate::coordinator::memo::SegmentKey;

/// A segment that is not in Tier 0 and was read again from below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub key: SegmentKey,
    /// Uncompressed.
    pub bytes: u64,
    /// Uncompressed, that readers had a second time.
    pub again_bytes: u64,
    /// That a copy takes there at most; `None`: Tier 1 has one, or Tier 2 has none.
    pub tier1_bytes: Option<u64>,
    /// The same of Tier 0.
    pub tier0_bytes: Option<u64>,
}

/// What decides beside how full the tiers are.
#[derive(Debug, Default)]
pub struct Demand {
    pub candidates: Vec<Candidate>,
    /// Uncompressed bytes that readers had a second time, of any segment.
    pub again_bytes: BTreeMap<SegmentKey, u64>,
    /// Those that came back a short time ago.
    pub stay: BTreeSet<SegmentKey>,
    /// Those that are not brought back before.
    pub rest: BTreeMap<SegmentKey, Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// With what goes for it first.
    pub next: Option<(Wish, Vec<(SegmentKey, Copy)>)>,
    /// Those that have room, this one among them.
    pub waiting: BTreeSet<SegmentKey>,
}

pub fn pick(now: Instant, demand: &Demand, tiers: &Tiers) -> Picked {
    let Tiers { tier0, .. } = tiers;
    let mut picked = Picked::default();
    // Appends go first.
    if tier0.lacking_bytes() > 0 || tier0.usage.refused_bytes > 0 {
        return picked;
    }
    let mut ripe: Vec<&Candidate> = demand.candidates.iter().collect();
    ripe.retain(|it| it.again_bytes >= it.bytes.max(1));
    ripe.retain(|it| demand.rest.get(&it.key).is_none_or(|until| *until <= now));
    ripe.sort_by_key(|it| {
        let times = it.again_bytes / it.bytes.max(1);
        (it.tier1_bytes.is_none(), Reverse(times), it.key.clone())
    });
    for candidate in ripe {
        let Some((tier, bytes, victims)) = room_for(candidate, demand, tiers) else {
            continue;
        };
        picked.waiting.insert(candidate.key.clone());
        let wish = || Wish {
            request: None,
            key: candidate.key.clone(),
            tier,
            bytes,
            tries: 0,
            is_recorded: false,
        };
        picked.next = picked.next.or_else(|| Some((wish(), victims)));
    }
    picked
}

type Place = (LocalTier, u64, Vec<(SegmentKey, Copy)>);

fn room_for(candidate: &Candidate, demand: &Demand, tiers: &Tiers) -> Option<Place> {
    if let Some(bytes) = candidate.tier1_bytes
        && let Some(victims) = in_tier1(candidate, bytes, demand, tiers)
    {
        return Some((LocalTier::Tier1, bytes, victims));
    }
    let bytes = candidate.tier0_bytes?;
    is_free_in_tier0(bytes, tiers).then(|| (LocalTier::Tier0, bytes, Vec::new()))
}

fn in_tier1(
    candidate: &Candidate,
    bytes: u64,
    demand: &Demand,
    tiers: &Tiers,
) -> Option<Vec<(SegmentKey, Copy)>> {
    let Tiers { tier0, tier1 } = tiers;
    if tier1.lacking_bytes(tier0) > 0 {
        return None;
    }
    let lacking = match tier1.has_budget() {
        true => (tier1.used_bytes + bytes).saturating_sub(high_mark(tier1.max_bytes)),
        false => 0,
    };
    let mut freed = 0;
    let mut victims = Vec::new();
    let by_age = least_read(&tier1.warm, |it| (!it.is_hot, it.used, it.segment_id));
    for warm in by_age {
        if freed >= lacking {
            break;
        }
        let key = (warm.stream.clone(), warm.segment_id);
        let theirs = demand.again_bytes.get(&key).copied().unwrap_or(0);
        // Each by the room that it takes.
        let ours = u128::from(candidate.again_bytes) * u128::from(warm.bytes);
        let is_less = 2 * u128::from(theirs) * u128::from(bytes) <= ours;
        if key == candidate.key || demand.stay.contains(&key) || !(is_less || warm.is_hot) {
            continue;
        }
        freed += warm.bytes;
        victims.push((key, Copy::Warm { bytes: warm.bytes }));
    }
    let volume = match tier1.is_beside_tier0 {
        true => tier0.room,
        false => tier1.room,
    };
    (freed >= lacking && stays_roomy(volume, bytes.saturating_sub(freed))).then_some(victims)
}

fn is_free_in_tier0(bytes: u64, tiers: &Tiers) -> bool {
    let usage = &tiers.tier0.usage;
    let quota_bytes = usage.quota_bytes;
    let has_room = quota_bytes == 0 || usage.used_bytes + bytes <= low_mark(quota_bytes);
    has_room && stays_roomy(tiers.tier0.room, bytes)
}

/// No copy has to leave the volume for it. One that was not measured yet takes nothing.
fn stays_roomy(volume: Option<Room>, bytes: u64) -> bool {
    volume.is_some_and(|room| room.stays_roomy_with(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::GIB;
    use crate::port::WarmCopy;

    fn key(id: u64) -> SegmentKey {
        ("a".into(), id)
    }

    fn cold(id: u64, again_bytes: u64) -> Candidate {
        Candidate {
            key: key(id),
            bytes: 1_000,
            again_bytes,
            tier1_bytes: Some(100),
            tier0_bytes: Some(1_100),
        }
    }

    fn warm(id: u64, again_bytes: u64) -> Candidate {
        Candidate {
            tier1_bytes: None,
            ..cold(id, again_bytes)
        }
    }

    fn demand(candidates: Vec<Candidate>) -> Demand {
        let again_bytes = candidates
            .iter()
            .map(|it| (it.key.clone(), it.again_bytes))
            .collect();
        Demand {
            candidates,
            again_bytes,
            ..Demand::default()
        }
    }

    /// Both budgets hold 10,000 bytes; the volume is nearly empty.
    fn tiers(tier0_bytes: u64, tier1_bytes: u64) -> Tiers {
        let mut tiers = Tiers::default();
        tiers.tier0.usage.used_bytes = tier0_bytes;
        tiers.tier0.usage.quota_bytes = 10_000;
        tiers.tier0.room = Some(Room {
            free_bytes: 90 * GIB,
            total_bytes: 100 * GIB,
        });
        tiers.tier1.used_bytes = tier1_bytes;
        tiers.tier1.max_bytes = 10_000;
        tiers.tier1.is_beside_tier0 = true;
        tiers
    }

    fn in_tier1(id: u64, bytes: u64, used: u64) -> WarmCopy {
        WarmCopy {
            stream: "a".into(),
            segment_id: id,
            bytes,
            used,
            is_hot: false,
        }
    }

    fn picked(demand: &Demand, tiers: &Tiers) -> Option<(u64, LocalTier, Vec<u64>)> {
        let (wish, victims) = pick(Instant::now(), demand, tiers).next?;
        let victims = victims.into_iter().map(|((_, id), _)| id).collect();
        Some((wish.key.1, wish.tier, victims))
    }

    #[test]
    fn a_segment_comes_back_once_as_much_of_it_was_read_again_as_it_has() {
        let room = tiers(0, 0);
        assert_eq!(picked(&demand(vec![cold(1, 999)]), &room), None);
        let one = demand(vec![cold(1, 1_000)]);
        assert_eq!(picked(&one, &room), Some((1, LocalTier::Tier1, vec![])));
        // What readers wait for most goes first, and what only Tier 2 has before what Tier 1 has.
        let many = demand(vec![warm(1, 9_000), cold(2, 1_000), cold(3, 4_000)]);
        assert_eq!(picked(&many, &room), Some((3, LocalTier::Tier1, vec![])));
        assert_eq!(pick(Instant::now(), &many, &room).waiting.len(), 3);
    }

    #[test]
    fn what_readers_had_half_as_often_goes_for_it_and_what_they_had_more_stays() {
        let mut full = tiers(9_000, 8_950);
        full.tier1.warm = vec![
            in_tier1(4, 40, 1),
            in_tier1(5, 40, 3),
            in_tier1(6, 40, 2),
            in_tier1(7, 40, 4),
        ];
        let mut wanted = demand(vec![cold(1, 1_000)]);
        assert_eq!(
            picked(&wanted, &full),
            Some((1, LocalTier::Tier1, vec![4, 6]))
        );
        // 1,000 of 100 bytes is as 200 of 20: the other one takes 40.
        wanted.again_bytes.insert(key(6), 201);
        assert_eq!(
            picked(&wanted, &full),
            Some((1, LocalTier::Tier1, vec![4, 5]))
        );
        wanted.again_bytes.insert(key(5), 200);
        assert_eq!(
            picked(&wanted, &full),
            Some((1, LocalTier::Tier1, vec![4, 5]))
        );
        for id in [4, 5] {
            wanted.stay.insert(key(id));
        }
        // Whoever reads all of it in turn has each as often as the others: nothing is exchanged.
        assert_eq!(picked(&wanted, &full), None);
        assert!(pick(Instant::now(), &wanted, &full).waiting.is_empty());
    }

    #[test]
    fn tier_0_takes_what_fits_below_its_low_mark_and_gives_nothing_up() {
        let one = demand(vec![warm(1, 1_000)]);
        let tier0 = Some((1, LocalTier::Tier0, vec![]));
        assert_eq!(picked(&one, &tiers(8_000 - 1_100, 0)), tier0);
        assert_eq!(picked(&one, &tiers(8_000 - 1_099, 0)), None);
        // It takes what Tier 1 has no room for, too.
        let one = demand(vec![cold(1, 1_000)]);
        assert_eq!(picked(&one, &tiers(5_000, 8_950)), tier0);
        assert_eq!(picked(&one, &tiers(7_000, 8_950)), None);
    }

    #[test]
    fn nothing_comes_where_appends_or_the_volume_lack_room() {
        let one = demand(vec![cold(1, 1_000)]);
        let room = || tiers(5_000, 0);
        assert!(picked(&one, &room()).is_some());
        let mut refusing = room();
        refusing.tier0.usage.refused_bytes = 1;
        let mut full = room();
        full.tier0.usage.used_bytes = 9_001;
        let mut unknown = room();
        unknown.tier0.room = None;
        let mut narrow = room();
        narrow.tier0.room = Some(Room {
            free_bytes: 3 * GIB + 99,
            total_bytes: 100 * GIB,
        });
        for tiers in [refusing, full, unknown, narrow] {
            assert_eq!(picked(&one, &tiers), None, "{tiers:?}");
        }
    }

    #[test]
    fn what_came_back_and_left_again_rests() {
        let now = Instant::now();
        let mut wanted = demand(vec![cold(1, 9_000)]);
        let until = now + Duration::from_secs(600);
        wanted.rest.insert(key(1), until);
        assert_eq!(pick(now, &wanted, &tiers(0, 0)).next, None);
        assert!(pick(until, &wanted, &tiers(0, 0)).next.is_some());
    }
}
