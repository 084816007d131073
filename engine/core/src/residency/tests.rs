//! The fold by itself. A store that starts by it is tested in `store/tests/residency.rs`.

use std::sync::Arc;

use aof2_format::StreamUuid;
use aof2_format::compaction::{self, Compaction, Inputs, Output};
use aof2_format::manifest_record::{LocalCopy, ManifestEvent, ManifestRecord, ReasonCode};
use aof2_format::start_sequence::{self, StartReason, StartSequence};

use super::Residency;
use crate::port::{ColdCopy, Copies, FailedStep, FailureReason};

fn fold(events: &[(u64, ManifestEvent)]) -> Residency {
    let mut residency = Residency::default();
    for (manifest_sequence, (segment_id, event)) in (0..).zip(events) {
        residency.apply(&ManifestRecord {
            stream_uuid: StreamUuid::default(),
            segment_id: *segment_id,
            manifest_sequence,
            wall_unix_nanos: 0,
            epoch: 1,
            event: event.clone(),
        });
    }
    residency
}

fn opened(base_sequence: u64) -> ManifestEvent {
    ManifestEvent::SegmentOpened {
        base_sequence,
        epoch: 1,
    }
}

pub(crate) fn sealed(end_sequence: u64) -> ManifestEvent {
    ManifestEvent::SealSegment {
        durable_bytes: 4096,
        segment_crc64: 1,
        ext_id: 0,
        watermark: end_sequence,
        flush_failure: false,
        chain: end_sequence as u32,
        first_unix_nanos: 1,
        last_unix_nanos: 2,
        sealed_unix_nanos: 3,
    }
}

fn compressed(compressed_bytes: u64) -> ManifestEvent {
    ManifestEvent::CompressionDone {
        compressed_bytes,
        dictionary_id: 0,
    }
}

fn uploaded(key: &str) -> ManifestEvent {
    ManifestEvent::UploadDone {
        key: key.into(),
        etag: "e".into(),
    }
}

pub(crate) fn deleted(key: &str) -> ManifestEvent {
    ManifestEvent::Tier2Deleted { key: key.into() }
}

pub(crate) fn evicted(copy: LocalCopy) -> ManifestEvent {
    ManifestEvent::LocalEvicted { copy, bytes: 4096 }
}

pub(crate) fn start(start_sequence: u64) -> ManifestEvent {
    let blob = StartSequence {
        start_sequence,
        reason: StartReason::Trim,
    };
    ManifestEvent::CustomEvent {
        schema_id: start_sequence::SCHEMA_ID,
        blob: blob.encode().to_vec(),
    }
}

pub(crate) fn compacted(event: Compaction) -> ManifestEvent {
    ManifestEvent::CustomEvent {
        schema_id: compaction::SCHEMA_ID,
        blob: event.encode(),
    }
}

fn inputs(ids: &[u64], base_sequence: u64, end_sequence: u64) -> Inputs {
    Inputs {
        base_sequence,
        end_sequence,
        epoch: 1,
        segment_ids: ids.to_vec(),
    }
}

fn begun(inputs: Inputs) -> ManifestEvent {
    compacted(Compaction::Begun(inputs))
}

fn merged(inputs: Inputs) -> ManifestEvent {
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

/// Three segments of ten records, with the ids 1, 2 and 3.
fn three(more: &[(u64, ManifestEvent)]) -> Residency {
    let mut events = vec![
        (1, opened(0)),
        (1, sealed(10)),
        (2, opened(10)),
        (2, sealed(20)),
        (3, opened(20)),
        (3, sealed(30)),
    ];
    events.extend_from_slice(more);
    fold(&events)
}

fn ids<'a>(segments: impl IntoIterator<Item = &'a crate::port::SealedSegment>) -> Vec<u64> {
    segments.into_iter().map(|it| it.segment_id).collect()
}

fn name() -> Arc<str> {
    "s".into()
}

#[test]
fn uploaded_counts_end_at_the_first_segment_that_is_not() {
    let residency = three(&[(1, uploaded("1")), (3, uploaded("3"))]);
    assert_eq!(
        (residency.uploaded_upto(), residency.sealed_upto()),
        (10, 30)
    );
    assert_eq!(ids(&residency.pending(&name())), [2]);
    let residency = three(&[(3, uploaded("3")), (2, uploaded("2")), (1, uploaded("1"))]);
    assert_eq!(residency.uploaded_upto(), 30);
}

#[test]
fn segments_are_ordered_by_their_first_sequence_and_not_by_their_ids() {
    let residency = fold(&[
        (7, opened(0)),
        (7, sealed(10)),
        (3, opened(10)),
        (3, sealed(20)),
        (7, uploaded("7")),
    ]);
    let order: Vec<u64> = residency.readable().map(|(id, _, _)| id).collect();
    assert_eq!(order, [7, 3]);
    assert_eq!(
        (residency.uploaded_upto(), residency.chain()),
        (10, Some(20))
    );
    assert_eq!(residency.holding(9).map(|(id, _, _)| id), Some(7));
    assert_eq!(residency.holding(10).map(|(id, _, _)| id), Some(3));
    assert_eq!(residency.holding(20).map(|(id, _, _)| id), None);
}

