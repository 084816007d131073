//! The file `volume.json`: whose volume this is, and how Tier 2 knows it. The identity is drawn at the first start and never changes;
//! the rest is rewritten each time this volume leaves a mark in Tier 2, and before its first merge of segments. Layout: `volume.md`.

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::damage::Damage;
use crate::identity::{ClusterId, NodeId, VolumeId};

const FORMAT: &str = "aof2-volume";

/// Of a volume on which segments were merged (`compaction.md`), or were to be: an engine that does not know merges would serve it without them.
pub const MERGES_VERSION: u16 = 1;
/// Newest version of `volume.json`, and so of a data directory, that this release reads.
pub const NEWEST_VERSION: u16 = MERGES_VERSION;

/// Identity of a volume. A directory of another cluster, another node or a newer format is refused by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeIdentity {
    /// [`crate::FORMAT_VERSION`] at first; [`MERGES_VERSION`] from before the first merge of segments on.
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
        claim::decode_upto(FORMAT, NEWEST_VERSION, claim::MAX_BYTES, bytes)
    }
}
