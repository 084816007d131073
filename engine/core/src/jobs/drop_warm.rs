//! A copy leaves Tier 1: the record first, then the file. A start removes what the record dropped.

use std::path::Path;

use super::compress::warm_path;
use crate::dropped::{Dropped, LeftFile};
use crate::error::StoreError;
use crate::port::{Port, TierRecord};

/// One at a time: of two that drop the same copy the second one finds none.
pub fn drop_warm(
    port: &dyn Port,
    stream: &str,
    segment_id: u64,
    bytes: u64,
) -> Result<Dropped, StoreError> {
    let segment = port.sealed_segment(stream, segment_id);
    if segment.is_none_or(|segment| segment.copies.warm.is_none()) {
        return Ok(Dropped::Nothing);
    }
    port.commit(stream, segment_id, TierRecord::WarmEvicted { bytes })?;
    let path = port
        .sealed_segment(stream, segment_id)
        .and_then(|segment| warm_path(&port.tier1_directory(), &segment));
    let dropped = path.map_or(Dropped::Nothing, |path| remove(port, &path));
    dropped.warn(stream, segment_id);
    Ok(dropped)
}

/// The file of a copy that was dropped before.
pub fn remove(port: &dyn Port, path: &Path) -> Dropped {
    let disk = &port.environment().disk;
    let length = disk.open_read(path).and_then(|file| file.len());
    let file_bytes = length.unwrap_or(0);
    match disk.unlink(path) {
        Ok(()) => Dropped::Removed { file_bytes },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Dropped::Removed { file_bytes }
        }
        Err(cause) => Dropped::Left {
            file: LeftFile {
                path: path.to_owned(),
                bytes: file_bytes,
                map: None,
            },
            cause,
        },
    }
}
