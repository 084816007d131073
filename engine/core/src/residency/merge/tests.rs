use aof2_format::compaction::{Compaction, Inputs, Output};
use aof2_format::manifest_record::{ManifestEvent, ReasonCode};

use crate::port::FailureReason;
use crate::residency::Residency;
use crate::residency::tests::{compacted, compressed, deleted, ids, name, start, three, uploaded};

pub(crate) fn inputs(ids: &[u64], base_sequence: u64, end_sequence: u64) -> Inputs {
    Inputs {
        base_sequence,
        end_sequence,
        epoch: 1,
        segment_ids: ids.to_vec(),
    }
}

pub(crate) fn begun(inputs: Inputs) -> ManifestEvent {
    compacted(Compaction::Begun(inputs))
}

pub(crate) fn merged(inputs: Inputs) -> ManifestEvent {
    let output = Output {
        durable_bytes: 9_000,
        segment_crc64: 7,
        object_bytes: 99,
        first_unix_nanos: 1,
        last_unix_nanos: 5,
        sealed_unix_nanos: 6,
        chain: 77,
    };
    compacted(Compaction::Merged(inputs, output))
}

fn all_uploaded() -> Vec<(u64, ManifestEvent)> {
    let up = [(1, uploaded("1")), (2, uploaded("2")), (3, uploaded("3"))];
    up.to_vec()
}

fn ids_of(residency: &Residency) -> Vec<u64> {
    residency.readable().map(|(id, _, _)| id).collect()
}

#[test]
fn an_output_that_was_begun_changes_nothing_of_what_is_read_whatever_is_recorded_of_it() {
    let both = || inputs(&[2, 3], 10, 30);
    let before = three(&all_uploaded());
    for more in [
        vec![(9, begun(both()))],
        vec![(9, begun(both())), (9, uploaded("9"))],
        vec![
            (9, begun(both())),
            (9, uploaded("9")),
            (9, compacted(Compaction::GivenUp)),
        ],
    ] {
        let after = three(&[all_uploaded(), more].concat());
        assert_eq!(ids_of(&after), [1, 2, 3]);
        assert_eq!((after.uploaded_upto(), after.sealed_upto()), (30, 30));
        assert_eq!(after.chain(), before.chain());
        assert_eq!(ids(&after.cold_from_start(&name())), [1, 2, 3]);
        assert_eq!(ids(&after.pending(&name())), Vec::<u64>::new());
        assert!(after.is_unsealed_output(9) && !after.is_sealed(9));
    }
}

#[test]
fn one_record_makes_the_output_count_and_its_inputs_not() {
    let more = [
        all_uploaded(),
        vec![
            (2, compressed(50)),
            (9, begun(inputs(&[2, 3], 10, 30))),
            (9, uploaded("9")),
            (9, merged(inputs(&[2, 3], 10, 30))),
        ],
    ]
    .concat();
    let after = three(&more);
    assert_eq!(ids_of(&after), [1, 9]);
    assert_eq!((after.uploaded_upto(), after.sealed_upto()), (30, 30));
    assert_eq!(after.chain(), Some(77));
    assert_eq!(ids(&after.cold_from_start(&name())), [1, 9]);
    assert_eq!(ids(&after.pending(&name())), Vec::<u64>::new());
    let output = after.sealed_segment(&name(), 9).expect("sealed");
    assert_eq!(
        (output.base_sequence, output.records, output.bytes),
        (10, 20, 9_000)
    );
    assert_eq!(
        (output.copies.hot, output.compressed_bytes),
        (true, Some(99))
    );
    assert_eq!(
        (output.times.first_unix_nanos, output.times.last_unix_nanos),
        (1, 5)
    );
    for sequence in [10, 19, 20, 29] {
        assert_eq!(after.holding(sequence).map(|(id, _, _)| id), Some(9));
    }
    assert!(!after.is_unsealed_output(9) && after.unfinished().is_none());
    // The journal may still hold frames of the inputs: they are no open segments.
    assert!(after.is_sealed(2) && after.is_dropped(2) && after.is_dropped(3));
    assert!(!after.is_dropped(9) && !after.is_dropped(1));
    assert!(ids(&after.without_warm_copy(&name())).contains(&2));
    let leaving: Vec<(u64, u64, bool)> = after
        .leaving_objects()
        .map(|it| (it.id, it.end_sequence, it.is_superseded))
        .collect();
    assert_eq!(leaving, [(2, 20, true), (3, 30, true)]);
    // Tools that look at files know them.
    assert_eq!(ids(&after.sealed_segments(&name(), |_| true)), [1, 2, 9, 3]);
    // A copy that somebody made meanwhile goes like one of a trimmed segment.
    assert!(!after.has_leaving_on_node());
    let late = three(&[more.clone(), vec![(2, compressed(51))]].concat());
    assert_eq!(ids(&late.leaving_on_node(&name(), 9)), [2]);
    let gone = three(&[more, vec![(2, deleted("2")), (3, deleted("3"))]].concat());
    assert_eq!(gone.leaving_objects().count(), 0);
}

