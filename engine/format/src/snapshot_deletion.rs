//! A snapshot goes: blob of a `CustomEvent`. Layout: `snapshot_deletion.md`.

use crate::FORMAT_VERSION;
use crate::checksum;
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::snapshot::SnapshotId;

const WHAT: &str = "snapshot deletion";

/// `CustomEvent.schema_id` of such a blob.
pub const SCHEMA_ID: u32 = 6;
/// `SD2A` on disk.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SD2A");

layout! {
    /// The whole blob.
    blob: 20, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        STAGE: 6, 2;
        SNAPSHOT_ID: 8, 8;
        CRC: 16, 4;
    }
}

/// How far the deletion of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeletionStage {
    /// From here on it is no snapshot any more, whether its catalogue is still in the bucket or not.
    Begun,
    /// The bucket has no catalogue of it.
    Done,
}

impl DeletionStage {
    fn code(self) -> u16 {
        match self {
            DeletionStage::Begun => 0,
            DeletionStage::Done => 1,
        }
    }

    fn from_code(code: u16) -> Result<Self, Damage> {
        match code {
            0 => Ok(DeletionStage::Begun),
            1 => Ok(DeletionStage::Done),
            _ => Err(damage::value(WHAT, "stage", code)),
        }
    }
}

/// Its `SnapshotMarker` still says that the object existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotDeletion {
    pub snapshot_id: SnapshotId,
    pub stage: DeletionStage,
}

impl SnapshotDeletion {
    pub fn encode(&self) -> [u8; blob::BYTES] {
        let Self { snapshot_id, stage } = *self;
        let mut out = [0; blob::BYTES];
        blob::MAGIC.write(&mut out, MAGIC);
        blob::VERSION.write(&mut out, FORMAT_VERSION);
        blob::STAGE.write(&mut out, stage.code());
        blob::SNAPSHOT_ID.write(&mut out, snapshot_id.0);
        let crc = checksum::crc32c(&out[..blob::CRC.0]);
        blob::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::need(WHAT, bytes, blob::BYTES)?;
        let found = blob::MAGIC.read(bytes);
        if found != MAGIC {
            return Err(Damage::Magic {
                what: WHAT,
                found: found.into(),
            });
        }
        damage::version(WHAT, blob::VERSION.read(bytes))?;
        checksum::compare(
            WHAT,
            blob::CRC.read(bytes).into(),
            checksum::crc32c(&bytes[..blob::CRC.0]).into(),
        )?;
        if bytes.len() != blob::BYTES {
            return Err(damage::value(WHAT, "bytes", bytes.len() as u64));
        }
        Ok(Self {
            snapshot_id: SnapshotId(blob::SNAPSHOT_ID.read(bytes)),
            stage: DeletionStage::from_code(blob::STAGE.read(bytes))?,
        })
    }
}
