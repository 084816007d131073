//! What a commit of the journal holds: bytes of streams and manifests, and how far files are synced. Layout: `journal.md`.
//!
//! The commit's checksum covers all frames. A frame's own covers its header (and the positions of a checkpoint), so that it can be
//! told whose bytes a frame held when its commit does not verify: the bytes of streams and manifests have checksums of their own.

use crate::checksum::{self, Crc32c};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::StreamNumber;
use crate::journal::MAX_COMMIT_BYTES;

const WHAT: &str = "journal frame";

layout! {
    /// Header of a frame; its body follows at once.
    frame: 48, {
        KIND: 0, 2;
        FLAGS: 2, 2;
        BODY_BYTES: 4, 4;
        STREAM_NUMBER: 8, 8;
        FILE_ID: 16, 8;
        POSITION: 24, 8;
        BASE_SEQUENCE: 32, 8;
        CRC: 40, 4;
        RESERVED: 44, 4;
    }
}

layout! {
    /// One row of a checkpoint's body.
    position: 32, {
        STREAM_NUMBER: 0, 8;
        FILE_KIND: 8, 2;
        RESERVED: 10, 6;
        FILE_ID: 16, 8;
        SYNCED_BYTES: 24, 8;
    }
}

pub const FRAME_HEADER_BYTES: usize = frame::BYTES;
pub const POSITION_BYTES: usize = position::BYTES;

const KIND_STREAM_BYTES: u16 = 1;
const KIND_MANIFEST: u16 = 2;
const KIND_CHECKPOINT_POSITIONS: u16 = 3;
const KIND_CHECKPOINT_TABLE: u16 = 4;

/// Frames of a verified commit.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        // `decode_commit` has walked all frames.
        let (frame, rest) = decode_frame(self.rest).ok()?;
        self.rest = rest;
        Some(frame)
    }
}

/// What a commit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Whole batches of a stream and where they lie in its segment.
    StreamBytes {
        stream: StreamNumber,
        segment_id: u64,
        position: u64,
        base_sequence: u64,
        bytes: &'a [u8],
    },
    /// Whole manifest commits of a stream and where they lie in its chunk.
    Manifest {
        stream: StreamNumber,
        chunk: u64,
        position: u64,
        bytes: &'a [u8],
    },
    /// Files synced by a checkpoint since the last table.
    CheckpointPositions {
        /// No journal file of a lower number is needed any more.
        settled_before: u64,
        positions: Positions<'a>,
    },
    /// All files that recovery must look at.
    CheckpointTable {
        settled_before: u64,
        positions: Positions<'a>,
    },
    /// Written by a later draft; kept and reported.
    Unknown { kind: u16, bytes: &'a [u8] },
}

/// Which of a stream's files a position is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    Segment,
    ManifestChunk,
}

impl FileKind {
    fn code(self) -> u16 {
        match self {
            FileKind::Segment => 0,
            FileKind::ManifestChunk => 1,
        }
    }

    fn from_code(code: u16) -> Result<Self, Damage> {
        match code {
            0 => Ok(FileKind::Segment),
            1 => Ok(FileKind::ManifestChunk),
            _ => Err(damage::value(WHAT, "file kind", code)),
        }
    }
}

/// How far a file is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub stream: StreamNumber,
    pub file: FileKind,
    /// Segment id or chunk number.
    pub file_id: u64,
    /// Offset up to which the file is on stable storage.
    pub synced_bytes: u64,
}

/// Positions of a verified frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions<'a> {
    bytes: &'a [u8],
}

impl<'a> Positions<'a> {
    pub fn len(&self) -> usize {
        self.bytes.len() / POSITION_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Position> + 'a {
        // `decode` has decoded every row.
        self.bytes
            .chunks_exact(POSITION_BYTES)
            .filter_map(|row| decode_position(row).ok())
    }
}

fn decode_position(row: &[u8]) -> Result<Position, Damage> {
    damage::zero(
        WHAT,
        "reserved bytes of a position",
        &position::RESERVED.get(row),
    )?;
    Ok(Position {
        stream: StreamNumber(position::STREAM_NUMBER.read(row)),
        file: FileKind::from_code(position::FILE_KIND.read(row))?,
        file_id: position::FILE_ID.read(row),
        synced_bytes: position::SYNCED_BYTES.read(row),
    })
}

/// Appends one row of a checkpoint's body.
pub fn encode_position(out: &mut Vec<u8>, value: &Position) {
    let Position {
        stream,
        file,
        file_id,
        synced_bytes,
    } = *value;
    let mut row = [0; POSITION_BYTES];
    position::STREAM_NUMBER.write(&mut row, stream.0);
    position::FILE_KIND.write(&mut row, file.code());
    position::FILE_ID.write(&mut row, file_id);
    position::SYNCED_BYTES.write(&mut row, synced_bytes);
    out.extend_from_slice(&row);
}

