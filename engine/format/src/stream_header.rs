//! The file `stream.header` of a stream's directory: written once, when the stream is created on a volume. Layout:
//! `stream_header.md`.

use crate::checksum::{self, Salt};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, StreamNumber, StreamUuid};
use crate::names::{self, StreamName};
use crate::{BLOCK_BYTES, FORMAT_VERSION};

const WHAT: &str = "stream header";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2STRM");

layout! {
    /// The whole file.
    header: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 2;
        EPOCH: 12, 4;
        CLUSTER_ID: 16, 16;
        STREAM_UUID: 32, 16;
        STREAM_SALT: 48, 8;
        STREAM_NUMBER: 56, 8;
        CREATED_UNIX_NANOS: 64, 8;
        STREAM_NAME_BYTES: 72, 1;
        STREAM_NAME: 73, 63;
        ZERO: 136, 3956;
        CRC: 4092, 4;
    }
}

const _: () = assert!(header::BYTES == BLOCK_BYTES);

/// Identity of a stream on its volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub stream_uuid: StreamUuid,
    /// Seeds the checksums of batches and manifest commits.
    pub stream_salt: Salt,
    /// Names the stream in the journal's frames.
    pub stream_number: StreamNumber,
    /// Epoch at creation; the current one is in the manifest and in the claim.
    pub epoch: u32,
    pub created_unix_nanos: i64,
}

impl StreamHeader {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let Self {
            cluster_id,
            stream,
            stream_uuid,
            stream_salt,
            stream_number,
            epoch,
            created_unix_nanos,
        } = self;
        let mut out = [0; BLOCK_BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::EPOCH.write(&mut out, *epoch);
        header::CLUSTER_ID.put(&mut out, cluster_id.0);
        header::STREAM_UUID.put(&mut out, stream_uuid.0);
        header::STREAM_SALT.write(&mut out, stream_salt.0);
        header::STREAM_NUMBER.write(&mut out, stream_number.0);
        header::CREATED_UNIX_NANOS.write(&mut out, *created_unix_nanos as u64);
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
            stream_number: StreamNumber(header::STREAM_NUMBER.read(bytes)),
            epoch: header::EPOCH.read(bytes),
            created_unix_nanos: header::CREATED_UNIX_NANOS.read(bytes) as i64,
        })
    }
}
