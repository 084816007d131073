//! Which volume this is.

use aof2_format::{ClusterId, NodeId, VolumeId};

/// What every file of a volume that is shared by all streams names, so that a foreign one is told from its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VolumeIds {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
}
