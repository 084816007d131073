//! Sealed segments of one stream, made into one file: a header of its own, the batches byte for byte, a seal of its own.
//!
//! What is read is held against the seals of the inputs: checksum, sequences, chain. What was written is read back from the device and
//! held against what was read: checksum, sequences, chain, count of records. Only then does the file get its name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::Seed;
use aof2_format::checksum::Crc64Nvme;
use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader, SegmentSeal};
use bytes::Bytes;
use thiserror::Error;

use super::checksum::crc64_of;
use super::index::SparseIndex;
use super::scan::{ScanStart, scan};
use super::sealed::SealedInfo;
use crate::io::{Disk, DiskFile, FileClass, temporary_path};

/// Written at once, at most.
const PART_BYTES: usize = 256 << 10;

/// One of what is merged.
pub(crate) struct Input {
    pub info: SealedInfo,
    /// Header and batches.
    pub bytes: Bytes,
}

/// Who the output is. Its bytes follow from this and from the inputs, so that a second try makes the same.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub segment_id: u64,
    pub sealed_unix_nanos: i64,
}

/// A file that is durable and whole.
#[derive(Debug)]
pub(crate) struct Made {
    pub info: SealedInfo,
    /// Of the last batch.
    pub chain: u32,
    pub index: SparseIndex,
}

#[derive(Debug, Error)]
pub(crate) enum MergeFileError {
    /// Its bytes are not those that were sealed.
    #[error("segment {segment_id} cannot be merged: {problem}")]
    Input { segment_id: u64, problem: String },
    #[error("cannot {verb} {}", path.display())]
    Disk {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is not what was merged: {problem}", path.display())]
    Differs { path: PathBuf, problem: String },
    /// Whoever asked for it does not want it any more.
    #[error("merge was interrupted")]
    Interrupted,
}

/// Told of each part that was written: its file, offset and length. False: go no further.
pub(crate) type Written<'a> = &'a mut dyn FnMut(&Arc<dyn DiskFile>, u64, u64) -> bool;

/// Bytes of the file that these become, and the offset behind its last batch.
pub(crate) fn file_bytes(inputs: impl IntoIterator<Item = u64>) -> (u64, u64) {
    let batches: u64 = inputs
        .into_iter()
        .map(|data_end| data_end.saturating_sub(DATA_OFFSET))
        .sum();
    let data_end = DATA_OFFSET + batches;
    let seal = SegmentSeal::offset(data_end) + aof2_format::BLOCK_BYTES as u64;
    (seal, data_end)
}

/// The inputs follow each other. A failure leaves nothing behind.
pub(crate) fn merge(
    disk: &dyn Disk,
    path: &Path,
    identity: &Identity,
    inputs: &[Input],
    written: Written<'_>,
) -> Result<Made, MergeFileError> {
    let read = read_all(inputs)?;
    let temporary = temporary_path(path);
    let at = |verb: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| MergeFileError::Disk { verb, path, source }
    };
    if disk
        .exists(&temporary)
        .map_err(at("look for", &temporary))?
    {
        disk.unlink(&temporary).map_err(at("remove", &temporary))?;
    }
    let file = disk
        .create(&temporary, FileClass::Other)
        .map_err(at("create", &temporary))?;
    let named = write(&file, &temporary, identity, inputs, &read, written)
        .and_then(|made| compare(&*file, &temporary, &read, made))
        .and_then(|made| {
            disk.rename(&temporary, path).map_err(at("rename", path))?;
            Ok(made)
        });
    let made = match named {
        Ok(made) => made,
        Err(error) => {
            // Best effort: recovery removes what is left.
            let _ = disk.unlink(&temporary);
            return Err(error);
        }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    if let Err(source) = disk.sync_directory(directory) {
        let _ = disk.unlink(path);
        return Err(at("sync the directory of", path)(source));
    }
    Ok(made)
}

/// What the inputs are together.
struct Read {
    header: SegmentHeader,
    seed: Seed,
    end_sequence: u64,
    chain: u32,
    records: u64,
}

fn read_all(inputs: &[Input]) -> Result<Read, MergeFileError> {
    let mut all: Option<Read> = None;
    for input in inputs {
        let (segment_id, expected) = (input.info.segment_id, all.as_ref());
        let found = read(input, expected.map(|all| (all.chain, all.end_sequence)));
        let found = found.map_err(|problem| MergeFileError::Input {
            segment_id,
            problem,
        })?;
        all = Some(match all {
            None => found,
            Some(before) => Read {
                end_sequence: found.end_sequence,
                chain: found.chain,
                records: before.records + found.records,
                ..before
            },
        });
    }
    all.ok_or_else(|| MergeFileError::Input {
        segment_id: 0,
        problem: "nothing to merge".to_owned(),
    })
}

/// `before`: chain and end of the one before it.
fn read(input: &Input, before: Option<(u32, u64)>) -> Result<Read, String> {
    let Input { info, bytes } = input;
    let mut crc = Crc64Nvme::default();
    crc.update(bytes);
    let found = crc.finish();
    if bytes.len() as u64 != info.data_end || found != info.crc64 {
        return Err(format!(
            "{} bytes with crc64 {found:016x}, but the seal records {} bytes with {:016x}",
            bytes.len(),
            info.data_end,
            info.crc64
        ));
    }
    let header = SegmentHeader::decode(bytes).map_err(|damage| damage.to_string())?;
    let is_its_own = header.segment_id == info.segment_id
        && header.base_sequence == info.base_sequence
        && header.epoch == info.epoch;
    if !is_its_own {
        return Err(format!("header is of segment {}", header.segment_id));
    }
    let start = (header.prev_chain, header.base_sequence);
    if let Some(before) = before.filter(|before| *before != start) {
        return Err(format!(
            "header follows sequence {} with chain {:08x}, expected sequence {} with chain {:08x}",
            start.1, start.0, before.1, before.0
        ));
    }
    let seed = Seed::new(header.stream_salt);
    let (mut chain, mut next, mut records) = (start.0, start.1, 0);
    let mut offset = DATA_OFFSET as usize;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let batch = record_batch::decode(rest, seed).map_err(|damage| damage.to_string())?;
        if batch.fields().prev_chain != chain || batch.base_sequence() != next {
            return Err(format!(
                "batch of sequence {} does not follow sequence {next}",
                batch.base_sequence()
            ));
        }
        (chain, next) = (batch.chain(), batch.end_sequence());
        records += u64::from(batch.count());
        offset += batch.batch_bytes();
    }
    if next != info.end_sequence {
        return Err(format!(
            "batches end before sequence {next}, but the seal records {}",
            info.end_sequence
        ));
    }
    Ok(Read {
        header,
        seed,
        end_sequence: next,
        chain,
        records,
    })
}

