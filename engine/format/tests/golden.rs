//! The golden bytes, written by an independent program, decode to the values expected and these encode to the same bytes.

mod support;

use aof2_format::claim::{Claim, ClusterMarker};
use aof2_format::clock_reading::ClockReading;
use aof2_format::compaction::{Compaction, Inputs, Output};
use aof2_format::journal::{
    self, CommitFields, FileKind, Frame, FrameHeader, JournalHeader, Position,
};
use aof2_format::journal_mark::JournalMark;
use aof2_format::manifest_base::{BaseChunk, ManifestBase};
use aof2_format::manifest_chunk::{self, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ReasonCode};
use aof2_format::mark::VolumeMark;
use aof2_format::producer_changes::{ProducerChanges, ProducerRun};
use aof2_format::record_batch::{self, Fields, Gap, GapReason, Producer};
use aof2_format::segment::{SegmentHeader, SegmentSeal};
use aof2_format::snapshot::{
    Catalogue, CatalogueChunk, CatalogueSegment, Crc64, RecoveryNotes, SnapshotId, SnapshotNote,
};
use aof2_format::snapshot_deletion::{DeletionStage, SnapshotDeletion};
use aof2_format::start_sequence::{StartReason, StartSequence};
use aof2_format::stream_catalog::CatalogEntry;
use aof2_format::stream_header::StreamHeader;
use aof2_format::volume::VolumeIdentity;
use aof2_format::warm::{self, BlockEntry, WarmFooter, WarmHeader, WarmIndex, WarmSummary};
use aof2_format::{StreamNumber, checksum};
use support::*;