/// Header of a frame. The body, of `body_bytes`, is copied behind it unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameHeader {
    StreamBytes {
        stream: StreamNumber,
        segment_id: u64,
        position: u64,
        base_sequence: u64,
    },
    Manifest {
        stream: StreamNumber,
        chunk: u64,
        position: u64,
    },
    CheckpointPositions {
        settled_before: u64,
    },
    CheckpointTable {
        settled_before: u64,
    },
}

impl FrameHeader {
    /// `body` is what is going to stand behind the header.
    pub fn encode(&self, body: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
        let (kind, stream, file_id, position, base_sequence) = match *self {
            FrameHeader::StreamBytes {
                stream,
                segment_id,
                position,
                base_sequence,
            } => (
                KIND_STREAM_BYTES,
                stream.0,
                segment_id,
                position,
                base_sequence,
            ),
            FrameHeader::Manifest {
                stream,
                chunk,
                position,
            } => (KIND_MANIFEST, stream.0, chunk, position, 0),
            FrameHeader::CheckpointPositions { settled_before } => {
                (KIND_CHECKPOINT_POSITIONS, 0, settled_before, 0, 0)
            }
            FrameHeader::CheckpointTable { settled_before } => {
                (KIND_CHECKPOINT_TABLE, 0, settled_before, 0, 0)
            }
        };
        let mut out = [0; FRAME_HEADER_BYTES];
        frame::KIND.write(&mut out, kind);
        frame::BODY_BYTES.write(&mut out, body.len() as u32);
        frame::STREAM_NUMBER.write(&mut out, stream);
        frame::FILE_ID.write(&mut out, file_id);
        frame::POSITION.write(&mut out, position);
        frame::BASE_SEQUENCE.write(&mut out, base_sequence);
        let crc = frame_crc(&out, kind, body);
        frame::CRC.write(&mut out, crc);
        out
    }
}

/// Over the header, and over the body where nothing in it has a checksum.
fn frame_crc(head: &[u8], kind: u16, body: &[u8]) -> u32 {
    let mut crc = Crc32c::default();
    crc.update(&head[..frame::CRC.0]);
    if matches!(kind, KIND_CHECKPOINT_POSITIONS | KIND_CHECKPOINT_TABLE) {
        crc.update(body);
    }
    crc.finish()
}

/// Appends a whole frame.
pub fn encode_frame(out: &mut Vec<u8>, header: &FrameHeader, body: &[u8]) {
    assert!(body.len() <= MAX_COMMIT_BYTES, "a frame fits a commit");
    out.extend_from_slice(&header.encode(body));
    out.extend_from_slice(body);
}

/// The frame at the start of `bytes`, and what stands behind it. The bodies of kinds 1 and 2 are not looked at.
pub fn decode_frame(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), Damage> {
    damage::need(WHAT, bytes, FRAME_HEADER_BYTES)?;
    let (head, rest) = bytes.split_at(FRAME_HEADER_BYTES);
    let body_bytes = frame::BODY_BYTES.read(head) as usize;
    damage::need(WHAT, rest, body_bytes)?;
    let (body, rest) = rest.split_at(body_bytes);
    let kind = frame::KIND.read(head);
    checksum::compare(
        WHAT,
        frame::CRC.read(head).into(),
        frame_crc(head, kind, body).into(),
    )?;
    let stream = StreamNumber(frame::STREAM_NUMBER.read(head));
    let file_id = frame::FILE_ID.read(head);
    let position = frame::POSITION.read(head);
    let frame = match kind {
        KIND_STREAM_BYTES => Frame::StreamBytes {
            stream,
            segment_id: file_id,
            position,
            base_sequence: frame::BASE_SEQUENCE.read(head),
            bytes: body,
        },
        KIND_MANIFEST => Frame::Manifest {
            stream,
            chunk: file_id,
            position,
            bytes: body,
        },
        KIND_CHECKPOINT_POSITIONS => Frame::CheckpointPositions {
            settled_before: file_id,
            positions: decode_positions(body)?,
        },
        KIND_CHECKPOINT_TABLE => Frame::CheckpointTable {
            settled_before: file_id,
            positions: decode_positions(body)?,
        },
        kind => Frame::Unknown { kind, bytes: body },
    };
    damage::zero(WHAT, "flags", &frame::FLAGS.get(head))?;
    damage::zero(WHAT, "reserved bytes", &frame::RESERVED.get(head))?;
    if position.checked_add(body_bytes as u64).is_none() {
        return Err(damage::value(WHAT, "position", position));
    }
    Ok((frame, rest))
}

fn decode_positions(body: &[u8]) -> Result<Positions<'_>, Damage> {
    if !body.len().is_multiple_of(POSITION_BYTES) {
        return Err(damage::value(WHAT, "body bytes", body.len() as u64));
    }
    for row in body.chunks_exact(POSITION_BYTES) {
        decode_position(row)?;
    }
    Ok(Positions { bytes: body })
}
