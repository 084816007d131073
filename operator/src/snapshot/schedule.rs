//! When a schedule's next snapshot is due: cron in a time zone, one at a time, missed slots counted. Pure.

use std::str::FromStr;

use aof2_crds::snapshot::Schedule;
use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Slots that are looked at one by one after a long absence; more are one jump.
const MAX_SLOTS: usize = 1000;

/// A schedule that can be followed.
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// An error names the field, the value and what is allowed.
    pub fn of(schedule: &Schedule) -> Result<Self, String> {
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
        Ok(Self { cron, zone })
    }

    /// The first slot after `at`.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let zoned = at.to_zoned(self.zone.clone());
        self.cron
            .find_next_occurrence(&zoned, false)
            .ok()
            .map(|next| next.timestamp())
    }

    /// The last slot before `at`.
    pub fn before(&self, at: Timestamp) -> Option<Timestamp> {
        let zoned = at.to_zoned(self.zone.clone());
        self.cron
            .find_previous_occurrence(&zoned, false)
            .ok()
            .map(|previous| previous.timestamp())
    }

    fn is_slot(&self, at: Timestamp) -> bool {
        at.as_second() % 60 == 0
            && at
                .checked_sub(SignedDuration::from_secs(1))
                .is_ok_and(|before| self.after(before) == Some(at))
    }
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
        Calendar::of(&schedule(cron, zone)).unwrap()
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
        let refused = |cron: &str, zone: &str| Calendar::of(&schedule(cron, zone)).err().unwrap();
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
