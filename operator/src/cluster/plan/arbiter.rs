//! Who gets how much of the Tier 0 budget: a pure function of what the pods ask for and of what each was told before.
//!
//! - While nobody is short of Tier 0 the parts are even. A pod is short where it refuses appends, or where its readers wait for Tier 2.
//!   Pods that are not short give, each down to a quarter of the even part, and to what they could not give up anyway.
//! - What somebody loses is taken before anybody gets it: the parts that pods may still run with never add up to more than the budget,
//!   also while a pod is away.
//! - A move is worth a tenth of some pod's part, and comes at most every five minutes. Parts are even again an hour after the last move
//!   and shortage.

use jiff::{SignedDuration, Timestamp};

/// Of the budget, in which parts are counted.
pub const WHOLE: u32 = 10_000;
/// What every pod keeps of its even part.
const FLOOR: u32 = 4;
/// A pod that refuses appends asks for so much more than it holds, in even parts; one whose readers wait, for half of that.
const MORE_PERCENT: u64 = 100;
/// Refused appends a second from which a pod is short.
const REFUSED: f64 = 0.1;
/// Share of what its readers got after a wait, from which a pod is short.
const WAITED_SHARE: f64 = 0.2;
/// Bytes a second below which waits of readers count for nothing: somebody looks something up.
const WAITED_BYTES: f64 = 1e6;
const EVERY: SignedDuration = SignedDuration::from_mins(5);
const EVEN_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// What is left over of the budget from which it is given to somebody.
const LEFT_OVER: u32 = WHOLE / 100;

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimant {
    /// It is there: what it runs with counts.
    pub exists: bool,
    /// In parts; `None`: nothing was told to it yet.
    pub told: Option<u32>,
    /// The largest part that it may still run with; `None`: not known beyond what it was told.
    pub in_force: Option<u32>,
    /// `None`: it does not answer, and keeps what it has.
    pub need: Option<Need>,
    /// The largest part that its volume has room for. An even one is given all the same.
    pub most: u32,
}

/// Of one pod, as its engine reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// Bytes that it cannot give up now.
    pub held_bytes: u64,
    /// `None`: not counted for a minute yet.
    pub pressure: Option<Pressure>,
}

/// A second, over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    pub refused_appends: f64,
    pub read_bytes: f64,
    /// Of these, after a wait for Tier 2.
    pub waited_bytes: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub told: u32,
    pub in_force: u32,
}

/// What the pods are told from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// As many as claimants.
    pub parts: Vec<Part>,
    /// By demand, and by nothing else.
    pub has_moved: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub budget_bytes: u64,
    pub is_by_demand: bool,
    /// Something else moves the pods, or changes the budget: everybody keeps what it has.
    pub is_frozen: bool,
    pub now: Timestamp,
    pub moved_at: Option<Timestamp>,
}

pub const fn even(pods: usize) -> u32 {
    WHOLE / if pods == 0 { 1 } else { pods as u32 }
}

impl Pressure {
    fn refuses(&self) -> bool {
        self.refused_appends > REFUSED
    }

    fn waits(&self) -> bool {
        self.waited_bytes > WAITED_BYTES && self.waited_bytes > WAITED_SHARE * self.read_bytes
    }
}

impl Need {
    fn is_short(&self) -> bool {
        let pressure = self.pressure.unwrap_or_default();
        pressure.refuses() || pressure.waits()
    }

    /// In parts of the budget: with what it holds at the mark from which Tier 0 gives up.
    fn wish(&self, even: u32, budget_bytes: u64) -> u32 {
        let held = u128::from(self.held_bytes) * u128::from(WHOLE) * 10 / 8;
        let held = held.div_ceil(u128::from(budget_bytes.max(1)));
        let more = |percent: u64| u128::from(even) * u128::from(percent) / 100;
        let pressure = self.pressure.unwrap_or_default();
        let more = match (pressure.refuses(), pressure.waits()) {
            (true, _) => more(MORE_PERCENT),
            (false, true) => more(MORE_PERCENT / 2) + u128::from(even).saturating_sub(held),
            (false, false) => 0,
        };
        u32::try_from(held + more).unwrap_or(WHOLE).min(WHOLE)
    }
}

