//! L2: every byte of every segment, one after the other, in pieces. Memory is bounded whatever the size of segment, block and index: a
//! piece, a part of the index, and what the decoder keeps of a block.

use aof2_format::checksum::{Crc32c, Crc64Nvme};
use aof2_format::snapshot::{Catalogue, CatalogueSegment};
use aof2_format::warm::{
    BlockEntry, ENTRY_BYTES, FOOTER_BYTES, HEADER_BYTES, SKIPPABLE_HEADER_BYTES, WarmFooter,
    WarmHeader,
};
use bytes::Bytes;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::objects::footer_differs;
use super::replay::Chains;
use super::walk::{End, Walk};
use super::{Fault, Read, Reader, Verdict, VerifyError, Watch, fault_of, missing};
use crate::objects::ObjectError;

/// Of an object, asked for at a time.
const PIECE_BYTES: u64 = 2 << 20;
/// Of the index, asked for at a time.
const ROWS: u64 = 4096;
/// Decompressed at a time.
const OUT_BYTES: usize = 128 << 10;
/// Levels up to 19 look back 8 MiB at most; what wants more is not ours, and gets no memory.
const MAX_WINDOW_LOG: u32 = 24;

enum Stop {
    Fault(Fault, String),
    Tier2(ObjectError),
    Ended(String),
}

impl From<ObjectError> for Stop {
    fn from(error: ObjectError) -> Stop {
        Stop::Tier2(error)
    }
}

impl From<(Fault, String)> for Stop {
    fn from((fault, problem): (Fault, String)) -> Stop {
        Stop::Fault(fault, problem)
    }
}

fn differs<T>(problem: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fault(Fault::DigestMismatch, problem.into()))
}

/// `chains` are those that the manifest records.
pub(super) fn check(
    reader: &Reader<'_>,
    catalogue: &Catalogue,
    chains: &Chains,
    watch: &dyn Watch,
    mut verdict: Verdict,
) -> Result<Verdict, VerifyError> {
    let sizes = catalogue
        .segments
        .iter()
        .map(|segment| segment.object_bytes);
    watch.begins(sizes.sum());
    let mut before = None;
    for segment in &catalogue.segments {
        let mut pieces = Pieces {
            reader,
            watch,
            key: &segment.key,
            asked_upto: 0,
            end: segment.object_bytes,
            piece: Bytes::new(),
            whole: Crc64Nvme::default(),
        };
        let read = read(catalogue, segment, before, &mut pieces);
        verdict.bytes_read += pieces.asked_upto;
        match read {
            Ok(end) if chains.get(&segment.segment_id) == Some(&end.chain) => {
                before = Some(end.chain);
            }
            Ok(_) => {
                let problem = "last batch is not the one that was sealed";
                let message = format!("object {}: {problem}", segment.key);
                return Ok(verdict.faulty(Fault::ReplayDiffers, message));
            }
            Err(Stop::Fault(Fault::ObjectMissing, _)) => {
                verdict.missing.push(segment.key.clone());
                return Ok(verdict.faulty(Fault::ObjectMissing, missing(&segment.key)));
            }
            Err(Stop::Fault(fault, problem)) => {
                return Ok(verdict.faulty(fault, format!("object {}: {problem}", segment.key)));
            }
            Err(Stop::Tier2(error)) => return Err(error.into()),
            Err(Stop::Ended(why)) => {
                return Err(VerifyError::Ended {
                    stream: catalogue.stream.clone(),
                    id: catalogue.snapshot_id,
                    why,
                });
            }
        }
    }
    Ok(verdict)
}

