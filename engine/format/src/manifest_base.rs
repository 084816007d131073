//! The base of a stream's manifest: what its closed chunks up to one of them say. A start reads it and the chunks behind it. Layout:
//! `manifest_base.md`.
//!
//! It holds records as they were written, so that one of a type that this release does not know is kept for the release that does. Only
//! the table of producers is folded: its records add up to more than the table.

use crate::FORMAT_VERSION;
use crate::checksum::{self, Salt, Seed};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, StreamUuid};
use crate::manifest_record::{self, ManifestRecord};
use crate::names::{self, StreamName};
use crate::producer_changes::ProducerChanges;

const WHAT: &str = "manifest base";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2BASE");

/// Of the file, which is read whole: a longer one is neither written nor read. A segment takes about 650 bytes of it.
pub const MAX_BYTES: u64 = 1 << 30;

layout! {
    /// Begins the file.
    header: 256, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 2;
        EPOCH: 12, 4;
        CLUSTER_ID: 16, 16;
        STREAM_UUID: 32, 16;
        STREAM_SALT: 48, 8;
        CHUNKS: 56, 8;
        NEXT_MANIFEST_SEQUENCE: 64, 8;
        CREATED_UNIX_NANOS: 72, 8;
        CHAIN: 80, 4;
        STREAM_NAME_BYTES: 84, 1;
        STREAM_NAME: 85, 63;
        PARTS: 148, 4;
        RECORDS: 152, 8;
        RECORD_BYTES: 160, 8;
        PRODUCER_BYTES: 168, 8;
        FORGOTTEN_BEFORE: 176, 8;
        RECENT_FROM: 184, 8;
        BODY_CRC64: 192, 8;
        ZERO: 200, 52;
        CRC: 252, 4;
    }
}

layout! {
    /// One chunk that the base stands for.
    chunk: 48, {
        INDEX: 0, 8;
        EPOCH: 8, 4;
        CHAIN: 12, 4;
        CHUNK_BYTES: 16, 8;
        CRC64: 24, 8;
        FIRST_MANIFEST_SEQUENCE: 32, 8;
        NEXT_MANIFEST_SEQUENCE: 40, 8;
    }
}

layout! {
    /// Begins a part of the table of producers; its blob follows.
    part: 8, {
        BLOB_BYTES: 0, 4;
        RESERVED: 4, 4;
    }
}

/// A closed chunk, whose file need not be there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChunk {
    /// In its name.
    pub epoch: u32,
    /// Of its last commit, or of the chunk before where it has none.
    pub chain: u32,
    /// Header and commits.
    pub bytes: u64,
    /// CRC-64/NVME of those.
    pub crc64: u64,
    pub first_manifest_sequence: u64,
    /// Behind its last record.
    pub next_manifest_sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestBase {
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub stream_uuid: StreamUuid,
    pub stream_salt: Salt,
    /// Of the owner that wrote it.
    pub epoch: u32,
    pub created_unix_nanos: i64,
    /// Chunks 0 and on; at least one.
    pub chunks: Vec<BaseChunk>,
    /// Those that still count, ascending.
    pub records: Vec<ManifestRecord>,
    /// The table of producers.
    pub producers: Vec<ProducerChanges>,
    pub forgotten_before: u64,
    pub recent_from: u64,
}

impl ManifestBase {
    /// Manifest sequence of the first record that it does not stand for.
    pub fn next_manifest_sequence(&self) -> u64 {
        self.chunks
            .last()
            .map_or(0, |chunk| chunk.next_manifest_sequence)
    }

    /// What the chunk that follows names as the one before.
    pub fn chain(&self) -> u32 {
        self.chunks.last().map_or(0, |chunk| chunk.chain)
    }

