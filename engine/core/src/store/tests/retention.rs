//! Rules of retention on a store without a Tier 2, by a clock that the test sets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof2_format::names::file;
use bytes::Bytes;

use super::options;
use crate::config::{MIB, RetentionRule};
use crate::error::ReadError;
use crate::failures::FailedStreams;
use crate::io::Clock;
use crate::request::{AppendRequest, Durability, ReadRequest};
use crate::retention::{Retention, RetentionStatus};
use crate::store::Store;
use crate::tier::Tiers;
use crate::tier::testing::until;

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Begins in 2026 and goes as fast as the real one.
pub(super) struct SetClock {
    begun: Instant,
    passed_nanos: AtomicU64,
    stepped_nanos: AtomicI64,
}

impl SetClock {
    pub fn new() -> Arc<SetClock> {
        Arc::new(SetClock {
            begun: Instant::now(),
            passed_nanos: AtomicU64::new(0),
            stepped_nanos: AtomicI64::new(1_796_000_000 * 1_000_000_000),
        })
    }

    pub fn pass(&self, time: Duration) {
        self.passed_nanos
            .fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }

    /// The wall clock alone.
    pub fn step(&self, time: Duration) {
        self.stepped_nanos
            .fetch_add(time.as_nanos() as i64, Ordering::SeqCst);
    }

