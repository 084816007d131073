//! Sealed segment -> warm file: independent zstd frames of whole batches, and an index at the end.
//!
//! Order: temporary file -> sync -> decompress and compare -> rename -> sync of the directory. Only then does the caller commit
//! `CompressionDone`. A failure leaves the segment as it was and nothing behind: the warm file is a copy that can be made again,
//! so a failed sync here does not poison the store; the file is thrown away and never synced a second time.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::Damage;
use aof2_format::checksum::{Seed, crc32c, crc64nvme};
use aof2_format::names::file;
use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use aof2_format::warm::{BlockEntry, HEADER_BYTES, WarmHeader, WarmSummary, encode_tail};
use thiserror::Error;

use super::warm::{FileSource, WarmError, WarmFacts, segment_name, verify};
use crate::io::{Disk, DiskFile, FileClass, Lack, lack_of, temporary_path};
use crate::port::SealedSegment;

#[derive(Debug, Error)]
pub enum CompressError {
    #[error("segment {segment_id} of stream {stream} is damaged: {problem}")]
    Segment {
        stream: String,
        segment_id: u64,
        problem: String,
    },
    #[error("cannot {verb} {}", path.display())]
    Disk {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("Tier 1 has {available_bytes} bytes left and needs {needed_bytes} for {}; free space on its volume or expand it", path.display())]
    NoRoom {
        path: PathBuf,
        needed_bytes: u64,
        available_bytes: u64,
    },
    #[error("new Tier 1 file does not match its segment")]
    Verify(#[from] WarmError),
}

#[derive(Clone, Copy, Debug)]
pub struct CompressOptions {
    /// zstd, 1..=19.
    pub level: i32,
    /// Uncompressed bytes at which a block is cut, at the next batch boundary.
    pub block_bytes: u64,
}

/// Space that compressing leaves to the journal and the manifest.
const SPARE_BYTES: u64 = 16 << 20;

/// Where the warm file of a segment lies. `None`: see [`segment_name`].
pub fn warm_path(tier1_directory: &Path, segment: &SealedSegment) -> Option<PathBuf> {
    let (stream, name) = segment_name(segment)?;
    Some(
        tier1_directory
            .join(file::WARM_DIR)
            .join(file::stream_dir(&stream))
            .join(file::warm(&name)),
    )
}

/// Makes the warm file, durable and verified, at `path`, over whatever is there.
pub fn compress(
    disk: &dyn Disk,
    path: &Path,
    segment: &SealedSegment,
    bytes: &[u8],
    options: CompressOptions,
) -> Result<WarmFacts, CompressError> {
    publish(disk, path, segment, |temporary| {
        write(disk, temporary, segment, bytes, options)
    })
}

/// A file that is durable, stands for its segment, and has no name of its own yet.
pub(super) struct Ready {
    pub facts: WarmFacts,
    temporary: PathBuf,
    path: PathBuf,
    directory: PathBuf,
}

impl Ready {
    /// Over whatever is there.
    pub fn publish(self, disk: &dyn Disk) -> Result<WarmFacts, CompressError> {
        let Ready {
            facts,
            temporary,
            path,
            directory,
        } = self;
        if let Err(error) = disk.rename(&temporary, &path) {
            let _ = disk.unlink(&temporary);
            return Err(failed("publish", &path)(error));
        }
        disk.sync_directory(&directory)
            .map_err(failed("sync", &directory))?;
        Ok(facts)
    }

