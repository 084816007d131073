//! A warm file (Tier 1) and its object (Tier 2), `.aofz`: a zstd stream that is seekable by block. Layout: `warm.md`.
//!
//! `[header: a skippable frame][one zstd frame per block ...][tail: a skippable frame with the block index and the footer]`.
//! Any zstd decoder restores the segment's bytes `0..data_end`; the footer is the last bytes of the file, so a ranged read of the
//! tail is enough to find a block. A block is a whole number of batches (block 0 starts with the segment's header block), so a
//! point read decompresses one block. This module encodes and decodes everything but the compressed frames.

use crate::checksum;
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, StreamUuid};
use crate::names::{self, StreamName};
use crate::record_batch::MAX_BATCH_BYTES;
use crate::segment::MAX_SEGMENT_BYTES;
use crate::{BLOCK_BYTES, FORMAT_VERSION};

const WHAT: &str = "warm header";
const WHAT_FOOTER: &str = "warm footer";
const WHAT_INDEX: &str = "warm index";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2WARM");
pub const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"AOF2WEND");
/// zstd decoders skip frames that begin with this and a length.
pub const SKIPPABLE_MAGIC: u32 = 0x184D_2A5F;

layout! {
    /// First frame of a warm file.
    header: 256, {
        SKIPPABLE_MAGIC: 0, 4;
        SKIPPABLE_BYTES: 4, 4;
        MAGIC: 8, 8;
        VERSION: 16, 2;
        RESERVED: 18, 2;
        EPOCH: 20, 4;
        CLUSTER_ID: 24, 16;
        STREAM_UUID: 40, 16;
        SEGMENT_ID: 56, 8;
        BASE_SEQUENCE: 64, 8;
        BLOCK_BYTES: 72, 4;
        DICTIONARY_ID: 76, 4;
        STREAM_NAME_BYTES: 80, 1;
        STREAM_NAME: 81, 63;
        ZERO: 144, 108;
        CRC: 252, 4;
    }
}

layout! {
    /// One block in the index.
    entry: 32, {
        FIRST_SEQUENCE: 0, 8;
        UNCOMPRESSED_OFFSET: 8, 8;
        COMPRESSED_OFFSET: 16, 8;
        COMPRESSED_BYTES: 24, 4;
        CRC32C: 28, 4;
    }
}

layout! {
    /// Last bytes of a warm file.
    footer: 96, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 2;
        BLOCKS: 12, 4;
        TAIL_OFFSET: 16, 8;
        SEGMENT_ID: 24, 8;
        BASE_SEQUENCE: 32, 8;
        END_SEQUENCE: 40, 8;
        RECORDS: 48, 8;
        UNCOMPRESSED_BYTES: 56, 8;
        CRC64: 64, 8;
        CHAIN: 72, 4;
        EPOCH: 76, 4;
        INDEX_CRC: 80, 4;
        ZERO: 84, 8;
        CRC: 92, 4;
    }
}

pub const HEADER_BYTES: usize = header::BYTES;
pub const ENTRY_BYTES: usize = entry::BYTES;
pub const FOOTER_BYTES: usize = footer::BYTES;
/// A skippable frame's magic and length.
pub const SKIPPABLE_HEADER_BYTES: usize = 8;
/// Blocks are at least 4 KiB, except the last.
pub const MAX_BLOCKS: u32 = (MAX_SEGMENT_BYTES / BLOCK_BYTES as u64) as u32 + 1;
/// Largest uncompressed block: the segment's header block, a block of the largest configurable size, one batch beyond it.
pub const MAX_BLOCK_UNCOMPRESSED_BYTES: usize = BLOCK_BYTES + (1 << 20) + MAX_BATCH_BYTES;
/// Largest compressed block; zstd's bound on incompressible bytes is far below twice their size.
pub const MAX_BLOCK_COMPRESSED_BYTES: usize = 2 * MAX_BLOCK_UNCOMPRESSED_BYTES;

/// First frame of a warm file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmHeader {
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub stream_uuid: StreamUuid,
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    /// Uncompressed bytes that a block was cut at.
    pub block_bytes: u32,
    /// 0 = none.
    pub dictionary_id: u32,
}

