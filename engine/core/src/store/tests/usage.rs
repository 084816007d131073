//! The storage report of a store against the files and objects that are there, and against what its retention then takes.

use std::sync::Arc;
use std::time::Duration;

use aof2_format::start_sequence::StartReason;
use bytes::Bytes;

use super::node::{Node, node_at};
use super::retention::SetClock;
use crate::config::{MIB, RetentionRule};
use crate::objects::memory::MemoryStore;
use crate::request::{AppendRequest, Durability};
use crate::storage_report::{Held, Question, ReportError, StorageReport, storage_report};
use crate::store::usage::usage_of;
use crate::tier::Objects;
use crate::tier::testing::until;

const DAY: Duration = Duration::from_secs(86_400);

fn by_age(streams: &str, days: u32) -> RetentionRule {
    RetentionRule {
        streams: streams.to_owned(),
        max_age: Some(DAY * days),
        max_bytes: None,
    }
}

fn report(node: &Node, question: &Question) -> Result<StorageReport, ReportError> {
    storage_report(&node.store, &node.retention, question, &|| false)
}

fn of_all(node: &Node) -> StorageReport {
    let question = Question {
        most_streams: 10,
        ..Question::default()
    };
    report(node, &question).expect("a report")
}

fn append(node: &Node, stream: &str, bytes: usize) {
    let request = AppendRequest {
        stream: stream.to_owned(),
        payloads: vec![Bytes::from(vec![7; bytes])],
        durability: Durability::Durable,
        producer: None,
    };
    node.store.append(request).expect("acknowledged");
}

/// Files below a folder whose path contains this. One that is removed meanwhile is gone.
fn files(folder: &std::path::Path, part: &str) -> Held {
    let mut held = Held::default();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            let entry = entry.expect("an entry");
            let meta = match entry.metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                meta => meta.expect("its size"),
            };
            if meta.is_dir() {
                open.push(entry.path());
            } else if entry.path().to_string_lossy().contains(part) {
                held.note(meta.len());
            }
        }
    }
    held
}

fn objects(memory: &MemoryStore) -> Held {
    let mut held = Held::default();
    for key in memory.keys() {
        if key.contains("/segments/") {
            held.note(memory.bytes_of(&key).expect("there").len() as u64);
        }
    }
    held
}

#[test]
fn every_file_and_object_counts_once_also_of_trimmed_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let node = node_at(&memory, folder.path(), clock.clone(), |_| {});
    for _ in 0..4 {
        node.segment(b"a record");
        clock.pass(DAY / 4);
    }
    append(&node, "a", 1000);
    let there = |usage: &crate::storage_report::Usage| {
        assert_eq!(usage.warm, files(folder.path(), "/warm/"));
        assert_eq!(usage.cold, objects(&memory));
        assert_eq!(usage.unsized_objects, 0);
    };
    let total = of_all(&node).total;
    there(&total);
    assert_eq!((total.hot.objects, total.warm.objects), (5, 4));
    assert_eq!(total.hot.bytes, node.store.metrics().tier0_total_bytes);
    assert_eq!((total.streams, total.records), (1, 5));
    let compressed = total.compressed;
    assert_eq!(compressed.compressed_bytes, total.cold.bytes);
    assert!(compressed.uncompressed_bytes < total.readable_bytes);
    // A day of records, all of which were appended in it.
    let growth = total.growth.expect("measured");
    assert!(
        (86_400..86_500).contains(&growth.window_seconds),
        "{growth:?}"
    );
    assert!(
        growth.bytes_per_day.abs_diff(total.readable_bytes) <= total.readable_bytes / 500,
        "{growth:?}, {} bytes",
        total.readable_bytes
    );
    let begun = 1_796_000_000 * 1_000_000_000;
    let oldest = total.oldest_unix_nanos.expect("a record");
    assert!(
        (begun..begun + 60_000_000_000).contains(&oldest),
        "{oldest}"
    );

    let id = |index: usize| node.store.segments("a").expect("a stream")[index].segment_id;
    node.store.evict_hot("a", id(1)).expect("evicted");
    assert_eq!(of_all(&node).total.hot.objects, 4);
    let reason = aof2_format::start_sequence::StartReason::Trim;
    node.store.trim("a", 2, reason).expect("trimmed");
    // The record first, then the file.
    until("the copies on the node are gone", || {
        let total = of_all(&node).total;
        let is_counted = (total.hot.objects, total.warm.objects) == (3, 2);
        is_counted && files(folder.path(), "/warm/") == total.warm
    });
    let report = of_all(&node);
    // No deletion runs here: the objects stay.
    assert_eq!(report.total.cold.objects, 4);
    there(&report.total);
    assert_eq!(report.total.records, 3);
    assert_eq!(report.largest[0].start_sequence, 2);
    let oldest_object = report.total.oldest_object.expect("an object");
    assert!(memory.bytes_of(&oldest_object.key).is_some());
    assert_ne!(Some(oldest_object), report.total.newest_object);
    let stream = node.store.known("a").expect("a stream");
    assert_eq!(usage_of(&stream, 0, 1), usage_of(&stream, 0, 1000));
    assert_eq!(usage_of(&stream, 0, 1).sealed.trimmed_lately.len(), 2);
    node.stop();
}

