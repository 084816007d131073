//! Chunks that are not on the volume, though something says that they were: which, and what to do about it.

use std::collections::BTreeMap;
use std::path::Path;

use aof2_format::StreamName;
use aof2_format::names::file;

use super::{Headless, header_of};
use crate::error::OpenError;
use crate::io::Disk;
use crate::manifest::replay::FoundChunk;

/// Number of the first chunk from `first` on that is gone before one that holds something, or may.
pub(super) fn hole(
    disk: &dyn Disk,
    first: u64,
    chunks: &BTreeMap<u64, FoundChunk>,
) -> Result<Option<u64>, OpenError> {
    let Some(hole) = (first..).find(|number| !chunks.contains_key(number)) else {
        return Ok(None);
    };
    for (_, behind) in chunks.range(hole..) {
        let holds = match header_of(disk, behind)? {
            Ok(_) | Err(Headless::Unread(_)) => true,
            Err(Headless::Read(_)) => behind.must_reach > 0,
        };
        if holds {
            return Ok(Some(hole));
        }
    }
    Ok(None)
}

/// The first chunk from `first` on that is missing: the journal knows of something durable in it, or a chunk behind it holds something.
pub(super) fn chunk(
    disk: &dyn Disk,
    stream: &StreamName,
    directory: &Path,
    first: u64,
    chunks: &BTreeMap<u64, FoundChunk>,
    reach: &BTreeMap<u64, u64>,
) -> Result<Option<String>, OpenError> {
    let mut known = reach.range(first..);
    let known = known.find(|(number, reach)| **reach > 0 && !chunks.contains_key(number));
    let hole = hole(disk, first, chunks)?;
    let Some(number) = known
        .map(|(number, _)| *number)
        .into_iter()
        .chain(hole)
        .min()
    else {
        return Ok(None);
    };
    let was = match reach.get(&number) {
        Some(reach @ 1..) => format!("{reach} bytes of it were durable"),
        Some(0) | None => "a later one is there".to_owned(),
    };
    let to_do = remedy(directory, number, stream);
    Ok(Some(format!(
        "manifest chunk {number} is missing, but {was}; {to_do}"
    )))
}

/// The base at `path` was written when chunk `number` was there.
pub(super) fn behind_base(path: &Path, number: u64, stream: &StreamName) -> String {
    let directory = path.parent().unwrap_or(path);
    let to_do = remedy(directory, number, stream);
    format!(
        "manifest chunk {number} is missing, which was there when manifest base {} was written; {to_do}",
        path.display()
    )
}

fn remedy(directory: &Path, number: u64, stream: &StreamName) -> String {
    let name = file::manifest_chunk(0, number);
    let name = name.split_once('-').map_or(name.as_str(), |(_, rest)| rest);
    format!(
        "restore EPOCH-{name} from a backup of the volume to {}, or from Tier 2 if it has object manifest/{stream}/EPOCH/{name}, and start again",
        directory.display()
    )
}

/// Names the file, what is gone, and where it is still.
pub(super) fn base(
    path: &Path,
    why: &str,
    stream: &StreamName,
    chunks: &BTreeMap<u64, FoundChunk>,
) -> String {
    let first = (0..)
        .find(|number| !chunks.contains_key(number))
        .unwrap_or(0);
    let next = chunks.range(first..).next().map(|(number, _)| *number);
    let gone = match next {
        Some(next) if next > first + 1 => format!("chunks {first} to {} are", next - 1),
        Some(_) | None => format!("chunk {first} is"),
    };
    let path = path.display();
    format!(
        "manifest base {path}: {why}; manifest {gone} not on this volume. Restore the base from a backup of the volume, or copy the chunks from Tier 2 \
         to its directory (object manifest/{stream}/EPOCH/CHUNK.mlog is file EPOCH-CHUNK.mlog), and start again"
    )
}
