//! A segment: consecutive batches of one stream in one file. Layout: `segment.md`.
//!
//! `[header block][batches ...][zeroes up to a block boundary][seal block]`. The seal block is there once the segment is sealed and
//! is then the last block of the file. `data_end` is the offset behind the last batch; the segment's CRC-64 covers `0..data_end`
//! (header and batches), which is also what a warm file compresses.

use crate::checksum::{self, Salt};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, StreamUuid};
use crate::names::{self, StreamName};
use crate::{BLOCK_BYTES, FORMAT_VERSION};

const WHAT: &str = "segment header";
const WHAT_SEAL: &str = "segment seal";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2SEGM");
pub const SEAL_MAGIC: u64 = u64::from_le_bytes(*b"AOF2SEAL");

layout! {
    /// First block of a segment.
    header: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 2;
        EPOCH: 12, 4;
        CLUSTER_ID: 16, 16;
        STREAM_UUID: 32, 16;
        STREAM_SALT: 48, 8;
        SEGMENT_ID: 56, 8;
        BASE_SEQUENCE: 64, 8;
        CREATED_UNIX_NANOS: 72, 8;
        PREV_CHAIN: 80, 4;
        STREAM_NAME_BYTES: 84, 1;
        STREAM_NAME: 85, 63;
        ZERO: 148, 3944;
        CRC: 4092, 4;
    }
}

layout! {
    /// Last block of a sealed segment.
    seal: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        FLAGS: 10, 2;
        EPOCH: 12, 4;
        CLUSTER_ID: 16, 16;
        STREAM_UUID: 32, 16;
        SEGMENT_ID: 48, 8;
        BASE_SEQUENCE: 56, 8;
        END_SEQUENCE: 64, 8;
        RECORDS: 72, 8;
        DATA_END: 80, 8;
        CRC64: 88, 8;
        SEALED_UNIX_NANOS: 96, 8;
        CHAIN: 104, 4;
        ZERO: 108, 3984;
        CRC: 4092, 4;
    }
}

/// Offset of the first batch.
pub const DATA_OFFSET: u64 = header::BYTES as u64;
pub const SEAL_BYTES: usize = seal::BYTES;

const _: () = assert!(header::BYTES == BLOCK_BYTES && seal::BYTES == BLOCK_BYTES);

const FLAG_FLUSH_FAILURE: u16 = 1;

/// First block of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub stream_uuid: StreamUuid,
    /// Seeds the checksums of the batches.
    pub stream_salt: Salt,
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    /// Chain of the batch before the first of this segment.
    pub prev_chain: u32,
    pub created_unix_nanos: i64,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let Self {
            cluster_id,
            stream,
            stream_uuid,
            stream_salt,
            segment_id,
            epoch,
            base_sequence,
            prev_chain,
            created_unix_nanos,
        } = self;
        let mut out = [0; BLOCK_BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::EPOCH.write(&mut out, *epoch);
        header::CLUSTER_ID.put(&mut out, cluster_id.0);
        header::STREAM_UUID.put(&mut out, stream_uuid.0);
        header::STREAM_SALT.write(&mut out, stream_salt.0);
        header::SEGMENT_ID.write(&mut out, *segment_id);
        header::BASE_SEQUENCE.write(&mut out, *base_sequence);
        header::CREATED_UNIX_NANOS.write(&mut out, *created_unix_nanos as u64);
        header::PREV_CHAIN.write(&mut out, *prev_chain);
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
            stream_salt: Salt(header::STREAM_SALT.read(bytes)),
            segment_id: header::SEGMENT_ID.read(bytes),
            epoch: header::EPOCH.read(bytes),
            base_sequence: header::BASE_SEQUENCE.read(bytes),
            prev_chain: header::PREV_CHAIN.read(bytes),
            created_unix_nanos: header::CREATED_UNIX_NANOS.read(bytes) as i64,
        })
    }
}