    /// What cannot be removed goes with the next start.
    pub fn discard(self, disk: &dyn Disk) {
        let _ = disk.unlink(&self.temporary);
    }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CompressError {
    let path = path.to_owned();
    move |source| CompressError::Disk { verb, path, source }
}

/// Gives what `make` writes its name once it is durable and stands for the segment.
pub(super) fn publish<E: From<CompressError>>(
    disk: &dyn Disk,
    path: &Path,
    segment: &SealedSegment,
    make: impl FnOnce(&Path) -> Result<Arc<dyn DiskFile>, E>,
) -> Result<WarmFacts, E> {
    let ready = prepare(disk, path, temporary_path(path), segment, make)?;
    Ok(ready.publish(disk)?)
}

/// Of what `make` writes to `temporary`, which lies in the directory of `path`.
pub(super) fn prepare<E: From<CompressError>>(
    disk: &dyn Disk,
    path: &Path,
    temporary: PathBuf,
    segment: &SealedSegment,
    make: impl FnOnce(&Path) -> Result<Arc<dyn DiskFile>, E>,
) -> Result<Ready, E> {
    let directory = make_directories(disk, path)?;
    let made = make(&temporary).and_then(|file| {
        file.sync_all().map_err(failed("sync", &temporary))?;
        let source = FileSource::new(file).map_err(failed("measure", &temporary))?;
        let name = temporary.display().to_string();
        Ok(verify(&source, &name, segment).map_err(CompressError::Verify)?)
    });
    let facts = match made {
        Ok(facts) => facts,
        Err(error) => {
            let _ = disk.unlink(&temporary);
            return Err(error);
        }
    };
    Ok(Ready {
        facts,
        temporary,
        path: path.to_owned(),
        directory,
    })
}

/// A new file, in place of what an earlier try left.
pub(super) fn fresh_file(
    disk: &dyn Disk,
    temporary: &Path,
) -> Result<Arc<dyn DiskFile>, CompressError> {
    let failed = |verb| {
        move |source| CompressError::Disk {
            verb,
            path: temporary.to_owned(),
            source,
        }
    };
    if disk.exists(temporary).map_err(failed("look for"))? {
        disk.unlink(temporary).map_err(failed("remove"))?;
    }
    disk.create(temporary, FileClass::Other)
        .map_err(failed("create"))
}

/// Whether Tier 1 has room for the file and a bit more. Asked before anything is recorded: where it has not, the segment goes to
/// Tier 2 without one (see `streamed`).
pub fn look_for_room(
    disk: &dyn Disk,
    path: &Path,
    segment: &SealedSegment,
) -> Result<(), CompressError> {
    look_for_bytes(disk, path, segment.bytes)
}

/// The same for a file of that many bytes.
pub(super) fn look_for_bytes(
    disk: &dyn Disk,
    path: &Path,
    bytes: u64,
) -> Result<(), CompressError> {
    let mut directory = path.parent().unwrap_or(Path::new("/"));
    // The directories are made with the first file.
    while !disk.exists(directory).unwrap_or(true)
        && let Some(parent) = directory.parent()
    {
        directory = parent;
    }
    let space = disk
        .space(directory)
        .map_err(|source| CompressError::Disk {
            verb: "ask for the space of",
            path: directory.to_owned(),
            source,
        })?;
    let needed_bytes = bytes + SPARE_BYTES;
    let available_bytes = space.available_bytes;
    match available_bytes < needed_bytes {
        true => Err(CompressError::NoRoom {
            path: path.to_owned(),
            needed_bytes,
            available_bytes,
        }),
        false => Ok(()),
    }
}

impl CompressError {
    /// The volume has no room for the file, which is no word about the segment.
    pub fn lacks_space(&self) -> bool {
        match self {
            CompressError::NoRoom { .. } => true,
            CompressError::Disk { source, .. } => lack_of(source) == Some(Lack::Space),
            CompressError::Segment { .. } | CompressError::Verify(_) => false,
        }
    }
}

/// Frame by frame, so that a segment takes one block of memory.
fn write(
    disk: &dyn Disk,
    temporary: &Path,
    segment: &SealedSegment,
    bytes: &[u8],
    options: CompressOptions,
) -> Result<Arc<dyn DiskFile>, CompressError> {
    let failed = |verb| {
        move |source| CompressError::Disk {
            verb,
            path: temporary.to_owned(),
            source,
        }
    };
    let file = fresh_file(disk, temporary)?;
    let mut offset = 0;
    encode(segment, bytes, options, &mut |part| {
        let part = part.bytes();
        file.write_all_at(part, offset).map_err(failed("write"))?;
        offset += part.len() as u64;
        Ok(())
    })?;
    Ok(file)
}

/// The directory of `path`, its ancestors made durable up to the first one that was there.
fn make_directories(disk: &dyn Disk, path: &Path) -> Result<PathBuf, CompressError> {
    let failed = |verb, path: &Path, source| CompressError::Disk {
        verb,
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut missing = Vec::new();
    let mut ancestor = Some(directory);
    while let Some(path) = ancestor {
        if disk
            .exists(path)
            .map_err(|error| failed("look for", path, error))?
        {
            break;
        }
        missing.push(path);
        ancestor = path.parent();
    }
    for path in missing.into_iter().rev() {
        disk.create_directory(path)
            .map_err(|error| failed("make", path, error))?;
        if let Some(parent) = path.parent() {
            disk.sync_directory(parent)
                .map_err(|error| failed("sync", parent, error))?;
        }
    }
    Ok(directory.to_owned())
}

/// A piece of a warm file.
pub(super) enum Part<'a> {
    Head(&'a [u8]),
    /// A block of the segment, and its frame.
    Frame(Range<usize>, &'a [u8]),
    Tail(&'a [u8]),
}

impl Part<'_> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Part::Head(bytes) | Part::Frame(_, bytes) | Part::Tail(bytes) => bytes,
        }
    }
}

type Sink<'a> = &'a mut dyn FnMut(Part<'_>) -> Result<(), CompressError>;

/// The warm file's parts, in order: header, frames, tail.
pub(super) fn encode(
    segment: &SealedSegment,
    bytes: &[u8],
    options: CompressOptions,
    sink: Sink<'_>,
) -> Result<(), CompressError> {
    let damaged = |problem: String| CompressError::Segment {
        stream: segment.stream.to_string(),
        segment_id: segment.segment_id,
        problem,
    };
    let of_damage = |damage: Damage| damaged(damage.to_string());

    let found = crc64nvme(bytes);
    if found != segment.crc64 || bytes.len() as u64 != segment.bytes {
        return Err(damaged(format!(
            "{} bytes with crc64 {found:016x}, but the seal records {} bytes with {:016x}",
            bytes.len(),
            segment.bytes,
            segment.crc64
        )));
    }
    let header = SegmentHeader::decode(bytes).map_err(of_damage)?;
    let blocks = cut_blocks(&header, bytes, options.block_bytes).map_err(of_damage)?;

    let warm_header = WarmHeader {
        cluster_id: header.cluster_id,
        stream: header.stream.clone(),
        stream_uuid: header.stream_uuid,
        segment_id: header.segment_id,
        epoch: header.epoch,
        base_sequence: header.base_sequence,
        block_bytes: u32::try_from(options.block_bytes).unwrap_or(u32::MAX),
        dictionary_id: 0,
    };
    sink(Part::Head(&warm_header.encode()))?;
    let mut compressed_offset = HEADER_BYTES as u64;
    let codec = |error: io::Error| damaged(format!("zstd failed: {error}"));
    let mut compressor = zstd::bulk::Compressor::new(options.level).map_err(codec)?;
    let mut entries = Vec::with_capacity(blocks.cuts.len());
    for (number, cut) in blocks.cuts.iter().enumerate() {
        let end = blocks
            .cuts
            .get(number + 1)
            .map_or(bytes.len(), |next| next.offset);
        let block = &bytes[cut.offset..end];
        let frame = compressor.compress(block).map_err(codec)?;
        entries.push(BlockEntry {
            first_sequence: cut.first_sequence,
            uncompressed_offset: cut.offset as u64,
            compressed_offset,
            compressed_bytes: frame.len() as u32,
            crc32c: crc32c(block),
        });
        compressed_offset += frame.len() as u64;
        sink(Part::Frame(cut.offset..end, &frame))?;
    }
    let summary = WarmSummary {
        segment_id: header.segment_id,
        epoch: header.epoch,
        base_sequence: header.base_sequence,
        end_sequence: segment.end_sequence(),
        records: blocks.records,
        uncompressed_bytes: bytes.len() as u64,
        crc64: segment.crc64,
        chain: blocks.chain,
    };
    sink(Part::Tail(&encode_tail(
        &entries,
        &summary,
        compressed_offset,
    )))
}

struct Blocks {
    cuts: Vec<Cut>,
    records: u64,
    /// Of the last batch.
    chain: u32,
}

struct Cut {
    offset: usize,
    first_sequence: u64,
}

/// Walks over the batches and verifies each: the CRC-64 says only that they are what was sealed.
fn cut_blocks(header: &SegmentHeader, bytes: &[u8], block_bytes: u64) -> Result<Blocks, Damage> {
    let seed = Seed::new(header.stream_salt);
    let mut blocks = Blocks {
        cuts: vec![Cut {
            offset: 0,
            first_sequence: header.base_sequence,
        }],
        records: 0,
        chain: header.prev_chain,
    };
    let mut block_start = DATA_OFFSET as usize;
    let mut offset = DATA_OFFSET as usize;
    while offset < bytes.len() {
        let batch = record_batch::decode(&bytes[offset..], seed)?;
        if (offset - block_start) as u64 >= block_bytes {
            blocks.cuts.push(Cut {
                offset,
                first_sequence: batch.base_sequence(),
            });
            block_start = offset;
        }
        blocks.records += u64::from(batch.count());
        blocks.chain = batch.chain();
        offset += batch.batch_bytes();
    }
    if offset != bytes.len() {
        return Err(Damage::Short {
            what: "last batch of the segment",
            need: offset as u64,
            have: bytes.len() as u64,
        });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SystemDisk;
    use crate::io::fault::FaultDisk;
    use crate::jobs::warm::read_index;
    use crate::port::Port;
    use crate::tier::testing::ModelPort;

    const OPTIONS: CompressOptions = CompressOptions {
        level: 3,
        block_bytes: 4096,
    };

    fn sealed(folder: &Path, records: u32) -> (SealedSegment, Vec<u8>) {
        let port = ModelPort::new(folder);
        for record in 0..records {
            port.append(
                "s",
                format!("record {record} {}", "abc".repeat(record as usize % 100)).as_bytes(),
            );
        }
        port.seal(None).expect("sealed");
        port.segment("s", 1)
    }

    #[test]
    fn any_zstd_decoder_restores_the_segment() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, bytes) = sealed(folder.path(), 500);
        let path = warm_path(folder.path(), &segment).expect("a path");
        let facts = compress(&SystemDisk, &path, &segment, &bytes, OPTIONS).expect("compressed");
        let file = std::fs::read(&path).expect("there");
        assert_eq!(
            facts,
            WarmFacts {
                size_bytes: file.len() as u64,
                crc64nvme: crc64nvme(&file)
            }
        );
        assert!(file.len() < bytes.len());
        assert_eq!(
            zstd::stream::decode_all(&file[..]).expect("plain zstd"),
            bytes
        );
        assert!(!temporary_path(&path).exists());
    }

    #[test]
    fn a_block_is_a_whole_number_of_batches_and_finds_its_sequences() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, bytes) = sealed(folder.path(), 500);
        let path = warm_path(folder.path(), &segment).expect("a path");
        compress(&SystemDisk, &path, &segment, &bytes, OPTIONS).expect("compressed");
        let source =
            FileSource::new(SystemDisk.open_read(&path).expect("opens")).expect("measured");
        let index = read_index(&source, "warm").expect("an index");
        assert!(index.blocks.len() > 5, "{} blocks", index.blocks.len());
        let seed = Seed::new(SegmentHeader::decode(&bytes).expect("a header").stream_salt);
        for block in &index.blocks[1..] {
            let batch = record_batch::decode(&bytes[block.uncompressed_offset as usize..], seed)
                .expect("a batch starts here");
            assert_eq!(batch.base_sequence(), block.first_sequence);
        }
        assert_eq!(
            (index.footer.records, index.footer.end_sequence),
            (500, 500)
        );
    }

