//! Goes over one journal file, a piece at a time: what it needs of memory does not grow with the file.
//!
//! A block counts as a commit's only when its header has the salt of the file's present use, verifies, and is in line. Only then is
//! the rest of the commit read and checksummed. So the work is linear in the bytes, whatever payloads look like.

use std::io;
use std::ops::Range;

use aof2_format::journal::{
    self, COMMIT_HEADER_BYTES, FIRST_COMMIT_OFFSET, FRAME_HEADER_BYTES, FileKind, Frame,
    JournalHeader, Position,
};
use aof2_format::{BLOCK_BYTES, Seed, StreamNumber};

use super::salvage::Missing;
use crate::io::DiskFile;

/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// The writer ends a commit at 8 MiB, or with the one frame that is longer: a manifest commit, or a table of positions. A longer one is
/// not ours.
pub(crate) const LONGEST_COMMIT_BYTES: usize = 64 << 20;

/// Where the bytes of a stream's frame are, and where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRef {
    /// Offset in the journal file.
    pub at: u64,
    pub length: usize,
    pub stream: StreamNumber,
    pub segment_id: u64,
    pub position: u64,
    /// Its commit verifies. Otherwise the bytes have to speak for themselves.
    pub is_proven: bool,
}

/// The same of a frame of manifest commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManifestRef {
    pub at: u64,
    pub length: usize,
    pub stream: StreamNumber,
    pub chunk: u64,
    pub position: u64,
    /// As of a [`FrameRef`].
    pub is_proven: bool,
}

/// What a frame says, its bytes left where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Stream(FrameRef),
    Manifest(ManifestRef),
    Positions {
        settled_before: u64,
        positions: Vec<Position>,
    },
    Unknown,
}

impl Content {
    /// `at` is where the frame's body begins in the file.
    pub fn of(frame: &Frame<'_>, at: u64, is_proven: bool) -> Content {
        match *frame {
            Frame::StreamBytes {
                stream,
                segment_id,
                position,
                base_sequence: _,
                bytes,
            } => Content::Stream(FrameRef {
                at,
                length: bytes.len(),
                stream,
                segment_id,
                position,
                is_proven,
            }),
            Frame::Manifest {
                stream,
                chunk,
                position,
                bytes,
            } => Content::Manifest(ManifestRef {
                at,
                length: bytes.len(),
                stream,
                chunk,
                position,
                is_proven,
            }),
            Frame::CheckpointPositions {
                settled_before,
                positions,
            }
            | Frame::CheckpointTable {
                settled_before,
                positions,
            } => Content::Positions {
                settled_before,
                positions: positions.iter().collect(),
            },
            Frame::Unknown { kind: _, bytes: _ } => Content::Unknown,
        }
    }
}

/// Bytes of a frame's body.
pub(crate) fn body_bytes(frame: &Frame<'_>) -> usize {
    match frame {
        Frame::StreamBytes { bytes, .. }
        | Frame::Manifest { bytes, .. }
        | Frame::Unknown { bytes, .. } => bytes.len(),
        Frame::CheckpointPositions { positions, .. } | Frame::CheckpointTable { positions, .. } => {
            positions.len() * journal::POSITION_BYTES
        }
    }
}

/// A part of a file in memory that moves forward.
pub(crate) struct Pieces<'a> {
    file: &'a dyn DiskFile,
    length: u64,
    /// Offset of the buffer.
    at: u64,
    buffer: Vec<u8>,
}

