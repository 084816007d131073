//! Sealed segments that are damaged, cut, gone or another's: told once with segment, range and remedy; everything else is served.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aof2_core::io::{
    DirectoryEntry, DirectoryLock, Disk, DiskFile, FileClass, SystemDisk, VolumeSpace,
};
use aof2_core::{OpenError, ReadError, ReadRequest, Store};
use common::*;

/// Records of each sealed segment. Segment `n`, from 1, holds `RECORDS * (n - 1)..RECORDS * n`.
const RECORDS: u64 = 8;
const SEALED: u64 = 3;
const END: u64 = RECORDS * SEALED;

/// One sequence range of a segment, as readers and reports tell it.
type Told = (u64, u64, u64);

fn payload(sequence: u64) -> Vec<u8> {
    format!("record {sequence} of stream s, and some more that makes it longer").into_bytes()
}

/// Three sealed segments of stream `s`, one of stream `other`; with `open_records` behind the sealed ones.
fn filled(data: &Path, open_records: u64) {
    let store = open(data);
    for segment in 0..SEALED {
        for index in 0..RECORDS {
            durable(&store, "s", &payload(segment * RECORDS + index)).unwrap();
        }
        store.seal(Some("s")).unwrap();
    }
    durable(&store, "other", b"whole").unwrap();
    store.seal(Some("other")).unwrap();
    for index in 0..open_records {
        durable(&store, "s", &payload(END + index)).unwrap();
    }
    store.close().unwrap();
}

fn segment_files(data: &Path, stream: &str) -> Vec<PathBuf> {
    let directory = data.join("streams").join(stream).join("segments");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
        .collect();
    files.sort();
    files
}

