//! The file `journal.mark`: how far the journal was synced, kept outside the journal. Layout: `journal_mark.md`.
//!
//! A commit is vouched for by the commit behind it, which stands in the same file. The mark vouches for the last one, and for the
//! files themselves: a journal that ends before its mark has lost something. Two slots are written in turn; the newest that
//! verifies counts, so a write that is cut off loses nothing.

use crate::checksum;
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, NodeId, VolumeId};
use crate::{BLOCK_BYTES, FORMAT_VERSION};

const WHAT: &str = "journal mark";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2MARK");
pub const SLOTS: usize = 2;
/// Bytes of the whole file.
pub const FILE_BYTES: usize = SLOTS * slot::BYTES;

layout! {
    /// One of the slots.
    slot: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 6;
        CLUSTER_ID: 16, 16;
        NODE_ID: 32, 16;
        VOLUME_ID: 48, 16;
        TURN: 64, 8;
        FILE_NUMBER: 72, 8;
        COMMIT: 80, 8;
        SETTLED_BEFORE: 88, 8;
        ZERO: 96, 3996;
        CRC: 4092, 4;
    }
}

const _: () = assert!(slot::BYTES == BLOCK_BYTES);

/// A slot of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalMark {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    /// Grows by one with each write; its parity is the slot.
    pub turn: u64,
    /// Number of the journal file that holds `commit`; 0 = none was in use yet.
    pub file_number: u64,
    /// Number of a commit that was synced; 0 = none.
    pub commit: u64,
    /// No journal file of a lower number is needed: one of them may be half written over.
    pub settled_before: u64,
}

impl JournalMark {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let Self {
            cluster_id,
            node_id,
            volume_id,
            turn,
            file_number,
            commit,
            settled_before,
        } = *self;
        let mut out = [0; BLOCK_BYTES];
        slot::MAGIC.write(&mut out, MAGIC);
        slot::VERSION.write(&mut out, FORMAT_VERSION);
        slot::CLUSTER_ID.put(&mut out, cluster_id.0);
        slot::NODE_ID.put(&mut out, node_id.0);
        slot::VOLUME_ID.put(&mut out, volume_id.0);
        slot::TURN.write(&mut out, turn);
        slot::FILE_NUMBER.write(&mut out, file_number);
        slot::COMMIT.write(&mut out, commit);
        slot::SETTLED_BEFORE.write(&mut out, settled_before);
        let crc = checksum::crc32c(&out[..slot::CRC.0]);
        slot::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::block(WHAT, bytes, MAGIC, slot::MAGIC, slot::VERSION, slot::CRC)?;
        damage::zero(WHAT, "reserved bytes", &slot::RESERVED.get(bytes))?;
        damage::zero(WHAT, "reserved bytes", &slot::ZERO.get(bytes))?;
        Ok(Self {
            cluster_id: ClusterId(slot::CLUSTER_ID.get(bytes)),
            node_id: NodeId(slot::NODE_ID.get(bytes)),
            volume_id: VolumeId(slot::VOLUME_ID.get(bytes)),
            turn: slot::TURN.read(bytes),
            file_number: slot::FILE_NUMBER.read(bytes),
            commit: slot::COMMIT.read(bytes),
            settled_before: slot::SETTLED_BEFORE.read(bytes),
        })
    }

    /// Where a turn is written.
    pub fn slot_offset(turn: u64) -> u64 {
        turn % SLOTS as u64 * slot::BYTES as u64
    }

    /// The slots of a file that verify.
    pub fn decode_file(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes
            .chunks(slot::BYTES)
            .filter_map(|slot| Self::decode(slot).ok())
    }
}