#[test]
fn the_checksums_are_the_published_ones() {
    assert_eq!(checksum::crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(
        checksum::crc32c(&golden("journal_commit")),
        crc32c::crc32c(&golden("journal_commit"))
    );
    assert_eq!(checksum::crc64nvme(b"123456789"), 0xAE8B_1486_0A79_9888);
}

#[test]
fn a_batch_of_records_is_stable() {
    let (fields, payloads) = records();
    let bytes = golden("record_batch");
    let batch = record_batch::decode(&bytes, stream_seed()).unwrap();
    assert_eq!(*batch.fields(), fields);
    assert_eq!(batch.payloads().collect::<Vec<_>>(), payloads);
    assert_eq!(
        (
            batch.count(),
            batch.end_sequence(),
            batch.gap(),
            batch.batch_bytes()
        ),
        (3, 103, None, bytes.len())
    );

    let mut encoded = Vec::new();
    let chain = record_batch::encode(
        &mut encoded,
        &fields,
        payloads.iter().map(Vec::as_slice),
        stream_seed(),
    )
    .unwrap();
    assert_eq!(encoded, bytes);
    assert_eq!(chain, batch.chain());
}

#[test]
fn a_gap_is_stable_and_chained_to_the_batch_before() {
    let before = golden("record_batch");
    let prev_chain = record_batch::decode(&before, stream_seed())
        .unwrap()
        .chain();
    let fields = Fields {
        base_sequence: 103,
        epoch: 7,
        prev_chain,
        producer: Producer::default(),
        appended_unix_nanos: NANOS,
        durable_upto: 103,
    };
    let bytes = golden("record_batch_gap");
    let batch = record_batch::decode(&bytes, stream_seed()).unwrap();
    assert_eq!(*batch.fields(), fields);
    assert_eq!(
        batch.gap(),
        Some(Gap {
            from: 103,
            end: 200,
            reason: GapReason::LossWindow
        })
    );
    assert_eq!(
        (
            batch.count(),
            batch.payloads().count(),
            batch.end_sequence()
        ),
        (0, 0, 200)
    );

    let mut encoded = Vec::new();
    record_batch::encode_gap(
        &mut encoded,
        &fields,
        200,
        GapReason::LossWindow,
        stream_seed(),
    );
    assert_eq!(encoded, bytes);
}

#[test]
fn a_segment_header_is_stable() {
    let value = SegmentHeader {
        cluster_id: cluster_id(),
        stream: stream(),
        stream_uuid: stream_uuid(),
        stream_salt: STREAM_SALT,
        segment_id: 12,
        epoch: 7,
        base_sequence: 100,
        prev_chain: 0xA1B2_C3D4,
        created_unix_nanos: NANOS,
    };
    assert_eq!(
        SegmentHeader::decode(&golden("segment_header")).unwrap(),
        value
    );
    assert_eq!(value.encode()[..], golden("segment_header"));
}

#[test]
fn a_segment_seal_is_stable() {
    let segment = segment();
    let chain = record_batch::decode(&golden("record_batch_gap"), stream_seed())
        .unwrap()
        .chain();
    let value = SegmentSeal {
        cluster_id: cluster_id(),
        stream_uuid: stream_uuid(),
        segment_id: 12,
        epoch: 7,
        base_sequence: 100,
        end_sequence: 200,
        records: 3,
        data_end: segment.len() as u64,
        crc64: checksum::crc64nvme(&segment),
        chain,
        sealed_unix_nanos: NANOS,
        flush_failure: true,
    };
    assert_eq!(SegmentSeal::decode(&golden("segment_seal")).unwrap(), value);
    assert_eq!(value.encode()[..], golden("segment_seal"));
}

#[test]
fn a_stream_header_is_stable() {
    let value = StreamHeader {
        cluster_id: cluster_id(),
        stream: stream(),
        stream_uuid: stream_uuid(),
        stream_salt: STREAM_SALT,
        stream_number: StreamNumber(42),
        epoch: 7,
        created_unix_nanos: NANOS,
    };
    assert_eq!(
        StreamHeader::decode(&golden("stream_header")).unwrap(),
        value
    );
    assert_eq!(value.encode()[..], golden("stream_header"));
}

#[test]
fn a_stream_catalog_entry_is_stable() {
    let bytes = golden("stream_catalog_entry");
    let value = CatalogEntry {
        volume_id: volume_id(),
        header: StreamHeader::decode(&golden("stream_header")).unwrap(),
    };
    assert_eq!(CatalogEntry::decode(&bytes).unwrap(), value);
    assert_eq!(value.encode()[..], bytes);
}

#[test]
fn a_journal_mark_is_stable_and_the_slots_that_verify_are_found() {
    let bytes = golden("journal_mark");
    let value = JournalMark {
        cluster_id: cluster_id(),
        node_id: node_id(),
        volume_id: volume_id(),
        turn: 5,
        file_number: 9,
        commit: 1000,
        settled_before: 8,
    };
    assert_eq!(JournalMark::decode(&bytes).unwrap(), value);
    assert_eq!(value.encode()[..], bytes);
    assert_eq!(JournalMark::slot_offset(5), 4096);
    let file = [vec![0; 4096], bytes].concat();
    assert_eq!(JournalMark::decode_file(&file).collect::<Vec<_>>(), [value]);
}

#[test]
fn either_copy_of_a_journal_header_serves_and_the_newer_one_counts() {
    let copy = golden("journal_header");
    let header = JournalHeader::decode(&copy).unwrap();
    for damaged in 0..2 {
        let mut both = [copy.clone(), copy.clone()].concat();
        both[damaged * 4096 + 200] ^= 1;
        assert_eq!(JournalHeader::decode_any(&both).unwrap(), header);
    }
    let newer = JournalHeader {
        file_number: 12,
        ..header
    };
    // Its second write was cut off: it is in use, whatever stands behind.
    let torn = [newer.encode().to_vec(), copy.clone()].concat();
    assert_eq!(JournalHeader::decode_any(&torn).unwrap(), newer);
    assert_eq!(JournalHeader::decode_any(&copy).unwrap(), header);
    assert!(JournalHeader::decode_any(&[]).is_err());
    assert!(JournalHeader::decode_any(&[0; 8192]).is_err());
}

#[test]
fn a_manifest_chunk_header_is_stable() {
    let value = ManifestChunkHeader {
        cluster_id: cluster_id(),
        stream: stream(),
        stream_uuid: stream_uuid(),
        stream_salt: STREAM_SALT,
        epoch: 7,
        chunk: 2,
        base_manifest_sequence: 30,
        prev_chain: 0x0BAD_CAFE,
        created_unix_nanos: NANOS,
    };
    assert_eq!(
        ManifestChunkHeader::decode(&golden("manifest_chunk_header")).unwrap(),
        value
    );
    assert_eq!(value.encode()[..], golden("manifest_chunk_header"));
}

#[test]
fn a_manifest_base_is_stable() {
    let records = manifest_records();
    let chunk = |chain, bytes, crc64, first_manifest_sequence, next_manifest_sequence| BaseChunk {
        epoch: 7,
        chain,
        bytes,
        crc64,
        first_manifest_sequence,
        next_manifest_sequence,
    };
    let value = ManifestBase {
        cluster_id: cluster_id(),
        stream: stream(),
        stream_uuid: stream_uuid(),
        stream_salt: STREAM_SALT,
        epoch: 7,
        created_unix_nanos: NANOS,
        chunks: vec![
            chunk(0x0BAD_CAFE, 1_100_000, 0xABC0, 0, 30),
            chunk(0x0DEF_ACED, 5_000, 0xABC1, 30, 50),
        ],
        records: [1, 14, 16].map(|index| records[index].clone()).to_vec(),
        producers: vec![ProducerChanges::decode(&golden("producer_changes")).unwrap()],
        forgotten_before: 50,
        recent_from: 90,
    };
    let bytes = golden("manifest_base");
    assert_eq!(ManifestBase::decode(&bytes).unwrap(), value);
    assert_eq!(value.encode(), bytes);
    assert_eq!(
        (value.next_manifest_sequence(), value.chain()),
        (50, 0x0DEF_ACED)
    );
}

#[test]
fn a_manifest_commit_of_every_record_type_is_stable() {
    let bytes = golden("manifest_commit");
    let commit = manifest_chunk::decode_commit(&bytes, stream_seed()).unwrap();
    assert_eq!(commit.records, manifest_records());
    assert_eq!(
        (commit.prev_chain, commit.bytes),
        (0x0BAD_CAFE, bytes.len())
    );

    let mut encoded = Vec::new();
    let chain = manifest_chunk::encode_commit(
        &mut encoded,
        &manifest_records(),
        0x0BAD_CAFE,
        stream_seed(),
    );
    assert_eq!(encoded, bytes);
    assert_eq!(chain, commit.chain);
}

#[test]
fn the_ids_of_manifest_records_are_0_to_15_in_the_order_of_the_handbook() {
    let known: Vec<(u16, &str)> = manifest_records()
        .iter()
        .map(|record| (record.event.type_id(), record.event.name()))
        .collect();
    let expected = "SegmentOpened SealSegment CompressionStarted CompressionDone CompressionFailed UploadStarted UploadDone \
                    UploadFailed Tier2DeleteQueued Tier2Deleted HydrationStarted HydrationDone HydrationFailed LocalEvicted \
                    SnapshotMarker CustomEvent";
    assert_eq!(
        known[..16],
        (0..).zip(expected.split_whitespace()).collect::<Vec<_>>()
    );
}

#[test]
fn a_manifest_record_of_a_later_type_is_kept_as_it_is() {
    let bytes = golden("manifest_commit");
    let commit = manifest_chunk::decode_commit(&bytes, stream_seed()).unwrap();
    let last = commit.records.last().unwrap();
    assert_eq!(
        last.event,
        ManifestEvent::Unknown {
            type_id: 900,
            payload: b"later".to_vec()
        }
    );
}

#[test]
fn the_changes_of_producers_are_stable() {
    let run = |first_producer_seq, first_sequence, count| ProducerRun {
        first_producer_seq,
        first_sequence,
        count,
    };
    let value = ProducerChanges {
        part: 1,
        forgotten_before: 50,
        recent_from: 90,
        producers: vec![
            (
                0x5566_7788_99AA_BBCC,
                vec![run(41, 100, 3), run(44, 205, 1)],
            ),
            (9, vec![run(0, 203, 2)]),
        ],
    };
    let bytes = golden("producer_changes");
    assert_eq!(ProducerChanges::decode(&bytes).unwrap(), value);
    assert_eq!(value.encode(), bytes);
}

#[test]
fn a_journal_header_is_stable() {
    let value = JournalHeader {
        cluster_id: cluster_id(),
        node_id: node_id(),
        volume_id: volume_id(),
        file_number: 9,
        salt: FILE_SALT,
        first_commit: 1000,
        table_offset: 8192,
        created_unix_nanos: NANOS,
        file_bytes: 1 << 26,
    };
    assert_eq!(
        JournalHeader::decode(&golden("journal_header")).unwrap(),
        value
    );
    assert_eq!(value.encode()[..], golden("journal_header"));
}

#[test]
fn a_journal_commit_of_every_frame_kind_is_stable() {
    let bytes = golden("journal_commit");
    let commit = journal::decode_commit(&bytes, FILE_SALT, file_seed()).unwrap();
    let fields = CommitFields {
        file_number: 9,
        number: 1000,
        frame_count: 5,
        written_unix_nanos: NANOS,
        prev_crc: 0x00C0_FFEE,
    };
    assert_eq!(
        (commit.fields, commit.bytes(), commit.padded_bytes()),
        (fields, bytes.len(), 4096)
    );

    let number = StreamNumber(42);
    let table = [
        Position {
            stream: number,
            file: FileKind::Segment,
            file_id: 12,
            synced_bytes: 4096,
        },
        Position {
            stream: number,
            file: FileKind::ManifestChunk,
            file_id: 2,
            synced_bytes: 8192,
        },
    ];
    let synced = [Position {
        stream: StreamNumber(43),
        file: FileKind::Segment,
        file_id: 1,
        synced_bytes: 65536,
    }];
    let batches = [golden("record_batch"), golden("record_batch_gap")].concat();
    let mut manifest = Vec::new();
    manifest_chunk::encode_commit(
        &mut manifest,
        &manifest_records()[..2],
        0x0BAD_CAFE,
        stream_seed(),
    );

    let frames: Vec<Frame<'_>> = commit.frames().collect();
    let [
        Frame::CheckpointTable {
            settled_before: 8,
            positions: first,
        },
        Frame::StreamBytes {
            stream,
            segment_id: 12,
            position: 4096,
            base_sequence: 100,
            bytes: second,
        },
        Frame::Manifest {
            stream: owner,
            chunk: 2,
            position: 4096,
            bytes: third,
        },
        Frame::CheckpointPositions {
            settled_before: 9,
            positions: fourth,
        },
        last,
    ] = &frames[..]
    else {
        panic!("{frames:?}");
    };
    assert_eq!((*stream, *owner), (number, number));
    assert_eq!(first.iter().collect::<Vec<_>>(), table);
    assert_eq!(*second, batches);
    assert_eq!(*third, manifest);
    assert_eq!(fourth.iter().collect::<Vec<_>>(), synced);
    assert_eq!(
        *last,
        Frame::Unknown {
            kind: 77,
            bytes: b"later"
        }
    );

    // The frame of a later kind is not ours to write: it is taken from the golden bytes.
    let mut encoded = vec![0; journal::COMMIT_HEADER_BYTES];
    let rows = |positions: &[Position]| {
        let mut body = Vec::new();
        positions
            .iter()
            .for_each(|position| journal::encode_position(&mut body, position));
        body
    };
    journal::encode_frame(
        &mut encoded,
        &FrameHeader::CheckpointTable { settled_before: 8 },
        &rows(&table),
    );
    let header = FrameHeader::StreamBytes {
        stream: number,
        segment_id: 12,
        position: 4096,
        base_sequence: 100,
    };
    journal::encode_frame(&mut encoded, &header, &batches);
    journal::encode_frame(
        &mut encoded,
        &FrameHeader::Manifest {
            stream: number,
            chunk: 2,
            position: 4096,
        },
        &manifest,
    );
    journal::encode_frame(
        &mut encoded,
        &FrameHeader::CheckpointPositions { settled_before: 9 },
        &rows(&synced),
    );
    encoded.extend_from_slice(&bytes[encoded.len()..]);
    let crc = journal::seal_commit(&mut encoded, &fields, FILE_SALT, file_seed());
    assert_eq!(encoded, bytes);
    assert_eq!(crc, commit.crc);
}

#[test]
fn a_warm_header_is_stable() {
    let value = WarmHeader {
        cluster_id: cluster_id(),
        stream: stream(),
        stream_uuid: stream_uuid(),
        segment_id: 12,
        epoch: 7,
        base_sequence: 100,
        block_bytes: 65536,
        dictionary_id: 3,
    };
    assert_eq!(WarmHeader::decode(&golden("warm_header")).unwrap(), value);
    assert_eq!(value.encode()[..], golden("warm_header"));
}

#[test]
fn a_warm_tail_is_stable_and_finds_the_block_of_a_sequence() {
    let tail = golden("warm_tail");
    let segment = segment();
    let cut = segment.len() - golden("record_batch_gap").len();
    let blocks = [
        BlockEntry {
            first_sequence: 100,
            uncompressed_offset: 0,
            compressed_offset: 256,
            compressed_bytes: 900,
            crc32c: checksum::crc32c(&segment[..cut]),
        },
        BlockEntry {
            first_sequence: 103,
            uncompressed_offset: cut as u64,
            compressed_offset: 1156,
            compressed_bytes: 80,
            crc32c: checksum::crc32c(&segment[cut..]),
        },
    ];
    let footer_at = tail.len() - warm::FOOTER_BYTES;
    let footer = WarmFooter::decode(&tail[footer_at..], 1236 + tail.len() as u64).unwrap();
    let index = WarmIndex::decode(&tail, &footer).unwrap();
    assert_eq!(index.blocks, blocks);
    assert_eq!(
        (footer.blocks, footer.tail_offset, footer.tail_bytes()),
        (2, 1236, tail.len())
    );
    assert_eq!(
        index.uncompressed_bytes(0) + index.uncompressed_bytes(1),
        segment.len()
    );
    let found: Vec<_> = [99, 100, 102, 103, 199, 200]
        .map(|sequence| index.block_of(sequence))
        .into();
    assert_eq!(found, [None, Some(0), Some(0), Some(1), Some(1), None]);

    let summary = WarmSummary {
        segment_id: 12,
        epoch: 7,
        base_sequence: 100,
        end_sequence: 200,
        records: 3,
        uncompressed_bytes: segment.len() as u64,
        crc64: checksum::crc64nvme(&segment),
        chain: footer.chain,
    };
    assert_eq!(warm::encode_tail(&blocks, &summary, 1236), tail);
}

#[test]
fn the_json_things_are_stable() {
    let claim = Claim {
        format_version: 0,
        cluster_id: cluster_id(),
        stream: stream(),
        epoch: 7,
        node_id: node_id(),
        volume_id: volume_id(),
        node: "orders-0".into(),
        address: "orders-0.orders-engine.default.svc:7421".into(),
    };
    assert_eq!(Claim::decode(&golden("claim")).unwrap(), claim);
    assert_eq!(claim.encode(), golden("claim"));

    let marker = ClusterMarker {
        format_version: 0,
        cluster_id: cluster_id(),
        namespace: "default".into(),
        name: "orders".into(),
    };
    assert_eq!(ClusterMarker::decode(&golden("cluster")).unwrap(), marker);
    assert_eq!(marker.encode(), golden("cluster"));

    let volume = VolumeIdentity {
        format_version: 0,
        cluster_id: cluster_id(),
        node: "orders-0".into(),
        node_id: node_id(),
        volume_id: volume_id(),
        is_admitted: true,
        mark: 5,
    };
    assert_eq!(VolumeIdentity::decode(&golden("volume")).unwrap(), volume);
    assert_eq!(volume.encode(), golden("volume"));

    let mark = VolumeMark {
        format_version: 0,
        cluster_id: cluster_id(),
        node_id: node_id(),
        volume_id: volume_id(),
        mark: 5,
        node: "orders-0".into(),
        process: "4be1d2f0".into(),
    };
    assert_eq!(VolumeMark::decode(&golden("mark")).unwrap(), mark);
    assert_eq!(mark.encode(), golden("mark"));

    let reading = ClockReading {
        format_version: 0,
        wall_unix_nanos: NANOS,
    };
    let stored = golden("clock_reading");
    assert_eq!(ClockReading::decode(&stored).unwrap(), reading);
    assert_eq!(reading.encode(), stored);
}

#[test]
fn the_snapshot_things_are_stable() {
    let segment = |segment_id: u64, base_sequence: u64, records: u64, object_crc64| {
        CatalogueSegment {
            segment_id,
            epoch: 7,
            base_sequence,
            records,
            bytes: 9000 + segment_id,
            crc64: Crc64(segment_id << 40),
            key: format!(
                "prod/orders/segments/orders-eu-1/{base_sequence:020}-0000000007-{segment_id:020}.aofz"
            ),
            etag: "\"0123abcd\"".into(),
            object_bytes: 800 + segment_id,
            object_crc64,
        }
    };
    let chunk = |index: u64, bytes: u64| CatalogueChunk {
        index,
        epoch: 7,
        key: format!("prod/orders/manifest/orders-eu-1/0000000007/{index:020}.mlog"),
        bytes,
        crc64: Crc64(0xABC0 + index),
    };
    let snapshot_id = SnapshotId::new(7, 3);
    let catalogue = Catalogue {
        format_version: 0,
        cluster_id: cluster_id(),
        stream: stream(),
        stream_uuid: stream_uuid(),
        snapshot_id,
        request: "5f1c7a2e".into(),
        epoch: 7,
        chunk_index: 1,
        chunk_offset: 5000,
        durable_sequence: 205,
        start_sequence: 130,
        uploaded_sequence: 200,
        created_at: "2026-11-26T22:00:00Z".into(),
        segments: vec![
            segment(11, 100, 60, Some(Crc64(0xDEAD_BEEF))),
            segment(12, 160, 40, None),
        ],
        chunks: vec![chunk(0, 1_100_000), chunk(1, 5000)],
    };
    assert_eq!(Catalogue::decode(&golden("snapshot")).unwrap(), catalogue);
    assert_eq!(catalogue.encode(), golden("snapshot"));

    let notes = RecoveryNotes {
        format_version: 0,
        cluster_id: cluster_id(),
        stream: stream(),
        epoch: 7,
        snapshot_id,
        chunk_index: 1,
        chunk_offset: 5000,
        uploaded_sequence: 200,
        key: "prod/orders/snapshots/orders-eu-1/30064771075.json".into(),
        digest: format!("sha256:{}", "5a".repeat(32)),
        at: "2026-11-26T22:00:00Z".into(),
    };
    assert_eq!(RecoveryNotes::decode(&golden("recovery")).unwrap(), notes);
    assert_eq!(notes.encode(), golden("recovery"));

    let note = SnapshotNote {
        format_version: 0,
        snapshot_id,
        request: "5f1c7a2e".into(),
        key: notes.key.clone(),
        digest: notes.digest.clone(),
        bytes: 1234,
        durable_sequence: 205,
        uploaded_sequence: 200,
        started_unix_nanos: NANOS,
    };
    assert_eq!(
        SnapshotNote::decode(&golden("snapshot_note")).unwrap(),
        note
    );
    assert_eq!(note.encode(), golden("snapshot_note"));
}

#[test]
fn a_start_sequence_is_stable_and_only_its_own_bytes_decode() {
    let value = StartSequence {
        start_sequence: 160,
        reason: StartReason::Retention,
    };
    let bytes = golden("start_sequence");
    assert_eq!(StartSequence::decode(&bytes).unwrap(), value);
    assert_eq!(value.encode().as_slice(), bytes);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        StartSequence::decode(&bytes).unwrap_err().to_string()
    };
    assert!(refused(&|bytes| bytes.push(0)).contains("bytes = 21"));
    assert!(refused(&|bytes| bytes.truncate(19)).contains("19 bytes"));
    assert!(refused(&|bytes| bytes[0] ^= 1).contains("magic"));
    assert!(refused(&|bytes| bytes[4] = 9).contains("version 9"));
    assert!(refused(&|bytes| bytes[8] ^= 1).contains("checksum"));
}