/// The n-th sealed segment's file, from 1.
fn segment_file(data: &Path, segment: u64) -> PathBuf {
    segment_files(data, "s")[segment as usize - 1].clone()
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn cut(path: &Path, length: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

fn reader(store: &Store, from_sequence: u64) -> aof2_core::Reader {
    let request = ReadRequest {
        stream: "s".into(),
        from_sequence,
        limit: 0,
        include_staged: false,
    };
    store.read(request).unwrap()
}

/// Reads all of `s`, goes on behind every damage as a client would, and holds every record against what was appended.
fn served(store: &Store, from: u64) -> (Vec<u64>, Vec<Told>) {
    let (mut sequences, mut damage) = (Vec::new(), Vec::new());
    let mut reading = reader(store, from);
    loop {
        match reading.next_batch(1 << 20) {
            Ok(Some(records)) => {
                for record in records {
                    assert_eq!(record.payload, payload(record.sequence));
                    sequences.push(record.sequence);
                }
            }
            Ok(None) => return (sequences, damage),
            Err(ReadError::Damaged {
                sequence,
                to_sequence: Some(to),
                segment_id: Some(segment),
                ..
            }) => {
                assert!(
                    to > sequence && reading.position() < to,
                    "it leads no further"
                );
                damage.push((segment, sequence, to));
                reading = reader(store, to);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn reported(store: &Store) -> Vec<Told> {
    let info = store.describe("s").unwrap();
    let ranges = &info.damaged_ranges;
    assert_eq!(info.damage.is_some(), !ranges.is_empty(), "{info:?}");
    ranges
        .iter()
        .map(|range| (range.segment_id, range.from_sequence, range.to_sequence))
        .collect()
}

fn all_but(lost: &[Told], end: u64) -> Vec<u64> {
    let is_lost = |sequence: &u64| {
        lost.iter()
            .any(|(_, from, to)| (from..to).contains(&sequence))
    };
    (0..end).filter(|sequence| !is_lost(sequence)).collect()
}

fn whole(segment: u64) -> Told {
    (segment, (segment - 1) * RECORDS, segment * RECORDS)
}

/// What has to hold however the segments were damaged, now and after a restart, while appends go on.
fn ensure_told(data: &Path, open_records: u64, lost: &[Told]) {
    for (end, start) in (END + open_records..).zip(0..3) {
        let store = open(data);
        let (sequences, met) = served(&store, 0);
        assert_eq!(met, lost, "what a reader is told at start {start}");
        assert_eq!(sequences, all_but(lost, end), "start {start}");
        assert_eq!(reported(&store), lost);
        for (segment, from, to) in lost {
            let behind = served(&store, *to);
            let others: Vec<Told> = lost
                .iter()
                .copied()
                .filter(|other| other.1 >= *to)
                .collect();
            assert_eq!(behind.1, others, "from behind segment {segment}");
            assert_eq!(served(&store, *from).0, served(&store, *to).0);
        }
        // Met again and again, told once.
        assert_eq!(reported(&store), lost);
        let metrics = store.metrics();
        assert_eq!(metrics.damaged_streams, u64::from(!lost.is_empty()));
        assert_eq!(metrics.damaged_ranges, lost.len() as u64);
        let info = store.describe("s").unwrap();
        assert_eq!((info.first_sequence, info.next_sequence), (0, end));
        for range in &info.damaged_ranges {
            let name = segment_files(data, "s");
            let told = range.remedy.contains("/streams/s/segments/");
            assert!(
                told && range.remedy.starts_with("restore "),
                "{range} {name:?}"
            );
        }
        let appended = durable(&store, "s", &payload(end)).unwrap();
        assert_eq!(appended.first_sequence, end, "appends go on");
        assert_eq!(read_all(&store, "other").len(), 1);
        assert_eq!(store.describe("other").unwrap().damage, None);
        store.close().unwrap();
    }
}

#[test]
fn a_sealed_segment_that_is_missing_is_told_and_what_lies_behind_is_served() {
    for missing in 1..=SEALED {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 2);
        std::fs::remove_file(segment_file(directory.path(), missing)).unwrap();
        let store = open(directory.path());
        let lost = [whole(missing)];
        assert_eq!(reported(&store), lost, "known before anybody reads");
        drop(store);
        ensure_told(directory.path(), 2, &lost);
    }
}

#[test]
fn every_sealed_segment_may_be_missing_at_once() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 2);
    for path in segment_files(directory.path(), "s").into_iter().take(3) {
        std::fs::remove_file(path).unwrap();
    }
    ensure_told(directory.path(), 2, &[whole(1), whole(2), whole(3)]);
}

#[test]
fn a_segment_that_is_cut_or_emptied_is_told_before_anybody_reads() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let original = std::fs::read(segment_file(directory.path(), 2)).unwrap();
    let length = original.len() as u64;
    for kept in [0, 1, 4095, 4096, 4200, length - 4096, length - 1] {
        cut(&segment_file(directory.path(), 2), kept);
        let store = open(directory.path());
        assert_eq!(reported(&store), [whole(2)], "{kept} bytes are left");
        assert_eq!(served(&store, 0).1, [whole(2)]);
        drop(store);
        std::fs::write(segment_file(directory.path(), 2), &original).unwrap();
    }
    cut(&segment_file(directory.path(), 2), 0);
    ensure_told(directory.path(), 1, &[whole(2)]);
}

#[test]
fn a_segment_that_is_put_back_is_served_again() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let (path, aside) = (
        segment_file(directory.path(), 1),
        directory.path().join("aside"),
    );
    std::fs::rename(&path, &aside).unwrap();
    let store = open(directory.path());
    assert_eq!(served(&store, 0).1, [whole(1)]);
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(served(&store, 0), (all_but(&[], END + 1), vec![]));
    drop(store);
    ensure_told(directory.path(), 1, &[]);
}

#[test]
fn files_of_two_segments_that_changed_places_are_not_served() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let (first, second) = (
        segment_file(directory.path(), 1),
        segment_file(directory.path(), 2),
    );
    let aside = directory.path().join("aside");
    std::fs::rename(&first, &aside).unwrap();
    std::fs::rename(&second, &first).unwrap();
    std::fs::rename(&aside, &second).unwrap();
    ensure_told(directory.path(), 1, &[whole(1), whole(2)]);
}

#[test]
fn another_streams_file_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    // Of the same shape in every number: only the stream differs.
    let copy = tempfile::tempdir().unwrap();
    filled(copy.path(), 1);
    for segment in 1..=2 {
        let foreign = segment_file(copy.path(), segment);
        std::fs::copy(foreign, segment_file(directory.path(), segment)).unwrap();
    }
    ensure_told(directory.path(), 1, &[whole(1), whole(2)]);
}

#[test]
fn either_block_of_another_segment_gives_a_file_away() {
    for is_header in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 1);
        let (path, other) = (
            segment_file(directory.path(), 1),
            segment_file(directory.path(), 2),
        );
        let (mut bytes, foreign) = (std::fs::read(&path).unwrap(), std::fs::read(other).unwrap());
        let length = bytes.len();
        assert_eq!(length, foreign.len());
        let block = if is_header {
            0..4096
        } else {
            length - 4096..length
        };
        bytes[block.clone()].copy_from_slice(&foreign[block]);
        std::fs::write(&path, bytes).unwrap();
        ensure_told(directory.path(), 1, &[whole(1)]);
    }
}

