//! The file `volume.json`: whose volume this is, and how Tier 2 knows it. The identity is drawn at the first start and never changes;
//! the rest is rewritten each time this volume leaves a mark in Tier 2. Layout: `volume.md`.

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::damage::Damage;
use crate::identity::{ClusterId, NodeId, VolumeId};

const FORMAT: &str = "aof2-volume";

/// Identity of a volume. A directory of another cluster, another node or a newer format is refused by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeIdentity {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    /// Pod name.
    pub node: String,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    /// Tier 2 was seen to hold no stream of this node under another volume. Until then an empty volume may be a lost one.
    pub is_admitted: bool,
    /// The highest mark that this volume left in Tier 2, or was about to; 0 = none. Durable here before the object is made.
    pub mark: u64,
}

impl VolumeIdentity {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(FORMAT, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(FORMAT, claim::MAX_BYTES, bytes)
    }
}
