//! What recovery looks at of sealed segments: that the manifest's files are there in their length, and the chain behind the last.
//! Their contents are held against the manifest when they are first read.

use std::path::{Path, PathBuf};

use super::volume::at;
use crate::error::OpenError;
use crate::identity::StreamIdentity;
use crate::io::Disk;
use crate::manifest::state::ManifestState;
use crate::request::DamagedRange;
use crate::segment::files;
use crate::segment::sealed::{Fault, Sealed, SealedInfo, chain_of_data};
use crate::stream::damage::whole;

/// The sealed segments of one stream, ascending by sequence: those that are lost among them, so that a read meets them.
pub(super) struct SealedSegments {
    pub segments: Vec<SealedInfo>,
    pub damaged: Vec<DamagedRange>,
    pub bytes: u64,
}

pub(super) fn path_of(directory: &Path, info: &SealedInfo) -> PathBuf {
    files::segment(directory, info.base_sequence, info.epoch, info.segment_id)
}

pub(super) fn look_at_all(
    disk: &dyn Disk,
    directory: &Path,
    state: &ManifestState,
    mut segments: Vec<SealedInfo>,
) -> Result<SealedSegments, OpenError> {
    segments.sort_by_key(|info| info.base_sequence);
    let mut damaged = Vec::new();
    let mut bytes = 0;
    for info in &segments {
        let path = path_of(directory, info);
        match info.look_at(disk.open_read(&path)) {
            Ok(_) => bytes += info.file_bytes(),
            Err(fault) => damaged.push(damaged_range(state, info, &path, fault)?),
        }
    }
    Ok(SealedSegments {
        segments,
        damaged,
        bytes,
    })
}

impl SealedSegments {
    /// The chain behind the last of them: from its seal block, or from its batches where only that block is damaged. `None` where
    /// neither is to be had; then the segment that follows says it, if there is one.
    pub fn chain_behind(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        identity: StreamIdentity,
        state: &ManifestState,
    ) -> Result<Option<u32>, OpenError> {
        let Some(last) = self.segments.last() else {
            return Ok(None);
        };
        let path = path_of(directory, last);
        let sealed = Sealed::new(last.clone(), path.clone(), None);
        let mapped = match sealed.mapped(disk, identity.uuid) {
            Ok(mapped) => mapped,
            Err(fault) => {
                self.damaged.push(damaged_range(state, last, &path, fault)?);
                return Ok(None);
            }
        };
        if let Some(flaw) = &mapped.flaw {
            let mut range = damaged_range(state, last, &path, Fault::Damaged(flaw.clone()))?;
            range.to_sequence = range.from_sequence;
            self.damaged.push(range);
        }
        Ok(mapped
            .chain
            .or_else(|| chain_of_data(last, mapped, identity.seed)))
    }
}

fn damaged_range(
    state: &ManifestState,
    info: &SealedInfo,
    path: &Path,
    fault: Fault,
) -> Result<DamagedRange, OpenError> {
    let Some(what) = fault.damage() else {
        return Err(refused(path, fault));
    };
    let uploaded = state.segments.get(&info.segment_id);
    let uploaded = uploaded.and_then(|ledger| ledger.tier.uploaded.as_ref());
    let object = uploaded.map(|(key, _)| key.as_str());
    Ok(whole(info, path, object, what))
}

fn refused(path: &Path, fault: Fault) -> OpenError {
    let source = match fault {
        Fault::Disk(source) => source,
        Fault::Damaged(what) => std::io::Error::other(what),
    };
    at("read", path)(source)
}
