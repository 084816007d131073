//! Bases of generated histories against a replay of all chunks, which knows nothing of bases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aof2_format::compaction::{self, Compaction, Inputs, Output};
use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_chunk::{self, ManifestChunkHeader};
use aof2_format::manifest_record::{
    HydrationSource, LocalCopy, ManifestEvent, ManifestRecord, ReasonCode,
};
use aof2_format::names::file;
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};
use aof2_format::snapshot_deletion::{self, DeletionStage, SnapshotDeletion};
use aof2_format::start_sequence::{self, StartReason, StartSequence};
use aof2_format::{ClusterId, Salt, Seed, StreamName, StreamUuid};
use proptest::prelude::*;

use super::write::Builder;
use super::*;
use crate::io::SystemDisk;
use crate::manifest::producer_table;
use crate::manifest::replay::{FoundChunk, Replayed, replay};
use crate::producers::Producers;

const SALT: Salt = Salt(7);

fn name() -> StreamName {
    StreamName::new("orders").expect("a name")
}

fn owner(name: &StreamName) -> BaseOwner<'_> {
    BaseOwner {
        cluster_id: ClusterId([1; 16]),
        stream: name,
        uuid: StreamUuid([2; 16]),
        salt: SALT,
    }
}

/// Writes chunk files as a stream does.
struct Written {
    folder: tempfile::TempDir,
    chain: u32,
    next: u64,
    chunks: Vec<Vec<u8>>,
}

impl Written {
    fn new() -> Written {
        let mut written = Written {
            folder: tempfile::tempdir().expect("a folder"),
            chain: 0,
            next: 0,
            chunks: Vec::new(),
        };
        written.close();
        written
    }

    /// The chunk in use, and another begins.
    fn close(&mut self) {
        let header = ManifestChunkHeader {
            cluster_id: ClusterId([1; 16]),
            stream: name(),
            stream_uuid: StreamUuid([2; 16]),
            stream_salt: SALT,
            epoch: 1,
            chunk: self.chunks.len() as u64,
            base_manifest_sequence: self.next,
            prev_chain: self.chain,
            created_unix_nanos: 0,
        };
        self.chunks.push(header.encode().to_vec());
    }

    fn commit(&mut self, segment_id: u64, events: Vec<ManifestEvent>) {
        let events = (self.next..).zip(events);
        let records: Vec<ManifestRecord> = events
            .map(|(manifest_sequence, event)| ManifestRecord {
                stream_uuid: StreamUuid([2; 16]),
                segment_id,
                manifest_sequence,
                wall_unix_nanos: manifest_sequence as i64,
                epoch: 1,
                event,
            })
            .collect();
        self.next += records.len() as u64;
        let in_use = self.chunks.last_mut().expect("a chunk");
        self.chain = manifest_chunk::encode_commit(in_use, &records, self.chain, Seed::new(SALT));
    }

    fn file(&self, number: usize) -> PathBuf {
        let name = file::manifest_chunk(1, number as u64);
        self.folder.path().join(name)
    }

    fn found(&self, from: usize) -> Vec<FoundChunk> {
        let chunks = self.chunks.iter().enumerate().skip(from);
        let found = chunks.map(|(number, bytes)| {
            std::fs::write(self.file(number), bytes).expect("written");
            FoundChunk {
                number: number as u64,
                epoch: 1,
                path: self.file(number),
                must_reach: bytes.len() as u64,
            }
        });
        found.collect()
    }

    /// The base of the first chunks, made upon `before`.
    fn base(&self, before: Option<&ManifestBase>, chunks: usize) -> ManifestBase {
        let name = name();
        let mut builder = Builder::new(owner(&name), before);
        let done = before.map_or(0, |base| base.chunks.len());
        for bytes in &self.chunks[done..chunks] {
            builder.add(1, bytes).expect("it follows");
        }
        let (_, bytes) = builder.finish(1, 0).expect("it says the same");
        ManifestBase::decode(&bytes).expect("a base")
    }
}

fn replay_from(written: &Written, base: Option<&ManifestBase>) -> Replayed {
    let onto = base.map_or_else(Replayed::new, |base| Replayed::of_base(base, |_, _| true));
    let found = written.found(base.map_or(0, |base| base.chunks.len()));
    replay(&SystemDisk, &found, &BTreeMap::new(), Seed::new(SALT), onto).expect("read")
}