    pub fn encode(&self) -> Vec<u8> {
        let Self {
            cluster_id,
            stream,
            stream_uuid,
            stream_salt,
            epoch,
            created_unix_nanos,
            chunks,
            records,
            producers,
            forgotten_before,
            recent_from,
        } = self;
        assert!(!chunks.is_empty(), "a base stands for a chunk");
        let mut out = vec![0; header::BYTES];
        for (index, chunk) in chunks.iter().enumerate() {
            put_chunk(&mut out, index as u64, chunk);
        }
        let seed = Seed::new(*stream_salt);
        let begun = out.len();
        for record in records {
            record.encode(&mut out, seed);
        }
        let record_bytes = out.len() - begun;
        let begun = out.len();
        for producers in producers {
            let blob = producers.encode();
            let mut row = [0; part::BYTES];
            part::BLOB_BYTES.write(&mut row, blob.len() as u32);
            out.extend_from_slice(&row);
            out.extend_from_slice(&blob);
        }
        let producer_bytes = out.len() - begun;
        let (head, body) = out.split_at_mut(header::BYTES);
        header::MAGIC.write(head, MAGIC);
        header::VERSION.write(head, FORMAT_VERSION);
        header::EPOCH.write(head, *epoch);
        header::CLUSTER_ID.put(head, cluster_id.0);
        header::STREAM_UUID.put(head, stream_uuid.0);
        header::STREAM_SALT.write(head, stream_salt.0);
        header::CHUNKS.write(head, chunks.len() as u64);
        header::NEXT_MANIFEST_SEQUENCE.write(head, self.next_manifest_sequence());
        header::CREATED_UNIX_NANOS.write(head, *created_unix_nanos as u64);
        header::CHAIN.write(head, self.chain());
        names::put_stream_name(head, header::STREAM_NAME_BYTES, header::STREAM_NAME, stream);
        header::PARTS.write(head, producers.len() as u32);
        header::RECORDS.write(head, records.len() as u64);
        header::RECORD_BYTES.write(head, record_bytes as u64);
        header::PRODUCER_BYTES.write(head, producer_bytes as u64);
        header::FORGOTTEN_BEFORE.write(head, *forgotten_before);
        header::RECENT_FROM.write(head, *recent_from);
        header::BODY_CRC64.write(head, checksum::crc64nvme(body));
        let crc = checksum::crc32c(&head[..header::CRC.0]);
        header::CRC.write(head, crc);
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
        let (head, body) = bytes.split_at(header::BYTES);
        checksum::compare(
            WHAT,
            header::BODY_CRC64.read(head),
            checksum::crc64nvme(body),
        )?;
        damage::zero(WHAT, "reserved bytes", &header::RESERVED.get(head))?;
        damage::zero(WHAT, "reserved bytes", &header::ZERO.get(head))?;
        let salt = Salt(header::STREAM_SALT.read(head));
        let mut rest = body;
        let chunks = take_chunks(&mut rest, header::CHUNKS.read(head))?;
        let records = take(&mut rest, header::RECORD_BYTES.read(head))?;
        let parts = take(&mut rest, header::PRODUCER_BYTES.read(head))?;
        if !rest.is_empty() {
            let found = rest.len() as u64;
            return Err(damage::value(WHAT, "bytes behind the last part", found));
        }
        let base = Self {
            cluster_id: ClusterId(header::CLUSTER_ID.get(head)),
            stream: names::get_stream_name(
                WHAT,
                head,
                header::STREAM_NAME_BYTES,
                header::STREAM_NAME,
            )?,
            stream_uuid: StreamUuid(header::STREAM_UUID.get(head)),
            stream_salt: salt,
            epoch: header::EPOCH.read(head),
            created_unix_nanos: header::CREATED_UNIX_NANOS.read(head) as i64,
            chunks,
            records: records_of(records, header::RECORDS.read(head), Seed::new(salt))?,
            producers: parts_of(parts, header::PARTS.read(head))?,
            forgotten_before: header::FORGOTTEN_BEFORE.read(head),
            recent_from: header::RECENT_FROM.read(head),
        };
        let next = base.next_manifest_sequence();
        if header::NEXT_MANIFEST_SEQUENCE.read(head) != next {
            return Err(damage::value(WHAT, "next manifest sequence", next));
        }
        if header::CHAIN.read(head) != base.chain() {
            return Err(damage::value(WHAT, "chain", base.chain()));
        }
        if let Some(last) = base.records.last()
            && last.manifest_sequence >= next
        {
            let found = last.manifest_sequence;
            return Err(damage::value(WHAT, "manifest sequence", found));
        }
        Ok(base)
    }
}

