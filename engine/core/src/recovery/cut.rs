//! The end of a damaged stream that a person gave up: its bytes go to quarantine, and a segment with a gap takes the place of their
//! sequences, so that none is given twice.

use std::path::Path;

use aof2_format::cut::StreamCut;
use aof2_format::names::file;
use aof2_format::record_batch::{self, Fields, GapReason};
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use aof2_format::stream_header::StreamHeader;
use aof2_format::{BLOCK_BYTES, FORMAT_VERSION, StreamUuid};

use super::scan::Scan;
use super::stream::FoundSegment;
use super::volume::at;
use crate::error::OpenError;
use crate::io::{Disk, FileClass, read_file};
use crate::segment::files;

/// A record has its length in front of it.
const LEAST_RECORD_BYTES: u64 = 4;

pub(super) struct Facts<'a> {
    pub uuid: StreamUuid,
    pub segment_id: u64,
    pub offset: u64,
    pub highest_segment_id: u64,
    /// Behind the last record that verifies.
    pub next_sequence: u64,
    /// What something proves was durable.
    pub durable_upto: u64,
    pub lost_bytes: u64,
    pub lost_before_commit: Option<u64>,
    pub damage: &'a str,
}

/// How many records the lost bytes held, nobody knows: as many as fit, at most.
pub(super) fn of(facts: &Facts<'_>) -> StreamCut {
    let most = facts.next_sequence + facts.lost_bytes / LEAST_RECORD_BYTES + 1;
    StreamCut {
        format_version: FORMAT_VERSION,
        stream_uuid: facts.uuid,
        segment_id: facts.segment_id,
        offset: facts.offset,
        highest_segment_id: facts.highest_segment_id,
        first_lost: facts.next_sequence,
        next_sequence: most.max(facts.durable_upto),
        lost_bytes: facts.lost_bytes,
        lost_before_commit: facts.lost_before_commit,
        damage: facts.damage.chars().take(1024).collect(),
    }
}

/// `None` where there is none, or one that cannot be read: then the stream is damaged as it was.
pub(super) fn read(
    disk: &dyn Disk,
    directory: &Path,
    uuid: StreamUuid,
) -> Result<Option<StreamCut>, OpenError> {
    let path = directory.join(file::CUT);
    if !disk.exists(&path).map_err(at("look for", &path))? {
        return Ok(None);
    }
    let bytes = read_file(disk, &path, BLOCK_BYTES as u64 * 4).map_err(at("read", &path))?;
    match StreamCut::decode(&bytes) {
        Ok(cut) if cut.stream_uuid == uuid => Ok(Some(cut)),
        Ok(_) => {
            tracing::error!(path = %path.display(), "the cut belongs to another stream");
            Ok(None)
        }
        Err(damage) => {
            tracing::error!(path = %path.display(), %damage, "the cut of a stream is damaged");
            Ok(None)
        }
    }
}

/// Fills what is missing up to the sequence that the cut says: nothing once that was done. Where there is other damage, that is
/// reported.
pub(super) fn write_gap(
    scan: &mut Scan<'_>,
    stream: &StreamHeader,
    cut: &StreamCut,
) -> Result<(), OpenError> {
    let base_sequence = scan.next_sequence;
    if scan.damage.is_some() || base_sequence >= cut.next_sequence {
        return Ok(());
    }
    let id = cut.gap_segment_id();
    let prev_chain = scan.chain.unwrap_or(0);
    let header = SegmentHeader {
        cluster_id: stream.cluster_id,
        stream: stream.stream.clone(),
        stream_uuid: stream.stream_uuid,
        stream_salt: stream.stream_salt,
        segment_id: id,
        epoch: scan.epoch,
        base_sequence,
        prev_chain,
        created_unix_nanos: stream.created_unix_nanos,
    };
    let fields = Fields {
        base_sequence,
        epoch: scan.epoch,
        prev_chain,
        appended_unix_nanos: stream.created_unix_nanos,
        durable_upto: base_sequence,
        ..Fields::default()
    };
    let mut bytes = header.encode().to_vec();
    debug_assert_eq!(bytes.len() as u64, DATA_OFFSET);
    let reason = GapReason::LossWindow;
    record_batch::encode_gap(
        &mut bytes,
        &fields,
        cut.next_sequence,
        reason,
        scan.identity.seed,
    );
    let path = files::segment(scan.directory, base_sequence, scan.epoch, id);
    let file = scan
        .disk
        .create(&path, FileClass::Segment)
        .map_err(at("create", &path))?;
    file.write_all_at(&bytes, 0).map_err(at("write", &path))?;
    let segments = files::segments(scan.directory);
    scan.disk
        .sync_directory(&segments)
        .map_err(at("sync", &segments))?;
    tracing::warn!(stream = %stream.stream, first_lost = base_sequence, next_sequence = cut.next_sequence, lost_bytes = cut.lost_bytes, "damaged end of a stream cut off, as was asked for");
    scan.segment(
        id,
        FoundSegment {
            file,
            path,
            is_spare: false,
            must_reach: 0,
            durable_upto: 0,
            is_written: true,
        },
    )
}