impl WarmHeader {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let Self {
            cluster_id,
            stream,
            stream_uuid,
            segment_id,
            epoch,
            base_sequence,
            block_bytes,
            dictionary_id,
        } = self;
        let mut out = [0; HEADER_BYTES];
        header::SKIPPABLE_MAGIC.write(&mut out, SKIPPABLE_MAGIC);
        header::SKIPPABLE_BYTES.write(&mut out, (HEADER_BYTES - SKIPPABLE_HEADER_BYTES) as u32);
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::EPOCH.write(&mut out, *epoch);
        header::CLUSTER_ID.put(&mut out, cluster_id.0);
        header::STREAM_UUID.put(&mut out, stream_uuid.0);
        header::SEGMENT_ID.write(&mut out, *segment_id);
        header::BASE_SEQUENCE.write(&mut out, *base_sequence);
        header::BLOCK_BYTES.write(&mut out, *block_bytes);
        header::DICTIONARY_ID.write(&mut out, *dictionary_id);
        names::put_stream_name(
            &mut out,
            header::STREAM_NAME_BYTES,
            header::STREAM_NAME,
            stream,
        );
        let crc = checksum::crc32c(&out[..header::CRC.0]);
        header::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::block(
            WHAT,
            bytes,
            MAGIC,
            header::MAGIC,
            header::VERSION,
            header::CRC,
        )?;
        check_skippable(WHAT, bytes, HEADER_BYTES - SKIPPABLE_HEADER_BYTES)?;
        damage::zero(WHAT, "reserved bytes", &header::RESERVED.get(bytes))?;
        damage::zero(WHAT, "reserved bytes", &header::ZERO.get(bytes))?;
        Ok(Self {
            cluster_id: ClusterId(header::CLUSTER_ID.get(bytes)),
            stream: names::get_stream_name(
                WHAT,
                bytes,
                header::STREAM_NAME_BYTES,
                header::STREAM_NAME,
            )?,
            stream_uuid: StreamUuid(header::STREAM_UUID.get(bytes)),
            segment_id: header::SEGMENT_ID.read(bytes),
            epoch: header::EPOCH.read(bytes),
            base_sequence: header::BASE_SEQUENCE.read(bytes),
            block_bytes: header::BLOCK_BYTES.read(bytes),
            dictionary_id: header::DICTIONARY_ID.read(bytes),
        })
    }
}

/// One independent zstd frame of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Sequence of the first record (or gap) that starts in this block.
    pub first_sequence: u64,
    /// Where its bytes lie in the segment; block 0 has 0.
    pub uncompressed_offset: u64,
    /// Where its frame lies in the file.
    pub compressed_offset: u64,
    pub compressed_bytes: u32,
    /// CRC-32C of the uncompressed bytes.
    pub crc32c: u32,
}

impl BlockEntry {
    /// Of one row of the index. What it says is held against the index as a whole, or against the block.
    pub fn decode(row: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            first_sequence: entry::FIRST_SEQUENCE.read(row),
            uncompressed_offset: entry::UNCOMPRESSED_OFFSET.read(row),
            compressed_offset: entry::COMPRESSED_OFFSET.read(row),
            compressed_bytes: entry::COMPRESSED_BYTES.read(row),
            crc32c: entry::CRC32C.read(row),
        }
    }
}

/// Last bytes of a warm file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmFooter {
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    /// Sequence behind the last one.
    pub end_sequence: u64,
    pub records: u64,
    /// `SegmentSeal::data_end`.
    pub uncompressed_bytes: u64,
    /// CRC-64/NVME of the uncompressed bytes: equal to the seal's.
    pub crc64: u64,
    /// Chain of the last batch.
    pub chain: u32,
    pub blocks: u32,
    /// Where the tail's skippable frame begins; the index lies behind its 8 bytes.
    pub tail_offset: u64,
    index_crc: u32,
}

impl WarmFooter {
    /// Bytes of the whole tail: skippable header, index, footer.
    pub fn tail_bytes(&self) -> usize {
        tail_bytes(self.blocks as usize)
    }

    /// CRC-32C of the tail up to the footer, for who reads it in pieces.
    pub fn index_crc(&self) -> u32 {
        self.index_crc
    }

