//! Which files lie in Tier 1, and which of them the manifests name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::names::file;

use crate::io::Disk;
use crate::jobs::compress::warm_path;
use crate::port::SealedSegment;

/// A file that no manifest names, and that an engine puts right without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// Half written: the next start removes it.
    Unfinished,
    /// The manifest gave the copy up: the next start removes it.
    Dropped,
    /// Written, and not recorded: the engine makes it again before the upload.
    Unrecorded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub kind: LeftoverKind,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Of one node.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Segments with a copy in Tier 1, and where its file lies or should lie. By stream, ascending by sequence.
    pub named: Vec<(SealedSegment, PathBuf)>,
    pub leftovers: Vec<Leftover>,
    /// No manifest knows such a segment or stream, or the name is none of a copy. With its length.
    pub foreign: Vec<(PathBuf, u64)>,
}

impl Inventory {
    /// `segments`: all that were ever sealed, as the manifests have them.
    pub fn take(
        disk: &dyn Disk,
        tier1_directory: &Path,
        segments: &[SealedSegment],
    ) -> io::Result<Inventory> {
        let mut by_path: BTreeMap<PathBuf, &SealedSegment> = BTreeMap::new();
        let mut inventory = Inventory::default();
        for segment in segments {
            let Some(path) = warm_path(tier1_directory, segment) else {
                continue;
            };
            if segment.copies.warm.is_some() {
                inventory.named.push((segment.clone(), path.clone()));
            }
            by_path.insert(path, segment);
        }
        let order = |segment: &SealedSegment| (segment.stream.clone(), segment.base_sequence);
        inventory.named.sort_by_key(|(segment, _)| order(segment));
        let root = tier1_directory.join(file::WARM_DIR);
        for stream in list(disk, &root)? {
            let directory = root.join(&stream.name);
            if !stream.is_directory {
                inventory.note_foreign(disk, directory);
                continue;
            }
            for entry in list(disk, &directory)? {
                let path = directory.join(&entry.name);
                if entry.name.ends_with(file::TMP_SUFFIX) {
                    inventory.note(disk, LeftoverKind::Unfinished, path);
                    continue;
                }
                match by_path.get(&path) {
                    None => inventory.note_foreign(disk, path),
                    Some(segment) if segment.copies.warm.is_some() => {}
                    Some(segment) if segment.moves.was_uploaded || !segment.copies.hot => {
                        inventory.note(disk, LeftoverKind::Dropped, path);
                    }
                    Some(_) => inventory.note(disk, LeftoverKind::Unrecorded, path),
                }
            }
        }
        Ok(inventory)
    }

    /// Only of these streams.
    pub fn of_streams(mut self, wanted: impl Fn(&str) -> bool) -> Inventory {
        self.named.retain(|(segment, _)| wanted(&segment.stream));
        let of_wanted = |path: &Path| {
            let directory = path.parent().and_then(Path::file_name);
            let stream = directory.and_then(|name| name.to_str());
            stream.is_some_and(&wanted)
        };
        self.leftovers.retain(|leftover| of_wanted(&leftover.path));
        self.foreign.retain(|(path, _)| of_wanted(path));
        self
    }

    /// Names of the streams that have a copy here, ascending.
    pub fn streams(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for (segment, _) in &self.named {
            if names.last() != Some(&segment.stream) {
                names.push(segment.stream.clone());
            }
        }
        names
    }

    /// Of the files, as the manifests have them.
    pub fn named_bytes(&self) -> u64 {
        let named = self.named.iter();
        named.filter_map(|(segment, _)| segment.copies.warm).sum()
    }

    fn note(&mut self, disk: &dyn Disk, kind: LeftoverKind, path: PathBuf) {
        let bytes = length(disk, &path);
        self.leftovers.push(Leftover { kind, path, bytes });
    }

    fn note_foreign(&mut self, disk: &dyn Disk, path: PathBuf) {
        let bytes = length(disk, &path);
        self.foreign.push((path, bytes));
    }
}

/// Nothing where there is no such directory: it is made with the first file.
fn list(disk: &dyn Disk, directory: &Path) -> io::Result<Vec<crate::io::DirectoryEntry>> {
    match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// 0 where it cannot be asked.
fn length(disk: &dyn Disk, path: &Path) -> u64 {
    let length = disk.open_read(path).and_then(|file| file.len());
    length.unwrap_or(0)
}
