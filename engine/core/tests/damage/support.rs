use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::common::*;
use aof2_core::{ReadError, ReadRequest, Store};

/// Records of each sealed segment. Segment `n`, from 1, holds `RECORDS * (n - 1)..RECORDS * n`.
pub const RECORDS: u64 = 8;

pub const SEALED: u64 = 3;

pub const END: u64 = RECORDS * SEALED;

/// One sequence range of a segment, as readers and reports tell it.
pub type Told = (u64, u64, u64);

pub fn payload(sequence: u64) -> Vec<u8> {
    format!("record {sequence} of stream s, and some more that makes it longer").into_bytes()
}

/// Three sealed segments of stream `s`, one of stream `other`; with `open_records` behind the sealed ones.
pub fn filled(data: &Path, open_records: u64) {
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

pub fn segment_files(data: &Path, stream: &str) -> Vec<PathBuf> {
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
pub fn segment_file(data: &Path, segment: u64) -> PathBuf {
    segment_files(data, "s")[segment as usize - 1].clone()
}

pub fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

pub fn cut(path: &Path, length: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

pub fn reader(store: &Store, from_sequence: u64) -> aof2_core::Reader {
    let request = ReadRequest {
        stream: "s".into(),
        from_sequence,
        limit: 0,
        include_staged: false,
    };
    store.read(request).unwrap()
}

/// Reads all of `s`, goes on behind every damage as a client would, and holds every record against what was appended.
pub fn served(store: &Store, from: u64) -> (Vec<u64>, Vec<Told>) {
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

pub fn reported(store: &Store) -> Vec<Told> {
    let info = store.describe("s").unwrap();
    let ranges = &info.damaged_ranges;
    assert_eq!(info.damage.is_some(), !ranges.is_empty(), "{info:?}");
    ranges
        .iter()
        .map(|range| (range.segment_id, range.from_sequence, range.to_sequence))
        .collect()
}

pub fn all_but(lost: &[Told], end: u64) -> Vec<u64> {
    let is_lost = |sequence: &u64| {
        lost.iter()
            .any(|(_, from, to)| (from..to).contains(&sequence))
    };
    (0..end).filter(|sequence| !is_lost(sequence)).collect()
}

pub fn whole(segment: u64) -> Told {
    (segment, (segment - 1) * RECORDS, segment * RECORDS)
}

/// What has to hold however the segments were damaged, now and after a restart, while appends go on.
pub fn ensure_told(data: &Path, open_records: u64, lost: &[Told]) {
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

pub fn read_below(store: &Store, end: u64) -> Vec<u64> {
    let mut reading = reader(store, 0);
    let mut sequences = Vec::new();
    while (sequences.len() as u64) < end {
        let records = reading.next_batch(1 << 20).unwrap().expect("more");
        sequences.extend(records.iter().map(|record| record.sequence));
    }
    sequences
}
