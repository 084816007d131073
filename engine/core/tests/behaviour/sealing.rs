use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::*;
use aof2_core::StoreError;
use aof2_core::config::MIB;
use aof2_core::io::{Clock, SystemClock};
use aof2_core::port::TierRecord;
use aof2_core::request::SegmentState;

#[test]
fn many_segments_are_rolled_sealed_and_read_back_across_their_borders() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let payload = vec![7u8; 10_000];
    for _ in 0..600 {
        buffered(&store, "big", &payload).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(read_all(&store, "big").len(), 600);
    // Segments of 1 MiB, and one whose successor is late up to twice as large: the open one holds 208 records at most.
    eventually("sealing", || {
        store.describe("big").unwrap().sealed_sequence >= 600 - 208
    });
    let segments = store.segments("big").unwrap();
    assert!(segments.len() > 2, "{segments:?}");
    for pair in segments.windows(2) {
        assert_eq!(
            pair[0].base_sequence + pair[0].records,
            pair[1].base_sequence
        );
    }
    drop(store);
    let store = open(directory.path());
    let records = read_all(&store, "big");
    assert_eq!(records.len(), 600);
    assert!(
        records
            .iter()
            .enumerate()
            .all(|(index, record)| record.sequence == index as u64 && record.payload == payload)
    );
}

#[test]
fn sealing_is_reported_by_count_and_by_the_hook_and_leaves_nothing_unsealed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (sender, receiver) = mpsc::channel();
    store.on_sealed(std::sync::Arc::new(move |segment| {
        sender.send(segment.clone()).unwrap();
    }));
    durable(&store, "a", b"1").unwrap();
    buffered(&store, "b", b"2").unwrap();
    let sealed = store.seal(None).unwrap();
    assert_eq!(
        sealed.into_iter().collect::<Vec<_>>(),
        vec![("a".to_owned(), 1), ("b".to_owned(), 1)]
    );
    let first = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(first.end_sequence(), 1);
    for watermark in store.watermarks() {
        assert_eq!(
            (
                watermark.acked,
                watermark.sealed,
                watermark.sealed_uploaded,
                watermark.unsealed_bytes
            ),
            (1, 1, 0, 0)
        );
    }
    assert_eq!(
        store.seal(Some("a")).unwrap()["a"],
        1,
        "sealing again changes nothing"
    );
    assert!(matches!(
        store.seal(Some("nobody")),
        Err(StoreError::UnknownStream { .. })
    ));
    assert_eq!(durable(&store, "a", b"3").unwrap().first_sequence, 1);
    assert_eq!(read_all(&store, "a").len(), 2);
}

#[test]
fn sealed_bytes_and_committed_uploads_are_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let before = {
        let store = open(directory.path());
        for index in 0..10u64 {
            durable(&store, "s", &index.to_le_bytes()).unwrap();
        }
        store.seal(None).unwrap();
        let pending = store.sealed_segments_pending();
        assert_eq!(pending.len(), 1);
        let bytes = store.segment_bytes("s", pending[0].segment_id).unwrap();
        assert_eq!(bytes.len() as u64, pending[0].bytes);
        assert_eq!(aof2_format::checksum::crc64nvme(&bytes), pending[0].crc64);
        let id = pending[0].segment_id;
        store
            .commit_manifest("s", id, TierRecord::CompressionStarted)
            .unwrap();
        store
            .commit_manifest(
                "s",
                id,
                TierRecord::CompressionDone {
                    compressed_bytes: 99,
                    dictionary_id: 0,
                },
            )
            .unwrap();
        assert_eq!(store.segments("s").unwrap()[0].state, SegmentState::Warm);
        store
            .commit_manifest("s", id, TierRecord::UploadStarted { key: "k".into() })
            .unwrap();
        store
            .commit_manifest(
                "s",
                id,
                TierRecord::UploadDone {
                    key: "k".into(),
                    etag: "e".into(),
                },
            )
            .unwrap();
        assert!(matches!(
            store.commit_manifest("s", id + 100, TierRecord::CompressionStarted),
            Err(StoreError::UnknownSegment { .. })
        ));
        (pending[0].crc64, bytes.to_vec(), id)
    };
    let store = open(directory.path());
    assert!(store.sealed_segments_pending().is_empty());
    let segments = store.segments("s").unwrap();
    assert_eq!(
        (segments[0].state, segments[0].key.as_deref()),
        (SegmentState::Uploaded, Some("k"))
    );
    assert_eq!(store.watermarks()[0].sealed_uploaded, 10);
    assert_eq!(
        store.segment_bytes("s", before.2).unwrap().to_vec(),
        before.1
    );
}