/// Last block of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSeal {
    pub cluster_id: ClusterId,
    pub stream_uuid: StreamUuid,
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    /// Sequence behind the last one.
    pub end_sequence: u64,
    /// Records held; less than `end_sequence - base_sequence` where there are gaps.
    pub records: u64,
    /// Offset behind the last batch.
    pub data_end: u64,
    /// CRC-64/NVME of `0..data_end`.
    pub crc64: u64,
    /// Chain of the last batch.
    pub chain: u32,
    pub sealed_unix_nanos: i64,
    /// A sync had failed before the seal.
    pub flush_failure: bool,
}

impl SegmentSeal {
    /// Where the seal block of a segment lies whose batches end at `data_end`.
    pub fn offset(data_end: u64) -> u64 {
        data_end.next_multiple_of(BLOCK_BYTES as u64)
    }

    pub fn encode(&self) -> [u8; SEAL_BYTES] {
        let Self {
            cluster_id,
            stream_uuid,
            segment_id,
            epoch,
            base_sequence,
            end_sequence,
            records,
            data_end,
            crc64,
            chain,
            sealed_unix_nanos,
            flush_failure,
        } = self;
        let mut out = [0; SEAL_BYTES];
        seal::MAGIC.write(&mut out, SEAL_MAGIC);
        seal::VERSION.write(&mut out, FORMAT_VERSION);
        seal::FLAGS.write(
            &mut out,
            if *flush_failure {
                FLAG_FLUSH_FAILURE
            } else {
                0
            },
        );
        seal::EPOCH.write(&mut out, *epoch);
        seal::CLUSTER_ID.put(&mut out, cluster_id.0);
        seal::STREAM_UUID.put(&mut out, stream_uuid.0);
        seal::SEGMENT_ID.write(&mut out, *segment_id);
        seal::BASE_SEQUENCE.write(&mut out, *base_sequence);
        seal::END_SEQUENCE.write(&mut out, *end_sequence);
        seal::RECORDS.write(&mut out, *records);
        seal::DATA_END.write(&mut out, *data_end);
        seal::CRC64.write(&mut out, *crc64);
        seal::SEALED_UNIX_NANOS.write(&mut out, *sealed_unix_nanos as u64);
        seal::CHAIN.write(&mut out, *chain);
        let crc = checksum::crc32c(&out[..seal::CRC.0]);
        seal::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::block(
            WHAT_SEAL,
            bytes,
            SEAL_MAGIC,
            seal::MAGIC,
            seal::VERSION,
            seal::CRC,
        )?;
        damage::zero(WHAT_SEAL, "reserved bytes", &seal::ZERO.get(bytes))?;
        let flags = seal::FLAGS.read(bytes);
        if flags & !FLAG_FLUSH_FAILURE != 0 {
            return Err(damage::value(WHAT_SEAL, "flags", flags));
        }
        let seal = Self {
            cluster_id: ClusterId(seal::CLUSTER_ID.get(bytes)),
            stream_uuid: StreamUuid(seal::STREAM_UUID.get(bytes)),
            segment_id: seal::SEGMENT_ID.read(bytes),
            epoch: seal::EPOCH.read(bytes),
            base_sequence: seal::BASE_SEQUENCE.read(bytes),
            end_sequence: seal::END_SEQUENCE.read(bytes),
            records: seal::RECORDS.read(bytes),
            data_end: seal::DATA_END.read(bytes),
            crc64: seal::CRC64.read(bytes),
            chain: seal::CHAIN.read(bytes),
            sealed_unix_nanos: seal::SEALED_UNIX_NANOS.read(bytes) as i64,
            flush_failure: flags & FLAG_FLUSH_FAILURE != 0,
        };
        if seal.end_sequence < seal.base_sequence {
            return Err(damage::value(WHAT_SEAL, "end sequence", seal.end_sequence));
        }
        if seal.records > seal.end_sequence - seal.base_sequence {
            return Err(damage::value(WHAT_SEAL, "records", seal.records));
        }
        if seal.data_end < DATA_OFFSET || seal.data_end > crate::segment::MAX_SEGMENT_BYTES {
            return Err(damage::value(WHAT_SEAL, "data end", seal.data_end));
        }
        Ok(seal)
    }
}

/// `segment.target_bytes` is at most 4 GiB; a segment may exceed it by one batch.
pub const MAX_SEGMENT_BYTES: u64 = (4 << 30) + (32 << 20);
