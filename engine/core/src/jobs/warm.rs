//! A warm file as bytes that can be read anywhere: the local file, or its object in Tier 2. Both are verified by the same walk.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use aof2_format::checksum::{Crc64Nvme, crc32c};
use aof2_format::names::file;
use aof2_format::warm::{
    BlockEntry, FOOTER_BYTES, HEADER_BYTES, WarmFooter, WarmHeader, WarmIndex,
};
use aof2_format::{Damage, StreamName};
use thiserror::Error;

use crate::io::DiskFile;
use crate::objects::{ObjectError, Source, Tier2};
use crate::port::SealedSegment;

/// Why a warm file does not stand for its segment.
#[derive(Debug, Error)]
pub enum WarmError {
    #[error("cannot read {name}")]
    Read { name: String, source: io::Error },
    #[error("{name} is damaged")]
    Damaged { name: String, source: Damage },
    #[error("block {block} of {name} does not decompress to its original bytes: {problem}")]
    Block {
        name: String,
        block: usize,
        problem: String,
    },
    #[error("{name} belongs to another segment: {field} is {found}, expected {expected}")]
    AnotherSegment {
        name: String,
        field: &'static str,
        found: String,
        expected: String,
    },
}

/// What a verified warm file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmFacts {
    pub size_bytes: u64,
    /// CRC-64/NVME of the whole warm file: what the object's checksum has to be.
    pub crc64nvme: u64,
}

/// Decompresses every block and holds the result against the segment's length and CRC-64; a warm file that passes can stand
/// for the segment.
pub fn verify(
    source: &dyn Source,
    name: &str,
    segment: &SealedSegment,
) -> Result<WarmFacts, WarmError> {
    let read_error = |source| WarmError::Read {
        name: name.to_owned(),
        source,
    };
    let damaged = |source| WarmError::Damaged {
        name: name.to_owned(),
        source,
    };

    let size_bytes = source.size_bytes();
    let index = read_index(source, name)?;
    let mut whole = Crc64Nvme::default();
    let mut head = vec![0; HEADER_BYTES];
    source.read_at(0, &mut head).map_err(read_error)?;
    whole.update(&head);
    same_segment(
        name,
        &WarmHeader::decode(&head).map_err(damaged)?,
        &index.footer,
        segment,
    )?;

    let mut segment_crc = Crc64Nvme::default();
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(read_error)?;
    let mut compressed = Vec::new();
    for (number, entry) in index.blocks.iter().enumerate() {
        compressed.resize(entry.compressed_bytes as usize, 0);
        source
            .read_at(entry.compressed_offset, &mut compressed)
            .map_err(read_error)?;
        whole.update(&compressed);
        let block = decompress(
            &mut decompressor,
            &compressed,
            entry,
            index.uncompressed_bytes(number),
        )
        .map_err(|problem| WarmError::Block {
            name: name.to_owned(),
            block: number,
            problem,
        })?;
        segment_crc.update(&block);
    }
    let mut tail = vec![0; index.footer.tail_bytes()];
    source
        .read_at(index.footer.tail_offset, &mut tail)
        .map_err(read_error)?;
    whole.update(&tail);

    let found = segment_crc.finish();
    if found != segment.crc64 {
        return Err(another(
            name,
            "crc64 of the decompressed bytes",
            format!("{found:016x}"),
            format!("{:016x}", segment.crc64),
        ));
    }
    Ok(WarmFacts {
        size_bytes,
        crc64nvme: whole.finish(),
    })
}

/// Footer and block index, from two reads at the end.
pub fn read_index(source: &dyn Source, name: &str) -> Result<WarmIndex, WarmError> {
    let read_error = |source| WarmError::Read {
        name: name.to_owned(),
        source,
    };
    let damaged = |source| WarmError::Damaged {
        name: name.to_owned(),
        source,
    };
    let size_bytes = source.size_bytes();
    let Some(footer_at) = size_bytes.checked_sub(FOOTER_BYTES as u64) else {
        return Err(damaged(Damage::Short {
            what: "warm file",
            need: FOOTER_BYTES as u64,
            have: size_bytes,
        }));
    };
    let mut footer = [0; FOOTER_BYTES];
    source.read_at(footer_at, &mut footer).map_err(read_error)?;
    let footer = WarmFooter::decode(&footer, size_bytes).map_err(damaged)?;
    let mut tail = vec![0; footer.tail_bytes()];
    source
        .read_at(footer.tail_offset, &mut tail)
        .map_err(read_error)?;
    WarmIndex::decode(&tail, &footer).map_err(damaged)
}

