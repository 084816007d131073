//! A segment that is damaged before its upload.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_core::Store;
use aof2_core::drain::{DrainPhase, DrainReason, DrainRequest};
use aof2_core::objects::memory::MemoryStore;
use aof2_core::snapshot::{SnapshotPhase, SnapshotReason, SnapshotRequest, Snapshots};

use crate::common::{copy_directory, durable, eventually};
use crate::support::{PATIENT, node, payloads_in_bucket};

/// Flips a byte of this record's payload in the file of a stream's first segment.
fn damage_record(directory: &Path, stream: &str, payload: &[u8]) -> std::path::PathBuf {
    use std::os::unix::fs::FileExt;

    let segments = directory.join("streams").join(stream).join("segments");
    let files = std::fs::read_dir(segments).expect("a directory");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let path = files.swap_remove(0);
    let bytes = std::fs::read(&path).expect("readable");
    let found = bytes
        .windows(payload.len())
        .position(|part| part == payload);
    let at = found.expect("the record is in the first segment");
    let file = std::fs::File::options().write(true).open(&path);
    let flipped = [bytes[at] ^ 1];
    file.expect("writable")
        .write_all_at(&flipped, at as u64)
        .expect("written");
    path
}

fn told_of(store: &Store, stream: &str) -> Vec<(u64, u64, u64)> {
    let ranges = store.describe(stream).expect("there").damaged_ranges;
    ranges
        .iter()
        .map(|range| (range.segment_id, range.from_sequence, range.to_sequence))
        .collect()
}

#[test]
fn a_segment_that_is_damaged_before_its_upload_is_told_by_segment_and_sequence_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    {
        let store = crate::common::open(folder.path());
        for stream in ["a", "b"] {
            for record in 0..5 {
                durable(&store, stream, format!("{stream} {record}").as_bytes()).expect("written");
            }
        }
        store.seal(None).expect("sealed");
        durable(&store, "a", b"a later").expect("written");
        store.close().expect("closes");
    }
    let path = damage_record(folder.path(), "a", b"a 2");
    for start in 0..2 {
        let node = node(&memory, folder.path(), "orders-0");
        eventually("the damage is told", || {
            told_of(&node.store, "a") == [(1, 2, 3)]
        });
        assert_eq!(node.store.metrics().damaged_streams, 1);
        let names_it = |message: &str| {
            [
                "stream a",
                "segment 1, sequence 2:",
                path.to_str().expect("text"),
            ]
            .iter()
            .all(|part| message.contains(part))
        };
        eventually("the mover tells it", || {
            let failure = node.tiers.tier2_status().expect("Tier 2").moves.failure;
            failure.is_some_and(|message| names_it(&message))
        });
        let hasty = DrainRequest {
            upload_timeout: Duration::from_millis(200),
            ..PATIENT
        };
        let mut records = 0;
        for drain in 0..4 {
            node.tiers.drain().begin(hasty);
            eventually("the bound", || {
                node.tiers.drain().status().phase == DrainPhase::Open
            });
            let status = node.tiers.drain().status();
            assert_eq!(status.reason, Some(DrainReason::Damaged), "{status:?}");
            let message = status.message.expect("a message");
            assert!(names_it(&message), "{message}");
            // The first drain sealed the later record. From then on a failed try is no news to the manifest.
            let written = node.store.metrics().manifest_records;
            assert!(
                drain < 2 || written == records,
                "start {start}, drain {drain}"
            );
            records = written;
        }
        let snapshots = Snapshots::start(node.store.clone(), &node.tiers);
        let request = SnapshotRequest {
            stream: "a".into(),
            request: format!("r{start}"),
            seals: true,
        };
        let id = snapshots.begin(request).expect("begun").snapshot_id;
        let of_request = || snapshots.status("a", id).expect("known");
        eventually("the snapshot gives up", || {
            of_request().phase == SnapshotPhase::Failed
        });
        let why = of_request().why.expect("a reason");
        assert_eq!(why.reason, SnapshotReason::Damaged);
        assert!(names_it(&why.message), "{}", why.message);
        snapshots.stop();

        eventually("the other stream is uploaded", || {
            payloads_in_bucket(&memory, "b").len() == 5
        });
        let first = "segments/a/00000000000000000000-";
        assert!(memory.keys().iter().all(|key| !key.contains(first)));
        assert_eq!(told_of(&node.store, "a"), [(1, 2, 3)], "told once");
        assert_eq!(told_of(&node.store, "b"), []);
        durable(&node.store, "a", b"goes on").expect("appends go on");
        node.stop();
    }
}
// --- volumes that are not what Tier 2 knows