pub fn divide(claimants: &[Claimant], rules: Rules) -> Division {
    let even = even(claimants.len());
    let told_to = |claimant: &Claimant| claimant.told.unwrap_or(even).min(WHOLE);
    let before: Vec<u32> = claimants.iter().map(told_to).collect();
    let is_new = claimants.iter().any(|claimant| claimant.told.is_none());
    let (wanted, has_moved) = if rules.is_frozen && !is_new {
        (before.clone(), false)
    } else if !rules.is_by_demand || is_new {
        (vec![even; claimants.len()], false)
    } else {
        by_demand(claimants, &before, even, rules)
    };
    let mut parts: Vec<Part> = std::iter::zip(claimants, std::iter::zip(&before, &wanted))
        .map(|(claimant, (before, wanted))| {
            let told = *before.min(wanted);
            let may_run_with = claimant.in_force.unwrap_or(*before).min(WHOLE);
            Part {
                told,
                in_force: if claimant.exists { may_run_with } else { 0 }.max(told),
            }
        })
        .collect();
    // Even parts make up the whole exactly, however they are rounded.
    let is_within = |part: &Part| part.in_force <= even;
    if parts.iter().all(is_within) && wanted.iter().all(|wanted| *wanted <= even) {
        for (part, wanted) in std::iter::zip(&mut parts, wanted) {
            part.told = wanted;
            part.in_force = part.in_force.max(wanted);
        }
        return Division { parts, has_moved };
    }
    let rounded_up = |part: u32| part + u32::from(part == even);
    let taken: u32 = parts.iter().map(|part| rounded_up(part.in_force)).sum();
    let mut room = WHOLE.saturating_sub(taken);
    for (part, wanted) in std::iter::zip(&mut parts, wanted) {
        // What it may still run with is counted already.
        let free = part.in_force - part.told;
        let lacking = wanted.saturating_sub(part.told);
        let more = match lacking.min(free + room) {
            // Not worth that an engine is told, or not the even part that it is to be.
            some if some < lacking && (some < LEFT_OVER || wanted == even) => 0,
            some => some,
        };
        room -= more.saturating_sub(free);
        part.told += more;
        part.in_force = part.in_force.max(part.told);
    }
    Division { parts, has_moved }
}

/// What each should have, and whether that is a new move.
fn by_demand(claimants: &[Claimant], before: &[u32], even: u32, rules: Rules) -> (Vec<u32>, bool) {
    let is_short = |claimant: &Claimant| claimant.need.as_ref().is_some_and(Need::is_short);
    let (wanted, pause) = if claimants.iter().any(is_short) {
        let wanted = targets(claimants, before, even, rules.budget_bytes);
        (wanted, EVERY)
    } else {
        let part = |(claimant, before): (&Claimant, &u32)| match claimant.need {
            Some(_) => even,
            None => *before,
        };
        let wanted = std::iter::zip(claimants, before).map(part).collect();
        (wanted, EVEN_AFTER)
    };
    let is_due = rules
        .moved_at
        .is_none_or(|at| rules.now.duration_since(at) >= pause);
    let is_worth_it = std::iter::zip(before, &wanted)
        .any(|(before, wanted)| before.abs_diff(*wanted) >= (before / 10).max(1));
    if is_due && is_worth_it {
        return (wanted, true);
    }
    // What was taken for the last move, and is nobody's yet.
    let total: u32 = before.iter().sum();
    let left_over = WHOLE.saturating_sub(total + claimants.len() as u32) >= LEFT_OVER;
    let raised = std::iter::zip(before, &wanted).map(|(before, wanted)| match left_over {
        true => *before.max(wanted),
        false => *before,
    });
    (raised.collect(), false)
}

