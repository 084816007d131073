//! Reads the journal that a process before left: which files belong together, which commits verify, what they hold.
//!
//! Files are used in the order of their numbers, without a gap, and each commit was synced before the next was written. So a
//! bad commit is torn, and was never acknowledged, unless something says that it was synced: a good one of a higher number behind
//! it, the file that follows, or the mark. Then it is damage, of those streams whose bytes it held, or of all where that cannot be
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aof2_format::journal::{FIRST_COMMIT_OFFSET, JournalHeader};
use aof2_format::names::file;
use aof2_format::{BLOCK_BYTES, Seed, StreamNumber};

use super::mark::{FoundMark, Synced};
use super::recycle::{JournalFile, Outdated, set_aside};
use super::salvage::{Missing, salvage};
use super::scan::{
    Content, FileKey, FrameRef, Gap, ManifestRef, Pieces, Scanned, frames_of_run, scan,
};
use crate::io::{Disk, DiskFile, FileClass};
use crate::segment::files;
use crate::volume::VolumeIds;

/// A file of the journal directory.
pub(crate) struct Found {
    pub file: Arc<dyn DiskFile>,
    pub slot: u32,
    pub length: u64,
    /// `None`: never used, or its last use was cut off before its first commit.
    pub header: Option<JournalHeader>,
}

/// Frames of streams' bytes in one journal file.
enum Frames {
    /// Of commits that verify: read again where they stand.
    Runs {
        header: JournalHeader,
        runs: Vec<Range<u64>>,
    },
    Salvaged(Vec<FrameRef>),
}

/// A frame of manifest commits, and the file that it stands in.
pub(crate) struct FoundManifest {
    pub file: Arc<dyn DiskFile>,
    pub frame: ManifestRef,
}

impl FoundManifest {
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        body_of(&*self.file, self.frame.at, self.frame.length)
    }
}

/// Everything in the journal but the bytes of streams.
#[derive(Default)]
pub(crate) struct Image {
    pub manifests: BTreeMap<StreamNumber, Vec<FoundManifest>>,
    /// Per file, oldest first.
    frames: Vec<(Arc<dyn DiskFile>, Frames)>,
    /// How far files are synced, as the newest word says.
    pub positions: BTreeMap<FileKey, u64>,
    /// Number that the next commit gets.
    pub next_commit: u64,
    pub last_file_number: u64,
    pub bytes: u64,
    /// Commits that should be there and do not verify.
    pub damage: Vec<String>,
    /// Why acknowledged records of any stream may be gone: their streams are unknown.
    pub lost: Option<String>,
    /// Journal files that the damage is in, by number. They are kept aside.
    pub damaged_files: BTreeSet<u64>,
    /// No file of a lower number is needed any more.
    settled_before: u64,
}

impl Image {
    fn lose(&mut self, why: String) {
        self.damage.push(why.clone());
        self.lost.get_or_insert(why);
    }

    /// The bytes of streams are left to [`Image::for_each_frame`].
    fn note(&mut self, file: &Arc<dyn DiskFile>, content: Content) {
        match content {
            Content::Stream(_) | Content::Unknown => {}
            Content::Manifest(frame) => {
                let of_stream = self.manifests.entry(frame.stream).or_default();
                let file = file.clone();
                of_stream.push(FoundManifest { file, frame });
            }
            Content::Positions {
                settled_before,
                positions,
            } => {
                self.settled_before = self.settled_before.max(settled_before);
                for position in positions {
                    let key = (position.stream, position.file, position.file_id);
                    let synced = self.positions.entry(key).or_default();
                    *synced = (*synced).max(position.synced_bytes);
                }
            }
        }
    }

