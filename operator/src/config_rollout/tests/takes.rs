//! What an announced change takes: whole or not at all, and not asked for at every look.

use aof2_crds::Quantity;
use aof2_crds::status::{Announcement, AnnouncementKind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::start;
use crate::config_rollout::retention::Shortened;
use crate::config_rollout::takes::{Count, Counts, Takes, counted, is_due, is_wanted, text};

fn change(streams: &str) -> Shortened {
    Shortened {
        streams: streams.into(),
        from: "720h".into(),
        to: "168h".into(),
    }
}

fn announced(streams: &str) -> Announcement {
    let Shortened { streams, from, to } = change(streams);
    Announcement {
        kind: AnnouncementKind::RetentionShortened,
        streams,
        from,
        to,
        announced_at: Time(start()),
        effective_at: Time(start()),
        bytes: None,
        records: None,
        segments: None,
        counted_at: None,
        not_counted: None,
    }
}

fn count(streams: &str, segments: u64) -> Count {
    let takes = Takes {
        bytes: segments << 20,
        records: segments * 10,
        segments,
    };
    Count {
        change: change(streams),
        takes,
    }
}

type Answer = Result<Vec<Count>, String>;

fn counts(answers: &[Answer]) -> Counts {
    let named = (0..).zip(answers);
    Counts(
        named
            .map(|(ordinal, answer)| (format!("orders-{ordinal}"), answer.clone()))
            .collect(),
    )
}

fn figures(of: &Announcement) -> Option<(String, i64, i64)> {
    let bytes = of.bytes.as_ref()?.to_string();
    Some((bytes, of.records?, of.segments?))
}

fn away() -> Answer {
    Err("orders-1 does not answer".to_owned())
}

fn later(minutes: i64) -> Timestamp {
    start() + SignedDuration::from_mins(minutes)
}

#[test]
fn each_announcement_has_what_its_own_rules_take_on_all_pods() {
    let both = vec![announced("orders-*"), announced("*")];
    let of = |orders, others| Ok(vec![count("*", others), count("orders-*", orders)]);
    let told = counted(
        both,
        Some(&counts(&[of(1, 0), of(2, 4), of(0, 0)])),
        start(),
    );
    let shown: Vec<_> = told.iter().map(figures).collect();
    assert_eq!(
        shown,
        [Some(("3Mi".into(), 30, 3)), Some(("4Mi".into(), 40, 4))]
    );
    assert_eq!(
        text(&told),
        "Counted at 2026-09-21T10:00:00Z: that would take 7Mi (70 records in 7 segments) more than the rules in use"
    );
    // Two pairs of rules that read alike are one announcement.
    let twice = Ok(vec![count("orders-*", 1), count("orders-*", 2)]);
    let told = counted(
        vec![announced("orders-*")],
        Some(&counts(&[twice])),
        start(),
    );
    assert_eq!(figures(&told[0]), Some(("3Mi".into(), 30, 3)));
}

#[test]
fn a_part_of_the_pods_is_no_figure_and_never_zero() {
    let one = vec![announced("orders-*")];
    let known = Ok(vec![count("orders-*", 5)]);
    for (answers, why) in [
        (vec![known.clone(), away()], "orders-1 does not answer"),
        (
            vec![away(), away(), away()],
            "; no figures of 2 more pods either",
        ),
        // An engine that has other rules in use.
        (
            vec![known.clone(), Ok(vec![count("*", 5)])],
            "the rules that orders-1 has in use are not those",
        ),
        (vec![], "no pod answers"),
    ] {
        let told = counted(one.clone(), Some(&counts(&answers)), start());
        assert_eq!(figures(&told[0]), None, "{why}");
        let said = &told[0].not_counted.as_ref().expect("why").message;
        assert!(said.contains(why), "{said}");
        let text = text(&told);
        assert!(
            text.starts_with("How many records that takes is unknown (") && text.contains(why),
            "{text}"
        );
    }
    assert_eq!(text(&one), "How many records that takes is not counted yet");
    let none = counted(
        one,
        Some(&counts(&[Ok(vec![count("orders-*", 0)])])),
        start(),
    );
    assert_eq!(figures(&none[0]), Some(("0".into(), 0, 0)));
    assert!(text(&none).contains("that would take no record more"));
}

#[test]
fn figures_of_before_stay_with_their_time_while_a_pod_does_not_answer() {
    let known = Ok(vec![count("orders-*", 5)]);
    let first = counted(
        vec![announced("orders-*")],
        Some(&counts(&[known.clone(), known.clone()])),
        start(),
    );
    let second = counted(
        first.clone(),
        Some(&counts(&[known.clone(), away()])),
        later(60),
    );
    assert_eq!(figures(&second[0]), figures(&first[0]));
    assert_eq!(second[0].counted_at, Some(Time(start())));
    let said = text(&second);
    for part in [
        "Counted at 2026-09-21T10:00:00Z",
        "10Mi",
        "not counted since (orders-1",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let third = counted(second, Some(&counts(&[known.clone(), known])), later(120));
    assert_eq!(third[0].not_counted, None);
    assert_eq!(third[0].counted_at, Some(Time(later(120))));
    // Nobody was asked.
    assert_eq!(counted(third.clone(), None, later(121)), third);
}

#[test]
fn engines_are_asked_when_something_is_announced_and_then_once_an_hour_whether_they_answered_or_not()
 {
    let news = [change("orders-*")];
    assert!(is_wanted(&[], &news, start()));
    assert!(!is_wanted(&[], &[], start()), "nothing is kept for less");
    assert!(!is_due(&[], start()));
    // Of an operator that did not count.
    assert!(is_due(&[announced("orders-*")], start()));
    for answer in [Ok(vec![count("orders-*", 5)]), away()] {
        let answers = counts(&[answer]);
        let told = counted(vec![announced("orders-*")], Some(&answers), start());
        for (minutes, is_asked) in [(0, false), (59, false), (60, true), (-1, true)] {
            assert_eq!(is_due(&told, later(minutes)), is_asked, "{minutes}");
            assert_eq!(
                is_wanted(&told, &news, later(minutes)),
                is_asked,
                "{minutes}"
            );
        }
        assert!(is_wanted(
            &told,
            &[change("orders-*"), change("a")],
            start()
        ));
    }
}

#[test]
fn bytes_can_be_read_and_are_not_rounded_up() {
    let shown = |bytes: u64| {
        let takes = Takes {
            bytes,
            records: 1,
            segments: 1,
        };
        let change = change("a");
        let answers = counts(&[Ok(vec![Count { change, takes }])]);
        let told = counted(vec![announced("a")], Some(&answers), start());
        told[0].bytes.as_ref().map(Quantity::to_string).unwrap()
    };
    for (bytes, text) in [
        (0, "0"),
        (127, "127"),
        (129, "128"),
        (13_153_337_344, "12544Mi"),
        (12 << 30, "12Gi"),
        ((12 << 30) - 1, "12160Mi"),
        (u64::MAX, "8128Ti"),
    ] {
        assert_eq!(shown(bytes), text, "{bytes}");
    }
}
