//! A disk that fails: no acknowledgement after the failure, everything acknowledged before it is there after a restart.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;
mod lacks;
mod poison;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aof2_core::config::MIB;
use aof2_core::io::FileClass;
use aof2_core::{AppendError, Durability, OpenError, Remedy, StoreError};
use common::*;

/// Appends until the store is poisoned; answers how many were acknowledged.
fn append_until_poisoned(store: &aof2_core::Store, stream: &str, payload: &[u8]) -> u64 {
    for acknowledged in 0..100_000 {
        match durable(store, stream, payload) {
            Ok(appended) => assert_eq!(appended.first_sequence, acknowledged),
            Err(AppendError::Poisoned { message }) => {
                assert!(message.contains("cannot sync"), "{message}");
                return acknowledged;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the fault never struck");
}

fn a_failed_sync_poisons(class: FileClass, nth: u64, payload: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    let told = Arc::new(AtomicU64::new(0));
    let tell = told.clone();
    store.on_poison(Box::new(move |_| {
        tell.fetch_add(1, Ordering::SeqCst);
    }));
    durable(&store, "other", b"before").unwrap();
    faults.fail_sync(class, nth);
    let acknowledged = append_until_poisoned(&store, "s", payload);
    assert!(faults.has_failed());
    assert!(store.poisoned().is_some());
    // Perhaps by another thread than the one that was refused.
    eventually("the callback", || told.load(Ordering::SeqCst) > 0);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    for stream in ["s", "other", "new"] {
        let refused = durable(&store, stream, b"after").unwrap_err();
        assert!(matches!(refused, AppendError::Poisoned { .. }), "{refused}");
        assert_eq!(refused.remedy(), Remedy::Repair);
        assert!(
            store
                .append(request(stream, &[b"after"], Durability::Buffered))
                .is_err(),
            "buffered neither"
        );
    }
    let watermark = store
        .watermarks()
        .into_iter()
        .find(|watermark| &*watermark.stream == "s")
        .unwrap();
    assert_eq!(watermark.acked, acknowledged, "the watermark stands still");
    assert!(matches!(store.flush(), Err(StoreError::Poisoned { .. })));
    assert!(matches!(store.seal(None), Err(StoreError::Poisoned { .. })));
    assert!(store.metrics().flush_failures > 0);
    assert!(
        store.close().is_err(),
        "a poisoned store does not claim to be clean"
    );
    drop(store);
    let store = open(directory.path());
    let found = read_all(&store, "s");
    assert!(
        found.len() as u64 >= acknowledged,
        "{acknowledged} were acknowledged, {} are found",
        found.len()
    );
    assert!(found.iter().all(|record| record.payload == payload));
    assert_eq!(read_all(&store, "other").len(), 1);
}

#[test]
fn a_failed_sync_of_the_journal_poisons_the_store() {
    a_failed_sync_poisons(FileClass::Journal, 0, b"x");
    a_failed_sync_poisons(FileClass::Journal, 37, b"x");
}

#[test]
fn a_failed_sync_of_a_segment_poisons_the_store() {
    // The first is of the new segment's creation, the others of bulk appends, of a roll, of a checkpoint.
    a_failed_sync_poisons(FileClass::Segment, 1, &[1; 100_000]);
    a_failed_sync_poisons(FileClass::Segment, 4, &[1; 300_000]);
    a_failed_sync_poisons(FileClass::Segment, 9, &[1; 300_000]);
}

#[test]
fn a_failed_sync_of_a_manifest_poisons_the_store() {
    a_failed_sync_poisons(FileClass::Manifest, 1, &[1; 100_000]);
}

#[test]
fn nothing_is_synced_again_after_a_failed_sync() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    durable(&store, "s", b"x").unwrap();
    store.flush().unwrap();
    faults.fail_sync(FileClass::Journal, 0);
    append_until_poisoned_from(&store, "s", 1);
    drop(store);
    assert_eq!(faults.syncs_after_failure(), 0);
}

fn append_until_poisoned_from(store: &aof2_core::Store, stream: &str, from: u64) {
    for sequence in from.. {
        match durable(store, stream, b"x") {
            Ok(appended) => assert_eq!(appended.first_sequence, sequence),
            Err(_) => return,
        }
    }
}

#[test]
fn appends_in_flight_are_all_answered_when_a_sync_fails() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    durable(&store, "s", b"x").unwrap();
    faults.delay_syncs(Some(Duration::from_millis(2)));
    faults.fail_sync(FileClass::Journal, 5);
    let (sender, receiver) = std::sync::mpsc::channel();
    for index in 0..2_000u64 {
        let sender = sender.clone();
        let stream = format!("s{}", index % 7);
        store.append_with(
            request(&stream, &[b"x"], Durability::Durable),
            Box::new(move |result| sender.send(result.is_ok()).unwrap()),
        );
    }
    drop(sender);
    let mut answers = 0;
    while let Ok(_acknowledged) = receiver.recv_timeout(Duration::from_secs(20)) {
        answers += 1;
    }
    assert_eq!(answers, 2_000);
}

#[test]
fn a_full_disk_refuses_before_anything_is_lost_and_appends_resume_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    durable(&store, "s", b"first").unwrap();
    faults.limit_allocation(Some(2 * MIB));
    let payload = vec![1u8; 50_000];
    let mut acknowledged = 1;
    let refused = loop {
        match durable(&store, "s", &payload) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000);
    };
    match &refused {
        AppendError::DiskFull { .. } => {
            assert!(refused.to_string().contains("volume is full"), "{refused}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(refused.remedy(), Remedy::Retry);
    assert!(store.poisoned().is_none(), "a full disk is no broken disk");
    assert_eq!(read_all(&store, "s").len(), acknowledged);
    assert!(
        matches!(
            durable(&store, "fresh", b"x"),
            Err(AppendError::DiskFull { .. })
        ),
        "a new stream is refused too"
    );
    assert!(store.metrics().disk_full_refusals > 0);
    faults.limit_allocation(None);
    durable(&store, "s", &payload).unwrap();
    durable(&store, "fresh", b"x").unwrap();
    store.seal(None).unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(read_all(&store, "s").len(), acknowledged + 1);
}

#[test]
fn the_reserve_is_kept_when_the_volume_is_nearly_full() {
    let directory = tempfile::tempdir().unwrap();
    let (store, faults) = open_with_faults(small_config(directory.path()));
    faults.report_available(Some(3 * MIB));
    match durable(&store, "s", b"x") {
        Err(AppendError::DiskFull {
            free_bytes,
            reserve_bytes,
        }) => {
            assert_eq!(free_bytes, 3 * MIB);
            assert!(reserve_bytes >= 4 * MIB);
        }
        other => panic!("{other:?}"),
    }
    faults.report_available(None);
    durable(&store, "s", b"x").unwrap();
}

#[test]
fn a_told_capacity_counts_the_journal_and_the_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    // Three journal files of 4 MiB, the reserve of 4 MiB, and 3 MiB for segments.
    config.capacity_bytes = 19 * MIB;
    let store = try_open(config).unwrap();
    let payload = vec![1u8; 50_000];
    let refused = (0..1_000)
        .find_map(|_| durable(&store, "s", &payload).err())
        .expect("the capacity is met");
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    assert!(store.metrics().tier0_total_bytes <= 3 * MIB);
}

#[test]
fn a_flipped_bit_below_the_watermark_is_reported_and_never_served() {
    use std::os::unix::fs::FileExt;

    let directory = tempfile::tempdir().unwrap();
    // The journal would heal it, were its files not used again.
    let path = one_segment_and_a_journal_of_others(directory.path());
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut byte = [0];
    let offset = 4096 + 20 * (500 + 76) + 100;
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    let store = open(directory.path());
    let request = aof2_core::ReadRequest {
        stream: "s".into(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    let mut reader = store.read(request).unwrap();
    let mut found = 0;
    let error = loop {
        match reader.next_batch(1000) {
            Ok(Some(records)) => {
                for record in &records {
                    assert_eq!(
                        record.payload,
                        vec![found as u8; 500],
                        "only whole records are served"
                    );
                    found += 1;
                }
            }
            Ok(None) => panic!("the damage is passed over after {found} records"),
            Err(error) => break error,
        }
    };
    assert_eq!(found, 20);
    assert!(
        matches!(error, aof2_core::ReadError::Damaged { sequence: 20, .. }),
        "{error}"
    );
    match durable(&store, "s", b"more") {
        Err(error @ AppendError::Damaged { .. }) => {
            assert!(error.to_string().contains("from sequence 20"), "{error}")
        }
        other => panic!("a sequence is given twice: {other:?}"),
    }
    assert!(store.describe("s").unwrap().damage.is_some());
    assert_eq!(store.metrics().damaged_streams, 1);
    durable(&store, "other", b"goes on").unwrap();
}

#[test]
fn a_flipped_bit_that_the_journal_still_holds_is_healed() {
    use std::os::unix::fs::FileExt;

    let directory = tempfile::tempdir().unwrap();
    {
        let store = open(directory.path());
        for index in 0..50u64 {
            durable(&store, "s", &[index as u8; 500]).unwrap();
        }
    }
    let segments = directory.path().join("streams/s/segments");
    let path = std::fs::read_dir(&segments)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xFF; 700], 4096 + 5_000).unwrap();
    let store = open(directory.path());
    assert_eq!(read_all(&store, "s").len(), 50);
}

/// After a clean stop the files of streams hold everything. What the journal cannot vouch for any more is not written over them.
#[test]
fn bytes_that_the_journal_lost_are_not_written_over_good_ones() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    {
        let store = open(data);
        for index in 0..20u64 {
            durable(&store, "s", &[index as u8; 500]).unwrap();
        }
        store.close().unwrap();
    }
    let chunks = std::fs::read_dir(data.join("streams/s/manifest")).unwrap();
    let chunk = std::fs::read(chunks.map(|entry| entry.unwrap().path()).next().unwrap()).unwrap();
    // Of a record, and of a commit of the manifest.
    for own in [&[7; 500][..], &chunk[4096 + 16..][..48]] {
        let flipped = std::fs::read_dir(data.join("journal"))
            .unwrap()
            .filter(|file| flip_inside(&file.as_ref().unwrap().path(), own))
            .count();
        assert_eq!(flipped, 1, "the journal holds it");
    }
    let store = open(data);
    assert_eq!(store.describe("s").unwrap().damage, None);
    assert_eq!(read_all(&store, "s").len(), 20);
    assert_eq!(durable(&store, "s", b"more").unwrap().first_sequence, 20);
}

