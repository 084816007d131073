//! What an announced change takes: counted by the engines when it is announced and again every hour, and never a part of the pods for all.

use std::collections::BTreeMap;

use aof2_crds::{
    MAX_INTEGER, Quantity,
    status::{Announcement, MAX_ANNOUNCEMENTS, NotCounted},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::retention::Shortened;
use crate::machine::{counted as plural, in_seconds, quoted, shortened};

/// Each count looks at every segment.
const PERIOD: SignedDuration = SignedDuration::from_hours(1);
/// Bound of the schema.
const MAX_MESSAGE: usize = 256;
/// Bits of bytes that are shown: an error of less than 2 %, and a text that can be read.
const SHOWN_BITS: u32 = 7;

/// Of sealed segments on one pod, or on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Uncompressed.
    pub bytes: u64,
    pub records: u64,
    pub segments: u64,
}

impl Takes {
    fn plus(self, other: Takes) -> Takes {
        Takes {
            bytes: self.bytes.saturating_add(other.bytes),
            records: self.records.saturating_add(other.records),
            segments: self.segments.saturating_add(other.segments),
        }
    }
}

/// What a new rule takes beyond the rule in use. A stream counts for one pair of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub change: Shortened,
    pub takes: Takes,
}

/// Answers of every pod that there is to be, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<String, Result<Vec<Count>, String>>);

/// Something is announced that was not counted for an hour.
pub fn is_due(announced: &[Announcement], now: Timestamp) -> bool {
    announced.iter().any(|it| is_old(it, now))
}

/// What an engine finds kept for less now is news, or was not counted for an hour.
pub fn is_wanted(announced: &[Announcement], found: &[Shortened], now: Timestamp) -> bool {
    let is_known = |it: &Shortened| {
        let known = announced.iter().find(|known| is_of(known, it));
        known.is_some_and(|known| !is_old(known, now))
    };
    !found.iter().take(MAX_ANNOUNCEMENTS).all(is_known)
}

fn is_old(announced: &Announcement, now: Timestamp) -> bool {
    let failed = announced.not_counted.as_ref().map(|it| &it.at);
    // Behind the figures that are there, where there is one.
    let last = failed.or(announced.counted_at.as_ref()).map(|at| at.0);
    // A clock that was set back says nothing of what passed.
    last.is_none_or(|last| now.duration_since(last) >= PERIOD || last > now)
}

fn is_of(announced: &Announcement, change: &Shortened) -> bool {
    (&announced.streams, &announced.from, &announced.to)
        == (&change.streams, &change.from, &change.to)
}

/// With the figures of all pods; where one has none, with those of before and the reason.
pub fn counted(
    announced: Vec<Announcement>,
    counts: Option<&Counts>,
    now: Timestamp,
) -> Vec<Announcement> {
    let Some(counts) = counts else {
        return announced;
    };
    let now = in_seconds(now);
    let with = |it: Announcement| match sum(counts, &it) {
        Ok(takes) => Announcement {
            bytes: Some(Quantity::from_bytes(readable(takes.bytes))),
            records: Some(bounded(takes.records)),
            segments: Some(bounded(takes.segments)),
            counted_at: Some(Time(now)),
            not_counted: None,
            ..it
        },
        Err(why) => Announcement {
            not_counted: Some(NotCounted {
                at: Time(now),
                message: shortened(&why, MAX_MESSAGE),
            }),
            ..it
        },
    };
    announced.into_iter().map(with).collect()
}

fn sum(Counts(pods): &Counts, announced: &Announcement) -> Result<Takes, String> {
    let mut failed = pods.values().filter_map(|answer| answer.as_ref().err());
    if let Some(first) = failed.next() {
        let more = match failed.count() {
            0 => String::new(),
            more => format!("; no figures of {} either", plural(more as u64, "more pod")),
        };
        return Err(format!("{first}{more}"));
    }
    let mut all = Takes::default();
    for (pod, answer) in pods {
        let own = answer.iter().flatten();
        let of_it = own.filter(|count| is_of(announced, &count.change));
        let takes: Vec<Takes> = of_it.map(|count| count.takes).collect();
        if takes.is_empty() {
            // Its rules in use are others than those that were compared.
            return Err(format!(
                "the rules that {pod} has in use are not those that the change is compared with; its config revision is another one"
            ));
        }
        all = takes.into_iter().fold(all, Takes::plus);
    }
    match pods.is_empty() {
        true => Err("no pod answers".to_owned()),
        false => Ok(all),
    }
}

fn bounded(count: u64) -> i64 {
    i64::try_from(count).map_or(MAX_INTEGER, |count| count.min(MAX_INTEGER))
}

/// Rounded down: `12544Mi`, and not each byte.
fn readable(bytes: u64) -> u64 {
    let bytes = bytes.min(MAX_INTEGER.unsigned_abs());
    let bits = u64::BITS - bytes.leading_zeros();
    let hidden = bits.saturating_sub(SHOWN_BITS);
    bytes >> hidden << hidden
}

/// A sentence about all of them.
pub fn text(announced: &[Announcement]) -> String {
    let why = announced.iter().find_map(|it| it.not_counted.as_ref());
    let why = why.map(|it| quoted(&it.message));
    let known: Option<Vec<Takes>> = announced.iter().map(takes).collect();
    let at = announced.iter().filter_map(|it| it.counted_at.as_ref());
    let (Some(known), Some(at)) = (known, at.map(|at| at.0).min()) else {
        return match why {
            Some(why) => format!("How many records that takes is unknown ({why})"),
            None => "How many records that takes is not counted yet".to_owned(),
        };
    };
    let all = known.into_iter().fold(Takes::default(), Takes::plus);
    // Of more patterns than status holds these are some.
    let least = match announced.len() < MAX_ANNOUNCEMENTS {
        true => "",
        false => "at least ",
    };
    let takes = match all {
        Takes { segments: 0, .. } if least.is_empty() => "no record".to_owned(),
        Takes {
            bytes,
            records,
            segments,
        } => format!(
            "{least}{} ({} in {})",
            Quantity::from_bytes(readable(bytes)),
            plural(records, "record"),
            plural(segments, "segment")
        ),
    };
    let again = why.map_or_else(String::new, |why| format!("; not counted since ({why})"));
    format!("Counted at {at}: that would take {takes} more than the rules in use{again}")
}

fn takes(announced: &Announcement) -> Option<Takes> {
    let count = |of: Option<i64>| u64::try_from(of?).ok();
    Some(Takes {
        bytes: announced.bytes.as_ref()?.bytes(),
        records: count(announced.records)?,
        segments: count(announced.segments)?,
    })
}
