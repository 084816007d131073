//! The fold by itself. A store that starts by it is tested in `store/tests/residency.rs`.

use std::sync::Arc;

use aof2_format::StreamUuid;
use aof2_format::manifest_record::{LocalCopy, ManifestEvent, ManifestRecord, ReasonCode};
use aof2_format::start_sequence::{self, StartReason, StartSequence};

use super::Residency;
use crate::port::{ColdCopy, Copies, FailedStep, FailureReason};

pub(crate) fn fold(events: &[(u64, ManifestEvent)]) -> Residency {
    let mut residency = Residency::default();
    apply(&mut residency, events);
    residency
}

pub(crate) fn apply(residency: &mut Residency, events: &[(u64, ManifestEvent)]) {
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
}

pub(crate) fn opened(base_sequence: u64) -> ManifestEvent {
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

pub(crate) fn compressed(compressed_bytes: u64) -> ManifestEvent {
    ManifestEvent::CompressionDone {
        compressed_bytes,
        dictionary_id: 0,
    }
}

pub(crate) fn uploaded(key: &str) -> ManifestEvent {
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