fn write(
    file: &Arc<dyn DiskFile>,
    path: &Path,
    identity: &Identity,
    inputs: &[Input],
    read: &Read,
    written: Written<'_>,
) -> Result<SealedInfo, MergeFileError> {
    let at = |verb: &'static str| {
        let path = path.to_owned();
        move |source| MergeFileError::Disk { verb, path, source }
    };
    let (length, data_end) = file_bytes(inputs.iter().map(|input| input.info.data_end));
    // Where there is no room, that is found before anything is written.
    file.allocate(0, length).map_err(at("allocate"))?;
    let header = SegmentHeader {
        segment_id: identity.segment_id,
        ..read.header.clone()
    };
    let head = header.encode();
    let batches = inputs
        .iter()
        .map(|input| &input.bytes[DATA_OFFSET as usize..]);
    let mut crc = Crc64Nvme::default();
    let mut offset = 0;
    for part in std::iter::once(&head[..])
        .chain(batches)
        .flat_map(|bytes| bytes.chunks(PART_BYTES))
    {
        file.write_all_at(part, offset).map_err(at("write"))?;
        crc.update(part);
        let from = offset;
        offset += part.len() as u64;
        if !written(file, from, part.len() as u64) {
            return Err(MergeFileError::Interrupted);
        }
    }
    let info = SealedInfo {
        segment_id: identity.segment_id,
        epoch: header.epoch,
        base_sequence: header.base_sequence,
        end_sequence: read.end_sequence,
        data_end,
        crc64: crc.finish(),
    };
    let seal = SegmentSeal {
        cluster_id: header.cluster_id,
        stream_uuid: header.stream_uuid,
        segment_id: info.segment_id,
        epoch: info.epoch,
        base_sequence: info.base_sequence,
        end_sequence: info.end_sequence,
        records: info.end_sequence - info.base_sequence,
        data_end,
        crc64: info.crc64,
        chain: read.chain,
        sealed_unix_nanos: identity.sealed_unix_nanos,
        flush_failure: false,
    };
    file.write_all_at(&seal.encode(), SegmentSeal::offset(data_end))
        .map_err(at("write"))?;
    file.sync_all().map_err(at("sync"))?;
    Ok(info)
}

/// From the device: what the cache holds may not be what a sync wrote.
fn compare(
    file: &dyn DiskFile,
    path: &Path,
    read: &Read,
    info: SealedInfo,
) -> Result<Made, MergeFileError> {
    let failed = |source| MergeFileError::Disk {
        verb: "read back",
        path: path.to_owned(),
        source,
    };
    let differs = |problem: String| MergeFileError::Differs {
        path: path.to_owned(),
        problem,
    };
    file.forget_cache().map_err(failed)?;
    let crc64 = crc64_of(file, info.data_end).map_err(failed)?;
    if crc64 != info.crc64 {
        return Err(differs(format!(
            "crc64 {crc64:016x} found, {:016x} written",
            info.crc64
        )));
    }
    let start = ScanStart {
        offset: DATA_OFFSET,
        next_sequence: info.base_sequence,
        chain: read.header.prev_chain,
    };
    let mut index = SparseIndex::default();
    let end = scan(file, read.seed, start, |batch, offset| {
        index.note(batch.base_sequence(), offset);
    })
    .map_err(failed)?;
    let found = (end.offset, end.next_sequence, end.chain, end.records);
    let expected = (info.data_end, read.end_sequence, read.chain, read.records);
    if found != expected {
        return Err(differs(format!(
            "offset, sequence, chain and records at the end are {found:?}, expected {expected:?}"
        )));
    }
    let mut block = vec![0; aof2_format::BLOCK_BYTES];
    let seal_at = SegmentSeal::offset(info.data_end);
    let length = file.read_at(&mut block, seal_at).map_err(failed)?;
    let seal =
        SegmentSeal::decode(&block[..length]).map_err(|damage| differs(damage.to_string()))?;
    if !info.is_of_seal(read.header.stream_uuid, &seal) {
        return Err(differs(format!("seal is of segment {}", seal.segment_id)));
    }
    Ok(Made {
        info,
        chain: end.chain,
        index,
    })
}

#[cfg(test)]
mod tests;
