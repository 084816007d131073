//! The golden files, and the values that they hold.
#![allow(dead_code)] // each test binary uses its own part

pub mod decoders;

use aof2_format::manifest_record::{
    HydrationSource, LocalCopy, ManifestEvent, ManifestRecord, ReasonCode,
};
use aof2_format::record_batch::{Fields, Producer};
use aof2_format::{ClusterId, NodeId, Salt, Seed, StreamName, StreamUuid, VolumeId};

pub const GOLDEN: &[(&str, &str)] = &[
    (
        "record_batch",
        include_str!("../../golden/v0/record_batch.hex"),
    ),
    (
        "record_batch_gap",
        include_str!("../../golden/v0/record_batch_gap.hex"),
    ),
    (
        "segment_header",
        include_str!("../../golden/v0/segment_header.hex"),
    ),
    (
        "segment_seal",
        include_str!("../../golden/v0/segment_seal.hex"),
    ),
    (
        "stream_header",
        include_str!("../../golden/v0/stream_header.hex"),
    ),
    (
        "producer_changes",
        include_str!("../../golden/v0/producer_changes.hex"),
    ),
    (
        "start_sequence",
        include_str!("../../golden/v0/start_sequence.hex"),
    ),
    (
        "snapshot_deletion",
        include_str!("../../golden/v0/snapshot_deletion.hex"),
    ),
    (
        "compaction_begun",
        include_str!("../../golden/v0/compaction_begun.hex"),
    ),
    (
        "compaction_merged",
        include_str!("../../golden/v0/compaction_merged.hex"),
    ),
    (
        "compaction_failed",
        include_str!("../../golden/v0/compaction_failed.hex"),
    ),
    (
        "compaction_given_up",
        include_str!("../../golden/v0/compaction_given_up.hex"),
    ),
    (
        "manifest_commit",
        include_str!("../../golden/v0/manifest_commit.hex"),
    ),
    (
        "manifest_base",
        include_str!("../../golden/v0/manifest_base.hex"),
    ),
    (
        "manifest_chunk_header",
        include_str!("../../golden/v0/manifest_chunk_header.hex"),
    ),
    (
        "journal_header",
        include_str!("../../golden/v0/journal_header.hex"),
    ),
    (
        "journal_commit",
        include_str!("../../golden/v0/journal_commit.hex"),
    ),
    (
        "journal_mark",
        include_str!("../../golden/v0/journal_mark.hex"),
    ),
    (
        "stream_catalog_entry",
        include_str!("../../golden/v0/stream_catalog_entry.hex"),
    ),
    (
        "warm_header",
        include_str!("../../golden/v0/warm_header.hex"),
    ),
    ("warm_tail", include_str!("../../golden/v0/warm_tail.hex")),
    ("claim", include_str!("../../golden/v0/claim.hex")),
    ("cluster", include_str!("../../golden/v0/cluster.hex")),
    ("volume", include_str!("../../golden/v0/volume.hex")),
    ("mark", include_str!("../../golden/v0/mark.hex")),
    (
        "clock_reading",
        include_str!("../../golden/v0/clock_reading.hex"),
    ),
    ("snapshot", include_str!("../../golden/v0/snapshot.hex")),
    ("recovery", include_str!("../../golden/v0/recovery.hex")),
    (
        "snapshot_note",
        include_str!("../../golden/v0/snapshot_note.hex"),
    ),
];

pub fn golden(name: &str) -> Vec<u8> {
    let (_, text) = GOLDEN
        .iter()
        .find(|(found, _)| *found == name)
        .expect("a golden file of this name");
    hex::decode(text.replace('\n', "")).expect("hexadecimal digits")
}

pub const NANOS: i64 = 1_764_043_200_123_456_789;
pub const STREAM_SALT: Salt = Salt(0x0102_0304_0506_0708);
pub const FILE_SALT: Salt = Salt(0x1112_1314_1516_1718);

pub fn stream_seed() -> Seed {
    Seed::new(STREAM_SALT)
}

pub fn file_seed() -> Seed {
    Seed::new(FILE_SALT)
}

fn counting_from(first: u8) -> [u8; 16] {
    std::array::from_fn(|index| first + index as u8)
}

