use std::fs;

use aof2_format::compaction::{self, Compaction, Inputs, Output};
use aof2_format::manifest_chunk::{self, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord, ReasonCode};
use aof2_format::names::file;
use aof2_format::{ClusterId, Salt, Seed, StreamName, StreamUuid};

use super::chunk::decode_chunk;
use super::files::chunk_files;
use super::page::{fields_line, page};
use super::*;

const SALT: Salt = Salt(7);

fn arguments(place: &std::path::Path) -> Arguments {
    let place = place.to_str().expect("a name");
    Arguments::parse_from(["manifest-inspect", place, "--json"])
}

fn chunk_bytes(commits: &[&[ManifestEvent]]) -> Vec<u8> {
    let header = ManifestChunkHeader {
        cluster_id: ClusterId([1; 16]),
        stream: StreamName::new("orders").unwrap(),
        stream_uuid: StreamUuid([2; 16]),
        stream_salt: SALT,
        epoch: 1,
        chunk: 0,
        base_manifest_sequence: 0,
        prev_chain: 0,
        created_unix_nanos: 0,
    };
    let mut bytes = header.encode().to_vec();
    let (mut chain, mut next) = (0, 0);
    for events in commits {
        let records: Vec<ManifestRecord> = events
            .iter()
            .map(|event| {
                next += 1;
                ManifestRecord {
                    stream_uuid: StreamUuid([2; 16]),
                    segment_id: 3,
                    manifest_sequence: next - 1,
                    wall_unix_nanos: 1_764_043_200_000_000_000,
                    epoch: 1,
                    event: event.clone(),
                }
            })
            .collect();
        chain = manifest_chunk::encode_commit(&mut bytes, &records, chain, Seed::new(SALT));
    }
    bytes
}

fn opened() -> ManifestEvent {
    ManifestEvent::SegmentOpened {
        base_sequence: 0,
        epoch: 1,
    }
}

fn later() -> ManifestEvent {
    ManifestEvent::Unknown {
        type_id: 900,
        payload: vec![0xAB],
    }
}

#[test]
fn records_are_shown_with_their_fields_and_unknown_ones_by_number() {
    let mut bytes = chunk_bytes(&[&[opened()], &[ManifestEvent::CompressionStarted, later()]]);
    bytes.extend_from_slice(&[0; 4096]);
    let chunk = decode_chunk("x.mlog", &bytes, true);
    assert_eq!(
        (chunk.commits, chunk.records.len(), chunk.damage.as_deref()),
        (2, 3, None)
    );
    assert_eq!(
        page(&chunk),
        "x.mlog\n\
         stream orders, epoch 1, chunk 0: 3 records in 2 commits\n\
         RECORD  TIME                      EPOCH  SEGMENT  EVENT               FIELDS\n     \
         0  2025-11-25T04:00:00.000Z      1        3  SegmentOpened       base_sequence=0 epoch=1\n     \
         1  2025-11-25T04:00:00.000Z      1        3  CompressionStarted\n     \
         2  2025-11-25T04:00:00.000Z      1        3  type 900            payload=ab"
    );
}

#[test]
fn a_merge_of_segments_is_shown_with_its_inputs_and_its_output() {
    let inputs = Inputs {
        base_sequence: 0,
        end_sequence: 20,
        epoch: 1,
        segment_ids: vec![1, 2],
    };
    let output = Output {
        durable_bytes: 5000,
        segment_crc64: 0xAB,
        object_bytes: 900,
        first_unix_nanos: 0,
        last_unix_nanos: 1_000_000_000,
        sealed_unix_nanos: 2_000_000_000,
        chain: 7,
    };
    let reason = ReasonCode::Codec;
    let events = [
        Compaction::Begun(inputs.clone()),
        Compaction::Failed { reason },
        Compaction::Merged(inputs, output),
        Compaction::GivenUp,
    ]
    .map(|event| ManifestEvent::CustomEvent {
        schema_id: compaction::SCHEMA_ID,
        blob: event.encode(),
    });
    let chunk = decode_chunk("x.mlog", &chunk_bytes(&[&events]), true);
    let shown: Vec<String> = chunk
        .records
        .iter()
        .map(|record| fields_line(&record.fields))
        .collect();
    assert_eq!(
        shown,
        [
            "base_sequence=0 end_sequence=20 inputs=[1,2] merge=begun schema=Compaction schema_id=5",
            "merge=failed reason=Codec reason_code=1 schema=Compaction schema_id=5",
            "base_sequence=0 chain=00000007 durable_bytes=5000 end_sequence=20 first_record_at=1970-01-01T00:00:00.000Z \
             inputs=[1,2] last_record_at=1970-01-01T00:00:01.000Z merge=merged object_bytes=900 schema=Compaction schema_id=5 \
             sealed_at=1970-01-01T00:00:02.000Z segment_crc64=00000000000000ab",
            "merge=given up schema=Compaction schema_id=5",
        ]
    );
}