    /// Frames of streams' bytes with those, file by file in the order in which they were written; then what was salvaged.
    pub fn for_each_frame(
        &self,
        mut apply: impl FnMut(FrameRef, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for (file, frames) in &self.frames {
            match frames {
                Frames::Runs { header, runs } => {
                    for run in runs {
                        frames_of_run(&**file, header, run, &mut apply)?;
                    }
                }
                Frames::Salvaged(frames) => {
                    for frame in frames {
                        apply(*frame, &body_of(&**file, frame.at, frame.length)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn body_of(file: &dyn DiskFile, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    match file.read_at(&mut bytes, at)? {
        read if read == length => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Files of this volume. What is another's is set aside before anything of it is read.
pub(crate) fn find(disk: &dyn Disk, root: &Path, volume: &VolumeIds) -> io::Result<Vec<Found>> {
    let directory = files::journal(root);
    let mut found = Vec::new();
    for entry in disk.list(&directory)? {
        let path = directory.join(&entry.name);
        if entry.name.ends_with(file::TMP_SUFFIX) {
            disk.unlink(&path)?;
            continue;
        }
        let Some(slot) = file::parse_journal(&entry.name) else {
            continue;
        };
        let file = disk.open_write(&path, FileClass::Journal)?;
        file.forget_cache()?;
        let mut blocks = vec![0; FIRST_COMMIT_OFFSET as usize];
        let read = file.read_at(&mut blocks, 0)?;
        let header = JournalHeader::decode_any(&blocks[..read]).ok();
        let is_foreign = header.is_some_and(|header| {
            header.cluster_id != volume.cluster_id
                || header.node_id != volume.node_id
                || header.volume_id != volume.volume_id
        });
        if is_foreign {
            tracing::error!(path = %path.display(), "journal file of another volume moved to quarantine");
            set_aside(disk, root, &path)?;
            continue;
        }
        found.push(Found {
            length: file.len()?,
            file,
            slot,
            header,
        });
    }
    Ok(found)
}

/// `mark` is what was found of it, `settled_before` what it says of files that may be half written over; `has_streams`: something has been written on this volume.
pub(crate) fn read(
    found: &[Found],
    mark: FoundMark,
    settled_before: u64,
    has_streams: bool,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Image> {
    let mut image = Image {
        next_commit: 1,
        settled_before,
        ..Image::default()
    };
    let mut used: Vec<(&Found, JournalHeader)> = found
        .iter()
        .filter_map(|found| found.header.map(|header| (found, header)))
        .collect();
    used.sort_by_key(|(_, header)| header.file_number);
    let mut scanned = Vec::with_capacity(used.len());
    for (found, header) in &used {
        let mut note = |content| image.note(&found.file, content);
        let file = scan(&*found.file, found.length, header, &mut note, progress)?;
        image.next_commit = file.next_commit;
        image.bytes += file.commit_bytes;
        let frames = Frames::Runs {
            header: *header,
            runs: file.runs.clone(),
        };
        image.frames.push((found.file.clone(), frames));
        scanned.push(file);
    }
    image.last_file_number = scanned.last().map_or(0, |file| file.header.file_number);
    let synced = match mark {
        FoundMark::At(synced) => synced,
        FoundMark::Missing => Synced::default(),
    };
    for (index, file) in scanned.iter().enumerate() {
        if file.header.file_number < image.settled_before {
            continue;
        }
        let next = scanned.get(index + 1);
        let missing = losses(file, next, synced);
        if missing.is_empty() {
            continue;
        }
        let found = &used[index].0.file;
        let mut salvaged = Vec::new();
        for gap in missing {
            salvaged.extend(heal(found, file, &gap, &mut image)?);
        }
        image
            .frames
            .push((found.clone(), Frames::Salvaged(salvaged)));
    }
    miss_files(&scanned, mark, has_streams, &mut image);
    image.last_file_number = image.last_file_number.max(synced.file_number);
    image.next_commit = image.next_commit.max(synced.commit + 1);
    Ok(image)
}

/// Commits of the file that were synced and do not verify: between others, and behind the last one as far as the next file or the
/// mark tells.
fn losses(file: &Scanned, next: Option<&Scanned>, synced: Synced) -> Vec<Gap> {
    let of_gap = |Gap { bytes, missing }: &Gap| Gap {
        bytes: bytes.clone(),
        missing: *missing,
    };
    let mut losses: Vec<Gap> = file.gaps.iter().map(of_gap).collect();
    let last = match next {
        Some(next) if next.header.file_number == file.header.file_number + 1 => {
            next.header.first_commit.saturating_sub(1)
        }
        // A file between is gone, which is reported separately.
        Some(_) => 0,
        None if synced.file_number == file.header.file_number => synced.commit,
        None => 0,
    };
    if last >= file.next_commit {
        losses.push(Gap {
            bytes: file.end..file.length,
            missing: Missing {
                first: file.next_commit,
                last,
                is_followed: false,
            },
        });
    }
    losses
}

/// Takes out of a gap what speaks for itself, and says what is missing. Answers the frames of streams.
fn heal(
    found: &Arc<dyn DiskFile>,
    file: &Scanned,
    gap: &Gap,
    image: &mut Image,
) -> io::Result<Vec<FrameRef>> {
    let Gap { bytes, missing } = gap;
    let number = file.header.file_number;
    let salt = file.header.salt;
    image.damaged_files.insert(number);
    let told = format!(
        "journal file {number} is damaged: synced commits {} to {} fail verification",
        missing.first, missing.last
    );
    let mut pieces = Pieces::new(&**found, file.length);
    let mut frames = Vec::new();
    match salvage(
        &mut pieces,
        bytes.clone(),
        (salt, Seed::new(salt)),
        *missing,
    )? {
        Some(salvaged) => {
            image.damage.push(told);
            for content in salvaged {
                if let Content::Stream(frame) = &content {
                    frames.push(*frame);
                }
                image.note(found, content);
            }
        }
        None => image.lose(told),
    }
    Ok(frames)
}

/// Files that were in use and are not there, or not whole.
fn miss_files(scanned: &[Scanned], mark: FoundMark, has_streams: bool, image: &mut Image) {
    let newest = match mark {
        FoundMark::At(synced) => synced.file_number.max(image.last_file_number),
        FoundMark::Missing if scanned.is_empty() && has_streams => {
            return image.lose("journal and journal.mark are missing".to_owned());
        }
        FoundMark::Missing => image.last_file_number,
    };
    if newest == 0 {
        return;
    }
    // The newest file says how far back files are needed. Without it, the one before does, of its own time.
    let numbers: BTreeSet<u64> = scanned.iter().map(|file| file.header.file_number).collect();
    for number in image.settled_before.max(1)..=newest {
        if !numbers.contains(&number) {
            image.lose(format!("journal file {number} is missing or has no header"));
            // One is as bad as many, and a hostile number must not take for ever.
            break;
        }
    }
    if let Some(last) = scanned.last()
        && last.length < last.header.file_bytes
        && last.header.file_number >= image.settled_before
    {
        let Scanned { header, length, .. } = last;
        image.damaged_files.insert(header.file_number);
        image.lose(format!(
            "journal file {} was cut from {} bytes to {length}",
            header.file_number, header.file_bytes
        ));
    }
}

/// The files as the new process uses them.
#[derive(Default)]
pub(crate) struct Reuse {
    pub free: Vec<JournalFile>,
    /// Slots taken by them.
    pub slots: u32,
    /// Of another configured size or number, or damaged. They go when a commit of the new process stands: until then they alone know
    /// how far files were synced.
    pub outdated: Vec<Outdated>,
}

/// Sorts what was found by the configured size and number, and by what is damaged. What is outdated gives up its slot, not its
/// content.
pub(crate) fn reuse(
    disk: &dyn Disk,
    root: &Path,
    image: &Image,
    found: Vec<Found>,
    file_bytes: u64,
    configured: usize,
) -> io::Result<Reuse> {
    let has_slot = |found: &Found| (found.slot as usize) < configured;
    let fits = found
        .iter()
        .filter(|found| has_slot(found))
        .all(|found| found.length == file_bytes);
    let directory = files::journal(root);
    let taken = found.iter().map(|found| found.slot + 1).max().unwrap_or(0);
    let mut beyond = taken.max(u32::try_from(configured).unwrap_or(u32::MAX));
    let mut reuse = Reuse {
        free: Vec::new(),
        slots: 0,
        outdated: Vec::new(),
    };
    let mut is_moved = false;
    for found in found {
        let path = found.file.path().to_owned();
        let is_kept = match found.header {
            Some(header) => image.damaged_files.contains(&header.file_number),
            None => image.lost.is_some() && !is_blank(&found)?,
        };
        match found.header {
            header if fits && has_slot(&found) && !is_kept => {
                reuse.slots = reuse.slots.max(found.slot + 1);
                let number = header.map_or(0, |header| header.file_number);
                reuse.free.push(JournalFile {
                    file: found.file,
                    number,
                });
            }
            // Nothing was read from it either.
            None if !is_kept => disk.unlink(&path)?,
            _ if has_slot(&found) => {
                let aside = directory.join(file::journal(beyond));
                disk.rename(&path, &aside)?;
                is_moved = true;
                beyond += 1;
                reuse.outdated.push(Outdated {
                    path: aside,
                    is_kept,
                });
            }
            Some(_) | None => reuse.outdated.push(Outdated { path, is_kept }),
        }
    }
    if is_moved {
        disk.sync_directory(&directory)?;
    }
    Ok(reuse)
}

/// Nothing was ever written to it, as far as its first blocks tell.
fn is_blank(found: &Found) -> io::Result<bool> {
    let mut blocks = vec![0; FIRST_COMMIT_OFFSET as usize + BLOCK_BYTES];
    let read = found.file.read_at(&mut blocks, 0)?;
    Ok(blocks[..read].iter().all(|byte| *byte == 0))
}