#[test]
fn the_sum_of_objects_is_what_the_bucket_has_and_each_object_is_its_owners() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let node = node_at(&memory, folder.path(), SetClock::new(), |_| {});
    for _ in 0..3 {
        node.segment(b"a record");
    }
    let told = || node.tiers.tier2_status().expect("Tier 2").objects;
    until("the claim is confirmed", || told().is_some());
    let Held { objects, bytes } = objects(&memory);
    let all = Objects {
        count: objects,
        bytes,
        of_unknown_size: 0,
    };
    assert_eq!((objects, told()), (3, Some(all)));
    let end = node.store.describe("a").expect("a stream").sealed_sequence;
    let reason = StartReason::Trim;
    node.store.trim("a", end, reason).expect("trimmed");
    assert_eq!(told(), Some(all), "they are there until they are deleted");
    // Who does not know whose they are says nothing.
    assert_eq!(node.store.objects(&|_, _| false), None);
    append(&node, "no-objects", 10);
    let is_of_a = |stream: &str, _| stream == "a";
    assert_eq!(node.store.objects(&is_of_a), Some(all));
    node.store.supersede("a", 9);
    assert_eq!(told(), Some(Objects::default()));
    node.stop();
}

#[test]
fn what_a_report_says_ahead_is_what_retention_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let rules = vec![by_age("audit-*", 1000), by_age("a", 30)];
    let node = node_at(&memory, folder.path(), clock.clone(), |config| {
        config.retention = rules.clone();
    });
    let settle = || {
        until("the passes that are due", || {
            node.tiers.coordinator().ring();
            node.retention.is_settled()
        });
    };
    let pass = |time| {
        settle();
        clock.pass(time);
    };
    for _ in 0..12 {
        node.segment(b"a record");
        pass(DAY);
    }
    append(&node, "audit-1", 10);
    node.store.seal(Some("audit-1")).expect("sealed");
    pass(DAY * 13 + DAY / 2);
    settle();

    let question = Question {
        most_streams: 10,
        proposed: Some(vec![by_age("a", 20), by_age("nobody-*", 1)]),
        ..Question::default()
    };
    let told = report(&node, &question).expect("a report");
    assert_eq!(told.suspended, None);
    let stream = |name: &str| {
        let found = told.largest.iter().find(|it| &*it.name == name);
        found.expect("described").usage.clone()
    };
    let ahead = stream("a").retention;
    let counts = |it: crate::storage_report::Forecast| {
        [it.now, it.in_7_days, it.in_30_days].map(|taken| taken.segments)
    };
    // The first is 25 days and a half old, the last eleven days less.
    assert_eq!(counts(ahead), [0, 3, 12]);
    assert_eq!(counts(stream("audit-1").retention), [0, 0, 0]);
    let proposed = stream("a").proposed.expect("asked for");
    assert_eq!(counts(proposed), [6, 12, 12]);
    let of_rule =
        |share: &crate::storage_report::RuleShare| (share.fitting_streams, counts(share.forecast));
    let of_rules: Vec<_> = told.rules.iter().map(of_rule).collect();
    assert_eq!(of_rules, [(1, [0, 0, 0]), (1, [0, 3, 12])]);
    let of_rules: Vec<_> = told.proposed.iter().flatten().map(of_rule).collect();
    assert_eq!(of_rules, [(1, [6, 12, 12]), (0, [0, 0, 0])]);
    assert_eq!(counts(told.total.retention), counts(ahead));
    // What goes by the rules in force is no news, and a stream that is kept for longer gives nothing back to another.
    let beyond: Vec<_> = told
        .shortened
        .iter()
        .flatten()
        .map(|share| (share.change.streams.as_str(), counts(share.beyond)))
        .collect();
    assert_eq!(beyond, [("a", [6, 9, 0]), ("nobody-*", [0, 0, 0])]);

    let first = || {
        let info = node.store.describe("a").expect("a stream");
        info.first_sequence
    };
    assert_eq!(first(), 0, "a report takes nothing");
    pass(DAY * 7);
    until("what is too old goes", || {
        node.tiers.coordinator().ring();
        first() == ahead.in_7_days.records
    });
    settle();
    assert_eq!(first(), ahead.in_7_days.records);
    pass(DAY * 23);
    until("the rest goes", || {
        node.tiers.coordinator().ring();
        first() == ahead.in_30_days.records
    });
    settle();
    assert_eq!(first(), ahead.in_30_days.records);
    node.stop();
}

