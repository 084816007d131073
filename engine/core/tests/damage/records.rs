use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::common::*;
use crate::support::*;

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
