//! Reads the journal that a process before left: which files belong together, which commits verify, what they hold.
//!
//! Files are used in the order of their numbers, without a gap, and each commit was synced before the next was written. So a
//! bad commit is torn, and was never acknowledged, unless a good one of a higher number follows it: then it is corruption.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::journal::{
    self, FIRST_COMMIT_OFFSET, FRAME_HEADER_BYTES, FileKind, Frame, JournalHeader, Positions,
};
use aof2_format::names::file;
use aof2_format::{BLOCK_BYTES, Seed, StreamNumber};

use super::recycle::JournalFile;
use crate::io::{Disk, DiskFile, FileClass};
use crate::segment::files;

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
}

pub(crate) struct OwnedManifestFrame {
    pub stream: StreamNumber,
    pub chunk: u64,
    pub position: u64,
    pub bytes: Vec<u8>,
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
}

pub(crate) fn find(disk: &dyn Disk, root: &Path) -> io::Result<Vec<Found>> {
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
        let mut block = [0; BLOCK_BYTES];
        let read = file.read_at(&mut block, 0)?;
        let header = JournalHeader::decode(&block[..read]).ok();
        found.push(Found {
            length: file.len()?,
            file,
            slot,
            header,
        });
    }
    Ok(found)
}

/// Files that follow one another up to the newest, oldest first.
fn connected(found: &[Found]) -> Vec<(&Found, JournalHeader)> {
    let mut used: Vec<(&Found, JournalHeader)> = found
        .iter()
        .filter_map(|found| found.header.map(|header| (found, header)))
        .collect();
    used.sort_by_key(|(_, header)| std::cmp::Reverse(header.file_number));
    let newest = used.first().map_or(0, |(_, header)| header.file_number);
    let mut connected: Vec<_> = used
        .into_iter()
        .zip(0..)
        .take_while(|((_, header), back)| header.file_number + back == newest)
        .map(|(used, _)| used)
        .collect();
    connected.reverse();
    connected
}

pub(crate) fn read(found: &[Found], progress: &mut dyn FnMut(u64)) -> io::Result<Image> {
    let mut image = Image {
        next_commit: 1,
        ..Image::default()
    };
    image.last_file_number = found
        .iter()
        .filter_map(|found| found.header)
        .map(|header| header.file_number)
        .max()
        .unwrap_or(0);
    for (index, (found, header)) in connected(found).into_iter().enumerate() {
        if index > 0 && header.first_commit != image.next_commit {
            image.damage.push(format!(
                "journal file {} begins with commit {}, commit {} was expected",
                header.file_number, header.first_commit, image.next_commit
            ));
        }
        let mut bytes = vec![0; found.length as usize];
        let read = found.file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let mut refs = Vec::new();
        walk(&bytes, &header, &mut image, &mut refs);
        image.frames.push((found.file.clone(), refs));
        progress(found.length);
    }
    Ok(image)
}

fn walk(bytes: &[u8], header: &JournalHeader, image: &mut Image, refs: &mut Vec<FrameRef>) {
    let seed = Seed::new(header.salt);
    let mut expected = header.first_commit;
    let mut offset = FIRST_COMMIT_OFFSET as usize;
    let mut gap_at: Option<u64> = None;
    while offset + BLOCK_BYTES <= bytes.len() {
        let commit = match journal::decode_commit(&bytes[offset..], header.salt, seed) {
            Ok(commit)
                if commit.fields.number >= expected
                    && commit.fields.file_number == header.file_number =>
            {
                commit
            }
            _ => {
                // Torn, or the end; or damage, if a later commit turns up.
                gap_at.get_or_insert(expected);
                offset += BLOCK_BYTES;
                continue;
            }
        };
        if let Some(missing) = gap_at.take() {
            image.damage.push(format!(
                "journal file {}: commit {missing} does not verify, commit {} behind it does",
                header.file_number, commit.fields.number
            ));
        }
        expected = commit.fields.number + 1;
        image.bytes += commit.bytes() as u64;
        let mut at = offset + journal::COMMIT_HEADER_BYTES;
        for frame in commit.frames() {
            at += FRAME_HEADER_BYTES;
            at += take_frame(frame, at, image, refs);
        }
        offset += commit.padded_bytes();
    }
    image.next_commit = expected;
}

/// Answers the length of the frame's body.
fn take_frame(frame: Frame<'_>, at: usize, image: &mut Image, refs: &mut Vec<FrameRef>) -> usize {
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
            });
            bytes.len()
        }
        Frame::CheckpointPositions(positions) | Frame::CheckpointTable(positions) => {
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
pub(crate) struct Reuse {
    pub free: Vec<JournalFile>,
    /// Slots taken by them.
    pub slots: u32,
    /// Of another configured size or number. They go when a commit of the new process stands: until then they alone know how far
    /// files were synced.
    pub outdated: Vec<PathBuf>,
}

/// Sorts what was found by the configured size and number. What is outdated gives up its slot, not its content.
pub(crate) fn reuse(
    disk: &dyn Disk,
    root: &Path,
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
        match found.header {
            header if fits && has_slot(&found) => {
                reuse.slots = reuse.slots.max(found.slot + 1);
                let number = header.map_or(0, |header| header.file_number);
                reuse.free.push(JournalFile {
                    file: found.file,
                    number,
                });
            }
            // Nothing was read from it either.
            None => disk.unlink(&path)?,
            Some(_) if has_slot(&found) => {
                let aside = directory.join(file::journal(beyond));
                disk.rename(&path, &aside)?;
                is_moved = true;
                beyond += 1;
                reuse.outdated.push(aside);
            }
            Some(_) => reuse.outdated.push(path),
        }
    }
    if is_moved {
        disk.sync_directory(&directory)?;
    }
    Ok(reuse)
}