#[test]
fn a_snapshot_deletion_is_stable_and_only_its_own_bytes_decode() {
    let value = SnapshotDeletion {
        snapshot_id: SnapshotId::new(7, 3),
        stage: DeletionStage::Done,
    };
    let bytes = golden("snapshot_deletion");
    assert_eq!(SnapshotDeletion::decode(&bytes).unwrap(), value);
    assert_eq!(value.encode().as_slice(), bytes);
    let begun = SnapshotDeletion {
        stage: DeletionStage::Begun,
        ..value
    };
    assert_eq!(begun.encode()[6..8], [0, 0]);
    assert_eq!(SnapshotDeletion::decode(&begun.encode()).unwrap(), begun);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        SnapshotDeletion::decode(&bytes).unwrap_err().to_string()
    };
    assert!(refused(&|bytes| bytes.push(0)).contains("bytes = 21"));
    assert!(refused(&|bytes| bytes.truncate(19)).contains("19 bytes"));
    assert!(refused(&|bytes| bytes[0] ^= 1).contains("magic"));
    assert!(refused(&|bytes| bytes[4] = 9).contains("version 9"));
    assert!(refused(&|bytes| bytes[8] ^= 1).contains("checksum"));
    // Of a later release: a stage that this one does not know.
    let later = refused(&|bytes| {
        bytes[6] = 2;
        let crc = aof2_format::checksum::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(later.contains("stage = 2"), "{later}");
}

#[test]
fn compactions_are_stable_and_only_their_own_bytes_decode() {
    let inputs = Inputs {
        base_sequence: 100,
        end_sequence: 260,
        epoch: 7,
        segment_ids: vec![11, 12, 9, 14],
    };
    let output = Output {
        durable_bytes: 5000,
        segment_crc64: 0xABCD << 40,
        object_bytes: 777,
        first_unix_nanos: NANOS - 5,
        last_unix_nanos: NANOS,
        sealed_unix_nanos: NANOS + 7,
        chain: gap_chain(),
    };
    for (name, value) in [
        ("compaction_begun", Compaction::Begun(inputs.clone())),
        ("compaction_merged", Compaction::Merged(inputs, output)),
        (
            "compaction_failed",
            Compaction::Failed {
                reason: ReasonCode::BucketOrNetwork,
            },
        ),
        ("compaction_given_up", Compaction::GivenUp),
    ] {
        assert_eq!(Compaction::decode(&golden(name)).unwrap(), value, "{name}");
        assert_eq!(value.encode(), golden(name), "{name}");
    }
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = golden("compaction_merged");
        change(&mut bytes);
        Compaction::decode(&bytes).unwrap_err().to_string()
    };
    assert!(refused(&|bytes| bytes.truncate(39)).contains("39 bytes"));
    assert!(refused(&|bytes| bytes[0] ^= 1).contains("magic"));
    assert!(refused(&|bytes| bytes[4] = 9).contains("version 9"));
    assert!(refused(&|bytes| bytes[100] ^= 1).contains("checksum"));
}