fn targets(claimants: &[Claimant], before: &[u32], even: u32, budget_bytes: u64) -> Vec<u32> {
    let floor = even / FLOOR;
    let asks = |claimant: &Claimant| {
        let need = claimant.need.as_ref()?;
        Some(need.wish(even, budget_bytes).saturating_sub(floor))
    };
    let silent: u32 = std::iter::zip(claimants, before)
        .filter(|(claimant, _)| claimant.need.is_none())
        .map(|(_, before)| *before)
        .sum();
    let asked: Vec<Option<u32>> = claimants.iter().map(asks).collect();
    let count = asked.iter().flatten().count() as u32;
    // A part is rounded down, one of those that are even up.
    let free = WHOLE
        .saturating_sub(claimants.len() as u32)
        .saturating_sub(silent + floor * count);
    let total: u32 = asked.iter().flatten().sum();
    let part = |asked: Option<u32>, before: u32| match asked {
        None => before,
        Some(more) if total <= free => floor + more + (free - total) / count.max(1),
        Some(more) => {
            let part = u64::from(more) * u64::from(free) / u64::from(total.max(1));
            floor + u32::try_from(part).unwrap_or(0)
        }
    };
    std::iter::zip(claimants, std::iter::zip(asked, before))
        .map(|(claimant, (asked, before))| match asked {
            None => *before,
            Some(_) => part(asked, *before).min(claimant.most.max(even)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const BUDGET: u64 = 12 * GIB;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn rules(second: i64, moved: Option<i64>) -> Rules {
        Rules {
            budget_bytes: BUDGET,
            is_by_demand: true,
            is_frozen: false,
            now: at(second),
            moved_at: moved.map(at),
        }
    }

    fn calm() -> Need {
        Need {
            held_bytes: GIB / 8,
            pressure: Some(Pressure::default()),
        }
    }

    fn full() -> Need {
        Need {
            held_bytes: 4 * GIB,
            pressure: Some(Pressure {
                refused_appends: 5.0,
                ..Pressure::default()
            }),
        }
    }

    fn claimant(told: u32, need: Option<Need>) -> Claimant {
        Claimant {
            exists: true,
            told: Some(told),
            in_force: Some(told),
            need,
            most: WHOLE,
        }
    }

    /// As if every pod that answers had loaded what it was told.
    fn carried(claimants: &[Claimant], division: &Division) -> Vec<Claimant> {
        let carried = std::iter::zip(claimants, &division.parts).map(|(claimant, part)| Claimant {
            told: Some(part.told),
            in_force: Some(match claimant.need {
                Some(_) => part.told,
                None => part.in_force,
            }),
            ..claimant.clone()
        });
        carried.collect()
    }

    fn told(division: &Division) -> Vec<u32> {
        division.parts.iter().map(|part| part.told).collect()
    }

    #[test]
    fn nobody_is_short_and_nothing_moves() {
        let pods = [3333; 3].map(|told| claimant(told, Some(calm())));
        let division = divide(&pods, rules(0, None));
        assert_eq!(
            (told(&division), division.has_moved),
            (vec![3333; 3], false)
        );
    }

    /// The transcript: a hot pod, a cold pod, and one that does not answer.
    #[test]
    fn a_hot_pod_gets_what_a_cold_one_gave_and_a_silent_one_keeps_its_own() {
        let mut pods = vec![
            claimant(3333, Some(full())),
            claimant(3333, Some(calm())),
            claimant(3333, None),
        ];
        let mut transcript = Vec::new();
        let mut moved = None;
        for second in [0, 10, 20, 60, 310, 320, 4000, 4010, 8000, 8010] {
            if second == 4000 {
                pods[0].need = Some(calm());
            }
            if second == 8000 {
                pods[2].need = Some(calm());
            }
            let division = divide(&pods, rules(second, moved));
            if division.has_moved {
                moved = Some(second);
            }
            let sum: u32 = division.parts.iter().map(|part| part.in_force).sum();
            assert!(sum <= WHOLE, "{second}: {division:?}");
            transcript.push((second, told(&division)));
            pods = carried(&pods, &division);
        }
        assert_eq!(
            transcript,
            [
                // Taken first, given when the cold pod has loaded it.
                (0, vec![3333, 833, 3333]),
                (10, vec![5831, 833, 3333]),
                (20, vec![5831, 833, 3333]),
                (60, vec![5831, 833, 3333]),
                (310, vec![5831, 833, 3333]),
                (320, vec![5831, 833, 3333]),
                // An hour after.
                (4000, vec![3333, 833, 3333]),
                (4010, vec![3333, 3333, 3333]),
                (8000, vec![3333, 3333, 3333]),
                (8010, vec![3333, 3333, 3333]),
            ]
        );
    }

    #[test]
    fn what_a_silent_pod_may_still_run_with_is_given_to_nobody() {
        let mut pods = vec![claimant(3333, Some(full())), claimant(3333, Some(calm()))];
        pods.push(claimant(3333, Some(calm())));
        let first = divide(&pods, rules(0, None));
        assert!(first.has_moved && first.parts[1].told < 2000, "{first:?}");
        let mut pods = carried(&pods, &first);
        // It went away before it said that it had loaded less.
        pods[1].need = None;
        pods[1].in_force = Some(3333);
        let held = divide(&pods, rules(10, Some(0)));
        let sum: u32 = held.parts.iter().map(|part| part.in_force).sum();
        assert_eq!(held.parts[1].in_force, 3333);
        assert!(sum <= WHOLE, "{held:?}");
        assert!(held.parts[0].told < 6000, "{held:?}");
        pods[1].in_force = Some(pods[1].told.unwrap());
        let given = divide(&pods, rules(20, Some(0)));
        assert!(given.parts[0].told > held.parts[0].told, "{given:?}");
    }

    #[test]
    fn a_move_comes_at_most_every_five_minutes_and_is_worth_a_tenth() {
        let pods = [full(), calm()].map(|need| claimant(5000, Some(need)));
        assert!(!divide(&pods, rules(299, Some(0))).has_moved);
        assert!(divide(&pods, rules(300, Some(0))).has_moved);
        let wanted = targets(&pods, &[5000; 2], 5000, BUDGET);
        let near = std::iter::zip(&wanted, [full(), calm()])
            .map(|(wanted, need)| claimant(wanted + wanted / 20, Some(need)));
        let near: Vec<_> = near.collect();
        assert!(!divide(&near, rules(300, Some(0))).has_moved);
    }

    #[test]
    fn readers_that_wait_for_tier_2_are_a_reason_too_and_single_lookups_are_none() {
        let reads = |read_bytes: f64, waited_bytes: f64| Need {
            pressure: Some(Pressure {
                refused_appends: 0.0,
                read_bytes,
                waited_bytes,
            }),
            ..calm()
        };
        for (need, moves) in [
            (reads(100e6, 30e6), true),
            (reads(100e6, 10e6), false),
            (reads(0.5e6, 0.5e6), false),
        ] {
            let pods = [need, calm()].map(|need| claimant(5000, Some(need)));
            let division = divide(&pods, rules(0, None));
            assert_eq!(division.has_moved, moves, "{need:?}");
        }
    }

    #[test]
    fn everybody_keeps_a_quarter_and_what_it_holds() {
        let holds = Need {
            held_bytes: 2 * GIB,
            ..calm()
        };
        let pods = [full(), calm(), holds].map(|need| claimant(3333, Some(need)));
        let parts = targets(&pods, &[3333; 3], 3333, BUDGET);
        assert!(parts[1] >= 3333 / 4, "{parts:?}");
        let bytes = BUDGET * u64::from(parts[2]) / u64::from(WHOLE);
        assert!(bytes > 2 * GIB, "{parts:?}");
    }

    #[test]
    fn nobody_gets_more_than_its_volume_holds() {
        let mut pods = [full(), calm()].map(|need| claimant(5000, Some(need)));
        pods[0].most = 6000;
        let parts = targets(&pods, &[5000; 2], 5000, BUDGET);
        assert_eq!(parts[0], 6000, "{parts:?}");
        pods[0].most = 100;
        let parts = targets(&pods, &[5000; 2], 5000, BUDGET);
        assert_eq!(parts[0], 5000, "{parts:?}");
    }

    #[test]
    fn equal_parts_are_gone_back_to_at_once_and_a_rollout_freezes_all() {
        let pods = [7000, 2999].map(|told| claimant(told, Some(calm())));
        let equal = Rules {
            is_by_demand: false,
            ..rules(0, Some(0))
        };
        let division = divide(&pods, equal);
        assert_eq!(told(&division), [5000, 2999]);
        assert_eq!(
            told(&divide(&carried(&pods, &division), equal)),
            [5000, 5000]
        );
        let frozen = Rules {
            is_frozen: true,
            ..equal
        };
        assert_eq!(told(&divide(&pods, frozen)), [7000, 2999]);
    }

    #[test]
    fn a_new_pod_gets_an_even_part_and_nobody_is_raised_for_it() {
        let mut pods = vec![claimant(7000, Some(full())), claimant(2000, Some(calm()))];
        pods.push(Claimant {
            exists: false,
            told: None,
            in_force: None,
            need: None,
            most: WHOLE,
        });
        let division = divide(&pods, rules(0, Some(0)));
        assert_eq!(told(&division), [3333, 2000, 3333]);
    }

    /// Whatever is reported: no panic, and never more than the budget where it was not more before.
    #[test]
    fn parts_never_add_up_to_more_than_the_budget() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..20_000 {
            let count = random(5) as usize + 1;
            let mut pods: Vec<Claimant> = (0..count)
                .map(|_| Claimant {
                    exists: true,
                    told: Some(even(count)),
                    in_force: None,
                    need: None,
                    most: WHOLE,
                })
                .collect();
            let mut moved = None;
            for step in 0..30 {
                for pod in &mut pods {
                    let pressure = Pressure {
                        refused_appends: random(10) as f64 / 10.0,
                        read_bytes: random(100_000_000) as f64,
                        waited_bytes: random(100_000_000) as f64,
                    };
                    pod.need = (random(2) == 0).then(|| Need {
                        held_bytes: random(BUDGET),
                        pressure: (random(2) == 0).then_some(pressure),
                    });
                }
                let second = step * 500 + random(400) as i64;
                let division = divide(&pods, rules(second, moved));
                if division.has_moved {
                    moved = Some(second);
                }
                let sum: u32 = division.parts.iter().map(|part| part.in_force).sum();
                assert!(sum <= WHOLE, "{pods:?} {division:?}");
                assert!(division.parts.iter().all(|part| part.told <= part.in_force));
                for (pod, part) in std::iter::zip(&mut pods, &division.parts) {
                    pod.told = Some(part.told);
                    // Loaded, or not yet, or not known.
                    let loads = pod.need.is_some() && random(2) == 0;
                    pod.in_force = Some(if loads { part.told } else { part.in_force });
                }
            }
        }
    }
}
