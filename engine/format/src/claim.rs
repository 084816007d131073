//! Two small JSON objects of Tier 2: `claims/<stream>/<epoch>`, who owns a stream, and `cluster.json`, whose prefix it is. Layout:
//! `claim.md`. Both are created once and never rewritten.

use serde::{Deserialize, Serialize};

use crate::damage::Damage;
use crate::identity::{ClusterId, NodeId, VolumeId};
use crate::names::StreamName;

/// Largest claim or `cluster.json` that is read.
pub const MAX_BYTES: usize = 16 << 10;

const CLAIM: &str = "claim";
const CLUSTER: &str = "cluster.json";

/// Who owns a stream since `epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub epoch: u32,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    /// Pod name.
    pub node: String,
    /// Where the owner serves, as told to those that ask elsewhere; may be empty.
    pub address: String,
}

impl Claim {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        decode(CLAIM, bytes)
    }
}

/// Whose prefix it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMarker {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub namespace: String,
    pub name: String,
}

impl ClusterMarker {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        decode(CLUSTER, bytes)
    }
}

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("strings and integers have a JSON form");
    bytes.push(b'\n');
    bytes
}

/// Length, version (alone, so that a newer form is told from a damaged one), then values.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, Damage> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }

    if bytes.len() > MAX_BYTES {
        return Err(Damage::Value {
            what,
            field: "length",
            found: bytes.len() as u64,
        });
    }
    let text = |error: serde_json::Error| Damage::Text {
        what,
        problem: error.to_string(),
    };
    let version: Version = serde_json::from_slice(bytes).map_err(text)?;
    if version.format_version > crate::FORMAT_VERSION.into() {
        return Err(Damage::Version {
            what,
            found: version.format_version,
            supported: crate::FORMAT_VERSION.into(),
        });
    }
    serde_json::from_slice(bytes).map_err(text)
}
