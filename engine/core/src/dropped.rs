//! What came of dropping a copy on this node. The manifest has dropped it in any case.

use std::path::PathBuf;
use std::sync::Weak;

use crate::io::Map;

#[derive(Debug)]
pub enum Dropped {
    /// There was no copy to drop.
    Nothing,
    Removed {
        file_bytes: u64,
    },
    /// Its file is still there. The next start removes it, unless somebody tries again before.
    Left {
        file: LeftFile,
        cause: std::io::Error,
    },
}

/// A file of a dropped copy that could not be removed.
#[derive(Clone, Debug)]
pub struct LeftFile {
    pub path: PathBuf,
    pub bytes: u64,
    /// What readers of a copy in Tier 0 may hold on to.
    pub(crate) map: Option<Weak<Map>>,
}

impl Dropped {
    /// That are free now, once nobody reads them.
    pub fn bytes(&self) -> u64 {
        match self {
            Dropped::Removed { file_bytes } => *file_bytes,
            Dropped::Nothing | Dropped::Left { .. } => 0,
        }
    }

    pub(crate) fn warn(&self, stream: &str, segment_id: u64) {
        if let Dropped::Left { file, cause } = self {
            let path = file.path.display();
            tracing::warn!(stream, segment_id, "cannot remove dropped {path}: {cause}");
        }
    }
}