    /// From the last [`FOOTER_BYTES`] of a file of `file_bytes`.
    pub fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self, Damage> {
        damage::block(
            WHAT_FOOTER,
            bytes,
            FOOTER_MAGIC,
            footer::MAGIC,
            footer::VERSION,
            footer::CRC,
        )?;
        damage::zero(WHAT_FOOTER, "reserved bytes", &footer::RESERVED.get(bytes))?;
        damage::zero(WHAT_FOOTER, "reserved bytes", &footer::ZERO.get(bytes))?;
        let footer = Self {
            segment_id: footer::SEGMENT_ID.read(bytes),
            epoch: footer::EPOCH.read(bytes),
            base_sequence: footer::BASE_SEQUENCE.read(bytes),
            end_sequence: footer::END_SEQUENCE.read(bytes),
            records: footer::RECORDS.read(bytes),
            uncompressed_bytes: footer::UNCOMPRESSED_BYTES.read(bytes),
            crc64: footer::CRC64.read(bytes),
            chain: footer::CHAIN.read(bytes),
            blocks: footer::BLOCKS.read(bytes),
            tail_offset: footer::TAIL_OFFSET.read(bytes),
            index_crc: footer::INDEX_CRC.read(bytes),
        };
        if footer.blocks == 0 || footer.blocks > MAX_BLOCKS {
            return Err(damage::value(WHAT_FOOTER, "blocks", footer.blocks));
        }
        if footer.tail_offset < HEADER_BYTES as u64
            || footer.tail_offset.checked_add(footer.tail_bytes() as u64) != Some(file_bytes)
        {
            return Err(damage::value(
                WHAT_FOOTER,
                "tail offset",
                footer.tail_offset,
            ));
        }
        if footer.uncompressed_bytes < BLOCK_BYTES as u64
            || footer.uncompressed_bytes > MAX_SEGMENT_BYTES
        {
            return Err(damage::value(
                WHAT_FOOTER,
                "uncompressed bytes",
                footer.uncompressed_bytes,
            ));
        }
        if footer.end_sequence < footer.base_sequence {
            return Err(damage::value(
                WHAT_FOOTER,
                "end sequence",
                footer.end_sequence,
            ));
        }
        if footer.records > footer.end_sequence - footer.base_sequence {
            return Err(damage::value(WHAT_FOOTER, "records", footer.records));
        }
        Ok(footer)
    }
}

/// The index and the footer of a warm file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmIndex {
    pub blocks: Vec<BlockEntry>,
    pub footer: WarmFooter,
}

/// What the writer of a warm file knows at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmSummary {
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    pub end_sequence: u64,
    pub records: u64,
    pub uncompressed_bytes: u64,
    pub crc64: u64,
    pub chain: u32,
}

/// The tail of a warm file whose last frame ends at `tail_offset`.
pub fn encode_tail(blocks: &[BlockEntry], summary: &WarmSummary, tail_offset: u64) -> Vec<u8> {
    assert!(
        (1..=MAX_BLOCKS as usize).contains(&blocks.len()),
        "a warm file holds between 1 and {MAX_BLOCKS} blocks"
    );
    let WarmSummary {
        segment_id,
        epoch,
        base_sequence,
        end_sequence,
        records,
        uncompressed_bytes,
        crc64,
        chain,
    } = *summary;
    let total = tail_bytes(blocks.len());
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    out.extend_from_slice(&((total - SKIPPABLE_HEADER_BYTES) as u32).to_le_bytes());
    for block in blocks {
        let BlockEntry {
            first_sequence,
            uncompressed_offset,
            compressed_offset,
            compressed_bytes,
            crc32c,
        } = *block;
        let mut row = [0; ENTRY_BYTES];
        entry::FIRST_SEQUENCE.write(&mut row, first_sequence);
        entry::UNCOMPRESSED_OFFSET.write(&mut row, uncompressed_offset);
        entry::COMPRESSED_OFFSET.write(&mut row, compressed_offset);
        entry::COMPRESSED_BYTES.write(&mut row, compressed_bytes);
        entry::CRC32C.write(&mut row, crc32c);
        out.extend_from_slice(&row);
    }
    let index_crc = checksum::crc32c(&out);
    let mut last = [0; FOOTER_BYTES];
    footer::MAGIC.write(&mut last, FOOTER_MAGIC);
    footer::VERSION.write(&mut last, FORMAT_VERSION);
    footer::BLOCKS.write(&mut last, blocks.len() as u32);
    footer::TAIL_OFFSET.write(&mut last, tail_offset);
    footer::SEGMENT_ID.write(&mut last, segment_id);
    footer::BASE_SEQUENCE.write(&mut last, base_sequence);
    footer::END_SEQUENCE.write(&mut last, end_sequence);
    footer::RECORDS.write(&mut last, records);
    footer::UNCOMPRESSED_BYTES.write(&mut last, uncompressed_bytes);
    footer::CRC64.write(&mut last, crc64);
    footer::CHAIN.write(&mut last, chain);
    footer::EPOCH.write(&mut last, epoch);
    footer::INDEX_CRC.write(&mut last, index_crc);
    let crc = checksum::crc32c(&last[..footer::CRC.0]);
    footer::CRC.write(&mut last, crc);
    out.extend_from_slice(&last);
    out
}