fn read(
    catalogue: &Catalogue,
    segment: &CatalogueSegment,
    before: Option<u32>,
    pieces: &mut Pieces<'_>,
) -> Result<End, Stop> {
    let Some(footer_at) = segment.object_bytes.checked_sub(FOOTER_BYTES as u64) else {
        return Err(Stop::Fault(
            Fault::Undecodable,
            "object is too short".to_owned(),
        ));
    };
    let footer = pieces.range(footer_at, FOOTER_BYTES as u64)?;
    let footer = decoded(WarmFooter::decode(&footer, segment.object_bytes))?;
    if let Some(problem) = footer_differs(&footer, segment) {
        return differs(problem);
    }
    let header = pieces.exactly(HEADER_BYTES)?;
    let header = decoded(WarmHeader::decode(&header))?;
    let is_same = header.cluster_id == catalogue.cluster_id
        && header.stream == catalogue.stream
        && header.stream_uuid == catalogue.stream_uuid
        && header.segment_id == segment.segment_id
        && header.epoch == segment.epoch
        && header.base_sequence == segment.base_sequence;
    if !is_same {
        return differs(format!(
            "header of segment {} of stream {} found",
            header.segment_id, header.stream
        ));
    }
    let mut blocks = Blocks::new(Walk::new(catalogue, segment, before), segment.bytes)?;
    let mut rows: Vec<BlockEntry> = Vec::new();
    for number in 0..u64::from(footer.blocks) {
        if number % ROWS == 0 {
            rows = rows_from(pieces, &footer, number)?;
        }
        let Some(row) = rows.get((number % ROWS) as usize) else {
            return differs("index ends early");
        };
        blocks.read(number, row, pieces)?;
    }
    if pieces.at() != footer.tail_offset {
        return differs("bytes lie between the last block and the index");
    }
    tail(pieces, &footer, footer_at)?;
    let whole = std::mem::take(&mut pieces.whole).finish();
    if segment
        .object_crc64
        .is_some_and(|written| written.0 != whole)
    {
        return differs(format!("bytes have checksum {whole:016x}"));
    }
    let end = blocks.end(segment)?;
    let is_same = end.next_sequence == footer.end_sequence
        && end.records == footer.records
        && end.chain == footer.chain;
    match is_same {
        true => Ok(end),
        false => differs(format!(
            "{} records up to sequence {} found",
            end.records, end.next_sequence
        )),
    }
}

/// A part of the index. Its checksum is that of the tail, which is read as a whole behind the blocks.
fn rows_from(
    pieces: &Pieces<'_>,
    footer: &WarmFooter,
    number: u64,
) -> Result<Vec<BlockEntry>, Stop> {
    let count = ROWS.min(u64::from(footer.blocks) - number);
    let row_bytes = ENTRY_BYTES as u64;
    let at = footer.tail_offset + SKIPPABLE_HEADER_BYTES as u64 + number * row_bytes;
    let bytes = pieces.range(at, count * row_bytes)?;
    let (rows, _) = bytes.as_chunks::<ENTRY_BYTES>();
    Ok(rows.iter().map(BlockEntry::decode).collect())
}

fn tail(pieces: &mut Pieces<'_>, footer: &WarmFooter, footer_at: u64) -> Result<(), Stop> {
    let mut crc = Crc32c::default();
    while pieces.at() < footer_at {
        let part = pieces.some(footer_at - pieces.at())?;
        crc.update(&part);
    }
    if crc.finish() != footer.index_crc() {
        return differs("index has another checksum");
    }
    let last = pieces.exactly(FOOTER_BYTES)?;
    match WarmFooter::decode(&last, footer_at + FOOTER_BYTES as u64) {
        Ok(found) if found == *footer => Ok(()),
        Ok(_) | Err(_) => differs("object changed while it was read"),
    }
}

fn decoded<T>(decoded: Result<T, aof2_format::Damage>) -> Result<T, Stop> {
    decoded.map_err(|damage| Stop::Fault(fault_of(&damage), damage.to_string()))
}

/// Decompresses one after the other and walks over the batches in them.
struct Blocks<'a> {
    decoder: Decoder<'static>,
    walk: Walk<'a>,
    out: Vec<u8>,
    crc64: Crc64Nvme,
    bytes: u64,
    max_bytes: u64,
}

