//! The file `volume.json`: whose volume this is, written at the first start and never again. Layout: `volume.md`.

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
}

impl VolumeIdentity {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(FORMAT, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(FORMAT, claim::MAX_BYTES, bytes)
    }
}