    #[test]
    fn a_segment_that_differs_from_its_seal_is_not_compressed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, mut bytes) = sealed(folder.path(), 5);
        *bytes.last_mut().expect("not empty") ^= 1;
        let path = warm_path(folder.path(), &segment).expect("a path");
        let error = compress(&SystemDisk, &path, &segment, &bytes, OPTIONS).expect_err("damaged");
        assert!(
            error
                .to_string()
                .starts_with("segment 1 of stream s is damaged"),
            "{error}"
        );
        assert!(!path.exists() && !temporary_path(&path).exists());
    }

    #[test]
    fn a_leftover_of_an_earlier_attempt_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, bytes) = sealed(folder.path(), 5);
        let path = warm_path(folder.path(), &segment).expect("a path");
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(temporary_path(&path), b"half of someth").expect("written");
        compress(&SystemDisk, &path, &segment, &bytes, OPTIONS).expect("compressed");
        verify_file(&path, &segment).expect("verifies");
    }

    fn verify_file(path: &Path, segment: &SealedSegment) -> Result<WarmFacts, WarmError> {
        verify(
            &FileSource::new(SystemDisk.open_read(path).expect("opens")).expect("measured"),
            "warm",
            segment,
        )
    }

    #[test]
    fn every_damaged_byte_of_a_warm_file_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, bytes) = sealed(folder.path(), 40);
        let path = warm_path(folder.path(), &segment).expect("a path");
        compress(&SystemDisk, &path, &segment, &bytes, OPTIONS).expect("compressed");
        let good = std::fs::read(&path).expect("there");
        let facts = verify_file(&path, &segment).expect("verifies");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).expect("written");
            // A flip inside zstd's own framing may decode to the same bytes; then the object's checksum tells.
            if let Ok(found) = verify_file(&path, &segment) {
                assert_ne!(found, facts, "byte {at}");
            }
        }
        std::fs::write(&path, &good[..good.len() - 1]).expect("written");
        verify_file(&path, &segment).expect_err("truncated");
    }

    #[test]
    fn a_warm_file_of_another_segment_does_not_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, bytes) = sealed(folder.path(), 5);
        let path = warm_path(folder.path(), &segment).expect("a path");
        compress(&SystemDisk, &path, &segment, &bytes, OPTIONS).expect("compressed");
        let other = SealedSegment {
            segment_id: 2,
            ..segment.clone()
        };
        let error = verify_file(&path, &other).expect_err("another").to_string();
        assert_eq!(
            error,
            "warm belongs to another segment: segment id is 1, expected 2"
        );
        let other = SealedSegment {
            crc64: segment.crc64 ^ 1,
            ..segment
        };
        verify_file(&path, &other).expect_err("another");
    }

    #[test]
    fn a_volume_without_room_is_told_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, _) = sealed(folder.path(), 5);
        let path = warm_path(folder.path(), &segment).expect("a path");
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        assert!(look_for_room(disk.as_ref(), &path, &segment).is_ok());
        faults.report_available(Some(1 << 20));
        let error = look_for_room(disk.as_ref(), &path, &segment).expect_err("no room");
        assert!(error.lacks_space());
        assert!(
            error
                .to_string()
                .starts_with("Tier 1 has 1048576 bytes left"),
            "{error}"
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_failed_sync_leaves_no_warm_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (segment, bytes) = sealed(folder.path(), 5);
        let path = warm_path(folder.path(), &segment).expect("a path");
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        faults.fail_sync(FileClass::Other, 0);
        let error =
            compress(disk.as_ref(), &path, &segment, &bytes, OPTIONS).expect_err("the sync failed");
        assert!(
            matches!(error, CompressError::Disk { verb: "sync", .. }),
            "{error}"
        );
        assert!(!path.exists() && !temporary_path(&path).exists());
    }
}
