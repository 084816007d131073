//! What happens beside a merge: trims, evictions, hydrations, readers, drains.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aof2_format::start_sequence::StartReason;

use super::*;
use crate::coordinator::hydrations::LocalTier;
use crate::drain::{DrainPhase, DrainRequest};
use crate::error::ReadError;
use crate::request::ReadRequest;
use crate::store::merge::MergeError;

#[test]
fn a_trim_while_segments_are_merged_is_not_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    for payload in &PAYLOADS[..5] {
        it.segment(payload);
    }
    let ids = files(folder.path()).0;
    let merging = it.store.begin_merge("a", &ids).expect("begun");
    let file = it.store.write_merged(&merging, &|| true).expect("written");
    // All of the first input.
    it.store.trim("a", 1, StartReason::Trim).expect("trimmed");
    let refused = it.store.commit_merged(merging, file, 0);
    assert!(
        matches!(refused, Err(MergeError::Changed { .. })),
        "{refused:?}"
    );
    assert_eq!(files(folder.path()).0, ids, "the output is gone");
    let request = |from_sequence| ReadRequest {
        stream: "a".to_owned(),
        from_sequence,
        limit: 0,
        include_staged: false,
    };
    let mut reader = it.store.read(request(0)).expect("a stream");
    let trimmed = reader.next_batch(1 << 20);
    assert!(matches!(trimmed, Err(ReadError::Trimmed { first: 1, .. })));
    // What is left is merged, and what was begun is given up for it.
    let run = merge(&it.compaction);
    assert_eq!((run.inputs, run.outputs), (4, 1), "{run:?}");
    assert_eq!(kinds(&it.store), ["begun", "given up", "begun", "merged"]);
    let mut reader = it.store.read(request(1)).expect("a stream");
    let records = reader.next_batch(1 << 20).expect("read").expect("some");
    let found: Vec<&[u8]> = records.iter().map(|it| &it.payload[..]).collect();
    assert_eq!(found, PAYLOADS[1..5]);
    it.stop();
}

/// A segment that holds the start is an input like others: no record below the start comes back by it.
#[test]
fn a_start_within_an_input_stays_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    let request = AppendRequest {
        stream: "a".to_owned(),
        payloads: vec![
            bytes::Bytes::from_static(b"0"),
            bytes::Bytes::from_static(b"1"),
        ],
        durability: Durability::Durable,
        producer: None,
    };
    it.node.store.append(request).expect("acknowledged");
    for payload in &PAYLOADS[2..6] {
        it.node.segment(payload);
    }
    it.node
        .store
        .trim("a", 1, StartReason::Trim)
        .expect("trimmed");
    let run = it.merge();
    assert_eq!((run.inputs, run.outputs), (4, 1), "{run:?}");
    assert!(matches!(
        it.node.read(0),
        Err(ReadError::Trimmed { first: 1, .. })
    ));
    assert_eq!(it.node.read(1).expect("read"), PAYLOADS[1..6]);
    it.node.verified_snapshot();
    it.node
        .store
        .trim("a", 5, StartReason::Trim)
        .expect("trimmed");
    assert_eq!(it.node.read(5).expect("read"), PAYLOADS[5..6]);
    it.stop();
}

#[test]
fn inputs_that_leave_tier_0_meanwhile_are_merged_all_the_same_and_none_is_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    it.segments(5);
    let store = it.node.store.clone();
    assert!(store.evict_hot("a", 2).expect("evicted") > 0);
    // One of the five is not there: three are left in a row.
    assert_eq!(it.merge().inputs, 0);
    let back = it
        .node
        .tiers
        .hydrate("a", 0, None, LocalTier::Tier0)
        .expect("asked");
    until("it is back", || {
        it.node.tiers.hydration(back.id).expect("kept").has_ended()
    });
    let run = it.merge();
    assert_eq!((run.inputs, run.outputs), (5, 1), "{run:?}");
    // The output leaves like any segment, and comes back.
    let output = it.ids()[0];
    assert!(store.evict_hot("a", output).expect("evicted") > 0);
    it.read_all();
    assert_eq!(files(folder.path()).0, Vec::<u64>::new());
    let back = it
        .node
        .tiers
        .hydrate("a", 0, None, LocalTier::Tier0)
        .expect("asked");
    until("it is back", || {
        it.node.tiers.hydration(back.id).expect("kept").has_ended()
    });
    assert_eq!(files(folder.path()).0, [output]);
    it.read_all();
    it.stop();
}

#[test]
fn a_hydration_that_names_an_input_finds_the_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    it.segments(4);
    let wanted = (Arc::from("a"), 2);
    it.merge();
    let asked =
        it.node
            .tiers
            .coordinator()
            .hydrate(LocalTier::Tier0, vec![(wanted, 1)], Vec::new());
    let id = asked.expect("taken").id;
    until("it has ended", || {
        it.node.tiers.hydration(id).expect("kept").has_ended()
    });
    let ended = it.node.tiers.hydration(id).expect("kept");
    assert_eq!(
        (ended.done_segments, ended.failed_segments),
        (1, 0),
        "{ended:?}"
    );
    it.stop();
}