#[test]
fn a_batch_that_is_left_out_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let path = segment_file(directory.path(), 2);
    let mut bytes = std::fs::read(&path).unwrap();
    let starts: Vec<usize> = (4096..bytes.len() - 4)
        .filter(|at| bytes[*at..].starts_with(b"RB2A"))
        .collect();
    assert_eq!(starts.len() as u64, RECORDS);
    // The third goes, those behind it move up.
    bytes.drain(starts[2]..starts[3]);
    let seal = bytes.len() - 4096;
    bytes.splice(seal..seal, vec![0; starts[3] - starts[2]]);
    std::fs::write(&path, bytes).unwrap();
    ensure_told(directory.path(), 1, &[(2, RECORDS + 2, RECORDS + 3)]);
}

#[test]
fn a_flipped_byte_takes_the_record_that_it_lies_in_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let originals: Vec<(PathBuf, Vec<u8>)> = segment_files(directory.path(), "s")
        .into_iter()
        .take(SEALED as usize)
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let mut lost_in = BTreeMap::new();
    for (segment, (path, original)) in (1u64..).zip(&originals) {
        let length = original.len() as u64;
        // Batches lie from the second block on; behind the last one are zeroes up to the seal, which nobody reads.
        let behind_batches = original.len() - 4096;
        let data_end = original[..behind_batches]
            .iter()
            .rposition(|byte| *byte != 0);
        let data_end = data_end.unwrap() as u64 + 1;
        let batches = (4096..data_end).step_by(61);
        let blocks = (0..length).step_by(1000);
        let around = blocks.filter(|offset| !(4096..data_end).contains(offset));
        for offset in batches.chain(around) {
            flip(path, offset);
            let store = open(directory.path());
            let (sequences, lost) = served(&store, 0);
            let place = format!("byte {offset} of segment {segment}");
            assert_eq!(sequences, all_but(&lost, END + 1), "{place}");
            let told = reported(&store);
            if (4096..data_end).contains(&offset) {
                let [(of, from, to)] = lost[..] else {
                    panic!("{place}: {lost:?}")
                };
                assert_eq!((of, to - from), (segment, 1), "{place}");
                assert_eq!(told, lost, "{place}");
                *lost_in.entry(from).or_insert(0) += 1;
            } else if offset < 4096 || offset >= length - 4096 {
                assert_eq!(lost, [], "{place}");
                let base = (segment - 1) * RECORDS;
                assert_eq!(told, [(segment, base, base)], "{place}: no record is lost");
            } else {
                assert_eq!((lost, told), (vec![], vec![]), "{place}");
            }
            durable(&store, "other", b"goes on").unwrap();
            drop(store);
            std::fs::write(path, original).unwrap();
        }
    }
    assert_eq!(lost_in.len() as u64, END, "every record was met");
}

#[test]
fn damage_in_every_segment_is_told_by_each() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 3);
    let mut lost = Vec::new();
    for segment in 1..=SEALED {
        flip(&segment_file(directory.path(), segment), 4096 + 40);
        let base = (segment - 1) * RECORDS;
        lost.push((segment, base, base + 1));
    }
    ensure_told(directory.path(), 3, &lost);
}

#[test]
fn neighbouring_records_that_are_damaged_are_one_range() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let path = segment_file(directory.path(), 2);
    let bytes = std::fs::read(&path).unwrap();
    for sequence in [RECORDS + 2, RECORDS + 3, RECORDS + 6] {
        let needle = payload(sequence);
        let at = bytes.windows(needle.len()).position(|part| part == needle);
        flip(&path, at.unwrap() as u64);
    }
    let lost = [(2, RECORDS + 2, RECORDS + 4), (2, RECORDS + 6, RECORDS + 7)];
    ensure_told(directory.path(), 1, &lost);
}

#[test]
fn the_last_seal_is_done_without_where_the_batches_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 0);
    let path = segment_file(directory.path(), SEALED);
    flip(&path, std::fs::metadata(&path).unwrap().len() - 4000);
    let store = open(directory.path());
    let base = (SEALED - 1) * RECORDS;
    assert_eq!(served(&store, 0), (all_but(&[], END), vec![]));
    assert_eq!(reported(&store), [(SEALED, base, base)]);
    // The chain goes on from the right place: recovery compares it.
    assert_eq!(
        durable(&store, "s", &payload(END)).unwrap().first_sequence,
        END
    );
    drop(store);
    let store = open(directory.path());
    assert_eq!(served(&store, 0), (all_but(&[], END + 1), vec![]));
    assert_eq!(store.describe("s").unwrap().next_sequence, END + 1);
}

