//! Paths below the data directory. Names themselves are made by `aof2_format::names`.

use std::path::{Path, PathBuf};

use aof2_format::names::file;
use aof2_format::{StreamName, names::SegmentRef};

use crate::io::{DirectoryEntry, Disk};

/// A segment made ahead: its first sequence is not known yet, so its name has its id only. It gets its own name when it takes
/// its first record; recovery accepts both.
const SPARE_SUFFIX: &str = ".spare";

pub(crate) fn streams(root: &Path) -> PathBuf {
    root.join(file::STREAMS_DIR)
}

pub(crate) fn journal(root: &Path) -> PathBuf {
    root.join(file::JOURNAL_DIR)
}

pub(crate) fn stream(root: &Path, stream: &StreamName) -> PathBuf {
    streams(root).join(file::stream_dir(stream))
}

pub(crate) fn stream_header(stream_directory: &Path) -> PathBuf {
    stream_directory.join(file::STREAM_HEADER)
}

pub(crate) fn segments(stream_directory: &Path) -> PathBuf {
    stream_directory.join(file::SEGMENTS_DIR)
}

pub(crate) fn manifest(stream_directory: &Path) -> PathBuf {
    stream_directory.join(file::MANIFEST_DIR)
}

pub(crate) fn manifest_base(stream_directory: &Path) -> PathBuf {
    manifest(stream_directory).join(file::MANIFEST_BASE)
}

/// Of a directory that may be gone: then nothing is in it, and what should be is missed one by one.
pub(crate) fn list_or_empty(
    disk: &dyn Disk,
    directory: &Path,
) -> std::io::Result<Vec<DirectoryEntry>> {
    match disk.list(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// Of a stream, or of the data directory itself.
pub(crate) fn quarantine(stream_directory: &Path) -> PathBuf {
    stream_directory.join(file::QUARANTINE_DIR)
}

pub(crate) fn segment(
    stream_directory: &Path,
    base_sequence: u64,
    epoch: u32,
    segment_id: u64,
) -> PathBuf {
    segments(stream_directory).join(file::segment(&SegmentRef {
        base_sequence,
        epoch,
        segment_id,
    }))
}

pub(crate) fn spare(stream_directory: &Path, segment_id: u64) -> PathBuf {
    segments(stream_directory).join(format!("{segment_id:020}{SPARE_SUFFIX}"))
}

pub(crate) fn parse_spare(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SPARE_SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
