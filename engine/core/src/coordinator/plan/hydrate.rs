//! What has to leave a tier so that a copy may come back to it: those that were read longest ago, and none that is wanted. Those of
//! Tier 1 whose segment is in Tier 0 go first: no read needs them. A copy comes back only below the high mark, and in Tier 0 below what open
//! segments take next, so that it is not evicted right after.

use std::sync::Arc;

use super::evict::least_read;
use super::{Copy, Tiers};
use crate::admit::{high_mark, hydration_mark};
use crate::coordinator::hydrations::{LocalTier, Wish};
use crate::coordinator::memo::SegmentKey;
use crate::port::Tier0Usage;

/// `None`: there is no room for it, whatever goes.
pub fn victims(
    wish: &Wish,
    tiers: &Tiers,
    is_wanted: impl Fn(&SegmentKey) -> bool,
) -> Option<Vec<(SegmentKey, Copy)>> {
    let key = |stream: &Arc<str>, id: u64| (stream.clone(), id);
    let (used_bytes, budget_bytes, upto_bytes) = match wish.tier {
        LocalTier::Tier0 => {
            let Tier0Usage {
                used_bytes,
                quota_bytes,
                ..
            } = tiers.tier0.usage;
            let open = tiers.tier0.open.iter();
            let ahead = open.map(|open| open.ahead_bytes).sum();
            (used_bytes, quota_bytes, hydration_mark(quota_bytes, ahead))
        }
        LocalTier::Tier1 => {
            let max_bytes = tiers.tier1.max_bytes;
            (tiers.tier1.used_bytes, max_bytes, high_mark(max_bytes))
        }
    };
    if budget_bytes == 0 {
        return Some(Vec::new());
    }
    let mut lacking = (used_bytes + wish.bytes).saturating_sub(upto_bytes);
    let candidates: Vec<(SegmentKey, Copy, u64)> = match wish.tier {
        LocalTier::Tier0 => least_read(&tiers.tier0.hot, |hot| (hot.used, hot.segment_id))
            .into_iter()
            .map(|hot| {
                let copy = Copy::Hot { is_kept: false };
                (key(&hot.stream, hot.segment_id), copy, hot.bytes)
            })
            .collect(),
        LocalTier::Tier1 => least_read(&tiers.tier1.warm, |warm| {
            (!warm.is_hot, warm.used, warm.segment_id)
        })
        .into_iter()
        .map(|warm| {
            let copy = Copy::Warm { bytes: warm.bytes };
            (key(&warm.stream, warm.segment_id), copy, warm.bytes)
        })
        .collect(),
    };
    let mut victims = Vec::new();
    for (key, copy, bytes) in candidates {
        if lacking == 0 {
            break;
        }
        if is_wanted(&key) {
            continue;
        }
        lacking = lacking.saturating_sub(bytes);
        victims.push((key, copy));
    }
    (lacking == 0).then_some(victims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{HotCopy, OpenBytes};

    fn wish(bytes: u64) -> Wish {
        Wish {
            request: Some(1),
            key: ("a".into(), 9),
            tier: LocalTier::Tier0,
            bytes,
            tries: 0,
            is_recorded: false,
        }
    }

    fn hot(segment_id: u64, used: u64, is_hydrated: bool) -> HotCopy {
        HotCopy {
            stream: "a".into(),
            segment_id,
            bytes: 100,
            used,
            is_hydrated,
            is_warm: false,
        }
    }

    fn tiers(used_bytes: u64, hot: Vec<HotCopy>) -> Tiers {
        let mut tiers = Tiers::default();
        tiers.tier0.usage.used_bytes = used_bytes;
        tiers.tier0.usage.quota_bytes = 1_000;
        tiers.tier0.hot = hot;
        tiers
    }

    #[test]
    fn what_was_read_longest_ago_makes_room_and_what_came_back_before_too() {
        let copies = vec![hot(1, 5, false), hot(2, 0, true), hot(3, 1, false)];
        let of = |bytes, used| {
            let victims = victims(&wish(bytes), &tiers(used, copies.clone()), |_| false)?;
            Some(
                victims
                    .into_iter()
                    .map(|((_, id), _)| id)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(100, 800), Some(vec![]));
        assert_eq!(of(100, 850), Some(vec![2]));
        assert_eq!(of(200, 850), Some(vec![2, 3]));
        assert_eq!(of(300, 850), Some(vec![2, 3, 1]));
        assert_eq!(of(400, 850), None);
    }

    #[test]
    fn what_open_segments_take_next_has_its_place_up_to_the_room_between_the_marks() {
        let copies = vec![hot(1, 1, false), hot(2, 2, false), hot(3, 3, false)];
        let gone = |ahead: &[u64]| {
            let mut tiers = tiers(800, copies.clone());
            let open = ahead.iter().map(|ahead_bytes| OpenBytes {
                stream: "a".into(),
                bytes: 0,
                ahead_bytes: *ahead_bytes,
                can_be_sealed: true,
            });
            tiers.tier0.open = open.collect();
            victims(&wish(100), &tiers, |_| false).map(|victims| victims.len())
        };
        assert_eq!(gone(&[]), Some(0));
        assert_eq!(gone(&[1]), Some(1));
        assert_eq!(gone(&[60, 40]), Some(1));
        assert_eq!(gone(&[5_000, 7]), Some(1));
        assert_eq!(hydration_mark(1_000, 30), 870);
        assert_eq!(hydration_mark(1_000, 300), 800);
    }

    #[test]
    fn what_is_wanted_itself_does_not_go() {
        let copies = vec![hot(1, 0, false), hot(2, 1, false)];
        let found = victims(&wish(100), &tiers(850, copies), |(_, id)| *id == 1);
        assert_eq!(
            found,
            Some(vec![(("a".into(), 2), Copy::Hot { is_kept: false })])
        );
    }
}