fn put_chunk(out: &mut Vec<u8>, index: u64, found: &BaseChunk) {
    let BaseChunk {
        epoch,
        chain,
        bytes,
        crc64,
        first_manifest_sequence,
        next_manifest_sequence,
    } = found;
    let mut row = [0; chunk::BYTES];
    chunk::INDEX.write(&mut row, index);
    chunk::EPOCH.write(&mut row, *epoch);
    chunk::CHAIN.write(&mut row, *chain);
    chunk::CHUNK_BYTES.write(&mut row, *bytes);
    chunk::CRC64.write(&mut row, *crc64);
    chunk::FIRST_MANIFEST_SEQUENCE.write(&mut row, *first_manifest_sequence);
    chunk::NEXT_MANIFEST_SEQUENCE.write(&mut row, *next_manifest_sequence);
    out.extend_from_slice(&row);
}

fn take<'a>(rest: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], Damage> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    damage::need(WHAT, rest, bytes)?;
    let (taken, left) = rest.split_at(bytes);
    *rest = left;
    Ok(taken)
}

/// Each goes on where the one before ends.
fn take_chunks(rest: &mut &[u8], count: u64) -> Result<Vec<BaseChunk>, Damage> {
    let bytes = count.saturating_mul(chunk::BYTES as u64);
    let rows = take(rest, bytes)?;
    let mut chunks: Vec<BaseChunk> = Vec::with_capacity(rows.len() / chunk::BYTES);
    let mut next = 0;
    for row in rows.chunks_exact(chunk::BYTES) {
        let index = chunk::INDEX.read(row);
        if index != chunks.len() as u64 {
            return Err(damage::value(WHAT, "chunk", index));
        }
        let found = BaseChunk {
            epoch: chunk::EPOCH.read(row),
            chain: chunk::CHAIN.read(row),
            bytes: chunk::CHUNK_BYTES.read(row),
            crc64: chunk::CRC64.read(row),
            first_manifest_sequence: chunk::FIRST_MANIFEST_SEQUENCE.read(row),
            next_manifest_sequence: chunk::NEXT_MANIFEST_SEQUENCE.read(row),
        };
        let first = found.first_manifest_sequence;
        if first != next || found.next_manifest_sequence < first {
            return Err(damage::value(WHAT, "first manifest sequence", first));
        }
        next = found.next_manifest_sequence;
        chunks.push(found);
    }
    match chunks.is_empty() {
        true => Err(damage::value(WHAT, "chunks", count)),
        false => Ok(chunks),
    }
}

fn records_of(bytes: &[u8], count: u64, seed: Seed) -> Result<Vec<ManifestRecord>, Damage> {
    if count > (bytes.len() / manifest_record::HEADER_BYTES) as u64 {
        return Err(damage::value(WHAT, "records", count));
    }
    let mut records: Vec<ManifestRecord> = Vec::with_capacity(count as usize);
    let mut rest = bytes;
    for _ in 0..count {
        let (record, behind) = ManifestRecord::decode(rest, seed)?;
        if let Some(before) = records.last()
            && record.manifest_sequence <= before.manifest_sequence
        {
            let found = record.manifest_sequence;
            return Err(damage::value(WHAT, "manifest sequence", found));
        }
        records.push(record);
        rest = behind;
    }
    match rest.len() {
        0 => Ok(records),
        left => {
            let left = left as u64;
            Err(damage::value(WHAT, "bytes behind the last record", left))
        }
    }
}

fn parts_of(bytes: &[u8], count: u32) -> Result<Vec<ProducerChanges>, Damage> {
    let mut rest = bytes;
    let mut parts = Vec::new();
    for _ in 0..count {
        let row = take(&mut rest, part::BYTES as u64)?;
        damage::zero(WHAT, "reserved bytes", &part::RESERVED.get(row))?;
        let blob = take(&mut rest, part::BLOB_BYTES.read(row).into())?;
        parts.push(ProducerChanges::decode(blob)?);
    }
    match rest.len() {
        0 => Ok(parts),
        left => {
            let left = left as u64;
            Err(damage::value(WHAT, "bytes behind the last part", left))
        }
    }
}