#[test]
fn a_merge_of_what_is_not_there_changes_nothing() {
    for wrong in [
        inputs(&[2, 3], 10, 31),
        inputs(&[2, 3], 9, 30),
        inputs(&[3, 2], 10, 30),
        inputs(&[1, 3], 0, 30),
        inputs(&[2, 4], 10, 30),
        Inputs {
            epoch: 2,
            ..inputs(&[2, 3], 10, 30)
        },
    ] {
        let after = three(&[(9, begun(wrong.clone())), (9, merged(wrong.clone()))]);
        assert_eq!(ids_of(&after), [1, 2, 3], "{wrong:?}");
        assert!(after.segment(2).expect("known").copies.hot);
    }
    // Nor twice.
    let again = inputs(&[2, 3], 10, 30);
    let twice = three(&[(9, merged(again.clone())), (10, merged(again))]);
    assert_eq!(ids_of(&twice), [1, 9]);
}

#[test]
fn the_object_of_an_output_that_was_given_up_is_to_go() {
    let first = (9, begun(inputs(&[2, 3], 10, 30)));
    let next = (10, begun(inputs(&[1, 2], 0, 20)));
    for given_up in [(9, compacted(Compaction::GivenUp)), next] {
        let after = three(&[first.clone(), (9, uploaded("9")), given_up.clone()]);
        let leaving: Vec<(u64, u64, u64)> = after
            .leaving_objects()
            .map(|it| (it.id, it.segment.base_sequence, it.end_sequence))
            .collect();
        assert_eq!(leaving, [(9, 10, 30)]);
        // Recorded behind that.
        let late = three(&[first.clone(), given_up, (9, uploaded("9"))]);
        assert_eq!(late.leaving_objects().count(), 1);
    }
}

#[test]
fn an_output_of_what_was_trimmed_meanwhile_is_to_go_too() {
    let both = inputs(&[1, 2], 0, 20);
    let after = three(&[(9, begun(both.clone())), (0, start(20)), (9, merged(both))]);
    assert_eq!(ids_of(&after), [3]);
    assert_eq!(ids(&after.leaving_on_node(&name(), 9)), [9]);
}

#[test]
fn what_failed_of_a_merge_is_known_until_it_is_over() {
    let reason = ReasonCode::BucketOrNetwork;
    let failed = [
        (9, begun(inputs(&[2, 3], 10, 30))),
        (9, compacted(Compaction::Failed { reason })),
    ];
    let unfinished = three(&failed);
    let unfinished = unfinished.unfinished().expect("begun");
    assert!(
        unfinished
            .failures
            .contains(&FailureReason::BucketOrNetwork)
    );
    assert_eq!(unfinished.output_id, 9);
}

/// As long as nobody knows that none came, an upload that was begun may have left an object.
#[test]
fn what_an_upload_of_an_output_that_was_given_up_may_have_left_is_to_go() {
    let key = || "9".to_owned();
    let events = [
        (9, begun(inputs(&[2, 3], 10, 30))),
        (9, ManifestEvent::UploadStarted { key: key() }),
    ];
    assert_eq!(three(&events).leaving_objects().count(), 0);
    let given_up = [events.to_vec(), vec![(9, compacted(Compaction::GivenUp))]].concat();
    let after = three(&given_up);
    let leaving: Vec<(u64, &str, Option<&str>)> = after
        .leaving_objects()
        .map(|it| (it.id, it.object.key, it.object.etag))
        .collect();
    assert_eq!(leaving, [(9, "9", None)]);
    assert!(after.has_leaving_objects() && !after.has_leaving_on_node());
    let gone = three(&[given_up, vec![(9, deleted("9"))]].concat());
    assert!(!gone.has_leaving_objects());
}

#[test]
fn readable_bytes_are_those_of_the_output() {
    let both = || inputs(&[2, 3], 10, 30);
    let after = three(&[(9, begun(both())), (9, merged(both()))]);
    assert_eq!(after.readable_bytes_upto(30), 4096 + 9_000);
    assert_eq!(after.readable_bytes_upto(29), 4096);
    let trimmed = three(&[(9, merged(both())), (0, start(30))]);
    assert_eq!(trimmed.readable_bytes_upto(30), 0);
    // The start lies in an input that the output holds all of.
    let inside = three(&[(0, start(25)), (9, merged(both()))]);
    assert_eq!(inside.readable_bytes_upto(30), 9_000);
}
