//! Every decoder behind one signature: the debug form of what it decodes.

use aof2_format::claim::{Claim, ClusterMarker};
use aof2_format::clock_reading::ClockReading;
use aof2_format::compaction::Compaction;
use aof2_format::damage::Damage;
use aof2_format::journal::{self, Frame, JournalHeader};
use aof2_format::journal_mark::JournalMark;
use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_chunk::{self, ManifestChunkHeader};
use aof2_format::mark::VolumeMark;
use aof2_format::producer_changes::ProducerChanges;
use aof2_format::record_batch;
use aof2_format::segment::{SegmentHeader, SegmentSeal};
use aof2_format::snapshot::{Catalogue, RecoveryNotes, SnapshotNote};
use aof2_format::snapshot_deletion::SnapshotDeletion;
use aof2_format::start_sequence::StartSequence;
use aof2_format::stream_catalog::CatalogEntry;
use aof2_format::stream_header::StreamHeader;
use aof2_format::volume::VolumeIdentity;
use aof2_format::warm::{FOOTER_BYTES, WarmFooter, WarmHeader, WarmIndex};

use super::{FILE_SALT, file_seed, stream_seed};

pub type Decoder = fn(&[u8]) -> Result<String, Damage>;

/// By the name of the golden file.
pub const DECODERS: &[(&str, Decoder)] = &[
    ("record_batch", batch),
    ("record_batch_gap", batch),
    ("segment_header", |bytes| {
        debug(SegmentHeader::decode(bytes))
    }),
    ("segment_seal", |bytes| debug(SegmentSeal::decode(bytes))),
    ("stream_header", |bytes| debug(StreamHeader::decode(bytes))),
    ("manifest_commit", |bytes| {
        debug(manifest_chunk::decode_commit(bytes, stream_seed()))
    }),
    ("producer_changes", |bytes| {
        debug(ProducerChanges::decode(bytes))
    }),
    ("start_sequence", |bytes| {
        debug(StartSequence::decode(bytes))
    }),
    ("snapshot_deletion", |bytes| {
        debug(SnapshotDeletion::decode(bytes))
    }),
    ("compaction_begun", |bytes| debug(Compaction::decode(bytes))),
    ("compaction_merged", |bytes| {
        debug(Compaction::decode(bytes))
    }),
    ("compaction_failed", |bytes| {
        debug(Compaction::decode(bytes))
    }),
    ("compaction_given_up", |bytes| {
        debug(Compaction::decode(bytes))
    }),
    ("manifest_base", |bytes| debug(ManifestBase::decode(bytes))),
    ("manifest_chunk_header", |bytes| {
        debug(ManifestChunkHeader::decode(bytes))
    }),
    ("journal_header", |bytes| {
        debug(JournalHeader::decode(bytes))
    }),
    ("journal_commit", commit),
    ("journal_mark", |bytes| debug(JournalMark::decode(bytes))),
    ("stream_catalog_entry", |bytes| {
        debug(CatalogEntry::decode(bytes))
    }),
    ("warm_header", |bytes| debug(WarmHeader::decode(bytes))),
    ("warm_tail", tail),
    ("claim", |bytes| debug(Claim::decode(bytes))),
    ("cluster", |bytes| debug(ClusterMarker::decode(bytes))),
    ("volume", |bytes| debug(VolumeIdentity::decode(bytes))),
    ("mark", |bytes| debug(VolumeMark::decode(bytes))),
    ("clock_reading", |bytes| debug(ClockReading::decode(bytes))),
    ("snapshot", |bytes| debug(Catalogue::decode(bytes))),
    ("recovery", |bytes| debug(RecoveryNotes::decode(bytes))),
    ("snapshot_note", |bytes| debug(SnapshotNote::decode(bytes))),
];

fn debug<T: std::fmt::Debug>(decoded: Result<T, Damage>) -> Result<String, Damage> {
    decoded.map(|value| format!("{value:?}"))
}

fn batch(bytes: &[u8]) -> Result<String, Damage> {
    let batch = record_batch::decode(bytes, stream_seed())?;
    assert_eq!(
        batch.payloads().count(),
        batch.count() as usize,
        "a verified batch iterates over all its records"
    );
    Ok(format!(
        "{batch:?} {:?} {}",
        batch.payloads().collect::<Vec<_>>(),
        batch.end_sequence()
    ))
}

fn commit(bytes: &[u8]) -> Result<String, Damage> {
    let commit = journal::decode_commit(bytes, FILE_SALT, file_seed())?;
    let frames: Vec<Frame<'_>> = commit.frames().collect();
    assert_eq!(
        frames.len(),
        commit.fields.frame_count as usize,
        "a verified commit iterates over all its frames"
    );
    let mut positions = Vec::new();
    for frame in &frames {
        if let Frame::CheckpointPositions {
            positions: rows,
            settled_before: _,
        }
        | Frame::CheckpointTable {
            positions: rows,
            settled_before: _,
        } = frame
        {
            assert_eq!(
                rows.iter().count(),
                rows.len(),
                "a verified frame iterates over all its positions"
            );
            positions.extend(rows.iter());
        }
    }
    Ok(format!("{commit:?} {frames:?} {positions:?}"))
}

/// A tail lies at the end of a file whose length the footer must agree with.
fn tail(bytes: &[u8]) -> Result<String, Damage> {
    let Some(at) = bytes.len().checked_sub(FOOTER_BYTES) else {
        return Err(Damage::Short {
            what: "tail",
            need: FOOTER_BYTES as u64,
            have: bytes.len() as u64,
        });
    };
    let footer = WarmFooter::decode(&bytes[at..], 1236 + bytes.len() as u64)?;
    let index = WarmIndex::decode(bytes, &footer)?;
    let found: Vec<_> = (footer.base_sequence..footer.end_sequence)
        .take(200)
        .map(|sequence| index.block_of(sequence))
        .collect();
    let sizes: Vec<_> = (0..index.blocks.len())
        .map(|block| index.uncompressed_bytes(block))
        .collect();
    Ok(format!("{index:?} {found:?} {sizes:?}"))
}
