use crate::common::*;
use crate::support::*;
use aof2_core::ReadError;

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