/// Everything that a stream is made of.
fn same(all: Replayed, short: Replayed) {
    let Replayed {
        state,
        producers,
        chain,
        chunk,
        closed,
        substance,
        records: _,
        must_reach,
        touched: _,
        damage,
    } = all;
    assert_eq!(damage, None);
    assert_eq!(short.damage, None);
    assert_eq!(short.state, state);
    assert_eq!(short.producers, producers);
    assert_eq!(short.chain, chain);
    assert_eq!(short.substance, substance);
    let place = |chunk: Option<crate::manifest::Chunk>| {
        chunk.map(|it| (it.number, it.epoch, it.tail, it.allocated))
    };
    assert_eq!(place(short.chunk), place(chunk));
    let closed_of = |closed: &[crate::manifest::ClosedChunk]| -> Vec<_> {
        let places = closed.iter().map(|it| (it.number, it.epoch, it.bytes));
        places.collect()
    };
    assert_eq!(closed_of(&short.closed), closed_of(&closed));
    // Of the chunk before the one in use nothing else would tell only as long as that has no header.
    assert_eq!(short.must_reach.last(), must_reach.last());
}

#[derive(Clone, Debug)]
enum Act {
    Close,
    Commit(u64, Vec<ManifestEvent>),
    /// A producer sends; what it changed is recorded with the next seal.
    Send(u64, u64),
    /// The parts of a seal, and their seal in another commit, if it comes before the next attempt.
    Seal(bool),
    Snapshot(u64, bool),
    /// So many, from this one on.
    Delete(u64, u64, DeletionStage),
    /// From one of the sealed segments on, so many of them, as far as that comes.
    Merge(prop::sample::Index, usize, Merge),
}

#[derive(Clone, Copy, Debug)]
enum Merge {
    Begun,
    Failed,
    GivenUp,
    Uploaded,
    Merged,
}

fn reason() -> impl Strategy<Value = ReasonCode> {
    prop_oneof![Just(ReasonCode::Transient), Just(ReasonCode::Codec)]
}

fn key() -> impl Strategy<Value = String> {
    "[ab]"
}

fn copy() -> impl Strategy<Value = LocalCopy> {
    prop_oneof![Just(LocalCopy::Hot), Just(LocalCopy::Warm)]
}

fn event() -> impl Strategy<Value = ManifestEvent> {
    prop_oneof![
        Just(ManifestEvent::CompressionStarted),
        (0..9u64).prop_map(|compressed_bytes| ManifestEvent::CompressionDone {
            compressed_bytes,
            dictionary_id: 0
        }),
        reason().prop_map(|reason| ManifestEvent::CompressionFailed { reason }),
        key().prop_map(|key| ManifestEvent::UploadStarted { key }),
        (key(), key()).prop_map(|(key, etag)| ManifestEvent::UploadDone { key, etag }),
        (key(), reason()).prop_map(|(key, reason)| ManifestEvent::UploadFailed { key, reason }),
        key().prop_map(|key| ManifestEvent::Tier2DeleteQueued { key }),
        key().prop_map(|key| ManifestEvent::Tier2Deleted { key }),
        Just(ManifestEvent::HydrationStarted {
            source: HydrationSource::Tier2
        }),
        (copy(), 0..9u64).prop_map(|(copy, bytes)| ManifestEvent::HydrationDone { copy, bytes }),
        reason().prop_map(|reason| ManifestEvent::HydrationFailed { reason }),
        (copy(), 0..9u64).prop_map(|(copy, bytes)| ManifestEvent::LocalEvicted { copy, bytes }),
        (0..40u64).prop_map(|start_sequence| ManifestEvent::CustomEvent {
            schema_id: start_sequence::SCHEMA_ID,
            blob: StartSequence {
                start_sequence,
                reason: StartReason::Trim,
            }
            .encode()
            .into(),
        }),
        Just(ManifestEvent::CustomEvent {
            schema_id: start_sequence::SCHEMA_ID,
            blob: b"of a later version".to_vec(),
        }),
        Just(ManifestEvent::CustomEvent {
            schema_id: snapshot_deletion::SCHEMA_ID,
            blob: b"of a later version".to_vec(),
        }),
        Just(ManifestEvent::CustomEvent {
            schema_id: 77,
            blob: b"later".to_vec()
        }),
        Just(ManifestEvent::Unknown {
            type_id: 900,
            payload: b"later".to_vec()
        }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Close),
        8 => (0..5u64, prop::collection::vec(event(), 1..4)).prop_map(|(id, events)| Act::Commit(id, events)),
        3 => (0..6u64, 1..4u64).prop_map(|(id, count)| Act::Send(id, count)),
        2 => any::<bool>().prop_map(Act::Seal),
        2 => (0..60u64, any::<bool>()).prop_map(|(id, has_note)| Act::Snapshot(id, has_note)),
        2 => (0..60u64, 1..30u64, stage()).prop_map(|(id, count, stage)| Act::Delete(id, count, stage)),
        2 => (any::<prop::sample::Index>(), 2..4usize, merge()).prop_map(|(from, count, upto)| Act::Merge(from, count, upto)),
    ]
}