/// The same, held against what the manifest knows of the segment.
pub fn read_index_of(
    source: &dyn Source,
    name: &str,
    segment: &SealedSegment,
) -> Result<WarmIndex, WarmError> {
    let index = read_index(source, name)?;
    same_footer(name, &index.footer, segment)?;
    Ok(index)
}

/// One block, verified. An error says what is wrong with it.
pub fn block_of(index: &WarmIndex, number: usize, compressed: &[u8]) -> Result<Vec<u8>, String> {
    thread_local! {
        // Its tables are more memory than most blocks.
        static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let mut decompressor = match kept.take() {
            Some(decompressor) => decompressor,
            None => zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?,
        };
        let entry = &index.blocks[number];
        let block = decompress(
            &mut decompressor,
            compressed,
            entry,
            index.uncompressed_bytes(number),
        );
        *kept = Some(decompressor);
        block
    })
}

pub(super) fn decompress(
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    compressed: &[u8],
    entry: &BlockEntry,
    uncompressed_bytes: usize,
) -> Result<Vec<u8>, String> {
    let block = decompressor
        .decompress(compressed, uncompressed_bytes)
        .map_err(|error| error.to_string())?;
    if block.len() != uncompressed_bytes {
        return Err(format!(
            "{} bytes instead of {uncompressed_bytes}",
            block.len()
        ));
    }
    if crc32c(&block) != entry.crc32c {
        return Err("checksum differs".to_owned());
    }
    Ok(block)
}

pub(super) fn same_segment(
    name: &str,
    header: &WarmHeader,
    footer: &WarmFooter,
    segment: &SealedSegment,
) -> Result<(), WarmError> {
    same_footer(name, footer, segment)?;
    let ids = [header.segment_id, segment.segment_id];
    if ids[0] != ids[1] {
        let [found, expected] = ids.map(|id| id.to_string());
        return Err(another(name, "segment id in the header", found, expected));
    }
    if header.stream.as_str() != &*segment.stream {
        return Err(another(
            name,
            "stream",
            header.stream.to_string(),
            segment.stream.to_string(),
        ));
    }
    Ok(())
}

fn same_footer(name: &str, footer: &WarmFooter, segment: &SealedSegment) -> Result<(), WarmError> {
    let numbers = [
        ("segment id", footer.segment_id, segment.segment_id),
        ("base sequence", footer.base_sequence, segment.base_sequence),
        ("end sequence", footer.end_sequence, segment.end_sequence()),
        ("epoch", footer.epoch.into(), segment.epoch),
        ("length", footer.uncompressed_bytes, segment.bytes),
    ];
    for (field, found, expected) in numbers {
        if found != expected {
            return Err(another(
                name,
                field,
                found.to_string(),
                expected.to_string(),
            ));
        }
    }
    if footer.crc64 != segment.crc64 {
        return Err(another(
            name,
            "crc64",
            format!("{:016x}", footer.crc64),
            format!("{:016x}", segment.crc64),
        ));
    }
    Ok(())
}

pub(super) fn another(
    name: &str,
    field: &'static str,
    found: String,
    expected: String,
) -> WarmError {
    WarmError::AnotherSegment {
        name: name.to_owned(),
        field,
        found,
        expected,
    }
}

/// Name of a segment in Tier 1 and Tier 2. `None`: an epoch or a stream name that no segment of ours has.
pub fn segment_name(segment: &SealedSegment) -> Option<(StreamName, file::SegmentRef)> {
    let stream = StreamName::new(&segment.stream).ok()?;
    let epoch = u32::try_from(segment.epoch).ok()?;
    Some((
        stream,
        file::SegmentRef {
            base_sequence: segment.base_sequence,
            epoch,
            segment_id: segment.segment_id,
        },
    ))
}

/// A file on our own disk.
pub struct FileSource {
    file: Arc<dyn DiskFile>,
    size_bytes: u64,
}

impl FileSource {
    pub fn new(file: Arc<dyn DiskFile>) -> io::Result<FileSource> {
        let size_bytes = file.len()?;
        Ok(FileSource { file, size_bytes })
    }
}

impl Source for FileSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.file.read_at(buffer, offset)? < buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// An object, by ranged reads.
pub struct ObjectSource<'a> {
    pub tier2: &'a Tier2,
    pub key: &'a str,
    pub size_bytes: u64,
}

impl Source for ObjectSource<'_> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let read = self
            .tier2
            .store()
            .get_range(self.key, offset, buffer.len() as u64);
        let bytes = read.map_err(as_io)?.ok_or(io::ErrorKind::NotFound)?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    }
}

fn as_io(error: ObjectError) -> io::Error {
    io::Error::other(error)
}