/// Flips a byte in the middle of these bytes, where the file holds them.
fn flip_inside(path: &std::path::Path, wanted: &[u8]) -> bool {
    let mut bytes = std::fs::read(path).unwrap();
    let Some(at) = bytes.windows(wanted.len()).position(|part| part == wanted) else {
        return false;
    };
    bytes[at + wanted.len() / 2] ^= 1;
    std::fs::write(path, bytes).unwrap();
    true
}

/// A directory that was put together from two volumes.
#[test]
fn a_journal_file_of_another_volume_is_kept_aside_and_not_replayed() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (directory, payload) in [(&ours, b"ours"), (&theirs, b"them")] {
        let store = open(directory.path());
        for _ in 0..20 {
            durable(&store, "s", payload).unwrap();
        }
        store.close().unwrap();
    }
    let foreign = "0000000000.journal";
    let to = ours.path().join("journal/0000000090.journal");
    std::fs::copy(theirs.path().join("journal").join(foreign), &to).unwrap();
    let store = open(ours.path());
    assert_eq!(store.describe("s").unwrap().damage, None);
    assert_eq!(payloads(&read_all(&store, "s")), vec![b"ours".to_vec(); 20]);
    assert!(!to.exists());
    assert!(ours.path().join("quarantine/0000000090.journal").exists());
}