#[test]
fn a_compaction_that_contradicts_itself_is_refused() {
    let Ok(Compaction::Merged(inputs, output)) = Compaction::decode(&golden("compaction_merged"))
    else {
        panic!("merged")
    };
    let refused = |change: &dyn Fn(&mut Inputs, &mut Output)| {
        let (mut inputs, mut output) = (inputs.clone(), output);
        change(&mut inputs, &mut output);
        let encoded = Compaction::Merged(inputs, output).encode();
        Compaction::decode(&encoded).unwrap_err().to_string()
    };
    for (field, change) in [
        (
            "inputs = 1",
            (&|it: &mut Inputs, _: &mut Output| it.segment_ids.truncate(1))
                as &dyn Fn(&mut Inputs, &mut Output),
        ),
        ("inputs = 4097", &|it, _| {
            it.segment_ids = (0..4097).collect();
        }),
        ("segment_id = 12", &|it, _| it.segment_ids[3] = 12),
        ("end_sequence = 100", &|it, _| it.end_sequence = 100),
        ("durable_bytes = 4096", &|_, it| it.durable_bytes = 4096),
    ] {
        let refusal = refused(change);
        assert!(refusal.contains(field), "{field}: {refusal}");
    }
}

#[test]
fn a_catalogue_that_contradicts_itself_is_refused() {
    let sound = Catalogue::decode(&golden("snapshot")).unwrap();
    let refused = |change: &dyn Fn(&mut Catalogue)| {
        let mut catalogue = sound.clone();
        change(&mut catalogue);
        Catalogue::decode(&catalogue.encode())
            .unwrap_err()
            .to_string()
    };
    for (field, change) in [
        (
            "snapshot_id",
            (&|it: &mut Catalogue| it.epoch = 8) as &dyn Fn(&mut Catalogue),
        ),
        ("base_sequence", &|it| it.segments[1].base_sequence = 161),
        ("base_sequence", &|it| it.segments[1].records = u64::MAX),
        ("uploaded_sequence", &|it| it.uploaded_sequence = 201),
        ("start_sequence", &|it| it.start_sequence = 99),
        ("start_sequence", &|it| it.start_sequence = 160),
        ("uploaded_sequence", &|it| it.segments.clear()),
        ("chunk_offset", &|it| it.chunk_offset = 4999),
        ("chunk_index", &|it| it.chunk_index = 2),
        ("chunk_index", &|it| it.chunks.clear()),
        ("chunk_index", &|it| it.chunks[0].index = u64::MAX),
        ("request bytes", &|it| it.request = "x".repeat(129)),
    ] {
        let refusal = refused(change);
        assert!(refusal.contains(field), "{field}: {refusal}");
    }
}
