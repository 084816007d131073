//! When a schedule's next snapshot is due: cron in a time zone, one at a time, missed slots counted. Pure.

use std::str::FromStr;

use aof2_crds::snapshot::Schedule;
use croner::{Cron, Weekday};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// Slots that are looked at one by one after a long absence; more are one jump.
const MAX_SLOTS: usize = 1000;

/// A schedule without a date in so many years is an error. 29 February has one.
const YEARS_AHEAD: i16 = 5;
/// Clocks are put back by less at once: the tz database has three hours (Antarctica/Casey).
const LONGEST_SHIFT: SignedDuration = SignedDuration::from_hours(4);

/// A schedule that can be followed.
///
/// Days on which the clock is moved: a schedule of fixed hours keeps the times of day that it names, each once. One that does not exist that day comes
/// at the moment that the clock jumps, several together once; one that exists twice comes the first time. A schedule of every
/// hour goes by the time that passes.
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
    has_fixed_hours: bool,
}

impl Calendar {
    /// An error names the field, the value and what is allowed.
    pub fn of(schedule: &Schedule, now: Timestamp) -> Result<Self, String> {
        let place = format!("spec.snapshots.schedules[{}]", schedule.name);
        let fields = schedule.schedule.split_whitespace().count();
        if fields != 5 {
            return Err(format!(
                "{place}.schedule {:?} has {fields} fields and needs 5. Set minute, hour, day of month, month, day of week",
                schedule.schedule
            ));
        }
        let cron = Cron::from_str(&schedule.schedule).map_err(|error| {
            format!(
                "{place}.schedule {:?} is no cron expression ({error}). Correct it, for example to \"*/30 * * * *\"",
                schedule.schedule
            )
        })?;
        let zone = TimeZone::get(&schedule.time_zone).map_err(|_| {
            format!(
                "{place}.timeZone {:?} is not in the IANA database. Correct it, for example to Europe/Berlin",
                schedule.time_zone
            )
        })?;
        // A search for a date that never comes goes through thousands of years.
        if !has_a_date(&cron, now.to_zoned(zone.clone()).date()) {
            return Err(format!(
                "{place}.schedule {:?} has no date in the next {YEARS_AHEAD} years. Correct its day of month and month",
                schedule.schedule
            ));
        }
        let has_fixed_hours =
            !(0..24).all(|hour| matches!(cron.pattern.hour_match(hour), Ok(true)));
        Ok(Self {
            cron,
            zone,
            has_fixed_hours,
        })
    }

    /// The first slot after `at`.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let local = at.to_zoned(self.zone.clone());
        if !self.has_fixed_hours {
            let next = self.cron.find_next_occurrence(&local, false).ok()?;
            return Some(next.timestamp());
        }
        let mut wall = local.datetime();
        loop {
            let next = self
                .cron
                .find_next_occurrence(&on_wall(wall)?, false)
                .ok()?;
            wall = next.datetime();
            let slot = self.moment(wall)?;
            // The second time that the clock shows it.
            if slot > at {
                return Some(slot);
            }
        }
    }

    /// The last slot before `at`.
    pub fn before(&self, at: Timestamp) -> Option<Timestamp> {
        let local = at.to_zoned(self.zone.clone());
        if !self.has_fixed_hours {
            let previous = self.cron.find_previous_occurrence(&local, false).ok()?;
            return Some(previous.timestamp());
        }
        // What the clock showed before it was put back may be later than what it shows now.
        let mut wall = local.datetime().checked_add(LONGEST_SHIFT).ok()?;
        loop {
            let wall_before = on_wall(wall)?;
            let previous = self
                .cron
                .find_previous_occurrence(&wall_before, false)
                .ok()?;
            wall = previous.datetime();
            let slot = self.moment(wall)?;
            if slot < at {
                return Some(slot);
            }
        }
    }

    /// When a clock on the wall shows this time first, or jumps over it.
    fn moment(&self, wall: DateTime) -> Option<Timestamp> {
        let (earliest, is_jumped) = match self.zone.to_ambiguous_zoned(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset.to_timestamp(wall).ok()?, false),
            AmbiguousOffset::Fold { before, .. } => (before.to_timestamp(wall).ok()?, false),
            AmbiguousOffset::Gap { after, .. } => (after.to_timestamp(wall).ok()?, true),
        };
        match is_jumped {
            false => Some(earliest),
            true => Some(self.zone.following(earliest).next()?.timestamp()),
        }
    }

    fn is_slot(&self, at: Timestamp) -> bool {
        at.as_second() % 60 == 0
            && at
                .checked_sub(SignedDuration::from_secs(1))
                .is_ok_and(|before| self.after(before) == Some(at))
    }
}