pub fn cluster_id() -> ClusterId {
    ClusterId(counting_from(0x10))
}

pub fn stream_uuid() -> StreamUuid {
    StreamUuid(counting_from(0x20))
}

pub fn node_id() -> NodeId {
    NodeId(counting_from(0x30))
}

pub fn volume_id() -> VolumeId {
    VolumeId(counting_from(0x40))
}

pub fn stream() -> StreamName {
    StreamName::new("orders-eu-1").unwrap()
}

/// Fields and payloads of `record_batch.hex`.
pub fn records() -> (Fields, Vec<Vec<u8>>) {
    let fields = Fields {
        base_sequence: 100,
        epoch: 7,
        prev_chain: 0xA1B2_C3D4,
        producer: Producer {
            id: 0x5566_7788_99AA_BBCC,
            seq: 41,
        },
        appended_unix_nanos: NANOS,
        durable_upto: 99,
    };
    let counting: Vec<u8> = (0..512).map(|index| index as u8).collect();
    (fields, vec![vec![], b"hello".to_vec(), counting])
}

/// `0..data_end` of the golden segment.
pub fn segment() -> Vec<u8> {
    [
        golden("segment_header"),
        golden("record_batch"),
        golden("record_batch_gap"),
    ]
    .concat()
}

const KEY: &str =
    "prod/orders/segments/orders-eu-1/00000000000000000100-0000000007-00000000000000000012.aofz";

/// Chain of the golden segment's last batch.
pub fn gap_chain() -> u32 {
    let gap = golden("record_batch_gap");
    let gap = aof2_format::record_batch::decode(&gap, stream_seed());
    gap.expect("the golden gap").chain()
}

/// One manifest record of each type, as in `manifest_commit.hex`.
pub fn manifest_records() -> Vec<ManifestRecord> {
    let key = || KEY.to_owned();
    let events = [
        ManifestEvent::SegmentOpened {
            base_sequence: 100,
            epoch: 7,
        },
        ManifestEvent::SealSegment {
            durable_bytes: segment().len() as u64,
            segment_crc64: aof2_format::checksum::crc64nvme(&segment()),
            ext_id: 77,
            watermark: 200,
            flush_failure: true,
            chain: gap_chain(),
            first_unix_nanos: NANOS - 5,
            last_unix_nanos: NANOS,
            sealed_unix_nanos: NANOS + 7,
        },
        ManifestEvent::CompressionStarted,
        ManifestEvent::CompressionDone {
            compressed_bytes: 5000,
            dictionary_id: 3,
        },
        ManifestEvent::CompressionFailed {
            reason: ReasonCode::Codec,
        },
        ManifestEvent::UploadStarted { key: key() },
        ManifestEvent::UploadDone {
            key: key(),
            etag: "\"0123abcd\"".into(),
        },
        ManifestEvent::UploadFailed {
            key: key(),
            reason: ReasonCode::BucketOrNetwork,
        },
        ManifestEvent::Tier2DeleteQueued { key: key() },
        ManifestEvent::Tier2Deleted { key: key() },
        ManifestEvent::HydrationStarted {
            source: HydrationSource::Tier2,
        },
        ManifestEvent::HydrationDone {
            copy: LocalCopy::Warm,
            bytes: 6000,
        },
        ManifestEvent::HydrationFailed {
            reason: ReasonCode::ObjectMissing,
        },
        ManifestEvent::LocalEvicted {
            copy: LocalCopy::Hot,
            bytes: 7000,
        },
        ManifestEvent::SnapshotMarker {
            chunk_index: 1,
            chunk_offset: 2,
            snapshot_id: 7 << 32 | 3,
        },
        ManifestEvent::CustomEvent {
            schema_id: 9,
            blob: b"blob".to_vec(),
        },
        ManifestEvent::Unknown {
            type_id: 900,
            payload: b"later".to_vec(),
        },
    ];
    (30..)
        .zip(events)
        .map(|(manifest_sequence, event)| ManifestRecord {
            stream_uuid: stream_uuid(),
            segment_id: 12,
            manifest_sequence,
            wall_unix_nanos: NANOS,
            epoch: 7,
            event,
        })
        .collect()
}