/// Flips a byte of this payload wherever it lies below the directory: in the segment and in the journal.
fn damage_everywhere(directory: &Path, payload: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            damage_everywhere(&path, payload);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("readable");
        let found: Vec<usize> = bytes
            .windows(payload.len())
            .enumerate()
            .filter_map(|(at, part)| (part == payload).then_some(at))
            .collect();
        if !found.is_empty() {
            found.iter().for_each(|at| bytes[*at] ^= 1);
            std::fs::write(&path, bytes).expect("written");
        }
    }
}

/// Before, each drain of the node ended in `UploadTimeout`: no upgrade, and nobody could tell why.
#[test]
fn a_drain_names_a_stream_with_a_damaged_end_and_goes_on_without_it_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let killed = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    {
        let node = node(&memory, folder.path(), "orders-0");
        for record in 0..5 {
            for stream in ["a", "b"] {
                let payload = format!("{stream} number {record}");
                durable(&node.store, stream, payload.as_bytes()).expect("written");
            }
        }
        copy_directory(folder.path(), killed.path());
        node.stop();
    }
    damage_everywhere(killed.path(), b"a number 3");
    let node = node(&memory, killed.path(), "orders-0");
    assert!(durable(&node.store, "a", b"more").is_err(), "damaged");
    let hasty = DrainRequest {
        upload_timeout: Duration::from_millis(200),
        ..PATIENT
    };
    let drain = node.tiers.drain();
    drain.begin(hasty);
    eventually("the bound", || drain.status().phase == DrainPhase::Open);
    let status = drain.status();
    assert_eq!(status.reason, Some(DrainReason::Damaged), "{status:?}");
    let message = status.message.expect("a message");
    assert!(message.contains("stream a is damaged"), "{message}");
    assert!(message.contains("drain --without a"), "{message}");

    let whole = drain.leave_out(vec!["b".into()]).expect_err("it is whole");
    assert!(whole.to_string().starts_with("stream b is not damaged"));
    drain.leave_out(vec!["a".into()]).expect("it is damaged");
    drain.begin(PATIENT);
    eventually("the drain", || drain.status().phase == DrainPhase::Drained);
    assert_eq!(payloads_in_bucket(&memory, "b").len(), 5);
    // What was uploaded of it, nobody says more of it than is true.
    let lagging = drain.status().lagging;
    assert_eq!(lagging.len(), 1);
    assert_eq!(&*lagging[0].stream, "a");
    // It holds for one drain, whether somebody ended that or a bound did.
    drain.resume();
    for _ in 0..2 {
        drain.begin(hasty);
        eventually("the bound", || drain.status().phase == DrainPhase::Open);
        assert_eq!(drain.status().reason, Some(DrainReason::Damaged));
        drain.leave_out(vec!["a".into()]).expect("it is damaged");
        drain.begin(DrainRequest {
            ttl: Duration::from_millis(200),
            ..PATIENT
        });
        eventually("the token", || drain.status().phase == DrainPhase::Drained);
        eventually("its end", || drain.status().phase == DrainPhase::Open);
    }
    node.stop();
}