/// A time of day, as a moment that the cron library can count from.
fn on_wall(wall: DateTime) -> Option<Zoned> {
    wall.to_zoned(TimeZone::UTC).ok()
}

fn has_a_date(cron: &Cron, from: Date) -> bool {
    let Ok(until) = from.checked_add(Span::new().years(YEARS_AHEAD)) else {
        return false;
    };
    let pattern = &cron.pattern;
    let mut day = from;
    while day <= until {
        let (year, month) = (i32::from(day.year()), day.month().unsigned_abs().into());
        let weekday = Weekday::from_days_from_sunday(
            day.weekday().to_sunday_zero_offset().unsigned_abs().into(),
        );
        let is_of_month = pattern.month_match(month).unwrap_or(false);
        if is_of_month
            && pattern
                .day_match(year, month, day.day().unsigned_abs().into(), weekday)
                .unwrap_or(false)
        {
            return true;
        }
        match day.tomorrow() {
            Ok(next) => day = next,
            Err(_) => return false,
        }
    }
    false
}

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub slot: Timestamp,
    pub missed: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub last: Last,
    /// Its snapshot is to be there.
    pub create: Option<Timestamp>,
    pub next: Option<Timestamp>,
}

/// `is_there` says whether the snapshot of a slot exists.
pub fn due(
    calendar: &Calendar,
    last: Option<Last>,
    starting_deadline: SignedDuration,
    is_running: bool,
    is_there: impl Fn(Timestamp) -> bool,
    now: Timestamp,
) -> Due {
    let Some(mut last) = last else {
        // A new schedule begins with its next slot.
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        return Due {
            last: Last {
                slot: second,
                missed: 0,
            },
            create: None,
            next: calendar.after(now),
        };
    };
    let next = calendar.after(now);
    let is_in_time = |slot: Timestamp| now.duration_since(slot) < starting_deadline;
    let mut slots = Vec::new();
    let mut at = last.slot;
    while let Some(slot) = calendar.after(at).filter(|slot| *slot <= now) {
        slots.push(slot);
        at = slot;
        if slots.len() == MAX_SLOTS {
            at = now;
        }
    }
    let Some(newest) = slots.pop() else {
        // Recorded, and perhaps not created since.
        let create = (calendar.is_slot(last.slot) && is_in_time(last.slot) && !is_there(last.slot))
            .then_some(last.slot);
        return Due { last, create, next };
    };
    if let Some(older) = slots.last() {
        last = Last {
            slot: *older,
            missed: last
                .missed
                .saturating_add(i64::try_from(slots.len()).unwrap_or(i64::MAX)),
        };
    }
    if !is_in_time(newest) {
        last = Last {
            slot: newest,
            missed: last.missed.saturating_add(1),
        };
        return Due {
            last,
            create: None,
            next,
        };
    }
    if is_running {
        // Its turn comes when the one before has ended, if that is in time.
        return Due {
            last,
            create: None,
            next,
        };
    }
    last.slot = newest;
    Due {
        last,
        create: Some(newest),
        next,
    }
}

/// `20260921t0200z`
pub fn slot_name(slot: Timestamp) -> String {
    slot.strftime("%Y%m%dt%H%Mz").to_string()
}

