//! Which volume this is.

use aof2_format::{ClusterId, NodeId, VolumeId};

use crate::error::ClaimError;
use crate::io::sync::Mutex;
use crate::port::VolumeIdentity;

/// Whose directory this has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A UUID.
    pub cluster_id: String,
    pub node: String,
}

/// What every file of a volume that is shared by all streams names, so that a foreign one is distinguished from its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VolumeIds {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
}

pub(crate) struct Volume {
    pub identity: VolumeIdentity,
    pub ids: VolumeIds,
    /// What Tier 2 said of it before recovery; `None` where it did not tell.
    pub admission: Option<Result<bool, ClaimError>>,
    /// What the identity file says.
    pub stored: Mutex<aof2_format::volume::VolumeIdentity>,
}