impl WarmIndex {
    /// From the tail of a file: exactly the bytes from `footer.tail_offset` on.
    pub fn decode(tail: &[u8], footer: &WarmFooter) -> Result<Self, Damage> {
        let total = footer.tail_bytes();
        damage::need(WHAT_INDEX, tail, total)?;
        if tail.len() != total {
            return Err(damage::value(WHAT_INDEX, "length", tail.len() as u64));
        }
        let index = &tail[..total - FOOTER_BYTES];
        let magic = header::SKIPPABLE_MAGIC.read(index);
        if magic != SKIPPABLE_MAGIC {
            return Err(Damage::Magic {
                what: WHAT_INDEX,
                found: magic.into(),
            });
        }
        checksum::compare(
            WHAT_INDEX,
            footer.index_crc.into(),
            checksum::crc32c(index).into(),
        )?;
        check_skippable(WHAT_INDEX, index, total - SKIPPABLE_HEADER_BYTES)?;
        let mut blocks: Vec<BlockEntry> = Vec::with_capacity(footer.blocks as usize);
        let (rows, _) = index[SKIPPABLE_HEADER_BYTES..].as_chunks::<ENTRY_BYTES>();
        blocks.extend(rows.iter().map(BlockEntry::decode));
        let index = Self {
            blocks,
            footer: *footer,
        };
        index.check_order()?;
        Ok(index)
    }

    /// Blocks lie one behind the other and cover the segment, each of a bounded size.
    fn check_order(&self) -> Result<(), Damage> {
        let mut compressed_end = HEADER_BYTES as u64;
        let mut sequence = self.footer.base_sequence;
        for (index, block) in self.blocks.iter().enumerate() {
            if block.compressed_offset != compressed_end {
                return Err(damage::value(
                    WHAT_INDEX,
                    "compressed offset",
                    block.compressed_offset,
                ));
            }
            if block.compressed_bytes == 0
                || block.compressed_bytes as usize > MAX_BLOCK_COMPRESSED_BYTES
            {
                return Err(damage::value(
                    WHAT_INDEX,
                    "compressed bytes",
                    block.compressed_bytes,
                ));
            }
            compressed_end += u64::from(block.compressed_bytes);
            if block.first_sequence < sequence || block.first_sequence > self.footer.end_sequence {
                return Err(damage::value(
                    WHAT_INDEX,
                    "first sequence",
                    block.first_sequence,
                ));
            }
            sequence = block.first_sequence;
            if index == 0
                && (block.uncompressed_offset != 0
                    || block.first_sequence != self.footer.base_sequence)
            {
                return Err(damage::value(
                    WHAT_INDEX,
                    "uncompressed offset",
                    block.uncompressed_offset,
                ));
            }
            let end = self
                .blocks
                .get(index + 1)
                .map_or(self.footer.uncompressed_bytes, |next| {
                    next.uncompressed_offset
                });
            match end.checked_sub(block.uncompressed_offset) {
                Some(bytes) if bytes > 0 && bytes <= MAX_BLOCK_UNCOMPRESSED_BYTES as u64 => {}
                _ => return Err(damage::value(WHAT_INDEX, "uncompressed offset", end)),
            }
        }
        if compressed_end != self.footer.tail_offset {
            return Err(damage::value(
                WHAT_INDEX,
                "tail offset",
                self.footer.tail_offset,
            ));
        }
        Ok(())
    }

    /// The block in which the batch that holds `sequence` starts; `None` outside of the segment.
    pub fn block_of(&self, sequence: u64) -> Option<usize> {
        if sequence < self.footer.base_sequence || sequence >= self.footer.end_sequence {
            return None;
        }
        self.blocks
            .partition_point(|block| block.first_sequence <= sequence)
            .checked_sub(1)
    }

    /// Uncompressed length of a block.
    pub fn uncompressed_bytes(&self, block: usize) -> usize {
        let end = self
            .blocks
            .get(block + 1)
            .map_or(self.footer.uncompressed_bytes, |next| {
                next.uncompressed_offset
            });
        (end - self.blocks[block].uncompressed_offset) as usize
    }
}

fn tail_bytes(blocks: usize) -> usize {
    SKIPPABLE_HEADER_BYTES + blocks * ENTRY_BYTES + FOOTER_BYTES
}

fn check_skippable(what: &'static str, bytes: &[u8], content: usize) -> Result<(), Damage> {
    let magic = header::SKIPPABLE_MAGIC.read(bytes);
    if magic != SKIPPABLE_MAGIC {
        return Err(Damage::Magic {
            what,
            found: magic.into(),
        });
    }
    let length = header::SKIPPABLE_BYTES.read(bytes);
    if length as usize != content {
        return Err(damage::value(what, "skippable length", length));
    }
    Ok(())
}