fn stage() -> impl Strategy<Value = DeletionStage> {
    prop_oneof![Just(DeletionStage::Begun), Just(DeletionStage::Done)]
}

fn deletion(id: u64, stage: DeletionStage) -> ManifestEvent {
    let snapshot_id = SnapshotId(id);
    ManifestEvent::CustomEvent {
        schema_id: snapshot_deletion::SCHEMA_ID,
        blob: SnapshotDeletion { snapshot_id, stage }.encode().into(),
    }
}

fn merge() -> impl Strategy<Value = Merge> {
    prop_oneof![
        1 => Just(Merge::Begun),
        1 => Just(Merge::Failed),
        1 => Just(Merge::GivenUp),
        1 => Just(Merge::Uploaded),
        3 => Just(Merge::Merged),
    ]
}

/// What is recorded of a merge that comes so far, each in a commit of its own.
fn merged(inputs: Inputs, upto: Merge) -> Vec<ManifestEvent> {
    let custom = |event: Compaction| ManifestEvent::CustomEvent {
        schema_id: compaction::SCHEMA_ID,
        blob: event.encode(),
    };
    let end = inputs.end_sequence;
    let mut events = vec![custom(Compaction::Begun(inputs.clone()))];
    let (key, etag) = ("a".to_owned(), "e".to_owned());
    let uploaded = [
        ManifestEvent::UploadStarted { key: key.clone() },
        ManifestEvent::UploadDone { key, etag },
    ];
    let reason = ReasonCode::Transient;
    match upto {
        Merge::Begun => {}
        Merge::Failed => events.push(custom(Compaction::Failed { reason })),
        Merge::GivenUp => {
            events.push(custom(Compaction::Failed { reason }));
            events.extend(uploaded);
            events.push(custom(Compaction::GivenUp));
        }
        Merge::Uploaded => events.extend(uploaded),
        Merge::Merged => {
            events.extend(uploaded);
            let output = Output {
                durable_bytes: 4096 + end,
                segment_crc64: end,
                object_bytes: 7,
                first_unix_nanos: 0,
                last_unix_nanos: 1,
                sealed_unix_nanos: 2,
                chain: end as u32,
            };
            events.push(custom(Compaction::Merged(inputs, output)));
        }
    }
    events
}

fn sealed(watermark: u64) -> ManifestEvent {
    ManifestEvent::SealSegment {
        durable_bytes: 4096 + watermark,
        segment_crc64: watermark,
        ext_id: 0,
        watermark,
        flush_failure: false,
        chain: watermark as u32,
        first_unix_nanos: 0,
        last_unix_nanos: 1,
        sealed_unix_nanos: 2,
    }
}

fn snapshot(id: u64, has_note: bool) -> Vec<ManifestEvent> {
    let mut events = vec![ManifestEvent::SnapshotMarker {
        chunk_index: id,
        chunk_offset: 0,
        snapshot_id: id,
    }];
    if has_note {
        let note = SnapshotNote {
            format_version: 0,
            snapshot_id: SnapshotId(id),
            request: "r".to_owned(),
            key: "k".to_owned(),
            digest: "d".to_owned(),
            bytes: 1,
            durable_sequence: 2,
            uploaded_sequence: 3,
            started_unix_nanos: 4,
        };
        events.push(ManifestEvent::CustomEvent {
            schema_id: NOTE_SCHEMA_ID,
            blob: note.encode(),
        });
    }
    events
}