    pub fn set_back(&self, time: Duration) {
        self.stepped_nanos
            .fetch_sub(time.as_nanos() as i64, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn monotonic(&self) -> Instant {
        Instant::now() + Duration::from_nanos(self.passed_nanos.load(Ordering::SeqCst))
    }

    fn unix_nanos(&self) -> i64 {
        let passed = (self.monotonic() - self.begun).as_nanos() as i64;
        self.stepped_nanos.load(Ordering::SeqCst) + passed
    }

    fn sleep(&self, duration: Duration) {
        std::thread::park_timeout(duration);
    }
}

struct Node {
    store: Store,
    tiers: Tiers,
    retention: Retention,
}

fn by_age(streams: &str, max_age: Duration) -> RetentionRule {
    RetentionRule {
        streams: streams.to_owned(),
        max_age: Some(max_age),
        max_bytes: None,
    }
}

impl Node {
    fn start(directory: &Path, clock: &Arc<SetClock>, rules: Vec<RetentionRule>) -> Node {
        Node::start_with(directory, clock, rules, 256)
    }

    fn start_with(
        directory: &Path,
        clock: &Arc<SetClock>,
        rules: Vec<RetentionRule>,
        segments_of_turn: usize,
    ) -> Node {
        let mut options = options(directory);
        options.environment.clock = clock.clone();
        options.config.retention = rules;
        let store = Store::open(options).expect("opens");
        let config = store.config();
        let tiers = Tiers::start(Arc::new(store.clone()), None, &config).expect("threads");
        let retention = Retention::start_with(store.clone(), &tiers, segments_of_turn);
        Node {
            store,
            tiers,
            retention,
        }
    }

    /// A sealed segment of one record.
    fn segment(&self, stream: &str, bytes: usize) {
        let request = AppendRequest {
            stream: stream.to_owned(),
            payloads: vec![Bytes::from(vec![7; bytes])],
            durability: Durability::Durable,
            producer: None,
        };
        self.store.append(request).expect("acknowledged");
        self.store.seal(Some(stream)).expect("sealed");
    }

    fn first(&self, stream: &str) -> u64 {
        self.tiers.coordinator().ring();
        self.store
            .describe(stream)
            .expect("a stream")
            .first_sequence
    }

    fn status(&self) -> RetentionStatus {
        self.tiers.coordinator().ring();
        self.retention.status()
    }

    fn settle(&self) {
        until("the passes that are due", || {
            self.tiers.coordinator().ring();
            self.retention.is_settled()
        });
    }

    /// Several passes, by what the rules count.
    fn passes(&self, clock: &SetClock) {
        for _ in 0..3 {
            self.jump(clock, Duration::from_secs(601));
            self.settle();
        }
    }

    /// Between two passes: one that is under way would count by the time before, and its next one by the time after.
    fn jump(&self, clock: &SetClock, time: Duration) {
        self.settle();
        clock.pass(time);
    }

    fn stop(self) {
        self.tiers.stop();
        self.retention.stop();
        self.store.close().expect("closes");
    }
}

#[test]
fn records_that_are_too_old_cannot_be_read_and_leave_the_volume() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let rules = vec![
        RetentionRule {
            streams: "audit-*".to_owned(),
            max_age: None,
            max_bytes: None,
        },
        by_age("*", HOUR),
    ];
    let node = Node::start(folder.path(), &clock, rules.clone());
    for stream in ["a", "audit-a"] {
        node.segment(stream, 100);
    }
    clock.pass(HOUR / 2);
    node.segment("a", 100);
    let used = node.store.metrics().tier0_total_bytes;
    until("a pass", || node.status().rules[0].1.is_some());
    assert_eq!(node.first("a"), 0);
    node.jump(&clock, HOUR / 2 + Duration::from_secs(1));
    until("the first goes", || node.first("a") == 1);
    until("its space is free", || {
        node.store.metrics().tier0_total_bytes < used
    });
    let read = node.store.read(ReadRequest {
        stream: "a".to_owned(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    });
    let error = read.expect("a stream").next_batch(1).expect_err("trimmed");
    assert!(
        matches!(error, ReadError::Trimmed { first: 1, .. }),
        "{error:?}"
    );
    node.jump(&clock, HOUR);
    until("the second goes", || node.first("a") == 2);
    assert_eq!(node.first("audit-a"), 0, "another rule counts");
    assert_eq!(node.store.metrics().expired_records, 2);
    let status = node.status();
    assert_eq!(status.suspended, None);
    let counts: Vec<_> = status.rules.iter().map(|(_, streams)| *streams).collect();
    assert_eq!(counts, [Some(1), Some(1)]);
    // A record that is not sealed stays, however old it is.
    let request = AppendRequest {
        stream: "a".to_owned(),
        payloads: vec![Bytes::from_static(b"open")],
        durability: Durability::Durable,
        producer: None,
    };
    node.store.append(request).expect("acknowledged");
    clock.pass(HOUR * 3);
    node.passes(&clock);
    assert_eq!(node.first("a"), 2);
    node.stop();
}

#[test]
fn the_oldest_records_leave_a_stream_that_has_more_than_it_may_and_rules_are_hot() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let node = Node::start(folder.path(), &clock, Vec::new());
    for _ in 0..5 {
        node.segment("a", MIB as usize / 2);
    }
    node.passes(&clock);
    assert_eq!(node.first("a"), 0, "without a rule everything is kept");
    let mut config = (*node.store.config()).clone();
    config.retention = vec![RetentionRule {
        streams: "a".to_owned(),
        max_age: None,
        max_bytes: Some(MIB + MIB / 4),
    }];
    node.store.reconfigure(config);
    until("the oldest go", || node.first("a") == 3);
    node.passes(&clock);
    assert_eq!(node.first("a"), 3);
    node.segment("a", MIB as usize / 2);
    node.jump(&clock, Duration::from_secs(61));
    until("the next one", || node.first("a") == 4);
    node.stop();
}

#[test]
fn a_clock_that_steps_takes_nothing_and_says_so_until_it_is_set_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let node = Node::start(folder.path(), &clock, vec![by_age("*", 24 * HOUR)]);
    node.segment("a", 100);
    until("a pass", || node.status().rules[0].1.is_some());
    clock.step(YEAR);
    node.passes(&clock);
    let why = node.status().suspended.expect("suspended");
    // Two clocks are not read at once.
    let is_a_year = ["8760 h 0 min", "8759 h 59 min"]
        .iter()
        .any(|it| why.contains(it));
    assert!(is_a_year, "{why}");
    assert_eq!(node.first("a"), 0);
    clock.set_back(YEAR);
    until("it is trusted", || node.status().suspended.is_none());
    node.jump(&clock, 24 * HOUR);
    until("the record goes", || node.first("a") == 1);
    node.stop();
}

