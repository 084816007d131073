//! A change that keeps records for less: announced first, in force later.

use aof2_crds::status::{Announcement, AnnouncementKind, MAX_ANNOUNCEMENTS};
use aof2_crds::{Duration, Gate, WaitReason, labels};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::Facts;
use super::step::News;
use super::takes;
use crate::machine::{Wait, in_seconds, later, quoted};

/// Streams that a change keeps for less, as the engine that validated it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortened {
    /// Pattern of names.
    pub streams: String,
    pub from: String,
    pub to: String,
}

/// What is announced after a look. Nothing once the change is in force, rejected or withdrawn.
pub fn after(
    before: Vec<Announcement>,
    news: &News,
    facts: &Facts,
    notice: Duration,
) -> Vec<Announcement> {
    let in_force = news.completed.as_ref().unwrap_or(&facts.in_force);
    let is_withdrawn = facts.candidate.as_ref() == Some(in_force);
    match &news.validated {
        _ if is_withdrawn || news.rejected.is_some() => Vec::new(),
        Some(verdict) => announce(&before, &verdict.shortened, notice, facts.now),
        None => before,
    }
}

/// What was announced before keeps its time, also where another key of the change is another one now. The newest come first: of more
/// than status holds, those that wait longest are held for.
fn announce(
    before: &[Announcement],
    shortened: &[Shortened],
    notice: Duration,
    now: Timestamp,
) -> Vec<Announcement> {
    let now = in_seconds(now);
    let known = |it: &Shortened| {
        let is_same = |known: &&Announcement| {
            known.kind == AnnouncementKind::RetentionShortened
                && (&known.streams, &known.from, &known.to) == (&it.streams, &it.from, &it.to)
        };
        before.iter().find(is_same)
    };
    let mut announced: Vec<Announcement> = shortened
        .iter()
        .map(|it| {
            let news = Announcement {
                kind: AnnouncementKind::RetentionShortened,
                streams: it.streams.clone(),
                from: it.from.clone(),
                to: it.to.clone(),
                announced_at: Time(now),
                effective_at: Time(now),
                bytes: None,
                records: None,
                segments: None,
                counted_at: None,
                not_counted: None,
            };
            known(it).cloned().unwrap_or(news)
        })
        .collect();
    announced.sort_by_key(|it| std::cmp::Reverse(it.announced_at.0));
    announced.truncate(MAX_ANNOUNCEMENTS);
    effective(announced, notice)
}

/// By the notice of now: who sets `0s` does not wait for what was announced before.
pub fn effective(announced: Vec<Announcement>, notice: Duration) -> Vec<Announcement> {
    let timed = |it: Announcement| Announcement {
        effective_at: Time(later(it.announced_at.0, notice.as_signed())),
        ..it
    };
    announced.into_iter().map(timed).collect()
}

/// `None`: it has been announced for long enough, or nothing was.
pub(super) fn held(announcements: &[Announcement], now: Timestamp) -> Option<(Wait, Timestamp)> {
    let until = announcements.iter().map(|it| it.effective_at.0).max()?;
    (now < until).then(|| {
        let text = text(announcements, now);
        let wait = Wait::new(Gate::RetentionNotice, WaitReason::RetentionNotice, "", text);
        (wait, until)
    })
}

/// Of the announcements in status; not empty.
pub fn text(announcements: &[Announcement], now: Timestamp) -> String {
    let until = announcements.iter().map(|it| it.effective_at.0).max();
    let when = match until.filter(|until| now < *until) {
        Some(until) => format!("waits until {until}"),
        None => "takes effect now".to_owned(),
    };
    let Some(first) = announcements.first() else {
        return String::new();
    };
    let more = match announcements.len() - 1 {
        0 => String::new(),
        1 => ", and 1 more pattern in status.announcements".to_owned(),
        more => format!(", and {more} more patterns in status.announcements"),
    };
    let takes = takes::text(announcements);
    format!(
        "Shorter retention {when}. Of streams {} it keeps {} instead of {}{more}. {takes}. Restore the rules of [[retention]] to keep the records, or let it pass before with annotation {}={}=<until, RFC 3339>",
        quoted(&first.streams),
        first.to,
        first.from,
        labels::OVERRIDE_GATE,
        Gate::RetentionNotice
    )
}