/// Sequences and payloads.
fn all_of(store: &Store, stream: &str) -> Vec<(u64, Vec<u8>)> {
    let request = aof2_core::ReadRequest {
        stream: stream.to_owned(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    let mut reader = store.read(request).expect("it exists");
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(1 << 20).expect("no damage") {
        records.extend(batch.iter().map(|it| (it.sequence, it.payload.to_vec())));
    }
    records
}

fn segments_of(directory: &Path, stream: &str) -> std::path::PathBuf {
    directory.join("streams").join(stream).join("segments")
}

/// A stream whose end is damaged by `damage` is cut, accepts appends, is drained, and reads the same after each start.
fn is_cut(damage: impl Fn(&Path), kept: Option<u64>) {
    let folder = tempfile::tempdir().expect("a folder");
    let killed = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    {
        let node = node(&memory, folder.path(), "orders-0");
        for record in 0..5 {
            for stream in ["a", "b"] {
                let payload = format!("{stream} number {record}");
                durable(&node.store, stream, payload.as_bytes()).expect("written");
            }
        }
        node.store.flush().expect("flushed");
        copy_directory(folder.path(), killed.path());
        node.stop();
    }
    damage(killed.path());
    let (kept, next) = {
        let node = node(&memory, killed.path(), "orders-0");
        assert!(durable(&node.store, "a", b"more").is_err(), "damaged");
        let cut = node.store.possible_cut("a").expect("it can be");
        let kept = kept.unwrap_or(cut.first_lost);
        assert_eq!(cut.first_lost, kept, "{cut:?}");
        assert!(cut.next_sequence >= 5, "given twice otherwise: {cut:?}");
        let other = node.store.cut("a", kept + 1).expect_err("another place");
        let text = other.to_string();
        assert!(
            text.contains(&format!("from sequence {kept}, not")),
            "{text}"
        );
        node.store.cut("a", kept).expect("accepted");
        if node.store.possible_cut("b").is_ok() {
            // The journal's damage is every stream's.
            let first_lost = node.store.possible_cut("b").expect("so").first_lost;
            node.store.cut("b", first_lost).expect("accepted");
        }
        assert!(durable(&node.store, "a", b"more").is_err(), "not before");
        node.stop();
        (kept, cut.next_sequence)
    };
    let mut expected: Vec<(u64, Vec<u8>)> = (0..kept)
        .map(|record| (record, format!("a number {record}").into_bytes()))
        .collect();
    for start in 0..3 {
        let node = node(&memory, killed.path(), "orders-0");
        let payload = format!("after start {start}").into_bytes();
        let appended = durable(&node.store, "a", &payload).expect("it accepts appends");
        assert_eq!(appended.first_sequence, next + start);
        expected.push((appended.first_sequence, payload));
        assert_eq!(all_of(&node.store, "a"), expected);
        let whole = node.store.possible_cut("a").expect_err("it is whole");
        assert!(whole.to_string().contains("accepts appends"), "{whole}");
        // A start that was killed does it again.
        if start == 1 {
            let again = tempfile::tempdir().expect("a folder");
            copy_directory(killed.path(), again.path());
            let store = crate::common::open(again.path());
            assert_eq!(all_of(&store, "a"), expected);
            store.close().expect("closes");
        }
        if start == 2 {
            let drain = node.tiers.drain();
            drain.begin(PATIENT);
            eventually("the token", || drain.status().phase == DrainPhase::Drained);
        }
        node.stop();
    }
}

#[test]
fn a_damaged_end_is_cut_when_asked_and_no_sequence_is_given_twice() {
    is_cut(|path| damage_everywhere(path, b"a number 3"), Some(3));
}

#[test]
fn a_stream_whose_only_segment_is_gone_is_cut_at_its_beginning() {
    is_cut(
        |path| {
            std::fs::remove_dir_all(segments_of(path, "a")).expect("removed");
            std::fs::create_dir(segments_of(path, "a")).expect("a directory");
        },
        Some(0),
    );
}

#[test]
fn streams_that_a_lost_journal_may_have_held_are_cut_where_their_segments_end() {
    is_cut(
        |path| std::fs::remove_dir_all(path.join("journal")).expect("removed"),
        None,
    );
}