impl<'a> Blocks<'a> {
    fn new(walk: Walk<'a>, max_bytes: u64) -> Result<Self, Stop> {
        let decoder = Decoder::new().and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
            Ok(decoder)
        });
        let decoder = decoder.map_err(|error| Stop::Ended(format!("no decoder ({error})")))?;
        Ok(Blocks {
            decoder,
            walk,
            out: vec![0; OUT_BYTES],
            crc64: Crc64Nvme::default(),
            bytes: 0,
            max_bytes,
        })
    }

    fn read(&mut self, number: u64, row: &BlockEntry, pieces: &mut Pieces<'_>) -> Result<(), Stop> {
        if row.compressed_offset != pieces.at() || row.uncompressed_offset != self.bytes {
            return differs(format!("block {number} is not where its index says"));
        }
        self.walk.begin_block(row.first_sequence)?;
        let undecodable = |problem: String| {
            let problem = format!("block {number} does not decompress ({problem})");
            Stop::Fault(Fault::Undecodable, problem)
        };
        let zstd = |error: std::io::Error| undecodable(error.to_string());
        self.decoder.reinit().map_err(zstd)?;
        let mut crc = Crc32c::default();
        let mut left = u64::from(row.compressed_bytes);
        let mut is_over = false;
        while left > 0 {
            let part = pieces.some(left)?;
            left -= part.len() as u64;
            let mut input = InBuffer::around(&part);
            while input.pos() < part.len() {
                if is_over {
                    return Err(undecodable("ends early".to_owned()));
                }
                let (written, hint) = self.step(&mut input).map_err(zstd)?;
                self.take(written, &mut crc)?;
                is_over = hint == 0;
            }
        }
        while !is_over {
            let (written, hint) = self.step(&mut InBuffer::around(&[])).map_err(zstd)?;
            if written == 0 && hint != 0 {
                return Err(undecodable("cut off".to_owned()));
            }
            self.take(written, &mut crc)?;
            is_over = hint == 0;
        }
        match crc.finish() == row.crc32c {
            true => Ok(()),
            false => differs(format!("block {number} has another checksum")),
        }
    }

    /// Bytes written, and 0 at the end of the frame.
    fn step(&mut self, input: &mut InBuffer<'_>) -> std::io::Result<(usize, usize)> {
        let mut output = OutBuffer::around(&mut self.out[..]);
        let hint = self.decoder.run(input, &mut output)?;
        Ok((output.pos(), hint))
    }

    fn take(&mut self, written: usize, crc: &mut Crc32c) -> Result<(), Stop> {
        let bytes = &self.out[..written];
        self.bytes += written as u64;
        if self.bytes > self.max_bytes {
            return differs(format!(
                "object decompresses to more than {} bytes",
                self.max_bytes
            ));
        }
        crc.update(bytes);
        self.crc64.update(bytes);
        Ok(self.walk.push(bytes)?)
    }

    fn end(self, segment: &CatalogueSegment) -> Result<End, Stop> {
        let crc64 = self.crc64.finish();
        if self.bytes != segment.bytes || crc64 != segment.crc64.0 {
            return differs(format!(
                "object decompresses to {} bytes with checksum {crc64:016x}, sealed were {} with {:016x}",
                self.bytes, segment.bytes, segment.crc64.0
            ));
        }
        Ok(self.walk.end()?)
    }
}

/// An object from its first byte to its last.
struct Pieces<'a> {
    reader: &'a Reader<'a>,
    watch: &'a dyn Watch,
    key: &'a str,
    /// Behind `piece`.
    asked_upto: u64,
    end: u64,
    piece: Bytes,
    /// Of all that was asked for.
    whole: Crc64Nvme,
}

impl Pieces<'_> {
    /// Offset of the next byte.
    fn at(&self) -> u64 {
        self.asked_upto - self.piece.len() as u64
    }

    /// The next bytes, at most so many and at least one.
    fn some(&mut self, at_most: u64) -> Result<Bytes, Stop> {
        if self.piece.is_empty() {
            let length = PIECE_BYTES.min(self.end - self.asked_upto);
            if length == 0 {
                return differs("object is shorter than its blocks");
            }
            self.piece = self.range(self.asked_upto, length)?;
            self.whole.update(&self.piece);
            self.asked_upto += length;
            self.watch.read(length).map_err(Stop::Ended)?;
        }
        let taken = (self.piece.len() as u64).min(at_most) as usize;
        Ok(self.piece.split_to(taken))
    }

    /// Only for what is small.
    fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>, Stop> {
        let mut found = Vec::with_capacity(bytes);
        while found.len() < bytes {
            found.extend_from_slice(&self.some((bytes - found.len()) as u64)?);
        }
        Ok(found)
    }

    /// Beside the walk.
    fn range(&self, offset: u64, length: u64) -> Result<Bytes, Stop> {
        match self.reader.get_range(self.key, offset, length)? {
            Read::Bytes(bytes) => Ok(bytes),
            Read::Missing => Err(Stop::Fault(Fault::ObjectMissing, String::new())),
            Read::Faulty(fault, message) => Err(Stop::Fault(fault, message)),
        }
    }
}