fn write(acts: &[Act]) -> Written {
    let mut written = Written::new();
    let mut producers = Producers::default();
    let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut sequence, mut open, mut base_sequence) = (0, 1, 0);
    // Id, base and end of what is sealed, ascending, and the id of the next output.
    let mut segments: Vec<(u64, u64, u64)> = Vec::new();
    let mut output = 1_000;
    for act in acts {
        match act {
            Act::Close => written.close(),
            // Of a sealed segment, or of the open one.
            Act::Commit(id, events) => written.commit(1 + id % open, events.clone()),
            Act::Send(id, count) => {
                let first = sent.entry(*id).or_default();
                producers.note(*id, *first, *count, sequence);
                *first += count;
                sequence += count;
            }
            Act::Seal(is_done) => {
                if sequence == base_sequence {
                    continue;
                }
                let opened = ManifestEvent::SegmentOpened {
                    base_sequence,
                    epoch: 1,
                };
                let parts = producer_table::encode(&producers.clone().take_changes());
                written.commit(open, std::iter::once(opened).chain(parts).collect());
                if *is_done {
                    producers.take_changes();
                    written.commit(open, vec![sealed(sequence)]);
                    segments.push((open, base_sequence, sequence));
                    (open, base_sequence) = (open + 1, sequence);
                }
            }
            Act::Snapshot(id, has_note) => written.commit(0, snapshot(*id, *has_note)),
            Act::Delete(id, count, stage) => {
                let ids = *id..id + count;
                written.commit(0, ids.map(|id| deletion(id, *stage)).collect());
            }
            Act::Merge(from, count, upto) => {
                let from = from.index(segments.len().max(1));
                let Some(taken) = segments.get(from..from + count) else {
                    continue;
                };
                let inputs = Inputs {
                    base_sequence: taken[0].1,
                    end_sequence: taken[count - 1].2,
                    epoch: 1,
                    segment_ids: taken.iter().map(|(id, _, _)| *id).collect(),
                };
                let made = (output, inputs.base_sequence, inputs.end_sequence);
                for event in merged(inputs, *upto) {
                    written.commit(output, vec![event]);
                }
                if matches!(upto, Merge::Merged) {
                    segments.splice(from..from + count, [made]);
                }
                output += 1;
            }
        }
    }
    written
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A base, and a base that was made upon it, each with the chunks behind it.
    #[test]
    fn a_base_and_the_chunks_behind_it_say_what_all_chunks_say(
        acts in prop::collection::vec(act(), 1..160),
        cut in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
    ) {
        let written = write(&acts);
        if written.chunks.len() < 2 {
            return Ok(());
        }
        let first = 1 + cut.index(written.chunks.len() - 1);
        let base = written.base(None, first);
        same(replay_from(&written, None), replay_from(&written, Some(&base)));
        if first + 1 < written.chunks.len() {
            let upto = first + 1 + second.index(written.chunks.len() - first - 1);
            let again = written.base(Some(&base), upto);
            same(replay_from(&written, None), replay_from(&written, Some(&again)));
            // Made at once or in two steps.
            prop_assert_eq!(again, written.base(None, upto));
        }
    }
}

