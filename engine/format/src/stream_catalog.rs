//! The file `streams.catalog`: every stream that was created on this volume. Layout: `stream_catalog.md`.
//!
//! It is the second copy of what `stream.header` says, outside the streams' directories: a stream whose directory is gone is
//! missed, and one whose header is damaged gets it back. An entry is written after the header is durable and before the stream's
//! first record is acknowledged; it never changes.

use crate::checksum::{self, Salt};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, StreamNumber, StreamUuid, VolumeId};
use crate::names;
use crate::stream_header::StreamHeader;

const WHAT: &str = "stream catalog entry";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2SCAT");

layout! {
    /// One stream. Two entries fill a sector, so none is torn.
    entry: 256, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 2;
        EPOCH: 12, 4;
        CLUSTER_ID: 16, 16;
        VOLUME_ID: 32, 16;
        STREAM_UUID: 48, 16;
        STREAM_SALT: 64, 8;
        STREAM_NUMBER: 72, 8;
        CREATED_UNIX_NANOS: 80, 8;
        STREAM_NAME_BYTES: 88, 1;
        STREAM_NAME: 89, 63;
        ZERO: 152, 100;
        CRC: 252, 4;
    }
}

pub const ENTRY_BYTES: usize = entry::BYTES;

/// A stream of this volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    pub volume_id: VolumeId,
    /// As in its `stream.header`.
    pub header: StreamHeader,
}

impl CatalogEntry {
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let Self { volume_id, header } = self;
        let StreamHeader {
            cluster_id,
            stream,
            stream_uuid,
            stream_salt,
            stream_number,
            epoch,
            created_unix_nanos,
        } = header;
        let mut out = [0; ENTRY_BYTES];
        entry::MAGIC.write(&mut out, MAGIC);
        entry::VERSION.write(&mut out, crate::FORMAT_VERSION);
        entry::EPOCH.write(&mut out, *epoch);
        entry::CLUSTER_ID.put(&mut out, cluster_id.0);
        entry::VOLUME_ID.put(&mut out, volume_id.0);
        entry::STREAM_UUID.put(&mut out, stream_uuid.0);
        entry::STREAM_SALT.write(&mut out, stream_salt.0);
        entry::STREAM_NUMBER.write(&mut out, stream_number.0);
        entry::CREATED_UNIX_NANOS.write(&mut out, *created_unix_nanos as u64);
        names::put_stream_name(
            &mut out,
            entry::STREAM_NAME_BYTES,
            entry::STREAM_NAME,
            stream,
        );
        let crc = checksum::crc32c(&out[..entry::CRC.0]);
        entry::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::block(WHAT, bytes, MAGIC, entry::MAGIC, entry::VERSION, entry::CRC)?;
        damage::zero(WHAT, "reserved bytes", &entry::RESERVED.get(bytes))?;
        damage::zero(WHAT, "reserved bytes", &entry::ZERO.get(bytes))?;
        let header = StreamHeader {
            cluster_id: ClusterId(entry::CLUSTER_ID.get(bytes)),
            stream: names::get_stream_name(
                WHAT,
                bytes,
                entry::STREAM_NAME_BYTES,
                entry::STREAM_NAME,
            )?,
            stream_uuid: StreamUuid(entry::STREAM_UUID.get(bytes)),
            stream_salt: Salt(entry::STREAM_SALT.read(bytes)),
            stream_number: StreamNumber(entry::STREAM_NUMBER.read(bytes)),
            epoch: entry::EPOCH.read(bytes),
            created_unix_nanos: entry::CREATED_UNIX_NANOS.read(bytes) as i64,
        };
        Ok(Self {
            volume_id: VolumeId(entry::VOLUME_ID.get(bytes)),
            header,
        })
    }
}