#[test]
fn a_copy_counts_from_its_record_on_until_the_record_that_drops_it() {
    let copies = |more: &[(u64, ManifestEvent)]| {
        let residency = three(more);
        residency.segment(1).expect("known").copies.clone()
    };
    let up = [(1, compressed(99)), (1, uploaded("k"))];
    let everywhere = Copies {
        hot: true,
        warm: Some(99),
        cold: Some(ColdCopy {
            key: "k".into(),
            etag: "e".into(),
        }),
    };
    assert_eq!(copies(&up), everywhere);
    let then = |events: &[ManifestEvent]| {
        let more: Vec<_> = up
            .iter()
            .cloned()
            .chain(events.iter().map(|event| (1, event.clone())))
            .collect();
        copies(&more)
    };
    let cold_only = then(&[evicted(LocalCopy::Hot), evicted(LocalCopy::Warm)]);
    assert_eq!((cold_only.hot, cold_only.warm), (false, None));
    assert_eq!(cold_only.cold, everywhere.cold);
    let back = ManifestEvent::HydrationDone {
        copy: LocalCopy::Warm,
        bytes: 98,
    };
    let warm_again = then(&[evicted(LocalCopy::Hot), evicted(LocalCopy::Warm), back]);
    assert_eq!((warm_again.hot, warm_again.warm), (false, Some(98)));
    assert_eq!(then(&[deleted("an older one")]), everywhere);
    assert_eq!(then(&[deleted("k")]).cold, None);
    let nothing = [
        evicted(LocalCopy::Hot),
        evicted(LocalCopy::Warm),
        deleted("k"),
    ];
    assert!(then(&nothing).is_empty());
}

#[test]
fn a_deleted_object_is_not_uploaded_again_and_takes_nothing_back() {
    let up = [(1, uploaded("1")), (2, uploaded("2"))];
    let before = three(&up);
    let after = three(&[up[0].clone(), up[1].clone(), (1, deleted("1"))]);
    assert_eq!(before.uploaded_upto(), 20);
    assert_eq!(after.uploaded_upto(), 20);
    assert_eq!(ids(&after.pending(&name())), [3]);
    // Nor behind one that waits.
    let waits = three(&[up[1].clone(), (2, deleted("2"))]);
    assert_eq!(ids(&waits.pending(&name())), [1, 3]);
    // A catalogue names what is there.
    assert_eq!(ids(&before.cold_from_start(&name())), [1, 2]);
    assert_eq!(ids(&after.cold_from_start(&name())), Vec::<u64>::new());
}

#[test]
fn counts_begin_at_the_start_sequence() {
    let residency = three(&[(0, start(15)), (2, uploaded("2"))]);
    assert_eq!(residency.start_sequence(), 15);
    assert_eq!(residency.uploaded_upto(), 20);
    assert_eq!(ids(&residency.pending(&name())), [3]);
    assert_eq!(ids(&residency.cold_from_start(&name())), [2]);
    let readable: Vec<u64> = residency.readable().map(|(id, _, _)| id).collect();
    assert_eq!(readable, [2, 3]);
    // It never moves back, and what lies below it owes nothing.
    let residency = three(&[(0, start(20)), (0, start(5))]);
    assert_eq!(
        (residency.start_sequence(), residency.uploaded_upto()),
        (20, 20)
    );
    // All of it may go.
    let residency = three(&[(0, start(30))]);
    assert_eq!(residency.readable().count(), 0);
    assert_eq!(
        (residency.sealed_upto(), residency.uploaded_upto()),
        (30, 30)
    );
    assert_eq!(residency.chain(), Some(30));
}

#[test]
fn a_file_is_dropped_only_where_the_bytes_are_elsewhere_or_may_not_be_read() {
    let up = (1, uploaded("1"));
    let hot = (1, evicted(LocalCopy::Hot));
    assert!(!three(std::slice::from_ref(&up)).is_dropped(1));
    assert!(three(&[up.clone(), hot.clone()]).is_dropped(1));
    assert!(!three(std::slice::from_ref(&hot)).is_dropped(1));
    assert!(three(&[hot, (0, start(10))]).is_dropped(1));
    // Not sealed.
    assert!(!fold(&[(1, opened(0))]).is_dropped(1));
}

#[test]
fn a_failed_upload_may_be_started_again() {
    let started = ManifestEvent::UploadStarted { key: "k".into() };
    let failed = ManifestEvent::UploadFailed {
        key: "k".into(),
        reason: ReasonCode::BucketOrNetwork,
    };
    let moves = |more: &[(u64, ManifestEvent)]| {
        let residency = three(more);
        residency.segment(1).expect("known").moves.clone()
    };
    let after = moves(&[(1, started.clone()), (1, failed)]);
    assert_eq!(
        (after.upload_started.as_deref(), after.upload_begun),
        (None, true)
    );
    assert!(after.has_failed(FailedStep::Upload, FailureReason::BucketOrNetwork));
    assert_eq!(moves(&[(1, started)]).upload_started.as_deref(), Some("k"));
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
    // A copy that somebody made meanwhile goes like one of a trimmed segment.
    assert!(!after.has_leaving_on_node());
    let late = three(&[more.clone(), vec![(2, compressed(51))]].concat());
    assert_eq!(ids(&late.leaving_on_node(&name())), [2]);
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
    assert_eq!(ids(&after.leaving_on_node(&name())), [9]);
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