#[test]
fn what_grows_with_snapshots_failures_evictions_and_producers_does_not_make_a_base_grow() {
    let sizes = [100, 2_000].map(|rounds| {
        let mut written = Written::new();
        let mut producers = Producers::default();
        for round in 0..rounds {
            let failed = ManifestEvent::UploadFailed {
                key: "k".to_owned(),
                reason: ReasonCode::Transient,
            };
            let started = ManifestEvent::UploadStarted {
                key: "k".to_owned(),
            };
            written.commit(1, vec![started, failed]);
            for copy in [LocalCopy::Hot, LocalCopy::Warm] {
                let hydrated = ManifestEvent::HydrationDone { copy, bytes: 1 };
                let dropped = ManifestEvent::LocalEvicted { copy, bytes: 1 };
                let source = HydrationSource::Tier2;
                let begun = ManifestEvent::HydrationStarted { source };
                written.commit(1, vec![begun, hydrated, dropped]);
            }
            let start = StartSequence {
                start_sequence: round,
                reason: StartReason::Trim,
            };
            let start = ManifestEvent::CustomEvent {
                schema_id: start_sequence::SCHEMA_ID,
                blob: start.encode().to_vec(),
            };
            written.commit(0, vec![start]);
            producers.note(7, round, 1, round);
            let mut seal = producer_table::encode(&producers.take_changes());
            seal.push(sealed(round + 1));
            // Of one segment: segments are what a base grows with.
            let seal = match round {
                0 => seal,
                _ => seal[..seal.len() - 1].to_vec(),
            };
            written.commit(1, seal);
            written.commit(0, snapshot(round, true));
        }
        written.close();
        let base = written.base(None, 1);
        same(
            replay_from(&written, None),
            replay_from(&written, Some(&base)),
        );
        base.records.len()
    });
    assert_eq!(sizes[0], sizes[1], "{sizes:?} records");
}

/// Of an order that no engine writes, but that a fold has an answer to.
#[test]
fn a_start_that_is_said_again_changes_nothing_behind_a_seal_either() {
    let mut written = Written::new();
    let start = || {
        let start = StartSequence {
            start_sequence: 27,
            reason: StartReason::Trim,
        };
        ManifestEvent::CustomEvent {
            schema_id: start_sequence::SCHEMA_ID,
            blob: start.encode().to_vec(),
        }
    };
    let uploaded = ManifestEvent::UploadDone {
        key: "k".to_owned(),
        etag: "e".to_owned(),
    };
    written.commit(1, vec![uploaded]);
    written.commit(0, vec![start()]);
    written.commit(1, vec![sealed(28)]);
    for _ in 0..3 {
        written.commit(0, vec![start()]);
    }
    written.close();
    let base = written.base(None, 1);
    assert_eq!(base.records.len(), 4, "of six");
    let all = replay_from(&written, None);
    same(all, replay_from(&written, Some(&base)));
}

#[test]
fn a_chunk_that_does_not_follow_is_not_taken_into_a_base() {
    let mut written = Written::new();
    written.commit(1, vec![ManifestEvent::CompressionStarted]);
    written.close();
    written.commit(1, vec![ManifestEvent::CompressionStarted]);
    written.close();
    let name = name();
    let add = |chunk: &[u8]| {
        let mut builder = Builder::new(owner(&name), None);
        builder.add(1, &written.chunks[0]).expect("the first");
        builder.add(1, chunk)
    };
    add(&written.chunks[1]).expect("it follows");
    let last = written.chunks[1].len() - 1;
    let mut torn = written.chunks[1].clone();
    torn[last] ^= 1;
    for chunk in [
        &written.chunks[0],
        &written.chunks[2],
        &torn,
        &vec![0; 8192],
    ] {
        assert!(add(chunk).is_err());
    }
}

/// The file of a stream, and the same with each of these changed, all behind a right checksum.
#[test]
fn a_base_of_another_stream_is_told_from_one_of_this_stream() {
    let mut written = Written::new();
    written.commit(1, vec![ManifestEvent::CompressionStarted]);
    written.close();
    let base = written.base(None, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join(file::MANIFEST_DIR);
    std::fs::create_dir(&directory).expect("a folder");
    let read_back = |base: &ManifestBase| {
        std::fs::write(directory.join(file::MANIFEST_BASE), base.encode()).expect("written");
        let name = name();
        read(&SystemDisk, Path::new(folder.path()), owner(&name))
    };
    assert_eq!(read_back(&base).expect("ours"), Some(base.clone()));
    let other = |change: fn(&mut ManifestBase)| {
        let mut base = base.clone();
        change(&mut base);
        base
    };
    for base in [
        other(|base| base.cluster_id = ClusterId([9; 16])),
        other(|base| base.stream = StreamName::new("audit").expect("a name")),
        other(|base| base.stream_uuid = StreamUuid([9; 16])),
        other(|base| base.stream_salt = Salt(9)),
    ] {
        assert!(
            matches!(read_back(&base), Err(Unreadable::Damaged(why)) if why.contains("belongs to stream"))
        );
    }
}