#[test]
fn a_clock_that_is_not_trusted_measures_no_growth_and_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let node = node_at(&memory, folder.path(), clock.clone(), |config| {
        config.retention = vec![by_age("a", 300)];
    });
    node.segment(b"a record");
    clock.pass(DAY);
    assert!(of_all(&node).total.growth.is_some());
    clock.step(DAY * 365);
    let told = of_all(&node);
    let why = told.suspended.expect("told");
    assert!(why.contains("check the time synchronisation"), "{why}");
    assert_eq!(told.total.growth, None);
    let taken = told.total.retention;
    assert_eq!((taken.now.segments, taken.in_7_days.segments), (0, 1));
    // Another volume's to keep.
    node.store.supersede("a", 2);
    assert_eq!(of_all(&node).total.retention.in_7_days.segments, 0);
    node.stop();
}

#[test]
fn a_report_is_of_the_streams_that_are_asked_for_and_ends_where_nobody_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let clock = SetClock::new();
    let node = node_at(&memory, folder.path(), clock, |config| {
        config.retention = vec![by_age("*", 1)];
    });
    for (stream, bytes) in [("orders-a", 10), ("orders-b", MIB as usize / 2), ("x", 10)] {
        append(&node, stream, bytes);
    }
    let ask = |pattern: &str, most_streams| Question {
        streams: Some(pattern.to_owned()),
        most_streams,
        proposed: None,
    };
    let told = report(&node, &ask("orders-*", 1)).expect("a report");
    assert_eq!((told.total.streams, told.rest.streams), (2, 1));
    assert_eq!(&*told.largest[0].name, "orders-b");
    // Of the node, whatever was asked for.
    assert_eq!(told.rules[0].fitting_streams, 3);
    let error = report(&node, &ask("payments-*", 1)).expect_err("none");
    assert_eq!(
        error.to_string(),
        "no stream of this node fits \"payments-*\"; `aof2-admin streams` lists the streams of this node"
    );
    let question = Question::default();
    let given_up = storage_report(&node.store, &node.retention, &question, &|| true);
    assert_eq!(given_up, Err(ReportError::Abandoned));
    node.stop();
}