#[test]
fn a_start_with_a_wrong_clock_takes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let rules = vec![by_age("*", 24 * HOUR)];
    let start = || Node::start(folder.path(), &clock, rules.clone());
    let node = start();
    node.segment("a", 100);
    until("a pass", || node.status().rules[0].1.is_some());
    let stored = folder.path().join(file::CLOCK);
    until("the reading is stored", || stored.exists());
    node.stop();
    clock.step(YEAR);
    let node = start();
    node.passes(&clock);
    assert!(node.status().suspended.is_some());
    assert_eq!(node.first("a"), 0);
    node.stop();
    // As it stands it has run for long enough.
    let node = start();
    until("it looks", || node.status().suspended.is_some());
    node.jump(&clock, 25 * HOUR);
    until("the record goes", || node.first("a") == 1);
    node.segment("a", 100);
    node.stop();
    // The reading is damaged.
    std::fs::write(&stored, b"{}").expect("written");
    let node = start();
    until("it says so", || {
        let suspended = node.status().suspended;
        suspended.is_some_and(|why| why.contains("unreadable"))
    });
    node.stop();
}

#[test]
fn a_first_start_with_a_wrong_clock_is_held_against_the_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let rules = vec![by_age("*", 24 * HOUR)];
    // Without a rule: it is kept for whoever needs it first.
    let node = Node::start(folder.path(), &clock, Vec::new());
    let stored = folder.path().join(file::CLOCK);
    until("the reading is stored", || stored.exists());
    assert_eq!(node.status().suspended, None);
    node.segment("a", 100);
    node.stop();
    // A volume of an engine that kept none.
    std::fs::remove_file(&stored).expect("removed");
    clock.step(10 * YEAR);
    let node = Node::start(folder.path(), &clock, rules.clone());
    node.passes(&clock);
    let why = node.status().suspended.expect("suspended");
    assert!(
        why.contains("ahead of the newest record of this volume, which keeps no earlier clock reading; nothing goes by age")
            && why.ends_with("check the time synchronisation of the node"),
        "{why}"
    );
    assert_eq!(node.first("a"), 0);
    assert!(!stored.exists(), "what is not trusted is not kept");
    node.stop();
    assert!(!stored.exists(), "nor at the end");
    clock.set_back(10 * YEAR);
    let node = Node::start(folder.path(), &clock, rules);
    until("the reading is stored", || stored.exists());
    assert_eq!(node.status().suspended, None);
    node.jump(&clock, 25 * HOUR);
    until("the record goes", || node.first("a") == 1);
    node.stop();
}

#[test]
fn a_stop_keeps_no_reading_of_a_clock_that_has_just_stepped() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let rules = vec![by_age("*", 24 * HOUR)];
    let node = Node::start(folder.path(), &clock, rules.clone());
    node.segment("a", 100);
    node.settle();
    let stored = folder.path().join(file::CLOCK);
    until("the reading is stored", || stored.exists());
    node.settle();
    let before = std::fs::read(&stored).expect("a reading");
    node.tiers.stop();
    // No turn has seen it.
    clock.step(YEAR);
    node.stop();
    assert_eq!(std::fs::read(&stored).expect("a reading"), before);
    let node = Node::start(folder.path(), &clock, rules);
    node.passes(&clock);
    assert!(node.status().suspended.is_some());
    assert_eq!(node.first("a"), 0);
    node.stop();
}

#[test]
fn a_pass_over_many_segments_gives_every_stream_its_turn_and_takes_what_is_due() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = SetClock::new();
    let node = Node::start_with(folder.path(), &clock, Vec::new(), 2);
    for _ in 0..7 {
        node.segment("a", 100);
    }
    node.segment("b", 100);
    clock.pass(2 * HOUR);
    let mut config = (*node.store.config()).clone();
    config.retention = vec![by_age("*", HOUR)];
    node.store.reconfigure(config);
    until("all went", || node.first("a") == 7 && node.first("b") == 1);
    assert_eq!(node.store.metrics().expired_records, 8);
    let moves = |stream: &str| {
        let path = folder.path().join("streams").join(stream);
        let segments = std::fs::read_dir(path.join("segments")).expect("a folder");
        segments.count()
    };
    // What is made ahead stays.
    until("their files, too", || {
        node.tiers.coordinator().ring();
        let left = ["a", "b"].map(|stream| {
            let trimmed = node.store.trimmed_on_node(stream, 9);
            trimmed.expect("a stream").len()
        });
        left == [0, 0] && moves("a") <= 1 && moves("b") <= 1
    });
    assert_eq!(node.status().failed, FailedStreams::default());
    node.stop();
}
