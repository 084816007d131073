//! What recovery looks at of sealed segments: that those with a copy in Tier 0 have their file, in its length. Contents are held
//! against the manifest when they are first read.

use std::path::{Path, PathBuf};

use super::volume::at;
use crate::error::OpenError;
use crate::io::Disk;
use crate::request::DamagedRange;
use crate::residency::Residency;
use crate::segment::files;
use crate::segment::sealed::{Fault, Sealed, SealedInfo};
use crate::stream::damage::whole;

/// The sealed segments of one stream, ascending by sequence: those that are lost among them, so that a read meets them.
pub(super) struct SealedSegments {
    pub segments: Vec<Sealed>,
    pub damaged: Vec<DamagedRange>,
    /// In Tier 0.
    pub bytes: u64,
}

fn path_of(directory: &Path, info: &SealedInfo) -> PathBuf {
    files::segment(directory, info.base_sequence, info.epoch, info.segment_id)
}

pub(super) fn look_at_all(
    disk: &dyn Disk,
    directory: &Path,
    residency: &Residency,
    infos: Vec<SealedInfo>,
) -> Result<SealedSegments, OpenError> {
    let mut found = SealedSegments {
        segments: Vec::with_capacity(infos.len()),
        damaged: Vec::new(),
        bytes: 0,
    };
    for info in infos {
        let path = path_of(directory, &info);
        let segment = residency.segment(info.segment_id);
        let copies = segment.map(|segment| &segment.copies);
        if !copies.is_some_and(|copies| copies.hot) {
            found.segments.push(Sealed::elsewhere(info, path));
            continue;
        }
        match info.look_at(disk.open_read(&path)) {
            Ok(_) => found.bytes += info.file_bytes(),
            Err(fault) => {
                let Some(what) = fault.damage() else {
                    return Err(refused(&path, fault));
                };
                let cold = copies.and_then(|copies| copies.cold.as_ref());
                let object = cold.map(|cold| cold.key.as_str());
                found.damaged.push(whole(&info, &path, object, what));
            }
        }
        found.segments.push(Sealed::new(info, path, None));
    }
    Ok(found)
}

fn refused(path: &Path, fault: Fault) -> OpenError {
    let source = match fault {
        Fault::Disk(source) => source,
        Fault::Damaged(what) => std::io::Error::other(what),
        Fault::NotHot => unreachable!("only files that have to be there are looked at"),
    };
    at("read", path)(source)
}