/// The manifest says how the segment ended, so what follows is held against it.
#[test]
fn a_last_segment_that_is_lost_is_told_and_the_log_goes_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 0);
    std::fs::remove_file(segment_file(directory.path(), SEALED)).unwrap();
    let base = END - RECORDS;
    for start in 0..3 {
        let store = open(directory.path());
        assert_eq!(reported(&store), [(SEALED, base, END)]);
        let appended = durable(&store, "s", &payload(END + start)).unwrap();
        assert_eq!(appended.first_sequence, END + start);
        assert_eq!(read_below(&store, base), all_but(&[], base));
        let damaged = reader(&store, base).next_batch(1 << 20);
        assert!(
            matches!(
                damaged,
                Err(ReadError::Damaged {
                    segment_id: Some(SEALED),
                    to_sequence: Some(END),
                    ..
                })
            ),
            "{damaged:?}"
        );
        let behind = reader(&store, END).next_batch(1 << 20).unwrap().unwrap();
        assert_eq!(behind.len() as u64, start + 1);
    }
}

fn read_below(store: &Store, end: u64) -> Vec<u64> {
    let mut reading = reader(store, 0);
    let mut sequences = Vec::new();
    while (sequences.len() as u64) < end {
        let records = reading.next_batch(1 << 20).unwrap().expect("more");
        sequences.extend(records.iter().map(|record| record.sequence));
    }
    sequences
}

/// A disk that does not give one file back.
#[derive(Debug)]
struct BadSector {
    path: PathBuf,
    error: i32,
}

impl Disk for BadSector {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if path == self.path {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        SystemDisk.open_read(path)
    }

    fn create(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.create(path, class)
    }

    fn open_write(&self, path: &Path, class: FileClass) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.open_write(path, class)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        SystemDisk.unlink(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        SystemDisk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        SystemDisk.exists(path)
    }

    fn space(&self, path: &Path) -> io::Result<VolumeSpace> {
        SystemDisk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        SystemDisk.lock(path)
    }
}

fn try_open_with(data: &Path, bad: BadSector) -> Result<Store, OpenError> {
    let mut options = options(small_config(data));
    options.environment.disk = Arc::new(bad);
    Store::open(options)
}

#[test]
fn a_segment_that_the_device_does_not_give_back_is_told_with_its_error() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let bad = BadSector {
        path: segment_file(directory.path(), 2),
        error: 5, // EIO
    };
    let store = try_open_with(directory.path(), bad).unwrap();
    assert_eq!(reported(&store), [whole(2)]);
    let error = reader(&store, RECORDS).next_batch(1 << 20).unwrap_err();
    assert!(matches!(error, ReadError::Disk { .. }), "{error}");
    assert_eq!(served(&store, 2 * RECORDS).0.len() as u64, RECORDS + 1);
    assert_eq!(reported(&store), [whole(2)], "told once");
    durable(&store, "s", &payload(END + 1)).unwrap();
}

#[test]
fn a_process_without_descriptors_left_says_nothing_about_its_files() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let bad = BadSector {
        path: segment_file(directory.path(), 2),
        error: 24, // EMFILE
    };
    match try_open_with(directory.path(), bad) {
        Err(OpenError::Disk { .. }) => {}
        other => panic!("{:?}", other.map(|_| "it opened")),
    }
    ensure_told(directory.path(), 1, &[]);
}

#[test]
fn records_before_the_damage_are_not_held_back_by_it() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    std::fs::remove_file(segment_file(directory.path(), 2)).unwrap();
    let store = open(directory.path());
    let mut reading = reader(&store, 0);
    let records = reading
        .next_batch(1 << 20)
        .unwrap()
        .expect("the first segment");
    assert_eq!(records.len() as u64, RECORDS);
    for _ in 0..3 {
        let error = reading.next_batch(1 << 20).unwrap_err().to_string();
        let range = format!("sequence {RECORDS} (readable again from {}", 2 * RECORDS);
        assert!(
            error.contains(&range) && error.contains("segment 2"),
            "{error}"
        );
    }
}

/// What a tail does: read what there is, wait for more, and so on.
#[test]
fn a_tail_ends_at_damage_and_waits_at_the_end() {
    for missing in 1..=SEALED {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 1);
        std::fs::remove_file(segment_file(directory.path(), missing)).unwrap();
        let store = open(directory.path());
        let mut reading = reader(&store, 0);
        let error = loop {
            match reading.next_batch(1 << 20) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a tail would wait for sequence {}", reading.position()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Damaged { .. }), "{error}");

        let mut reading = reader(&store, missing * RECORDS);
        while reading.next_batch(1 << 20).unwrap().is_some() {}
        assert_eq!(reading.position(), END + 1);
        let (wake, woken) = mpsc::channel();
        let callback = Box::new(move |count| wake.send(count).unwrap());
        store
            .on_durable_beyond("s", reading.position(), callback)
            .unwrap();
        assert!(
            woken.try_recv().is_err(),
            "nothing is there to be woken for"
        );
        durable(&store, "s", &payload(END + 1)).unwrap();
        assert_eq!(woken.recv_timeout(Duration::from_secs(20)), Ok(END + 2));
    }
}
