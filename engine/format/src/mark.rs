//! The object `marks/<volume>/<mark>`: this volume, in the state that has that mark on it, was in use. Layout: `mark.md`.
//!
//! A mark is on the volume before it is in Tier 2, so a volume whose mark is lower than the highest one there is an older state of
//! itself.

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::damage::Damage;
use crate::identity::{ClusterId, NodeId, VolumeId};

const FORMAT: &str = "aof2-mark";

/// For people and for the process that made it: the key alone is what is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMark {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    pub mark: u64,
    /// Pod name.
    pub node: String,
    /// Names the process, so that its own mark, found again after a lost response, is distinguished from that of a copy of the volume.
    pub process: String,
}

impl VolumeMark {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(FORMAT, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(FORMAT, claim::MAX_BYTES, bytes)
    }
}