impl<'a> Pieces<'a> {
    pub fn new(file: &'a dyn DiskFile, length: u64) -> Pieces<'a> {
        Pieces {
            file,
            length,
            at: 0,
            buffer: Vec::new(),
        }
    }

    /// At least `least` bytes from `offset` on; fewer only at the end of the file.
    pub fn get(&mut self, offset: u64, least: usize) -> io::Result<&[u8]> {
        let left = self.length.saturating_sub(offset);
        let least = usize::try_from(left).map_or(least, |left| least.min(left));
        let have = self.at..self.at + self.buffer.len() as u64;
        if offset < have.start || offset + least as u64 > have.end {
            match have.contains(&offset) {
                true => drop(self.buffer.drain(..(offset - have.start) as usize)),
                false => self.buffer.clear(),
            }
            self.at = offset;
            let wanted = least.max(
                usize::try_from(left)
                    .unwrap_or(PIECE_BYTES)
                    .min(PIECE_BYTES),
            );
            // Into the memory that it has.
            let kept = self.buffer.len();
            self.buffer.resize(wanted.max(kept), 0);
            let from = offset + kept as u64;
            let read = self.file.read_at(&mut self.buffer[kept..], from)?;
            self.buffer.truncate(kept + read);
        }
        let from = (offset - self.at) as usize;
        Ok(&self.buffer[from.min(self.buffer.len())..])
    }
}

/// Commits that do not verify in a file, where others of the file do.
pub(crate) struct Gap {
    pub bytes: Range<u64>,
    pub missing: Missing,
}

/// What one file holds.
pub(crate) struct Scanned {
    pub header: JournalHeader,
    pub length: u64,
    /// Where commits that verify stand, one behind the other.
    pub runs: Vec<Range<u64>>,
    pub gaps: Vec<Gap>,
    /// Number that the commit behind the last one that verifies has, and where it would stand.
    pub next_commit: u64,
    pub end: u64,
    /// Bytes of its commits, without the padding.
    pub commit_bytes: u64,
}

/// `note` gets every frame of each commit that verifies; `progress` the bytes that were passed over.
pub(crate) fn scan(
    file: &dyn DiskFile,
    length: u64,
    header: &JournalHeader,
    note: &mut dyn FnMut(Content),
    progress: &mut dyn FnMut(u64),
) -> io::Result<Scanned> {
    let seed = Seed::new(header.salt);
    let mut scanned = Scanned {
        header: *header,
        length,
        runs: Vec::new(),
        gaps: Vec::new(),
        next_commit: header.first_commit,
        end: FIRST_COMMIT_OFFSET,
        commit_bytes: 0,
    };
    let mut pieces = Pieces::new(file, length);
    let mut told = 0;
    let mut offset = scanned.end;
    while offset + BLOCK_BYTES as u64 <= length {
        if offset - told >= PIECE_BYTES as u64 {
            progress(offset - told);
            told = offset;
        }
        let Some((number, bytes)) =
            commit_at(&mut pieces, offset, header, seed, scanned.next_commit, note)?
        else {
            // Torn, or the end; or damage, if a later commit turns up.
            offset += BLOCK_BYTES as u64;
            continue;
        };
        if offset > scanned.end || number > scanned.next_commit {
            scanned.gaps.push(Gap {
                bytes: scanned.end..offset,
                missing: Missing {
                    first: scanned.next_commit,
                    last: number.saturating_sub(1),
                    is_followed: true,
                },
            });
        }
        let end = offset + journal::padded_bytes(bytes) as u64;
        match scanned.runs.last_mut() {
            Some(run) if run.end == offset => run.end = end,
            Some(_) | None => scanned.runs.push(offset..end),
        }
        scanned.next_commit = number + 1;
        scanned.commit_bytes += bytes as u64;
        scanned.end = end;
        offset = end;
    }
    progress(length - told);
    Ok(scanned)
}

/// Number and bytes of the commit at `offset`, if one stands there that is in line and verifies.
fn commit_at(
    pieces: &mut Pieces<'_>,
    offset: u64,
    header: &JournalHeader,
    seed: Seed,
    next_commit: u64,
    note: &mut dyn FnMut(Content),
) -> io::Result<Option<(u64, usize)>> {
    let head = pieces.get(offset, COMMIT_HEADER_BYTES)?;
    let bytes = match journal::decode_commit_head(head, header.salt, seed) {
        Ok(head)
            if head.fields.number >= next_commit
                && head.fields.file_number == header.file_number
                && head.bytes <= LONGEST_COMMIT_BYTES =>
        {
            head.bytes
        }
        Ok(_) | Err(_) => return Ok(None),
    };
    let whole = pieces.get(offset, bytes)?;
    let Ok(commit) = journal::decode_commit(whole, header.salt, seed) else {
        return Ok(None);
    };
    let mut at = offset + COMMIT_HEADER_BYTES as u64;
    for frame in commit.frames() {
        at += FRAME_HEADER_BYTES as u64;
        note(Content::of(&frame, at, true));
        at += body_bytes(&frame) as u64;
    }
    Ok(Some((commit.fields.number, bytes)))
}

/// Calls `apply` with each frame of streams' bytes in a run of commits that were verified, in order.
pub(crate) fn frames_of_run(
    file: &dyn DiskFile,
    header: &JournalHeader,
    run: &Range<u64>,
    apply: &mut dyn FnMut(FrameRef, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let seed = Seed::new(header.salt);
    let mut pieces = Pieces::new(file, run.end);
    let mut offset = run.start;
    while offset < run.end {
        let changed = || io::Error::other("a commit changed while the journal was replayed");
        let head = pieces.get(offset, COMMIT_HEADER_BYTES)?;
        let head = journal::decode_commit_head(head, header.salt, seed).map_err(|_| changed())?;
        let whole = pieces.get(offset, head.bytes)?;
        let whole = whole.get(..head.bytes).ok_or_else(changed)?;
        let mut rest = &whole[COMMIT_HEADER_BYTES..];
        while !rest.is_empty() {
            let body = offset + (whole.len() - rest.len() + FRAME_HEADER_BYTES) as u64;
            let (frame, behind) = journal::decode_frame(rest).map_err(|_| changed())?;
            let of = Content::of(&frame, body, true);
            if let (Frame::StreamBytes { bytes, .. }, Content::Stream(of)) = (frame, of) {
                apply(of, bytes)?;
            }
            rest = behind;
        }
        offset += journal::padded_bytes(head.bytes) as u64;
    }
    Ok(())
}

/// A position is about one file of one stream.
pub(crate) type FileKey = (StreamNumber, FileKind, u64);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aof2_format::journal::{CommitFields, FrameHeader, encode_frame, seal_commit};
    use aof2_format::{ClusterId, NodeId, Salt, VolumeId, checksum};

    use super::*;
    use crate::io::Map;

    const SALT: Salt = Salt(0x5a17);

    fn header(file_bytes: u64) -> JournalHeader {
        JournalHeader {
            cluster_id: ClusterId([1; 16]),
            node_id: NodeId([2; 16]),
            volume_id: VolumeId([3; 16]),
            file_number: 7,
            salt: SALT,
            first_commit: 1,
            table_offset: 0,
            created_unix_nanos: 0,
            file_bytes,
        }
    }

    /// A commit of one frame of a stream, as the writer makes it.
    fn commit(number: u64, body: &[u8], salt: Salt) -> Vec<u8> {
        let mut commit = vec![0; COMMIT_HEADER_BYTES];
        let of = FrameHeader::StreamBytes {
            stream: StreamNumber(1),
            segment_id: 1,
            position: 0,
            base_sequence: 0,
        };
        encode_frame(&mut commit, &of, body);
        let fields = CommitFields {
            file_number: 7,
            number,
            frame_count: 1,
            written_unix_nanos: 0,
            prev_crc: 0,
        };
        seal_commit(&mut commit, &fields, salt, Seed::new(salt));
        commit.resize(journal::padded_bytes(commit.len()), 0);
        commit
    }

    /// A file in memory that knows the longest read of it.
    #[derive(Debug)]
    struct Bytes {
        bytes: Vec<u8>,
        longest_read: AtomicUsize,
    }

    impl DiskFile for Bytes {
        fn path(&self) -> &Path {
            Path::new("/journal")
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.longest_read.fetch_max(buffer.len(), Ordering::Relaxed);
            let rest = self.bytes.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        }

        fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
            unreachable!("a scan writes nothing")
        }

        fn allocate(&self, _offset: u64, _length: u64) -> io::Result<()> {
            unreachable!("a scan writes nothing")
        }

        fn truncate(&self, _length: u64) -> io::Result<()> {
            unreachable!("a scan writes nothing")
        }

        fn sync_data(&self) -> io::Result<()> {
            unreachable!("a scan writes nothing")
        }

        fn sync_all(&self) -> io::Result<()> {
            unreachable!("a scan writes nothing")
        }

        fn pace(&self, _offset: u64, _length: u64) -> io::Result<()> {
            unreachable!("a scan writes nothing")
        }

        fn forget_cache(&self) -> io::Result<()> {
            Ok(())
        }

        fn map(&self, _length: u64) -> io::Result<Map> {
            unreachable!("a scan maps nothing")
        }
    }

