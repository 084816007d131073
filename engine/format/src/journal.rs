//! The node's journal: prezeroed, recycled files of commits. Layout: `journal.md`.
//!
//! `[header block][commit, padded to a block][commit ...]`. A commit is one write and one sync: a header and frames. Its checksum
//! is seeded with the file's salt and covers all of it, because in a recycled file a torn commit can hold old, valid records.
//! The first commit of each file is a full checkpoint table.

use crate::checksum::{self, Salt, Seed};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, NodeId, StreamNumber, VolumeId};
use crate::{BLOCK_BYTES, FORMAT_VERSION};

const WHAT: &str = "journal header";
const WHAT_COMMIT: &str = "journal commit";
const WHAT_FRAME: &str = "journal frame";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2JRNL");
/// `JC2A` on disk.
pub const COMMIT_MAGIC: u32 = u32::from_le_bytes(*b"JC2A");

layout! {
    /// First block of a journal file; rewritten, with a fresh salt and number, each time the file is taken into use.
    header: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 6;
        CLUSTER_ID: 16, 16;
        NODE_ID: 32, 16;
        VOLUME_ID: 48, 16;
        FILE_NUMBER: 64, 8;
        SALT: 72, 8;
        FIRST_COMMIT: 80, 8;
        TABLE_OFFSET: 88, 8;
        CREATED_UNIX_NANOS: 96, 8;
        ZERO: 104, 3988;
        CRC: 4092, 4;
    }
}

layout! {
    /// Header of a commit, at the start of a block.
    commit: 64, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        FLAGS: 6, 2;
        FILE_SALT: 8, 8;
        FILE_NUMBER: 16, 8;
        NUMBER: 24, 8;
        COMMIT_BYTES: 32, 4;
        FRAMES: 36, 4;
        WRITTEN_UNIX_NANOS: 40, 8;
        PREV_CRC: 48, 4;
        RESERVED: 52, 8;
        CRC: 60, 4;
    }
}

layout! {
    /// Header of a frame; its body follows at once.
    frame: 40, {
        KIND: 0, 2;
        FLAGS: 2, 2;
        BODY_BYTES: 4, 4;
        STREAM_NUMBER: 8, 8;
        FILE_ID: 16, 8;
        POSITION: 24, 8;
        BASE_SEQUENCE: 32, 8;
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

pub const COMMIT_HEADER_BYTES: usize = commit::BYTES;
pub const FRAME_HEADER_BYTES: usize = frame::BYTES;
pub const POSITION_BYTES: usize = position::BYTES;
/// Offset of the first commit.
pub const FIRST_COMMIT_OFFSET: u64 = header::BYTES as u64;
/// Largest commit; a journal file is never larger.
pub const MAX_COMMIT_BYTES: usize = 1 << 30;

const _: () = assert!(header::BYTES == BLOCK_BYTES);

const KIND_STREAM_BYTES: u16 = 1;
const KIND_MANIFEST: u16 = 2;
const KIND_CHECKPOINT_POSITIONS: u16 = 3;
const KIND_CHECKPOINT_TABLE: u16 = 4;

/// First block of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    /// Grows by one with each file taken into use; orders the files.
    pub file_number: u64,
    /// Fresh per use.
    pub salt: Salt,
    /// Number of the first commit that this file will hold.
    pub first_commit: u64,
    /// Offset of the commit with the checkpoint table; 0 = none.
    pub table_offset: u64,
    pub created_unix_nanos: i64,
}

impl JournalHeader {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let Self {
            cluster_id,
            node_id,
            volume_id,
            file_number,
            salt,
            first_commit,
            table_offset,
            created_unix_nanos,
        } = *self;
        let mut out = [0; BLOCK_BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::CLUSTER_ID.put(&mut out, cluster_id.0);
        header::NODE_ID.put(&mut out, node_id.0);
        header::VOLUME_ID.put(&mut out, volume_id.0);
        header::FILE_NUMBER.write(&mut out, file_number);
        header::SALT.write(&mut out, salt.0);
        header::FIRST_COMMIT.write(&mut out, first_commit);
        header::TABLE_OFFSET.write(&mut out, table_offset);
        header::CREATED_UNIX_NANOS.write(&mut out, created_unix_nanos as u64);
        let crc = checksum::crc32c(&out[..header::CRC.0]);
        header::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::block(
            WHAT,
            bytes,
            MAGIC,
            header::MAGIC,
            header::VERSION,
            header::CRC,
        )?;
        damage::zero(WHAT, "reserved bytes", &header::RESERVED.get(bytes))?;
        damage::zero(WHAT, "reserved bytes", &header::ZERO.get(bytes))?;
        let table_offset = header::TABLE_OFFSET.read(bytes);
        if table_offset % BLOCK_BYTES as u64 != 0 {
            return Err(damage::value(WHAT, "table offset", table_offset));
        }
        Ok(Self {
            cluster_id: ClusterId(header::CLUSTER_ID.get(bytes)),
            node_id: NodeId(header::NODE_ID.get(bytes)),
            volume_id: VolumeId(header::VOLUME_ID.get(bytes)),
            file_number: header::FILE_NUMBER.read(bytes),
            salt: Salt(header::SALT.read(bytes)),
            first_commit: header::FIRST_COMMIT.read(bytes),
            table_offset,
            created_unix_nanos: header::CREATED_UNIX_NANOS.read(bytes) as i64,
        })
    }
}

/// What the header of a commit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitFields {
    pub file_number: u64,
    /// Of the node's journal, over all files; grows by one.
    pub number: u64,
    pub frame_count: u32,
    pub written_unix_nanos: i64,
    /// Checksum of the commit before; 0 for the first commit of a file.
    pub prev_crc: u32,
}

