//! Which streams a change of the rules keeps for less. A pure function of both lists.

use crate::config::RetentionRule;
use crate::pattern;

/// Pairs of rules that are told; more say nothing new to a person.
const MAX_TOLD: usize = 64;

/// Streams that fit both rules are kept for less by the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortened {
    /// The narrower of the two patterns.
    pub streams: String,
    /// `None`: no rule was there, and everything was kept.
    pub from: Option<RetentionRule>,
    pub to: RetentionRule,
}

/// In the order of the new rules. Where patterns merely cross, a name that fits both may not exist: such a pair is told too.
pub fn shortened(old: &[RetentionRule], new: &[RetentionRule]) -> Vec<Shortened> {
    let mut told = Vec::new();
    for (at, to) in new.iter().enumerate() {
        if to.keeps_all() {
            continue;
        }
        let is_taken = |from: &RetentionRule| {
            let mut earlier = new[..at].iter();
            earlier.any(|it| pattern::contains(&it.streams, &from.streams))
        };
        let mut is_covered = false;
        for from in old {
            if !pattern::overlap(&from.streams, &to.streams) || is_taken(from) {
                continue;
            }
            is_covered = pattern::contains(&from.streams, &to.streams);
            if keeps_less(to, from) {
                let streams = match is_covered {
                    true => &to.streams,
                    false if pattern::contains(&to.streams, &from.streams) => &from.streams,
                    false => &to.streams,
                };
                told.push(Shortened {
                    streams: streams.clone(),
                    from: Some(from.clone()),
                    to: to.clone(),
                });
            }
            if is_covered {
                break;
            }
        }
        if !is_covered {
            told.push(Shortened {
                streams: to.streams.clone(),
                from: None,
                to: to.clone(),
            });
        }
    }
    told.truncate(MAX_TOLD);
    told
}

fn keeps_less(to: &RetentionRule, from: &RetentionRule) -> bool {
    fn is_less<T: PartialOrd>(to: Option<T>, from: Option<T>) -> bool {
        match (to, from) {
            (Some(to), Some(from)) => to < from,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
    is_less(to.max_age, from.max_age) || is_less(to.max_bytes, from.max_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `days`, `bytes`: 0 = no limit.
    fn rule((streams, days, bytes): (&str, u64, u64)) -> RetentionRule {
        let some = |value: u64| Some(value).filter(|value| *value > 0);
        RetentionRule {
            streams: streams.to_owned(),
            max_age: some(days).map(|days| Duration::from_secs(days * 86_400)),
            max_bytes: some(bytes),
        }
    }

    type Rule = (&'static str, u64, u64);

    /// Pattern, days before (0 = for ever), days then.
    fn told(old: &[Rule], new: &[Rule]) -> Vec<(String, u64, u64)> {
        let rules = |of: &[Rule]| of.iter().copied().map(rule).collect::<Vec<_>>();
        let days = |rule: &RetentionRule| rule.max_age.map_or(0, |age| age.as_secs() / 86_400);
        shortened(&rules(old), &rules(new))
            .into_iter()
            .map(|it| (it.streams, it.from.as_ref().map_or(0, days), days(&it.to)))
            .collect()
    }

    fn one(streams: &str, from: u64, to: u64) -> Vec<(String, u64, u64)> {
        vec![(streams.to_owned(), from, to)]
    }

    #[test]
    fn a_limit_that_gets_smaller_or_is_new_is_told_and_one_that_grows_or_goes_is_not() {
        let rule = |days, bytes| [("orders-*", days, bytes)];
        assert_eq!(told(&rule(30, 0), &rule(7, 0)), one("orders-*", 30, 7));
        assert_eq!(told(&rule(7, 0), &rule(30, 0)), []);
        assert_eq!(told(&rule(7, 0), &rule(7, 0)), []);
        assert_eq!(told(&rule(7, 0), &[]), []);
        assert_eq!(told(&rule(7, 0), &rule(0, 0)), []);
        assert_eq!(told(&[], &rule(7, 0)), one("orders-*", 0, 7));
        assert_eq!(told(&[], &rule(0, 0)), []);
        // By size, also where the age grows.
        assert_eq!(told(&rule(7, 0), &rule(9, 5)), one("orders-*", 7, 9));
        assert_eq!(told(&rule(7, 5), &rule(7, 4)), one("orders-*", 7, 7));
        assert_eq!(told(&rule(0, 0), &rule(0, 4)), one("orders-*", 0, 0));
    }

    #[test]
    fn the_rule_that_a_name_had_is_what_counts() {
        let (a, all) = (("a-*", 30, 0), ("*", 7, 0));
        assert_eq!(told(&[a, all], &[a, all]), []);
        // Without its own rule a stream falls under the wider one.
        assert_eq!(told(&[a, all], &[all]), one("a-*", 30, 7));
        assert_eq!(told(&[all], &[a, all]), []);
        assert_eq!(told(&[a], &[a, all]), one("*", 0, 7));
        let narrow = ("a-1", 3, 0);
        assert_eq!(told(&[a, all], &[narrow, a, all]), one("a-1", 30, 3));
        assert_eq!(
            told(&[narrow, all], &[("a-1", 5, 0), ("*", 5, 0)]),
            one("*", 7, 5)
        );
    }

    #[test]
    fn patterns_that_cross_are_told_and_those_that_do_not_meet_are_not() {
        assert_eq!(
            told(
                &[("a-*", 30, 0), ("*", 7, 0)],
                &[("*-b", 7, 0), ("*", 9, 0)]
            ),
            [("*-b".to_owned(), 30, 7), ("a-*".to_owned(), 30, 9)]
        );
        assert_eq!(
            told(
                &[("a-*", 30, 0), ("*", 7, 0)],
                &[("a-*", 30, 0), ("b-*", 7, 0)]
            ),
            []
        );
    }

    /// Names out of few letters, each rule of the list tried on each: what no pair tells is kept as long as before.
    #[test]
    fn no_name_is_kept_for_less_without_a_word() {
        let patterns = ["*", "a*", "*b", "ab", "a*b", "b*", "*a*", "ba"];
        let mut names: Vec<String> = vec![String::new()];
        for _ in 0..4 {
            let longer: Vec<String> = names
                .iter()
                .flat_map(|name| ["a", "b"].map(|letter| format!("{name}{letter}")))
                .collect();
            names.extend(longer);
        }
        names.retain(|name| !name.is_empty());
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..4_000 {
            let mut list = || -> Vec<RetentionRule> {
                let count = next(4);
                (0..count)
                    .map(|_| rule((patterns[next(8) as usize], next(4), 0)))
                    .collect()
            };
            let (old, new) = (list(), list());
            let told = shortened(&old, &new);
            let age = |rules: &[RetentionRule], name: &str| {
                let found = rules.iter().find(|it| it.fits(name));
                found.and_then(|it| it.max_age).unwrap_or(Duration::MAX)
            };
            for name in &names {
                let is_shorter = age(&new, name) < age(&old, name);
                let is_told = told.iter().any(|it| pattern::fits(&it.streams, name));
                assert!(!is_shorter || is_told, "{name}: {old:?} {new:?} {told:?}");
            }
        }
    }
}