#[test]
fn readers_read_on_across_swaps() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|from| {
                let (store, is_over) = (&it.store, &is_over);
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !is_over.load(Ordering::Acquire) {
                        if store.describe("a").is_err() {
                            continue;
                        }
                        let request = ReadRequest {
                            stream: "a".to_owned(),
                            from_sequence: from,
                            limit: 0,
                            include_staged: false,
                        };
                        let mut reader = store.read(request).expect("a stream");
                        let mut next = from;
                        // A record at a time: most are read from an entry that was found before.
                        while let Some(records) = reader.next_batch(1).expect("readable") {
                            for record in records {
                                assert_eq!(record.sequence, next);
                                assert_eq!(record.payload, next.to_le_bytes()[..]);
                                next += 1;
                            }
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for sequence in 0..120_u64 {
            it.segment(&sequence.to_le_bytes());
            if sequence % 4 == 3 {
                merge(&it.compaction);
            }
        }
        is_over.store(true, Ordering::Release);
        let rounds: Vec<u64> = readers
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .collect();
        assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
    });
    let status = it.compaction.status();
    assert!(status.merges >= 30, "{status:?}");
    assert_eq!(it.store.describe("a").expect("a stream").damage, None);
    assert_eq!(it.read().len(), 120);
    it.stop();
}

/// A reader that has found an input before the swap, and opens it behind it.
#[test]
fn a_reader_with_an_input_in_hand_goes_on_in_the_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    for payload in &PAYLOADS[..4] {
        it.segment(payload);
    }
    let stream = it.store.known("a").expect("a stream");
    let input = stream.sealed_entry(2).expect("sealed");
    assert!(stream.is_reached(&input));
    let request = ReadRequest {
        stream: "a".to_owned(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    let mut reader = it.store.read(request).expect("a stream");
    let first = reader.next_batch(1).expect("read").expect("a record");
    assert_eq!((first.len(), &first[0].payload[..]), (1, PAYLOADS[0]));
    assert_eq!(merge(&it.compaction).outputs, 1);
    assert!(!stream.is_reached(&input) && !input.is_hot());
    for payload in &PAYLOADS[1..4] {
        let records = reader.next_batch(1).expect("read").expect("a record");
        assert_eq!((records.len(), &records[0].payload[..]), (1, *payload));
    }
    assert!(reader.next_batch(1).expect("read").is_none());
    assert_eq!(stream.damage.count(), 0);
    it.stop();
}

#[test]
fn a_drain_gets_its_token_before_and_behind_a_merge_and_none_is_begun_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let it = merging(&memory, folder.path());
    it.segments(4);
    let drain = |it: &Merging| {
        it.node.tiers.drain().begin(DrainRequest {
            ttl: Duration::from_secs(60),
            upload_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(20),
        });
        until("the drain", || {
            it.node.tiers.drain().status().phase == DrainPhase::Drained
        });
    };
    drain(&it);
    let run = it.merge();
    assert_eq!((run.inputs, run.failures), (0, 0), "{run:?}");
    assert_eq!(run.end.as_deref(), Some("appends are refused (drain)"));
    it.node.tiers.drain().resume();
    assert_eq!(it.merge().outputs, 1);
    it.node.append(PAYLOADS[4]);
    drain(&it);
    it.is_uploaded();
    it.read_all();
    it.stop();
}

/// A stop, or a drain, waits for no file.
#[test]
fn a_merge_ends_between_two_parts_of_its_file_where_it_may_not_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let it = local(folder.path());
    for payload in &PAYLOADS[..4] {
        it.segment(payload);
    }
    let ids = files(folder.path()).0;
    let before = it.store.metrics().tier0_total_bytes;
    let merging = it.store.begin_merge("a", &ids).expect("begun");
    assert!(
        it.store.metrics().tier0_total_bytes > before,
        "its room is reserved"
    );
    let ended = it.store.write_merged(&merging, &|| false).map(|_| ());
    let ended = ended.expect_err("ended").to_string();
    assert_eq!(ended, "merge was interrupted");
    drop(merging);
    assert_eq!(it.store.metrics().tier0_total_bytes, before);
    assert_eq!(files(folder.path()).0, ids);
    let all = std::fs::read_dir(folder.path().join("streams/a/segments")).expect("a folder");
    let names = all.map(|entry| entry.expect("an entry").file_name());
    let left = names.filter(|name| name.to_string_lossy().ends_with(file::TMP_SUFFIX));
    assert_eq!(left.count(), 0);
    it.stop();
}
