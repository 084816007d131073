//! What was said of each object, and how much more may be said.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Notice;

/// An Event is counted up this often at most.
const COUNTED_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// As long as the API server keeps an Event, and more.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(2);
/// What people must do, and what merely happens, each by itself: a rollout of many pods leaves room for what stops it.
const WARNINGS: Budget = Budget {
    burst: 25,
    every: SignedDuration::from_mins(1),
};
const OTHERS: Budget = Budget {
    burst: 50,
    every: SignedDuration::from_secs(30),
};

/// Writes of one object: so many at once, and then one in so long.
struct Budget {
    burst: i32,
    every: SignedDuration,
}

#[derive(Clone, Copy)]
struct Spent {
    count: i32,
    since: Timestamp,
}

impl Spent {
    fn may_write(&mut self, budget: &Budget, now: Timestamp) -> bool {
        let regained = now.duration_since(self.since).as_secs() / budget.every.as_secs();
        if regained > 0 {
            let regained = i32::try_from(regained).unwrap_or(i32::MAX);
            self.count = self.count.saturating_sub(regained).max(0);
            self.since = now;
        }
        let may = self.count < budget.burst;
        self.count += i32::from(may);
        may
    }
}

struct Note {
    /// How often it was said.
    count: i32,
    said_at: Timestamp,
    /// `None`: there was no room.
    written_at: Option<Timestamp>,
    logged_at: Timestamp,
}

struct OfObject {
    warnings: Spent,
    others: Spent,
    /// By the name of the Event.
    notes: HashMap<String, Note>,
}

/// By the uid of the object.
#[derive(Default)]
pub struct Told(HashMap<String, OfObject>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Nothing,
    Create,
    /// It was said so often now.
    Count(i32),
    /// There is no room.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub is_logged: bool,
    pub write: Write,
}

impl Told {
    pub fn say(&mut self, uid: &str, event: &str, notice: &Notice, now: Timestamp) -> Said {
        self.forget_old(now);
        let unspent = Spent {
            count: 0,
            since: now,
        };
        let object = self.0.entry(uid.to_owned()).or_insert_with(|| OfObject {
            warnings: unspent,
            others: unspent,
            notes: HashMap::new(),
        });
        let is_new = !object.notes.contains_key(event);
        let note = object.notes.entry(event.to_owned()).or_insert(Note {
            count: 0,
            said_at: now,
            written_at: None,
            logged_at: now,
        });
        note.count = note.count.saturating_add(1);
        note.said_at = now;
        let is_due = |at: Timestamp| now.duration_since(at) >= COUNTED_EVERY;
        let is_repeated = !is_new && !notice.lasts;
        let is_logged = is_new || is_repeated && is_due(note.logged_at);
        if is_logged {
            note.logged_at = now;
        }
        let wanted = match note.written_at {
            None => Write::Create,
            Some(at) if is_repeated && is_due(at) => Write::Count(note.count),
            Some(_) => Write::Nothing,
        };
        let (spent, budget) = match notice.is_warning {
            true => (&mut object.warnings, &WARNINGS),
            false => (&mut object.others, &OTHERS),
        };
        let write = match wanted {
            Write::Nothing | Write::Dropped => Write::Nothing,
            wanted if spent.may_write(budget, now) => {
                note.written_at = Some(now);
                wanted
            }
            _ if is_logged => Write::Dropped,
            _ => Write::Nothing,
        };
        Said { is_logged, write }
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.0.retain(|_, object| {
            let is_recent = |note: &Note| now.duration_since(note.said_at) < REMEMBERED;
            object.notes.retain(|_, note| is_recent(note));
            !object.notes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn notice(is_warning: bool, lasts: bool) -> Notice {
        Notice {
            is_warning,
            lasts,
            ..Notice::default()
        }
    }

    #[test]
    fn each_message_has_an_event_and_what_comes_again_is_counted_once_a_minute() {
        let mut told = Told::default();
        let warning = notice(true, false);
        let mut say = |event: &str, second| told.say("uid", event, &warning, at(second));
        assert_eq!(say("a", 0).write, Write::Create);
        assert_eq!(say("b", 0).write, Write::Create);
        for second in 1..60 {
            let said = say("a", second);
            assert_eq!((said.write, said.is_logged), (Write::Nothing, false));
        }
        let said = say("a", 60);
        assert_eq!((said.write, said.is_logged), (Write::Count(61), true));
        assert_eq!(say("b", 60).write, Write::Count(2));
        assert_eq!(say("a", 3 * 3600).write, Write::Create, "it was forgotten");
    }

    #[test]
    fn what_lasts_is_said_once() {
        let mut told = Told::default();
        let lasting = notice(true, true);
        let mut said = 0;
        for second in 0..20_000 {
            let each = told.say("uid", "a", &lasting, at(second));
            said += u32::from(each.is_logged || each.write != Write::Nothing);
        }
        assert_eq!(said, 1);
    }

    #[test]
    fn a_cluster_that_flaps_writes_little_and_what_a_person_must_do_has_room_of_its_own() {
        let mut told = Told::default();
        let mut written = 0;
        // A new message every second for an hour.
        for second in 0..3600 {
            let event = format!("event {second}");
            let said = told.say("uid", &event, &notice(false, false), at(second));
            assert!(said.is_logged);
            written += u32::from(said.write == Write::Create);
        }
        assert!((50..=200).contains(&written), "{written}");
        let warning = told.say("uid", "warning", &notice(true, false), at(3600));
        assert_eq!(warning.write, Write::Create);
        let other = told.say("another uid", "event", &notice(false, false), at(3600));
        assert_eq!(other.write, Write::Create);
    }
}