/// Bytes that a commit of this length takes in the file.
pub const fn padded_bytes(commit_bytes: usize) -> usize {
    commit_bytes.next_multiple_of(BLOCK_BYTES)
}

/// Writes the header of a commit whose frames lie behind it in `commit` (`commit.len()` is its unpadded length) and returns the
/// commit's checksum.
pub fn seal_commit(commit: &mut [u8], fields: &CommitFields, salt: Salt, seed: Seed) -> u32 {
    assert!(
        (COMMIT_HEADER_BYTES..=MAX_COMMIT_BYTES).contains(&commit.len()),
        "a commit holds its header and is bounded"
    );
    let CommitFields {
        file_number,
        number,
        frame_count,
        written_unix_nanos,
        prev_crc,
    } = *fields;
    let (head, frames) = commit.split_at_mut(COMMIT_HEADER_BYTES);
    head.fill(0);
    commit::MAGIC.write(head, COMMIT_MAGIC);
    commit::VERSION.write(head, FORMAT_VERSION);
    commit::FILE_SALT.write(head, salt.0);
    commit::FILE_NUMBER.write(head, file_number);
    commit::NUMBER.write(head, number);
    commit::COMMIT_BYTES.write(head, (COMMIT_HEADER_BYTES + frames.len()) as u32);
    commit::FRAMES.write(head, frame_count);
    commit::WRITTEN_UNIX_NANOS.write(head, written_unix_nanos as u64);
    commit::PREV_CRC.write(head, prev_crc);
    let crc = seed.crc32c_of_two(&head[..commit::CRC.0], frames);
    commit::CRC.write(head, crc);
    crc
}

/// A verified commit over borrowed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit<'a> {
    pub fields: CommitFields,
    pub crc: u32,
    frames: &'a [u8],
}

/// Verifies the commit at the start of `bytes` (a block boundary of a file with this salt).
pub fn decode_commit(bytes: &[u8], salt: Salt, seed: Seed) -> Result<Commit<'_>, Damage> {
    damage::need(WHAT_COMMIT, bytes, COMMIT_HEADER_BYTES)?;
    let magic = commit::MAGIC.read(bytes);
    if magic != COMMIT_MAGIC {
        return Err(Damage::Magic {
            what: WHAT_COMMIT,
            found: magic.into(),
        });
    }
    damage::version(WHAT_COMMIT, commit::VERSION.read(bytes))?;
    let length = commit::COMMIT_BYTES.read(bytes) as usize;
    if !(COMMIT_HEADER_BYTES..=MAX_COMMIT_BYTES).contains(&length) {
        return Err(damage::value(WHAT_COMMIT, "length", length as u64));
    }
    damage::need(WHAT_COMMIT, bytes, length)?;
    let (head, frames) = bytes[..length].split_at(COMMIT_HEADER_BYTES);
    let stored = commit::CRC.read(head);
    checksum::compare(
        WHAT_COMMIT,
        stored.into(),
        seed.crc32c_of_two(&head[..commit::CRC.0], frames).into(),
    )?;
    let file_salt = commit::FILE_SALT.read(head);
    if file_salt != salt.0 {
        return Err(damage::value(WHAT_COMMIT, "salt", file_salt));
    }
    damage::zero(WHAT_COMMIT, "flags", &commit::FLAGS.get(head))?;
    damage::zero(WHAT_COMMIT, "reserved bytes", &commit::RESERVED.get(head))?;
    let fields = CommitFields {
        file_number: commit::FILE_NUMBER.read(head),
        number: commit::NUMBER.read(head),
        frame_count: commit::FRAMES.read(head),
        written_unix_nanos: commit::WRITTEN_UNIX_NANOS.read(head) as i64,
        prev_crc: commit::PREV_CRC.read(head),
    };
    let commit = Commit {
        fields,
        crc: stored,
        frames,
    };
    let mut rest = frames;
    for _ in 0..fields.frame_count {
        rest = decode_frame(rest)?.1;
    }
    if !rest.is_empty() {
        return Err(damage::value(
            WHAT_COMMIT,
            "bytes behind the last frame",
            rest.len() as u64,
        ));
    }
    Ok(commit)
}