    fn file(commits: &[Vec<u8>], length: usize) -> Arc<Bytes> {
        let mut bytes = vec![0; FIRST_COMMIT_OFFSET as usize];
        bytes.extend(commits.concat());
        bytes.resize(length.max(bytes.len()), 0);
        Arc::new(Bytes {
            bytes,
            longest_read: AtomicUsize::new(0),
        })
    }

    fn scanned(file: &Bytes) -> (Scanned, Vec<FrameRef>) {
        let mut frames = Vec::new();
        let length = file.bytes.len() as u64;
        let mut note = |content| {
            if let Content::Stream(frame) = content {
                frames.push(frame);
            }
        };
        let mut passed = 0;
        let mut progress = |bytes| passed += bytes;
        let found = scan(file, length, &header(length), &mut note, &mut progress);
        assert_eq!(passed, length);
        (found.expect("it can be read"), frames)
    }

    fn checksummed<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = checksum::checksummed_bytes();
        let done = work();
        (done, checksum::checksummed_bytes() - before)
    }

    /// The open of 128 MiB of such a journal once took 46.5 s instead of 0.8 s.
    #[test]
    fn payloads_that_look_like_commits_cost_no_pass_over_what_they_claim_to_hold() {
        let first = commit(1, &vec![9; 1 << 20], SALT);
        // Each block of the payload begins like a commit that reaches far: one of another salt, and one that was seen before.
        let of_other_salt = commit(2, &vec![8; 1 << 20], Salt(1));
        for head in [&of_other_salt, &first] {
            // What is left of a torn commit: its payload, at the borders of blocks.
            let forged = head[..BLOCK_BYTES].repeat(512);
            let file = file(&[first.clone(), vec![0; BLOCK_BYTES], forged], 4 << 20);
            let ((found, frames), bytes) = checksummed(|| scanned(&file));
            assert_eq!((found.next_commit, frames.len()), (2, 1));
            let length = file.bytes.len() as u64;
            assert!(bytes < 2 * length, "{bytes} bytes checksummed of {length}");
        }
    }

    #[test]
    fn a_file_is_read_a_piece_at_a_time_and_its_frames_are_found_where_they_stand() {
        let commits: Vec<Vec<u8>> = (1..=40)
            .map(|number| commit(number, &vec![number as u8; 700_000], SALT))
            .collect();
        let file = file(&commits, 40 << 20);
        let (found, frames) = scanned(&file);
        assert_eq!((found.next_commit, frames.len()), (41, 40));
        assert!(found.gaps.is_empty());
        let run = found.runs.first().expect("a run").clone();
        assert_eq!(found.runs.len(), 1);
        let length = file.bytes.len() as u64;
        let mut applied = Vec::new();
        let mut apply = |frame: FrameRef, bytes: &[u8]| {
            let at = frame.at as usize;
            assert_eq!(bytes, &file.bytes[at..at + frame.length]);
            applied.push(frame);
            Ok(())
        };
        frames_of_run(&*file, &header(length), &run, &mut apply).expect("read again");
        assert_eq!(applied, frames);
        let longest = file.longest_read.load(Ordering::Relaxed);
        assert!(longest <= PIECE_BYTES, "{longest} bytes read at once");
    }
}