#[test]
fn an_unfinished_commit_is_damage_only_where_another_chunk_follows() {
    let mut bytes = chunk_bytes(&[&[opened()], &[later()]]);
    bytes.truncate(bytes.len() - 1);
    let newest = decode_chunk("x", &bytes, true);
    assert_eq!(
        (
            newest.records.len(),
            newest.damage.is_some(),
            newest.unfinished_bytes > 0
        ),
        (1, false, true)
    );
    let older = decode_chunk("x", &bytes, false);
    assert!(older.damage.unwrap().contains("manifest commit:"));
}

#[test]
fn a_header_that_is_none_is_damage() {
    for (bytes, is_newest) in [([0; 5000], false), ([1; 5000], true)] {
        let chunk = decode_chunk("x", &bytes, is_newest);
        assert!(chunk.damage.unwrap().contains("manifest chunk header"));
    }
}

#[test]
fn a_newest_chunk_that_was_just_made_is_no_damage() {
    let chunk = decode_chunk("x", &[0; 5000], true);
    assert_eq!((chunk.damage, chunk.unfinished_bytes), (None, 0));
}

#[test]
fn a_data_directory_is_searched_stream_by_stream() {
    let directory = tempfile::tempdir().unwrap();
    for stream in ["a", "b"] {
        let manifest = directory
            .path()
            .join("streams")
            .join(stream)
            .join("manifest");
        fs::create_dir_all(&manifest).unwrap();
        fs::write(
            manifest.join(file::manifest_chunk(1, 0)),
            chunk_bytes(&[&[opened()]]),
        )
        .unwrap();
        fs::write(manifest.join("notes.txt"), "x").unwrap();
    }
    let all = chunk_files(directory.path(), None).unwrap();
    assert_eq!(all.values().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(chunk_files(directory.path(), Some("b")).unwrap().len(), 1);
    let arguments = arguments(directory.path());
    assert_eq!(run(&arguments), Ok(Outcome::Clean));
}

/// Two chunks, of which one is gone, and a base that stands for both.
fn with_base(records: Vec<ManifestRecord>) -> tempfile::TempDir {
    use aof2_format::manifest_base::{BaseChunk, ManifestBase};
    let directory = tempfile::tempdir().unwrap();
    let chunk = |first_manifest_sequence, next_manifest_sequence| BaseChunk {
        epoch: 1,
        chain: 5,
        bytes: 5000,
        crc64: 6,
        first_manifest_sequence,
        next_manifest_sequence,
    };
    let base = ManifestBase {
        cluster_id: ClusterId([1; 16]),
        stream: StreamName::new("orders").unwrap(),
        stream_uuid: StreamUuid([2; 16]),
        stream_salt: SALT,
        epoch: 1,
        created_unix_nanos: 1_764_043_200_000_000_000,
        chunks: vec![chunk(0, 1), chunk(1, 3)],
        records,
        producers: Vec::new(),
        forgotten_before: 0,
        recent_from: 0,
    };
    fs::write(directory.path().join(file::MANIFEST_BASE), base.encode()).unwrap();
    let kept = directory.path().join(file::manifest_chunk(1, 1));
    fs::write(kept, chunk_bytes(&[&[opened()]])).unwrap();
    directory
}

fn records() -> Vec<ManifestRecord> {
    let events = [opened(), ManifestEvent::CompressionStarted, later()];
    let records = (0..).zip(events);
    let records = records.map(|(manifest_sequence, event)| ManifestRecord {
        stream_uuid: StreamUuid([2; 16]),
        segment_id: 3,
        manifest_sequence,
        wall_unix_nanos: 0,
        epoch: 1,
        event,
    });
    records.collect()
}

#[test]
fn a_base_shows_the_records_of_chunks_that_are_gone_and_what_it_stands_for() {
    let directory = with_base(records());
    let files = chunk_files(directory.path(), None).unwrap();
    let files = files.values().next().unwrap();
    assert_eq!(files.len(), 2);
    assert!(base::is_one(&files[0]));
    let beside = base::read(&files[0], files).unwrap();
    assert_eq!((beside.records.len(), beside.damage.as_deref()), (1, None));
    let text = page(&beside);
    assert!(
        text.contains("stream orders, epoch 1, base of chunks 0 to 1 (1 of them on the volume): 3 of 3 records, 0 parts of producers"),
        "{text}"
    );
    // By itself all of it is shown.
    let alone = chunk_files(&files[0], None).unwrap();
    let alone = alone.values().next().unwrap();
    assert_eq!(base::read(&alone[0], alone).unwrap().records.len(), 3);
}

#[test]
fn a_damaged_base_is_a_finding() {
    let directory = with_base(records());
    let path = directory.path().join(file::MANIFEST_BASE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[300] ^= 1;
    fs::write(&path, bytes).unwrap();
    let shown = base::read(&path, std::slice::from_ref(&path)).unwrap();
    assert!(shown.damage.unwrap().contains("manifest base: checksum"));
    let arguments = arguments(directory.path());
    assert_eq!(run(&arguments), Ok(Outcome::Negative));
}