/// `journal.file_bytes` and `journal.files` change before anybody appends: the new journal has said nothing yet.
#[test]
fn a_lost_end_of_a_segment_is_not_forgotten_when_the_journal_gets_another_size() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let path = one_segment_and_a_journal_of_others(data);
    flip_last_record(&path);
    let config = |mebibytes: u64, files: usize| {
        let mut config = small_config(data);
        config.journal.file_bytes = mebibytes * MIB;
        config.journal.files = files;
        config
    };
    for (mebibytes, files) in [(8, 3), (8, 2), (4, 4), (4, 2), (6, 3)] {
        let store = try_open(config(mebibytes, files)).unwrap();
        ensure_damaged(&store, "was durable");
    }
    for (mebibytes, files) in [(6, 2), (4, 3)] {
        let store = try_open(config(mebibytes, files)).unwrap();
        durable(&store, "other", b"more").unwrap();
        wait_for("the old journal files to go", || {
            let entries = std::fs::read_dir(data.join("journal")).unwrap();
            let lengths: Vec<u64> = entries
                // One may go between the list and the question.
                .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
                .collect();
            lengths.len() <= files && lengths.iter().all(|length| *length == mebibytes * MIB)
        });
        ensure_damaged(&store, "was durable");
    }
}

/// What `open` has to say of the stream `s` when the journal that knew of it has been written over by others, once and again.
fn is_damaged_for_good(break_it: impl FnOnce(&std::path::Path), why: &str) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    break_it(&one_segment_and_a_journal_of_others(data));
    for _ in 0..3 {
        let store = open(data);
        ensure_damaged(&store, why);
        use_every_journal_file(&store);
    }
}

