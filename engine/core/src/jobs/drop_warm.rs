//! A copy leaves Tier 1: the record first, then the file. A start removes what the record dropped.

use super::compress::warm_path;
use crate::error::StoreError;
use crate::port::{Port, TierRecord};

/// What came of it.
pub struct DroppedWarm {
    /// The file is gone.
    pub is_removed: bool,
    /// As long as the file was.
    pub file_bytes: u64,
}

/// One at a time: of two that drop the same copy the second one finds none.
pub fn drop_warm(
    port: &dyn Port,
    stream: &str,
    segment_id: u64,
    bytes: u64,
) -> Result<DroppedWarm, StoreError> {
    let mut dropped = DroppedWarm {
        is_removed: false,
        file_bytes: 0,
    };
    let segment = port.sealed_segment(stream, segment_id);
    if segment.is_none_or(|segment| segment.copies.warm.is_none()) {
        return Ok(dropped);
    }
    port.commit(stream, segment_id, TierRecord::WarmEvicted { bytes })?;
    let path = port
        .sealed_segment(stream, segment_id)
        .and_then(|segment| warm_path(&port.tier1_directory(), &segment));
    let Some(path) = path else {
        return Ok(dropped);
    };
    let disk = &port.environment().disk;
    let length = disk.open_read(&path).and_then(|file| file.len());
    dropped.file_bytes = length.unwrap_or(0);
    match disk.unlink(&path) {
        Ok(()) => dropped.is_removed = true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => dropped.is_removed = true,
        Err(error) => {
            // The next start removes it.
            let path = path.display();
            tracing::warn!(stream, segment_id, "cannot remove evicted {path}: {error}");
        }
    }
    Ok(dropped)
}