/// The slot of a name; `None`: it is none.
pub fn slot_time(name: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dt%H%Mz", name).ok()?;
    let slot = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    (slot_name(slot) == name).then_some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        serde_json::from_value(
            serde_json::json!({"name": "catalog", "schedule": cron, "timeZone": zone}),
        )
        .unwrap()
    }

    fn calendar(cron: &str, zone: &str) -> Calendar {
        Calendar::of(&schedule(cron, zone), at("2026-09-01T00:00:00Z")).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const TEN_MINUTES: SignedDuration = SignedDuration::from_mins(10);

    fn due_at(last: &str, running: bool, there: bool, now: &str) -> Due {
        due(
            &calendar("*/30 * * * *", "Etc/UTC"),
            Some(Last {
                slot: at(last),
                missed: 0,
            }),
            TEN_MINUTES,
            running,
            |_| there,
            at(now),
        )
    }

    #[test]
    fn a_new_schedule_begins_with_its_next_slot() {
        let calendar = calendar("*/30 * * * *", "Etc/UTC");
        let first = due(
            &calendar,
            None,
            TEN_MINUTES,
            false,
            |_| false,
            at("2026-09-21T10:07:03Z"),
        );
        assert_eq!(first.create, None);
        assert_eq!(first.next, Some(at("2026-09-21T10:30:00Z")));
        let later = due(
            &calendar,
            Some(first.last),
            TEN_MINUTES,
            false,
            |_| false,
            at("2026-09-21T10:30:01Z"),
        );
        assert_eq!(later.create, Some(at("2026-09-21T10:30:00Z")));
        assert_eq!(later.last.missed, 0);
        assert_eq!(slot_name(later.create.unwrap()), "20260921t1030z");
        assert_eq!(slot_time("20260921t1030z"), later.create);
        for no_slot in [
            "",
            "20260921t1030",
            "20261321t1030z",
            "2026921t1030z",
            "latest",
        ] {
            assert_eq!(slot_time(no_slot), None, "{no_slot}");
        }
    }

    #[test]
    fn slots_that_passed_unseen_are_missed_and_the_newest_begins_if_it_is_in_time() {
        let found = due_at("2026-09-21T10:00:00Z", false, true, "2026-09-21T12:09:59Z");
        assert_eq!(found.create, Some(at("2026-09-21T12:00:00Z")));
        assert_eq!(found.last.missed, 3, "10:30, 11:00 and 11:30");
        let found = due_at("2026-09-21T10:00:00Z", false, true, "2026-09-21T12:10:00Z");
        assert_eq!(found.create, None);
        assert_eq!(found.last.missed, 4);
        assert_eq!(found.last.slot, at("2026-09-21T12:00:00Z"));
    }

    #[test]
    fn one_at_a_time_the_next_waits_and_is_missed_when_it_waits_too_long() {
        let waits = due_at("2026-09-21T10:00:00Z", true, true, "2026-09-21T10:35:00Z");
        assert_eq!((waits.create, waits.last.missed), (None, 0));
        let free = due_at("2026-09-21T10:00:00Z", false, true, "2026-09-21T10:36:00Z");
        assert_eq!(free.create, Some(at("2026-09-21T10:30:00Z")));
        let late = due_at("2026-09-21T10:00:00Z", true, true, "2026-09-21T10:40:00Z");
        assert_eq!((late.create, late.last.missed), (None, 1));
    }

    #[test]
    fn a_slot_that_was_recorded_and_not_created_is_created_while_it_is_in_time() {
        let again = due_at("2026-09-21T10:30:00Z", false, false, "2026-09-21T10:31:00Z");
        assert_eq!(again.create, Some(at("2026-09-21T10:30:00Z")));
        let there = due_at("2026-09-21T10:30:00Z", false, true, "2026-09-21T10:31:00Z");
        assert_eq!(there.create, None);
        let first_seen = due_at("2026-09-21T10:29:13Z", false, false, "2026-09-21T10:29:50Z");
        assert_eq!(first_seen.create, None);
    }

    #[test]
    fn a_clock_that_goes_forward_skips_no_day_and_one_that_goes_back_repeats_none() {
        let berlin = calendar("30 2 * * *", "Europe/Berlin");
        // 2026-03-29: 02:30 does not exist. 2026-10-25: it comes twice.
        let days = |from: &str, count: usize| {
            let mut slots = vec![];
            let mut now = at(from);
            while slots.len() < count {
                now = berlin.after(now).unwrap();
                slots.push(now);
            }
            slots
        };
        let spring = days("2026-03-28T00:00:00Z", 3);
        assert_eq!(spring[0], at("2026-03-28T01:30:00Z"));
        assert!(
            spring[1] >= at("2026-03-29T01:00:00Z") && spring[1] < at("2026-03-29T02:00:00Z"),
            "a slot on the short day: {spring:?}"
        );
        assert_eq!(spring[2], at("2026-03-30T00:30:00Z"));
        let autumn = days("2026-10-24T00:00:00Z", 4);
        assert_eq!(autumn[0], at("2026-10-24T00:30:00Z"));
        assert_eq!(
            autumn[2],
            at("2026-10-26T01:30:00Z"),
            "once on the long day: {autumn:?}"
        );
    }

    /// Days on which the clock is moved, with the slots that a person expects.
    #[test]
    fn fixed_hours_come_once_a_day_each() {
        type Row = (
            &'static str,
            &'static str,
            &'static str,
            &'static [&'static str],
        );
        let rows: [Row; 9] = [
            (
                "0,30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                &[
                    "2026-03-29T01:00:00Z",
                    "2026-03-30T00:00:00Z",
                    "2026-03-30T00:30:00Z",
                ],
            ),
            (
                "0 2,14 * * *",
                "Europe/Berlin",
                "2026-03-28T14:00:00Z",
                &["2026-03-29T01:00:00Z", "2026-03-29T12:00:00Z"],
            ),
            (
                "0 2,3 * * *",
                "Europe/Berlin",
                "2026-03-28T14:00:00Z",
                &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
            ),
            (
                "0 2,14 * * *",
                "Europe/Berlin",
                "2026-10-24T14:00:00Z",
                &["2026-10-25T00:00:00Z", "2026-10-25T13:00:00Z"],
            ),
            (
                "0,30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T14:00:00Z",
                &[
                    "2026-10-25T00:00:00Z",
                    "2026-10-25T00:30:00Z",
                    "2026-10-26T01:00:00Z",
                ],
            ),
            (
                "15 */2 * * *",
                "Europe/Berlin",
                "2026-10-24T21:00:00Z",
                &[
                    "2026-10-24T22:15:00Z",
                    "2026-10-25T00:15:00Z",
                    "2026-10-25T03:15:00Z",
                ],
            ),
            (
                "0 0 * * *",
                "America/Santiago",
                "2026-09-05T12:00:00Z",
                &["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"],
            ),
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
            ),
            (
                "0 12 * * *",
                "Pacific/Apia",
                "2011-12-29T00:00:00Z",
                &[
                    "2011-12-29T22:00:00Z",
                    "2011-12-30T10:00:00Z",
                    "2011-12-30T22:00:00Z",
                ],
            ),
        ];
        for (cron, zone, after, want) in rows {
            let calendar = calendar(cron, zone);
            let mut slots = vec![at(after)];
            for expected in want {
                let slot = calendar.after(slots[slots.len() - 1]).unwrap();
                assert_eq!(slot, at(expected), "{cron} {zone}");
                slots.push(slot);
            }
            // From a moment behind the last one, all the way back.
            let mut behind = slots[slots.len() - 1] + SignedDuration::from_secs(1);
            for slot in slots[1..].iter().rev() {
                behind = calendar.before(behind).unwrap();
                assert_eq!(behind, *slot, "{cron} {zone}, backwards");
            }
        }
    }

    #[test]
    fn a_schedule_whose_date_never_comes_is_refused_and_searched_no_further() {
        let of =
            |cron: &str| Calendar::of(&schedule(cron, "Europe/Berlin"), at("2026-09-01T00:00:00Z"));
        for never in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            let text = of(never).err().unwrap();
            assert!(text.contains(never) && text.contains("no date"), "{text}");
        }
        for rare in ["0 0 29 2 *", "0 0 31 2 1", "0 0 L 2 *", "0 0 31 * *"] {
            let calendar = of(rare).unwrap();
            assert!(
                calendar.after(at("2026-09-01T00:00:00Z")).is_some(),
                "{rare}"
            );
            assert!(
                calendar.before(at("2026-09-01T00:00:00Z")).is_some(),
                "{rare}"
            );
        }
    }

    #[test]
    fn half_hours_go_on_through_both_changes_of_the_clock() {
        let berlin = calendar("*/30 * * * *", "Europe/Berlin");
        for day in ["2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z"] {
            let mut now = at(day);
            for _ in 0..10 {
                let next = berlin.after(now).unwrap();
                assert_eq!(
                    next.duration_since(now),
                    SignedDuration::from_mins(30),
                    "{now}"
                );
                now = next;
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_in_words() {
        let refused = |cron: &str, zone: &str| {
            Calendar::of(&schedule(cron, zone), at("2026-09-01T00:00:00Z"))
                .err()
                .unwrap()
        };
        let text = refused("*/30 * * *", "Etc/UTC");
        assert!(
            text.contains("[catalog].schedule") && text.contains("4 fields"),
            "{text}"
        );
        let text = refused("61 * * * *", "Etc/UTC");
        assert!(text.contains("\"61 * * * *\""), "{text}");
        let text = refused("* * * * *", "Europe/Atlantis");
        assert!(
            text.contains("Europe/Atlantis") && text.contains("Europe/Berlin"),
            "{text}"
        );
    }
}