/// The path of the only segment of the stream `s`; the journal holds nothing of it but how far it is synced.
fn one_segment_and_a_journal_of_others(data: &std::path::Path) -> std::path::PathBuf {
    {
        let store = open(data);
        for index in 0..50u64 {
            durable(&store, "s", &[index as u8; 500]).unwrap();
        }
        use_every_journal_file(&store);
    }
    let segments = data.join("streams/s/segments");
    let mut files = std::fs::read_dir(&segments).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "one segment");
    path
}

fn ensure_damaged(store: &aof2_core::Store, why: &str) {
    let info = store.describe("s").unwrap();
    let damage = info.damage.expect("it stays damaged");
    assert!(damage.contains(why), "{damage}");
    match durable(store, "s", b"more") {
        Err(AppendError::Damaged { .. }) => {}
        other => panic!("a sequence is given twice: {other:?}"),
    }
}

/// Four times the journal, of a stream that nobody asks about.
fn use_every_journal_file(store: &aof2_core::Store) {
    for _ in 0..480 {
        durable(store, "other", &[7; 100 << 10]).unwrap();
    }
}

#[test]
fn a_lost_end_of_a_segment_is_not_forgotten_with_the_journal_that_knew_of_it() {
    is_damaged_for_good(flip_last_record, "was durable");
}

/// Nothing stands behind it that could vouch for it.
fn flip_last_record(path: &std::path::Path) {
    use std::os::unix::fs::FileExt;

    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let last = 4096 + 49 * (500 + 76) + 100;
    file.write_all_at(&[0xFF], last).unwrap();
}

#[test]
fn a_lost_segment_is_damage_and_not_forgotten() {
    is_damaged_for_good(
        |path| std::fs::remove_file(path).unwrap(),
        "segment 1 is missing",
    );
}

#[test]
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let path = directory.path().join("volume.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let newer = text.replace("\"format_version\":0", "\"format_version\":7");
    assert_ne!(text, newer);
    std::fs::write(&path, newer).unwrap();
    match try_open(small_config(directory.path())) {
        Err(error @ OpenError::NewerFormat { found: 7, .. }) => {
            assert!(
                error
                    .to_string()
                    .contains("format version 7, and this engine reads up to 1"),
                "{error}"
            );
        }
        other => panic!("{:?}", other.err()),
    }
}

/// Buffered bytes may reach their segment before the journal has the record that opened it. A kill in between leaves a segment
/// that the manifest does not know; it is read, sealed, and read again by the next process.
#[test]
fn a_segment_whose_opening_was_not_journaled_is_recovered_and_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (store, faults) = open_with_faults(small_config(&data));
    let payload = vec![7; 100 << 10];
    let mut appended = 0;
    let mut append = |count: u64| {
        for _ in 0..count {
            assert_eq!(
                buffered(&store, "s", &payload).unwrap().first_sequence,
                appended
            );
            appended += 1;
        }
        appended
    };
    durable(&store, "other", b"before").unwrap();
    append(7);
    let spare = data.join("streams/s/segments/00000000000000000002.spare");
    wait_for("the next segment", || spare.exists());
    store.flush().unwrap();

    // A round that hangs, so that the next one does not begin.
    faults.delay_syncs(Some(Duration::from_secs(5)));
    let syncs = faults.syncs();
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| durable(&store, "other", b"hangs").unwrap());
        wait_for("the round", || faults.syncs() > syncs);
        let appended = append(9);
        let copy = directory.path().join("copy");
        wait_for("the bytes of the second segment", || {
            let _ = std::fs::remove_dir_all(&copy);
            faults.at_one_moment(|| copy_directory(&data, &copy));
            second_segment_has_records(&copy)
        });
        assert!(!hanging.is_finished(), "the round ended too early to tell");
        faults.delay_syncs(None);
        let mut kept = 0;
        for _ in 0..3 {
            let store = open(&copy);
            let records = read_all(&store, "s").len() as u64;
            assert!(
                records > 7 && records <= appended,
                "{records} of {appended}"
            );
            assert!(kept == 0 || kept == records, "{kept}, then {records}");
            kept = records;
            store.seal(None).unwrap();
            assert_eq!(read_all(&store, "s").len() as u64, kept);
            store.close().unwrap();
        }
        hanging.join().unwrap();
    });
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited for {what}");
        std::thread::yield_now();
    }
}

/// Whether anything stands behind the header of segment 2, which has its own name by then.
fn second_segment_has_records(data: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(data.join("streams/s/segments")) else {
        return false;
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().ends_with("00000000000000000002.seg")
        })
        .filter_map(|entry| std::fs::read(entry.path()).ok())
        .any(|bytes| {
            bytes
                .get(4096..8192)
                .is_some_and(|block| block.iter().any(|byte| *byte != 0))
        })
}