#[test]
fn segments_roll_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.segment.max_age = Duration::from_millis(100);
    let store = try_open(config).unwrap();
    durable(&store, "s", b"x").unwrap();
    eventually("the roll", || {
        store.describe("s").unwrap().sealed_sequence == 1
    });
}

#[test]
fn the_journal_is_recycled_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let payload = vec![3u8; 60_000];
    for index in 0..700 {
        durable(&store, if index % 2 == 0 { "a" } else { "b" }, &payload).unwrap();
    }
    let metrics = store.metrics();
    assert!(
        metrics.journal_bytes > 3 * 3 * 4 * MIB,
        "{} bytes went through 12 MiB of files",
        metrics.journal_bytes
    );
    assert!(metrics.journal_files <= 3);
    assert!(metrics.checkpoints > 0);
    drop(store);
    let store = open(directory.path());
    assert_eq!(
        read_all(&store, "a").len() + read_all(&store, "b").len(),
        700
    );
}

/// A wall clock that somebody sets.
#[derive(Debug, Default)]
struct SetClock {
    behind_nanos: AtomicI64,
}

impl Clock for SetClock {
    fn monotonic(&self) -> Instant {
        SystemClock.monotonic()
    }

    fn unix_nanos(&self) -> i64 {
        SystemClock.unix_nanos() - self.behind_nanos.load(Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration);
    }
}

const HOUR: i64 = 3_600_000_000_000;

#[test]
fn a_clock_that_steps_back_stops_no_segment_and_turns_back_no_stored_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.segment.max_age = Duration::from_millis(300);
    let clock = std::sync::Arc::new(SetClock::default());
    let start = || {
        let mut options = options(config.clone());
        options.environment.clock = clock.clone();
        aof2_core::Store::open(options).unwrap()
    };
    let store = start();
    durable(&store, "s", b"before").unwrap();
    clock.behind_nanos.store(HOUR, Ordering::SeqCst);
    eventually("the seal by age", || {
        store.describe("s").unwrap().sealed_sequence == 1
    });
    durable(&store, "s", b"an hour back").unwrap();
    store.close().unwrap();
    // A process that starts then knows how far the times have got.
    clock.behind_nanos.store(3 * HOUR, Ordering::SeqCst);
    let store = start();
    durable(&store, "s", b"three hours back").unwrap();
    let times: Vec<i64> = read_all(&store, "s")
        .iter()
        .map(|record| record.appended_unix_nanos)
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times.len(), 3);
}

/// What `vm.max_map_count` allows a process is few for a volume that is years old.
#[test]
fn sealed_segments_that_are_read_are_mapped_a_few_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for record in 0..100u8 {
        durable(&store, "s", &[record]).unwrap();
        store.seal(Some("s")).unwrap();
    }
    for _ in 0..2 {
        let records = read_all(&store, "s");
        assert!(
            records
                .iter()
                .enumerate()
                .all(|(at, it)| it.payload[..] == [at as u8])
        );
        assert_eq!(records.len(), 100);
    }
    let of_this = format!("{}/streams/s/segments/", directory.path().display());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| line.contains(&of_this)).count();
    assert!((1..=64).contains(&mapped), "{mapped} maps");
}
