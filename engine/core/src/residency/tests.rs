//! The fold by itself. A store that starts by it is tested in `store/tests/residency.rs`.

use std::sync::Arc;

use aof2_format::StreamUuid;
use aof2_format::compaction::{self, Compaction};
use aof2_format::manifest_record::{LocalCopy, ManifestEvent, ManifestRecord, ReasonCode};
use aof2_format::start_sequence::{self, StartReason, StartSequence};

use super::Residency;
use super::merge::tests::{begun, inputs, merged};
use super::segment::MergeStage;
use crate::port::{ColdCopy, Copies, FailedStep, FailureReason, Objects};

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

pub(crate) fn compacted(event: Compaction) -> ManifestEvent {
    ManifestEvent::CustomEvent {
        schema_id: compaction::SCHEMA_ID,
        blob: event.encode(),
    }
}

/// Three segments of ten records, with the ids 1, 2 and 3.
pub(crate) fn three(more: &[(u64, ManifestEvent)]) -> Residency {
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

pub(crate) fn ids<'a>(
    segments: impl IntoIterator<Item = &'a crate::port::SealedSegment>,
) -> Vec<u64> {
    segments.into_iter().map(|it| it.segment_id).collect()
}

pub(crate) fn name() -> Arc<str> {
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

/// What is on its way out is what the segments say, after each record of any order.
#[test]
fn what_leaves_is_what_the_segments_say_after_each_record() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let started = |key: &str| ManifestEvent::UploadStarted { key: key.into() };
    for _ in 0..300 {
        let mut events = Vec::new();
        for id in 1..=5 {
            events.push((id, opened((id - 1) * 10)));
            events.push((id, sealed(id * 10)));
        }
        let mut output = 5;
        for _ in 0..40 {
            let id = 1 + roll(5);
            let key = id.to_string();
            let back = |copy| ManifestEvent::HydrationDone { copy, bytes: 7 };
            let event = match roll(12) {
                0 => compressed(7 + id),
                1 => started(&key),
                2 => uploaded(&key),
                3 => ManifestEvent::UploadFailed {
                    key,
                    reason: ReasonCode::BucketOrNetwork,
                },
                4 => deleted(&key),
                5 => evicted(LocalCopy::Hot),
                6 => evicted(LocalCopy::Warm),
                7 => back(LocalCopy::Hot),
                8 => back(LocalCopy::Warm),
                9 => ManifestEvent::Tier2DeleteQueued { key },
                10 => {
                    // Two of them; the fold passes over what is not so any more.
                    let of = 1 + roll(4);
                    let both = inputs(&[of, of + 1], (of - 1) * 10, (of + 1) * 10);
                    output += 1;
                    events.push((output, begun(both.clone())));
                    events.push((output, uploaded(&output.to_string())));
                    events.push((output, merged(both)));
                    continue;
                }
                _ => start(roll(60)),
            };
            events.push((id, event));
        }
        for upto in 10..events.len() {
            let residency = fold(&events[..upto]);
            let all = || residency.segments().map(|(id, _)| id);
            let of = |id: &u64| residency.segment(*id).expect("known");
            let given_up = |id: &u64| {
                let merge = of(id).merge;
                merge.is_some_and(|merge| merge.stage == MergeStage::GivenUp)
            };
            let leaves = |id: &u64| {
                residency.is_trimmed(*id) || of(id).replaced_by.is_some() || given_up(id)
            };
            let on_node: Vec<u64> = all()
                .filter(leaves)
                .filter(|id| of(id).copies.is_on_node())
                .collect();
            assert_eq!(ids(&residency.leaving_on_node(&name(), 9)), on_node);
            assert_eq!(residency.has_leaving_on_node(), !on_node.is_empty());
            let in_bucket: Vec<u64> = all()
                .filter(leaves)
                .filter(|id| of(id).copies.cold.is_some() || of(id).begun_key.is_some())
                .collect();
            let found: Vec<u64> = residency.leaving_objects().map(|it| it.id).collect();
            assert_eq!(found, in_bucket);
            assert_eq!(residency.has_leaving_objects(), !in_bucket.is_empty());
            let stored = all().filter(|id| of(id).copies.cold.is_some());
            let sizes: Vec<Option<u64>> = stored.map(|id| of(&id).compressed_bytes).collect();
            let objects = Objects {
                count: sizes.len() as u64,
                bytes: sizes.iter().flatten().sum(),
                of_unknown_size: sizes.iter().filter(|it| it.is_none()).count() as u64,
            };
            assert_eq!(residency.objects(), objects);
            for sequence in [0, 25, 50] {
                let readable = residency.readable();
                let before = readable.filter(|(_, _, seal)| seal.end_sequence <= sequence);
                let bytes: u64 = before.map(|(_, _, seal)| seal.data_end).sum();
                assert_eq!(residency.readable_bytes_upto(sequence), bytes);
            }
        }
    }
}

#[test]
fn an_upload_that_was_begun_may_have_left_an_object_until_the_manifest_says_that_it_is_gone() {
    let started = (1, ManifestEvent::UploadStarted { key: "k".into() });
    let failed = ManifestEvent::UploadFailed {
        key: "k".into(),
        reason: ReasonCode::BucketOrNetwork,
    };
    let objects = |more: &[(u64, ManifestEvent)]| {
        let mut events = vec![started.clone(), (1, failed.clone()), (0, start(10))];
        events.extend_from_slice(more);
        let residency = three(&events);
        let objects = residency.leaving_objects();
        let told: Vec<_> = objects
            .map(|it| {
                let etag = it.object.etag.map(str::to_owned);
                (it.id, it.object.key.to_owned(), etag, it.segment.deletion)
            })
            .collect();
        told
    };
    let found = |etag: Option<&str>, stage| vec![(1, "k".into(), etag.map(str::to_owned), stage)];
    use crate::residency::DeletionStage::{NotQueued, Published, Queued};
    assert_eq!(objects(&[]), found(None, NotQueued));
    let queued = |key: &str| (1, ManifestEvent::Tier2DeleteQueued { key: key.into() });
    assert_eq!(objects(&[queued("k")]), found(None, Queued));
    assert_eq!(objects(&[queued("another")]), found(None, NotQueued));
    let published = Published { at_unix_nanos: 0 };
    let twice = [queued("k"), queued("k")];
    assert_eq!(objects(&twice), found(None, published));
    assert_eq!(objects(&[(1, deleted("k"))]), []);
    // It came after all, and begins again: its etag is known now.
    let came = [queued("k"), queued("k"), (1, uploaded("k"))];
    assert_eq!(objects(&came), found(Some("e"), NotQueued));
}