impl<'a> Commit<'a> {
    /// Unpadded length.
    pub fn bytes(&self) -> usize {
        COMMIT_HEADER_BYTES + self.frames.len()
    }

    /// Bytes that it takes in the file.
    pub fn padded_bytes(&self) -> usize {
        padded_bytes(self.bytes())
    }

    pub fn frames(&self) -> Frames<'a> {
        Frames { rest: self.frames }
    }
}

/// Frames of a verified commit.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        // decode_commit has walked all frames.
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
    CheckpointPositions(Positions<'a>),
    /// All files that recovery must look at.
    CheckpointTable(Positions<'a>),
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
            _ => Err(damage::value(WHAT_FRAME, "file kind", code)),
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
        // decode_frame has decoded every row.
        self.bytes
            .chunks_exact(POSITION_BYTES)
            .filter_map(|row| decode_position(row).ok())
    }
}

fn decode_position(row: &[u8]) -> Result<Position, Damage> {
    damage::zero(
        WHAT_FRAME,
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
    CheckpointPositions,
    CheckpointTable,
}

impl FrameHeader {
    pub fn encode(&self, body_bytes: u32) -> [u8; FRAME_HEADER_BYTES] {
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
            FrameHeader::CheckpointPositions => (KIND_CHECKPOINT_POSITIONS, 0, 0, 0, 0),
            FrameHeader::CheckpointTable => (KIND_CHECKPOINT_TABLE, 0, 0, 0, 0),
        };
        let mut out = [0; FRAME_HEADER_BYTES];
        frame::KIND.write(&mut out, kind);
        frame::BODY_BYTES.write(&mut out, body_bytes);
        frame::STREAM_NUMBER.write(&mut out, stream);
        frame::FILE_ID.write(&mut out, file_id);
        frame::POSITION.write(&mut out, position);
        frame::BASE_SEQUENCE.write(&mut out, base_sequence);
        out
    }
}

/// Appends a whole frame.
pub fn encode_frame(out: &mut Vec<u8>, header: &FrameHeader, body: &[u8]) {
    assert!(body.len() <= MAX_COMMIT_BYTES, "a frame fits a commit");
    out.extend_from_slice(&header.encode(body.len() as u32));
    out.extend_from_slice(body);
}

fn decode_frame(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), Damage> {
    damage::need(WHAT_FRAME, bytes, FRAME_HEADER_BYTES)?;
    let (head, rest) = bytes.split_at(FRAME_HEADER_BYTES);
    let body_bytes = frame::BODY_BYTES.read(head) as usize;
    damage::need(WHAT_FRAME, rest, body_bytes)?;
    let (body, rest) = rest.split_at(body_bytes);
    let stream = StreamNumber(frame::STREAM_NUMBER.read(head));
    let file_id = frame::FILE_ID.read(head);
    let position = frame::POSITION.read(head);
    let frame = match frame::KIND.read(head) {
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
        KIND_CHECKPOINT_POSITIONS => Frame::CheckpointPositions(decode_positions(body)?),
        KIND_CHECKPOINT_TABLE => Frame::CheckpointTable(decode_positions(body)?),
        kind => Frame::Unknown { kind, bytes: body },
    };
    damage::zero(WHAT_FRAME, "flags", &frame::FLAGS.get(head))?;
    if position.checked_add(body_bytes as u64).is_none() {
        return Err(damage::value(WHAT_FRAME, "position", position));
    }
    Ok((frame, rest))
}

fn decode_positions(body: &[u8]) -> Result<Positions<'_>, Damage> {
    if body.len() % POSITION_BYTES != 0 {
        return Err(damage::value(WHAT_FRAME, "body bytes", body.len() as u64));
    }
    for row in body.chunks_exact(POSITION_BYTES) {
        decode_position(row)?;
    }
    Ok(Positions { bytes: body })
}
