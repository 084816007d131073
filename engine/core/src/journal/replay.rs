//! Reads the journal that a process before left: which files belong together, which commits verify, what they hold.
//!
//! Files are used in the order of their numbers, without a gap, and each commit was synced before the next was written. So a
//! bad commit is torn, and was never acknowledged, unless something says that it was synced: a good one of a higher number behind
//! it, the file that follows, or the mark. Then it is damage, of those streams whose bytes it held, or of all where that cannot be
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use aof2_format::journal::{
    self, FIRST_COMMIT_OFFSET, FRAME_HEADER_BYTES, FileKind, Frame, JournalHeader, Positions,
};
use aof2_format::names::file;
use aof2_format::{BLOCK_BYTES, Seed, StreamNumber};

use super::mark::{FoundMark, Synced};
use super::recycle::{JournalFile, Outdated, set_aside};
use super::salvage::{Missing, salvage};
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

/// Where the bytes of a stream's frame are, and where they belong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRef {
    /// Offset in the journal file.
    pub at: usize,
    pub length: usize,
    pub stream: StreamNumber,
    pub segment_id: u64,
    pub position: u64,
    /// Its commit verifies. Otherwise the bytes have to speak for themselves.
    pub is_proven: bool,
}

pub(crate) struct OwnedManifestFrame {
    pub stream: StreamNumber,
    pub chunk: u64,
    pub position: u64,
    pub bytes: Vec<u8>,
    /// As of a [`FrameRef`].
    pub is_proven: bool,
}

/// Everything in the journal but the bytes of streams.
#[derive(Default)]
pub(crate) struct Image {
    pub manifests: Vec<OwnedManifestFrame>,
    /// Per file, oldest first: its handle and its frames.
    pub frames: Vec<(Arc<dyn DiskFile>, Vec<FrameRef>)>,
    /// How far files are synced, as the newest word says.
    pub positions: BTreeMap<(StreamNumber, FileKind, u64), u64>,
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

/// Commits that do not verify in a file, where others of the file do.
struct Gap {
    from: usize,
    to: usize,
    missing: Missing,
}

/// What one file holds.
struct Scanned {
    header: JournalHeader,
    length: u64,
    gaps: Vec<Gap>,
    /// Number that the commit behind the last one that verifies has, and where it would stand.
    next_commit: u64,
    end: usize,
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
        let bytes = read_whole(found)?;
        let mut refs = Vec::new();
        let file = scan(&bytes, header, &mut image, &mut refs);
        image.next_commit = file.next_commit;
        image.frames.push((found.file.clone(), refs));
        scanned.push(file);
        progress(found.length);
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
        let bytes = read_whole(used[index].0)?;
        let mut refs = Vec::new();
        for gap in missing {
            heal(&bytes, file, &gap, &mut image, &mut refs);
        }
        image.frames.push((used[index].0.file.clone(), refs));
    }
    miss_files(&scanned, mark, has_streams, &mut image);
    image.last_file_number = image.last_file_number.max(synced.file_number);
    image.next_commit = image.next_commit.max(synced.commit + 1);
    Ok(image)
}

fn read_whole(found: &Found) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; found.length as usize];
    let read = found.file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Commits of the file that were synced and do not verify: between others, and behind the last one as far as the next file or the
/// mark tells.
fn losses(file: &Scanned, next: Option<&Scanned>, synced: Synced) -> Vec<Gap> {
    let mut losses: Vec<Gap> = file.gaps.iter().map(|gap| Gap { ..*gap }).collect();
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
            from: file.end,
            to: file.length as usize,
            missing: Missing {
                first: file.next_commit,
                last,
                is_followed: false,
            },
        });
    }
    losses
}

/// Takes out of a gap what speaks for itself, and says what is missing.
fn heal(bytes: &[u8], file: &Scanned, gap: &Gap, image: &mut Image, refs: &mut Vec<FrameRef>) {
    let Gap { from, to, missing } = gap;
    let number = file.header.file_number;
    let seed = Seed::new(file.header.salt);
    image.damaged_files.insert(number);
    let told = format!(
        "journal file {number} is damaged: synced commits {} to {} fail verification",
        missing.first, missing.last
    );
    match salvage(bytes, (*from, *to), (file.header.salt, seed), *missing) {
        Some(frames) => {
            image.damage.push(told);
            for (at, frame) in frames {
                take_frame(frame, at, false, image, refs);
            }
        }
        None => image.lose(told),
    }
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

fn scan(
    bytes: &[u8],
    header: &JournalHeader,
    image: &mut Image,
    refs: &mut Vec<FrameRef>,
) -> Scanned {
    let seed = Seed::new(header.salt);
    let mut scanned = Scanned {
        header: *header,
        length: bytes.len() as u64,
        gaps: Vec::new(),
        next_commit: header.first_commit,
        end: FIRST_COMMIT_OFFSET as usize,
    };
    let mut offset = scanned.end;
    while offset + BLOCK_BYTES <= bytes.len() {
        let commit = match journal::decode_commit(&bytes[offset..], header.salt, seed) {
            Ok(commit)
                if commit.fields.number >= scanned.next_commit
                    && commit.fields.file_number == header.file_number =>
            {
                commit
            }
            // Torn, or the end; or damage, if a later commit turns up.
            Ok(_) | Err(_) => {
                offset += BLOCK_BYTES;
                continue;
            }
        };
        if offset > scanned.end || commit.fields.number > scanned.next_commit {
            scanned.gaps.push(Gap {
                from: scanned.end,
                to: offset,
                missing: Missing {
                    first: scanned.next_commit,
                    last: commit.fields.number.saturating_sub(1),
                    is_followed: true,
                },
            });
        }
        scanned.next_commit = commit.fields.number + 1;
        image.bytes += commit.bytes() as u64;
        let mut at = offset + journal::COMMIT_HEADER_BYTES;
        for frame in commit.frames() {
            at += FRAME_HEADER_BYTES;
            at += take_frame(frame, at, true, image, refs);
        }
        offset += commit.padded_bytes();
        scanned.end = offset;
    }
    scanned
}

/// Answers the length of the frame's body.
fn take_frame(
    frame: Frame<'_>,
    at: usize,
    is_proven: bool,
    image: &mut Image,
    refs: &mut Vec<FrameRef>,
) -> usize {
    match frame {
        Frame::StreamBytes {
            stream,
            segment_id,
            position,
            base_sequence: _,
            bytes,
        } => {
            refs.push(FrameRef {
                at,
                length: bytes.len(),
                stream,
                segment_id,
                position,
                is_proven,
            });
            bytes.len()
        }
        Frame::Manifest {
            stream,
            chunk,
            position,
            bytes,
        } => {
            image.manifests.push(OwnedManifestFrame {
                stream,
                chunk,
                position,
                bytes: bytes.to_vec(),
                is_proven,
            });
            bytes.len()
        }
        Frame::CheckpointPositions {
            settled_before,
            positions,
        }
        | Frame::CheckpointTable {
            settled_before,
            positions,
        } => {
            image.settled_before = image.settled_before.max(settled_before);
            note_positions(image, positions);
            positions.len() * journal::POSITION_BYTES
        }
        Frame::Unknown { kind: _, bytes } => bytes.len(),
    }
}

fn note_positions(image: &mut Image, positions: Positions<'_>) {
    for position in positions.iter() {
        let synced = image
            .positions
            .entry((position.stream, position.file, position.file_id))
            .or_default();
        *synced = (*synced).max(position.synced_bytes);
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
