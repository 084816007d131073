//! What lies in Tier 1 at a start: files of copies that the manifest dropped are removed, and what a process left half written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aof2_format::names::file;

use super::file_bytes;
use crate::jobs::compress::warm_path;
use crate::jobs::recompress;
use crate::port::Port;

/// Answers the bytes that stay. What cannot be read counts as nothing, what cannot be removed is tried by the next start.
pub(super) fn look(port: &dyn Port) -> u64 {
    recompress::settle(port);
    let disk = &port.environment().disk;
    let tier1 = port.tier1_directory();
    let dropped: BTreeSet<PathBuf> = port
        .without_warm_copy()
        .iter()
        .filter_map(|segment| warm_path(&tier1, segment))
        .collect();
    let root = tier1.join(file::WARM_DIR);
    let mut total = 0;
    for stream in disk.list(&root).unwrap_or_default() {
        let directory = root.join(&stream.name);
        for entry in disk.list(&directory).unwrap_or_default() {
            let path = directory.join(&entry.name);
            if entry.name.ends_with(file::TMP_SUFFIX) {
                // What fails is tried by the next start; no copy's name ends so.
                let _ = disk.unlink(&path);
                continue;
            }
            if file::parse_warm(&entry.name).is_none() {
                continue;
            }
            if dropped.contains(&path) {
                match disk.unlink(&path) {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!("cannot remove evicted {}: {error}", path.display());
                    }
                }
            }
            total += file_bytes(&**disk, &path);
        }
    }
    total
}
